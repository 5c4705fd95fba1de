#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_header.h"
#include "formats/folder.h"
#include "scratch.h"

#include <doctest/doctest.h>

using namespace gnv;
using gnv::test::ScratchFolder;

namespace {

std::string read_all(const Folder & folder, const std::string & name) {
    return read_file(folder, name, 1 << 20).value();
}

std::string names(const Folder & folder) {
    std::string out;
    for (const DirectoryEntry & entry : folder.list().take()) out += (out.empty() ? "" : " ") + entry.name;
    return out;
}

} // namespace

TEST_CASE("a directory") {
    const ScratchFolder scratch;
    CHECK(write_file_synced(scratch / "a", "0123456789").ok());
    const auto folder = open_folder(scratch.path()).take();
    CHECK(names(*folder) == "a");
    CHECK(has_file(*folder, "a").value());
    CHECK_FALSE(has_file(*folder, "b").value());
    CHECK(read_all(*folder, "a") == "0123456789");
    CHECK(read_file(*folder, "a", 9).status().code() == Code::format);
    CHECK(folder->open("b").status().code() == Code::not_found);
    CHECK(open_folder(scratch / "a").status().code() == Code::not_found);
}

TEST_CASE("a view changes what it shows and nothing else") {
    const ScratchFolder scratch;
    for (const char * name : {"a", "b", "c"}) CHECK(write_file_synced(scratch / name, "0123456789").ok());
    OverlayFolder view(open_folder(scratch.path()).take());
    view.put("d", "new");
    view.remove("b");
    CHECK(view.patch("a", 3, "xyz").ok());
    CHECK(view.patch("a", 5, "..").ok()); // over the end of the patch before
    CHECK(view.patch("a", 0, "A").ok());
    CHECK(view.patch("a", 9, "Z").ok());
    CHECK(view.truncate("c", 4).ok());
    CHECK(names(view) == "a c d");
    CHECK(read_all(view, "a") == "A12xy..78Z");
    CHECK(read_all(view, "c") == "0123");
    CHECK(read_all(view, "d") == "new");
    CHECK(view.open("b").status().code() == Code::not_found);
    CHECK(view.open("c").value()->stamp().value().size == 4);

    // Reads at every position and length, across the seams
    const auto file = view.open("a").take();
    for (uint64_t offset = 0; offset <= 10; offset++) {
        for (uint64_t size = 0; offset + size <= 10; size++) {
            std::string part(size, '?');
            CHECK(file->read(part.data(), size, offset).ok());
            CHECK(part == std::string("A12xy..78Z").substr(offset, size));
        }
    }
    char more[2];
    CHECK(file->read(more, 2, 9).code() == Code::format);
    CHECK(file->read(more, 1, 11).code() == Code::format);
    CHECK(view.patch("a", 9, "too long").code() == Code::invalid_argument);
    CHECK(view.patch("nowhere", 0, "x").code() == Code::not_found);
    CHECK(view.patch("b", 0, "x").code() == Code::not_found);

    for (const char * name : {"a", "b", "c"}) CHECK(read_file(scratch / name, 100).value() == "0123456789");
}

TEST_CASE("a file put together from a new header and ranges of another") {
    const ScratchFolder scratch;
    CHECK(write_file_synced(scratch / "model.safetensors",
                            make_header({{"x", DType::u8, {4}, 0, 4}, {"y", DType::u8, {4}, 4, 8}}, {}) + "xxxxyyyy")
              .ok());
    const auto base = open_folder(scratch.path()).take();
    const Checkpoint original = Checkpoint::open(base).take();
    const TensorInfo & y = original.tensors()[1];

    auto view = std::make_shared<OverlayFolder>(base);
    view->compose("model.safetensors",
                  {{make_header({{"z", DType::u8, {4}, 0, 4}}, {})}, {"", "model.safetensors", y.offset, y.bytes}});
    const Checkpoint changed = Checkpoint::open(view).take();
    REQUIRE(changed.tensors().size() == 1);
    CHECK(changed.tensors()[0].name == "z");
    const FolderFiles shards = changed.open_shards().take();
    std::string data(4, '?');
    CHECK(shards[0]->read(data.data(), 4, changed.tensors()[0].offset).ok());
    CHECK(data == "yyyy");
    CHECK(Checkpoint::open(base).value().tensors().size() == 2);
}

TEST_CASE("disagreements between index and shards can be collected") {
    const ScratchFolder scratch;
    CHECK(write_file_synced(scratch / "one.safetensors", make_header({{"a", DType::u8, {1}, 0, 1}}, {}) + "a").ok());
    CHECK(write_file_synced(scratch / index_file_name, R"({"weight_map":{"b":"one.safetensors"}})").ok());
    CHECK(Checkpoint::open(scratch.path()).status().code() == Code::format);
    std::vector<std::string> problems;
    const Checkpoint checkpoint = Checkpoint::open(open_folder(scratch.path()).take(), &problems).take();
    CHECK(checkpoint.tensors().size() == 1);
    REQUIRE(problems.size() == 2);
    CHECK(problems[0].find("tensor a is here, but") != std::string::npos);
    CHECK(problems[1].find("tensor b is listed for") != std::string::npos);
}
