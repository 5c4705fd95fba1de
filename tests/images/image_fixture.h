// What tests of pictures share: samples with what PIL makes of them, hashes, and files of the test data.
#pragma once

#include "core/sha256.h"
#include "formats/file.h"
#include "formats/json.h"
#include "images/decode.h"

#include <doctest/doctest.h>

#include <string>
#include <vector>

namespace gnv::test {

inline std::string image_path(const std::string & name) { return GNV_TEST_DATA "/images/" + name; }
inline std::string image_bytes(const std::string & name) { return read_file(image_path(name), 1 << 24).take(); }

struct ImageSample {
    std::string name;
    int64_t width = 0, height = 0;
    std::string sha256; // of PIL's RGB bytes
};

inline std::vector<ImageSample> image_samples() {
    const JsonDocument document = JsonDocument::read(image_path("expected.json"), 1 << 20).take();
    std::vector<ImageSample> samples;
    const Status status = document.root().get("files").take().for_each_member(
        [&](std::string_view name, const JsonValue & value) -> Status {
            ImageSample sample;
            sample.name = name;
            GNV_ASSIGN(const JsonValue size, value.get("size"));
            GNV_TRY(size.for_each_element([&](size_t index, const JsonValue & side) -> Status {
                GNV_ASSIGN((index == 0 ? sample.width : sample.height), side.as_int());
                return {};
            }));
            GNV_ASSIGN(const JsonValue hash, value.get("sha256"));
            GNV_ASSIGN(const std::string_view text, hash.as_string());
            sample.sha256 = text;
            samples.push_back(sample);
            return {};
        });
    REQUIRE_MESSAGE(status.ok(), status.message());
    return samples;
}

} // namespace gnv::test
