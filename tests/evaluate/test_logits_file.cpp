// Files of saved logits: one turned bit anywhere is refused with file and place.
#include "evaluate/logits_file.h"
#include "scratch.h"

#include <cstring>
#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::evaluate;
using namespace gnv::test;

namespace {

constexpr int64_t vocabulary = 8;

LogitsHeader header_of(int64_t positions) {
    LogitsHeader header;
    header.vocabulary = vocabulary;
    header.positions = positions;
    header.precision = "fp32";
    header.data_sha256 = "d";
    header.source_fingerprint = "s";
    return header;
}

void write_logits(const std::string & path, int64_t positions) {
    const auto threads = ThreadPool::create(1).take();
    const auto writer = LogitsWriter::create(path, header_of(positions)).take();
    std::vector<float> logits;
    for (int64_t i = 0; i < positions * vocabulary; i++) logits.push_back(float(i * i % 17) / 4);
    REQUIRE(writer->append(logits.data(), std::vector<double>(size_t(positions), 2.5), positions, *threads).ok());
    std::vector<double> nll;
    std::vector<int32_t> top;
    for (int64_t i = 0; i < positions; i++) nll.push_back(0.5 * double(i)), top.push_back(int32_t(i % vocabulary));
    REQUIRE(writer->finish(nll, top).ok());
}

Status read_logits(const std::string & path, int64_t positions) {
    GNV_ASSIGN(const std::unique_ptr<LogitsReader> reader, LogitsReader::open(path, header_of(positions)));
    std::vector<uint16_t> rows(size_t(positions * vocabulary));
    return reader->read(0, positions, rows.data());
}

} // namespace

TEST_CASE("one turned bit anywhere in a file of logits") {
    const ScratchFolder scratch;
    const std::string path = scratch / "a.logits";
    write_logits(path, 3);
    REQUIRE(read_logits(path, 3).ok());
    const std::string content = read_file(path, 1 << 20).take();
    const File file = File::open_write(path).take();
    constexpr size_t header_end = 16 + 4096;
    for (size_t i = 0; i < content.size(); i++) {
        // Of the blanks that fill up the header one bit each, of everything else all.
        const bool filler = i < header_end && content[i] == ' ';
        for (int bit = 0; bit < 8; bit++) {
            if (filler && bit != int(i % 8)) continue;
            const char turned = char(content[i] ^ 1 << bit);
            REQUIRE(file.write(&turned, 1, i).ok());
            const Status status = read_logits(path, 3);
            CAPTURE(i);
            REQUIRE(status.code() == Code::format);
            REQUIRE(status.message().find(path + ": ") == 0);
            REQUIRE(file.write(&content[i], 1, i).ok());
        }
    }
    CHECK(read_logits(path, 3).ok());
}

TEST_CASE("the message says which part is damaged") {
    const ScratchFolder scratch;
    const std::string path = scratch / "a.logits";
    const int64_t positions = logits_frame_positions(vocabulary) + 3; // two frames
    write_logits(path, positions);
    REQUIRE(read_logits(path, positions).ok());
    const std::string content = read_file(path, 1 << 24).take();
    const auto message = [&](size_t at) {
        std::string changed = content;
        changed[at] ^= 16;
        const std::string copy = scratch.save("changed.logits", changed);
        const std::string text = read_logits(copy, positions).message();
        REQUIRE(remove_file(copy).ok());
        return text;
    };
    constexpr size_t first = 16 + 4096 + 64;
    uint64_t size = 0;
    memcpy(&size, &content[first], sizeof size);
    const size_t second = first + 8 + size, tables = content.size() - size_t(positions) * 12 - 2 * 64;
    const auto has = [](const std::string & text, const std::string & part) {
        return text.find(part) != std::string::npos;
    };
    CHECK(has(message(3), "is no complete file"));
    CHECK(has(message(20), "header"));
    CHECK(has(message(first + 8 + size / 2), "frame 0, bytes 4176 to " + std::to_string(second - 1)));
    CHECK(has(message(second + 9), "frame 1, bytes " + std::to_string(second)));
    CHECK(has(message(tables + 5), "its tables, bytes " + std::to_string(tables)));
    CHECK(has(message(content.size() - 1), "its tables, bytes " + std::to_string(tables)));
}

TEST_CASE("a file of the version before hashes says what to do") {
    const ScratchFolder scratch;
    std::string text = "{\"schema\":\"ggml-nvfp4.logits.1\"}";
    const uint64_t size = text.size();
    text = "GNVLOGIT" + std::string(reinterpret_cast<const char *>(&size), 8) + text;
    const Status status = read_logits(scratch.save("old.logits", text), 3);
    CHECK(status.code() == Code::unsupported);
    CHECK(status.message().find("an earlier version wrote it, without checksums; make it anew with --save-logits") !=
          std::string::npos);
}
