#include "formats/zstd.h"

#include <doctest/doctest.h>
#include <zstd.h>

using namespace gnv;

static std::string compress(const std::string & text) {
    std::string out(ZSTD_compressBound(text.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), text.data(), text.size(), 3));
    return out;
}

TEST_CASE("whole buffers of zstd") {
    std::string text;
    for (int i = 0; i < 40'000; i++) text += std::to_string(i * i);
    const std::string data = compress(text);
    CHECK(zstd_decompress_all(data, text.size(), "f").value() == text);
    CHECK(zstd_decompress_all(data + compress("and more"), 1 << 24, "f").value() == text + "and more");
    CHECK(zstd_decompress_all("", 10, "f").value().empty());
    CHECK(zstd_decompress_all(compress(""), 10, "f").value().empty());
}

TEST_CASE("damaged zstd") {
    const std::string text(300'000, 'x'), data = compress(text);
    CHECK(zstd_decompress_all(data, text.size() - 1, "f").status().message() ==
          "f: holds more than the 299999 bytes expected in it");
    for (const size_t size : {size_t(1), size_t(4), data.size() / 2, data.size() - 1}) {
        const Status status = zstd_decompress_all(data.substr(0, size), 1 << 24, "f").take_status();
        CHECK(status.code() == Code::format);
        CHECK(status.message() == "f: ends in the middle of a zstd frame, at byte " + std::to_string(size));
    }
    CHECK(zstd_decompress_all("not zstd at all", 100, "f").status().code() == Code::format);
}
