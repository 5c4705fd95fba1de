#include "checkpoint/checkpoint_names.h"
#include "output/file_id.h"
#include "output/tree.h"
#include "scratch.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <unistd.h>

using namespace gnv;
using gnv::test::ScratchFolder;

namespace {

FileId id(const std::string & path) { return find_entry(path).value().value().id; }

} // namespace

TEST_CASE("a lookup passes through folders, links and what these lead to") {
    const ScratchFolder scratch;
    for (const char * folder : {"a", "a/b", "c", "d"}) REQUIRE(make_directory(scratch / folder).ok());
    scratch.save("a/b/file", "x");
    REQUIRE(symlink("../a/b", (scratch / "c/folder").c_str()) == 0);
    REQUIRE(symlink("../c/folder/file", (scratch / "d/link").c_str()) == 0);
    const std::vector<FileId> trail = lookup_trail(scratch / "d/link").take();
    CHECK(trail.back() == id(scratch / "a/b/file"));
    for (const char * passed : {"", "d", "d/link", "c", "c/folder", "a", "a/b"})
        CHECK_MESSAGE(std::count(trail.begin(), trail.end(), id(scratch / passed)) > 0, passed);
    CHECK(lookup_trail(scratch / "a/./b/../b").value().back() == id(scratch / "a/b"));
    CHECK(lookup_trail(scratch / "a/b/").value().back() == id(scratch / "a/b"));
    CHECK(lookup_trail(".").value().back() == id("."));
    CHECK(lookup_trail("/").value().size() == 2);
    CHECK(lookup_trail(scratch / "absent").status().code() == Code::not_found);
    REQUIRE(symlink("loop", (scratch / "loop").c_str()) == 0);
    CHECK_FALSE(lookup_trail(scratch / "loop").ok());

    InputFiles inputs;
    CHECK(inputs.add(scratch / "d/link").ok());
    CHECK(inputs.add(scratch / "absent").ok());
    REQUIRE(inputs.find(id(scratch / "c")));
    CHECK(*inputs.find(id(scratch / "c")) == scratch / "d/link");
    scratch.save("a/b/other", "x");
    CHECK_FALSE(inputs.find(id(scratch / "a/b/other")));
}

TEST_CASE("a tree goes with its mark last, and not a file of it where one may not go") {
    const ScratchFolder scratch;
    const std::string top = scratch / "top";
    for (const char * folder : {"top", "top/x", "top/x/y"}) REQUIRE(make_directory(scratch / folder).ok());
    for (const char * file : {"top/a", "top/mark", "top/z", "top/x/y/b", "kept"}) scratch.save(file, "x");
    REQUIRE(symlink("../kept", (scratch / "top/link").c_str()) == 0);
    std::string asked;
    const MayRemove all = [&](const TreeEntry & entry) -> Status {
        asked += entry.name + " ";
        return {};
    };
    const MayRemove not_b = [&](const TreeEntry & entry) -> Status {
        return entry.name == "x/y/b" ? fail(Code::already_exists, "b may not go") : Status();
    };
    CHECK(check_tree(top, id(top), all).ok());
    CHECK(asked == "a link mark x x/y x/y/b z ");
    CHECK(check_tree(top, id(top), not_b).message() == "b may not go");
    // Another folder than was looked at.
    CHECK(remove_tree(top, id(scratch / "top/x"), all, "mark").code() == Code::already_exists);
    CHECK(path_exists(scratch / "top/a"));
    CHECK(remove_tree(top, id(top), not_b, "mark").message() == "b may not go");
    CHECK(path_exists(scratch / "top/x/y/b"));
    CHECK(path_exists(scratch / "top/mark"));
    asked.clear();
    CHECK(remove_tree(top, id(top), all, "mark").ok());
    CHECK(asked == "x x/y x/y/b z mark ");
    CHECK_FALSE(path_exists(top));
    CHECK(path_exists(scratch / "kept"));
}

TEST_CASE("files of checkpoints by name") {
    for (const char * name :
         {"config.json", "model.safetensors", "model-00001-of-00002.safetensors", "tokenizer.json",
          "tokenizer_config.json", "vocab.json", "merges.txt", "chat_template.jinja", "README.md", "LICENSE",
          "quantization_report.json", "recipe.yaml", ".gitattributes", "preprocessor_config.json",
          "video_preprocessor_config.json", "qwen.tiktoken", "additional_chat_templates/tools.jinja"})
        CHECK_MESSAGE(is_checkpoint_file(name), name);
    for (const char * name : {"cat.jpg", "notes.txt", "images/README.md", ".env", ".git", "config.json.bak", "journal",
                              ".model.safetensors", "x/model.safetensors", "main.py", "", "photos.json"})
        CHECK_MESSAGE(!is_checkpoint_file(name), name);
    CHECK(is_needed_file("tokenizer.json"));
    CHECK_FALSE(is_needed_file("README.md"));
}
