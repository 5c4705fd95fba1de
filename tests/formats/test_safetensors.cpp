#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_header.h"
#include "memory_growth.h"
#include "scratch.h"

#include <doctest/doctest.h>
#include <unistd.h>

using namespace gnv;
using gnv::test::ScratchFolder;

namespace {

// A safetensors file with any header text, true or not.
std::string raw_file(const std::string & json, size_t data_bytes, uint64_t length) {
    std::string out(8, '\0');
    for (int i = 0; i < 8; i++) out[size_t(i)] = char(length >> 8 * i & 0xff);
    return out + json + std::string(data_bytes, 'x');
}

std::string raw_file(const std::string & json, size_t data_bytes) { return raw_file(json, data_bytes, json.size()); }

const char * const two_tensors = R"({"__metadata__":{"format":"pt"},
    "b":{"dtype":"F32","shape":[],"data_offsets":[8,12]},"a":{"dtype":"BF16","shape":[2,2],"data_offsets":[0,8]}})";

Status open_status(const ScratchFolder & folder) { return Checkpoint::open(folder.path()).take_status(); }

} // namespace

TEST_CASE("a file that is right") {
    const ScratchFolder folder;
    CHECK(write_file_synced(folder / "model.safetensors", raw_file(two_tensors, 12)).ok());
    const Checkpoint checkpoint = Checkpoint::open(folder.path()).take();
    REQUIRE(checkpoint.tensors().size() == 2);
    CHECK(checkpoint.tensors()[0].name == "a");
    CHECK(checkpoint.tensors()[0].dtype == DType::bf16);
    CHECK(checkpoint.tensors()[0].shape == std::vector<int64_t>{2, 2});
    CHECK(checkpoint.tensors()[1].shape.empty());
    CHECK(checkpoint.tensors()[1].elements() == 1);
    CHECK(checkpoint.tensors()[1].offset == 8 + std::string(two_tensors).size() + 8);
    CHECK(checkpoint.find("b") == 1);
    CHECK(checkpoint.find("c") == -1);
    CHECK(checkpoint.tensor_bytes() == 12);
    CHECK_FALSE(checkpoint.has_index());
    CHECK(checkpoint.open_shards().ok());
}

TEST_CASE("empty tensors and a file without tensors are legal") {
    CHECK(parse_header(R"({"e":{"dtype":"F32","shape":[0,5],"data_offsets":[4,4]},
                           "s":{"dtype":"F32","shape":[1],"data_offsets":[0,4]}})",
                       4, "f")
              .ok());
    CHECK(parse_header("{}", 0, "f").ok());
}

TEST_CASE("headers that lie are refused with file, tensor and place") {
    struct Case {
        const char * json;
        uint64_t data_bytes;
        const char * message; // a part of it
    };
    const Case cases[] = {
        {R"([1])", 0, "does not start with"},
        {R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]})", 4, "not valid JSON"},
        {R"({"a":{"dtype":"BF17","shape":[2],"data_offsets":[0,4]}})", 4, "f: a.dtype: \"BF17\" is not a dtype"},
        {R"({"a":{"dtype":"BF16","shape":[3],"data_offsets":[0,4]}})", 4, "[3] of BF16 does not fill the 4 bytes"},
        {R"({"a":{"dtype":"F4","shape":[3],"data_offsets":[0,1]}})", 1, "[3] of F4 does not fill"},
        {R"({"a":{"dtype":"BF16","shape":[-2],"data_offsets":[0,4]}})", 4, "a.shape[0]: -2 is negative"},
        {R"({"a":{"dtype":"BF16","shape":[4611686018427387904,8],"data_offsets":[0,4]}})", 4, "does not fill"},
        {R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,8]}})", 4, "do not lie in the 4 bytes"},
        {R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[4,0]}})", 4, "do not lie"},
        {R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0]}})", 4, "expected two offsets, found 1"},
        {R"({"a":{"dtype":"BF16","shape":[2],"data_offsets":[0,4,4]}})", 4, "expected two offsets, found 3"},
        {R"({"a":{"dtype":"BF16","shape":["2"],"data_offsets":[0,4]}})", 4, "a.shape[0]: expected an integer"},
        {R"({"a":{"shape":[2],"data_offsets":[0,4]}})", 4, "\"dtype\" is missing"},
        {R"({"a":[]})", 0, "expected an object"},
        {R"({"":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]}})", 4, "empty name"},
        {R"({"__metadata__":{"x":1}})", 0, "__metadata__.x: expected a string"},
        {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[1,3]}})",
         3, "tensor b starts at byte 1 of the data, inside the one that ends at byte 2"},
        {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
         5, "tensor b starts at byte 3 of the data, leaving a hole after byte 2"},
        {R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 3,
         "end at byte 2 of the data, the file at byte 3"},
        {R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
         2, "occurs twice"},
    };
    for (const Case & item : cases) {
        CAPTURE(item.json);
        const Status status = parse_header(item.json, item.data_bytes, "f").take_status();
        CHECK(status.code() == Code::format);
        CAPTURE(status.message());
        CHECK(status.message().find(item.message) != std::string::npos);
    }
}

