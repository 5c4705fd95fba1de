// Folders as people have them: an index that shards outlived, copies of tensors, pointers in place of files, and folders
// that hold no model.
#include "checkpoint_files.h"
#include "scratch.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

void save_shard(const std::string & path, const std::vector<std::string> & names, char content) {
    std::vector<HeaderTensor> header;
    for (const std::string & name : names)
        header.push_back({name, DType::u8, {2}, header.size() * 2, header.size() * 2 + 2});
    REQUIRE(write_file_synced(path, make_header(header, {}) + std::string(2 * names.size(), content)).ok());
}

void save_index(const ScratchFolder & folder, const std::vector<std::pair<std::string, std::string>> & map) {
    std::string text;
    for (const auto & [name, file] : map)
        text += concat(text.empty() ? "" : ",", json_quote(name), ":", json_quote(file));
    REQUIRE(write_file_synced(folder / index_file_name, "{\"weight_map\":{" + text + "}}").ok());
}

std::string content_of(const Checkpoint & checkpoint, const std::string & name) {
    for (const MemoryTensor & tensor : load_tensors(checkpoint.folder()))
        if (tensor.name == name) return tensor.data;
    return "none";
}

std::string notes_of(const Checkpoint & checkpoint) {
    std::string out;
    for (const std::string & note : checkpoint.notes()) out += note + "\n";
    return out;
}

std::string failure(const ScratchFolder & folder) { return Checkpoint::open(folder.path()).status().message(); }

} // namespace

TEST_CASE("the index decides among copies of a tensor, and a note says so") {
    const ScratchFolder folder;
    save_shard(folder / "one.safetensors", {"a", "b"}, '1');
    save_shard(folder / "two.safetensors", {"b", "c"}, '2');
    for (const std::string right : {"one", "two"}) {
        (void)remove_file(folder / index_file_name).ok();
        save_index(folder, {{"a", "one.safetensors"}, {"b", right + ".safetensors"}, {"c", "two.safetensors"}});
        const Checkpoint checkpoint = Checkpoint::open(folder.path()).take();
        CHECK(checkpoint.tensors().size() == 3);
        CHECK(content_of(checkpoint, "b") == (right == "one" ? "11" : "22"));
        const std::string stale = right == "one" ? "two" : "one";
        CHECK(notes_of(checkpoint) == stale + ".safetensors holds 1 tensors that model.safetensors.index.json places "
                                              "elsewhere, such as b; these copies are not used\n");
        std::vector<std::string> problems;
        CHECK(Checkpoint::open(open_folder(folder.path()).take(), &problems).value().tensors().size() == 3);
        CHECK(problems.size() == 1);
    }
    // Without a word of the index nothing decides.
    (void)remove_file(folder / index_file_name).ok();
    save_index(folder, {{"a", "one.safetensors"}, {"c", "two.safetensors"}});
    CHECK(failure(folder).find("occurs again in one.safetensors") != std::string::npos);
}

TEST_CASE("a tensor that the index does not list is part of the checkpoint, with a note") {
    const ScratchFolder folder;
    save_shard(folder / "one.safetensors", {"a", "b"}, '1');
    save_index(folder, {{"a", "one.safetensors"}});
    const Checkpoint checkpoint = Checkpoint::open(folder.path()).take();
    CHECK(checkpoint.tensors().size() == 2);
    CHECK(notes_of(checkpoint) ==
          "one.safetensors holds 1 tensors that model.safetensors.index.json does not list, such "
          "as b; config.json decides whether they are part of the checkpoint\n");
    CHECK(checkpoint.tensors()[0].is_listed);
    CHECK_FALSE(checkpoint.tensors()[1].is_listed);
}

TEST_CASE("a whole file beside an index of shards that are gone") {
    const ScratchFolder folder;
    save_shard(folder / "model.safetensors", {"a", "b"}, 'w');
    save_index(folder, {{"a", "model-00001-of-00002.safetensors"}, {"b", "model-00002-of-00002.safetensors"}});
    const Checkpoint checkpoint = Checkpoint::open(folder.path()).take();
    CHECK(content_of(checkpoint, "b") == "ww");
    CHECK(notes_of(checkpoint) ==
          "model.safetensors.index.json names shards that are missing, such as model-00001-of-00002.safetensors; "
          "model.safetensors holds all tensors that it lists and is used instead\n");
    // What engines would do with such a result is another matter: they follow the index.
    std::vector<std::string> problems;
    CHECK(Checkpoint::open(open_folder(folder.path()).take(), &problems).status().code() == Code::format);

    REQUIRE(remove_file(folder / index_file_name).ok());
    save_index(folder, {{"a", "model-00001-of-00002.safetensors"}, {"c", "model-00002-of-00002.safetensors"}});
    const std::string refused = failure(folder);
    CHECK(refused.find("names a shard that is missing; download it again: model-00001") != std::string::npos);
    CHECK(refused.find("model.safetensors beside it is no substitute: it lacks tensor c") != std::string::npos);
    // Beside shards that are there it is ignored.
    save_shard(folder / "model-00001-of-00002.safetensors", {"a"}, '1');
    save_shard(folder / "model-00002-of-00002.safetensors", {"c"}, '2');
    CHECK(content_of(Checkpoint::open(folder.path()).take(), "a") == "11");
}