TEST_CASE("files that are cut off or no safetensors at all") {
    struct Case {
        std::string content;
        const char * message;
    };
    const Case cases[] = {
        {"short", "has only 5 bytes"},
        {raw_file("{}", 0, 100), "needs 100 bytes after byte 8, the file has 2"},
        {raw_file("{}", 0, UINT64_MAX), "more than the 100000000"},
        {raw_file(two_tensors, 11), "do not lie in the 11 bytes"},
        {raw_file(two_tensors, 13), "the file at byte 13"},
    };
    for (const Case & item : cases) {
        const ScratchFolder folder;
        CHECK(write_file_synced(folder / "model.safetensors", item.content).ok());
        const Status status = open_status(folder);
        CAPTURE(status.message());
        CHECK(status.code() == Code::format);
        CHECK(status.message().find(item.message) != std::string::npos);
        CHECK(status.message().find("model.safetensors") != std::string::npos);
    }
}

TEST_CASE("a tensor of more dimensions than any framework knows is refused") {
    const auto header = [](size_t rank) {
        std::string shape = "1";
        for (size_t i = 1; i < rank; i++) shape += ",1";
        return R"({"a":{"dtype":"U8","shape":[)" + shape + R"(],"data_offsets":[0,1]}})";
    };
    CHECK(parse_header(header(64), 1, "x").ok());
    const Status status = parse_header(header(65), 1, "x").take_status();
    CHECK(status.code() == Code::format);
    CHECK(status.message().find("more than 64 dimensions") != std::string::npos);
}