TEST_CASE("files that the index does not list are taken in by name") {
    const ScratchFolder folder;
    save_shard(folder / "one.safetensors", {"a"}, '1');
    save_shard(folder / "more.safetensors", {"a", "mtp.b", "x"}, '2');
    save_index(folder, {{"a", "one.safetensors"}});
    Checkpoint checkpoint = Checkpoint::open(folder.path()).take();
    CHECK(checkpoint.unlisted() == std::vector<std::string>{"more.safetensors"});
    CHECK(notes_of(checkpoint).find("more.safetensors is not listed in") != std::string::npos);
    CHECK(checkpoint.take_in("more.safetensors", "none.").value() == 0);
    CHECK(checkpoint.take_in("more.safetensors", "mtp.").value() == 1);
    CHECK(checkpoint.tensors().size() == 2);
    CHECK(checkpoint.find("mtp.b") == 1);
    CHECK(checkpoint.find("a") == 0);
    CHECK(checkpoint.unlisted().empty());
    CHECK(notes_of(checkpoint) == "more.safetensors is not listed in model.safetensors.index.json; its 1 tensors mtp.* "
                                  "are taken in: no other file holds them\n");
}

TEST_CASE("pointers of Git LFS are told from damaged files") {
    const std::string pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 13383448\n";
    const ScratchFolder folder;
    folder.save("model.safetensors", pointer);
    CHECK(failure(folder).find("model.safetensors is a Git LFS pointer, not the file itself; fetch it with \"git lfs "
                               "pull\"") != std::string::npos);
    CHECK(
        JsonDocument::parse(pointer, "tokenizer.json").status().message().find("tokenizer.json is a Git LFS pointer") !=
        std::string::npos);
}

TEST_CASE("a page in place of a shard, and a byte order mark before JSON, are named") {
    const ScratchFolder folder;
    folder.save("model.safetensors", "<!DOCTYPE html><html>not found</html>");
    CHECK(failure(folder).find("model.safetensors: begins with the text \"<!DOCTYP\", no safetensors file") !=
          std::string::npos);
    CHECK(JsonDocument::parse("\xef\xbb\xbf{}", "config.json").status().message() ==
          "config.json: begins with a byte order mark, which JSON does not have and loaders refuse; save the file as "
          "UTF-8 "
          "without one");
}

TEST_CASE("a folder without a model says what it is") {
    const auto hint = [](const std::vector<std::string> & entries) {
        const ScratchFolder folder;
        for (const std::string & entry : entries) {
            if (entry.back() == '/') {
                REQUIRE(make_directory(folder / entry.substr(0, entry.size() - 1)).ok());
            } else {
                folder.save(entry, "x");
            }
        }
        const std::string message = failure(folder);
        CHECK(message.find(" holds no *.safetensors file of a model") != std::string::npos);
        return message;
    };
    const std::pair<std::vector<std::string>, const char *> cases[] = {
        {{"adapter_config.json", "adapter_model.safetensors"}, "it holds an adapter (LoRA) alone"},
        {{"models--a--b/"}, "it is the hub's cache: give ORG/NAME"},
        {{"refs/", "snapshots/", "snapshots/0123/"}, "/snapshots/0123"},
        {{"config.json", "pytorch_model.bin"}, "its weights are PyTorch files"},
        {{"model.gguf"}, "its weights are GGUF"},
        {{"checkpoint-100/"}, "give one of its checkpoints"},
    };
    for (const auto & [entries, text] : cases) CHECK_MESSAGE(hint(entries).find(text) != std::string::npos, text);
    CHECK(ends_with(hint({"notes.txt"}), "file of a model"));
    // States of training beside a model are none of its shards.
    const ScratchFolder folder;
    save_shard(folder / "model.safetensors", {"a"}, '1');
    save_shard(folder / "adapter_model.safetensors", {"a", "b"}, '2');
    save_shard(folder / "optimizer.safetensors", {"c"}, '2');
    const Checkpoint checkpoint = Checkpoint::open(folder.path()).take();
    CHECK(checkpoint.tensors().size() == 1);
    CHECK(notes_of(checkpoint) ==
          "adapter_model.safetensors holds no weights of a model's own; it is not part of the checkpoint\n"
          "optimizer.safetensors holds no weights of a model's own; it is not part of the checkpoint\n");
}