TEST_CASE("entries of metadata, which take many times their size, are limited") {
    const auto header = [](size_t entries, const std::string & key) {
        std::string json = "{\"t\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1]},\"" + key + "\": {";
        for (size_t i = 0; i < entries; i++) json += concat(i ? "," : "", "\"k", i, "\":\"{:\\\"\"");
        return json + "}}";
    };
    for (const char * key : {"__metadata__", "\\u005f_metadata__"}) {
        CHECK(parse_header(header(100'000, key), 1, "x").ok());
        const Status status = parse_header(header(100'001, key), 1, "x").take_status();
        CHECK(status.code() == Code::format);
        CHECK(status.message() ==
              "x: __metadata__ has 100001 entries; at most 100000 are accepted: write the file again "
              "without them");
    }
    const std::string large = header(3'000'000, "__metadata__");
    test::check_memory_growth(large.size() + (8 << 20), [&] { return !parse_header(large, 1, "x").ok(); });
    // Colons elsewhere do not count.
    std::string json = "{\"__metadata__\":{\"a\":\"" + std::string(200'000, ':') + "\"}";
    CHECK(parse_header(json + "}", 0, "x").ok());
}

TEST_CASE("index and shards must agree") {
    const auto index = [](const std::string & map) {
        return "{\"metadata\":{\"total_size\":12.0},\"weight_map\":{" + map + "}}";
    };
    struct Case {
        std::string index;
        const char * message; // empty: accepted
    };
    const Case cases[] = {
        {index(R"("a":"one.safetensors","b":"one.safetensors")"), ""},
        {index(R"("a":"one.safetensors","b":"one.safetensors","c":"two.safetensors")"),
         "names a shard that is missing"},
        {index(R"("a":"one.safetensors","b":"two.safetensors")"), "names a shard that is missing"},
        {index(R"("a":"one.safetensors")"), ""},
        {index(R"("a":"one.safetensors","b":"one.safetensors","c":"one.safetensors")"), "tensor c is listed for"},
        {index(R"("a":"../one.safetensors")"), "not a file name in this folder"},
        {index(R"("a":7)"), "expected a string"},
        {index(""), "lists no tensor"},
        {"{}", "\"weight_map\" is missing"},
        {"not json", "not valid JSON"},
    };
    for (const Case & item : cases) {
        const ScratchFolder folder;
        CHECK(write_file_synced(folder / "one.safetensors", raw_file(two_tensors, 12)).ok());
        CHECK(write_file_synced(folder / index_file_name, item.index).ok());
        const Status status = open_status(folder);
        CAPTURE(item.index);
        CAPTURE(status.message());
        CHECK(status.ok() == (*item.message == 0));
        CHECK(status.message().find(item.message) != std::string::npos);
    }
}

TEST_CASE("shards without an index, through links as in hub caches, and duplicates between shards") {
    const ScratchFolder folder;
    CHECK(make_directory(folder / "blobs").ok());
    CHECK(make_directory(folder / "snapshot").ok());
    CHECK(write_file_synced(folder / "blobs/1", raw_file(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2))
              .ok());
    CHECK(write_file_synced(folder / "blobs/2", raw_file(R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})", 2))
              .ok());
    REQUIRE(symlink("../blobs/1", (folder / "snapshot/x.safetensors").c_str()) == 0);
    REQUIRE(symlink("../blobs/2", (folder / "snapshot/y.safetensors").c_str()) == 0);
    CHECK(Checkpoint::open(folder / "snapshot").value().tensors().size() == 2);
    REQUIRE(symlink("../blobs/2", (folder / "snapshot/z.safetensors").c_str()) == 0);
    CHECK(Checkpoint::open(folder / "snapshot").status().message().find("occurs again") != std::string::npos);
    CHECK(Checkpoint::open(folder / "blobs").status().code() == Code::not_found);
    CHECK(Checkpoint::open(folder / "absent").status().code() == Code::not_found);
}

TEST_CASE("a change after validation is noticed") {
    const ScratchFolder folder;
    CHECK(write_file_synced(folder / "model.safetensors", raw_file(two_tensors, 12)).ok());
    const Checkpoint checkpoint = Checkpoint::open(folder.path()).take();
    const FolderFiles files = checkpoint.open_shards().take();
    CHECK(checkpoint.check_unchanged(files).ok());
    CHECK(File::open_write(folder / "model.safetensors").value().write("y", 1, 300).ok());
    CHECK(checkpoint.check_unchanged(files).code() == Code::changed);
    CHECK(checkpoint.open_shards().status().code() == Code::changed);
}

TEST_CASE("a header that was made reads back the same, aligned") {
    const std::vector<HeaderTensor> tensors = {{"scale", DType::f32, {1}, 0, 4},
                                               {"quote\"and \\ é", DType::u8, {3, 1}, 4, 7},
                                               {"scalar", DType::u8, {}, 7, 8}};
    const std::string bytes = make_header(tensors, {{"format", "pt"}});
    CHECK(bytes.size() % 8 == 0);
    const Header header = parse_header(bytes.substr(8), 8, "f").take();
    REQUIRE(header.tensors.size() == 3);
    CHECK(header.metadata.at("format") == "pt");
    for (size_t i = 0; i < tensors.size(); i++) {
        CHECK(header.tensors[i].name == tensors[i].name);
        CHECK(header.tensors[i].dtype == tensors[i].dtype);
        CHECK(header.tensors[i].shape == tensors[i].shape);
        CHECK(header.tensors[i].end == tensors[i].end);
    }
}
