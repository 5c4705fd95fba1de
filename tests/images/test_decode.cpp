// Pictures of every kind against what PIL makes of them (scripts/make_image_samples.py), and kinds that are not read.
#include "images/image_fixture.h"
#include "scratch.h"

using namespace gnv;
using namespace gnv::test;

TEST_CASE("every kind of picture is what PIL makes of it") {
    const std::vector<ImageSample> samples = image_samples();
    CHECK(samples.size() > 50);
    for (const ImageSample & sample : samples) {
        CAPTURE(sample.name);
        const std::string bytes = image_bytes(sample.name);
        const Result<ImageInfo> info = read_image_info(bytes, sample.name);
        REQUIRE_MESSAGE(info.ok(), info.status().message());
        CHECK(info.value().width == sample.width);
        CHECK(info.value().height == sample.height);
        Result<Image> image = decode_image(bytes, sample.name);
        REQUIRE_MESSAGE(image.ok(), image.status().message());
        REQUIRE(image.value().rgb.size() == size_t(sample.width * sample.height * 3));
        CHECK(sha256_hex(image.value().rgb.data(), image.value().rgb.size()) == sample.sha256);
    }
}

TEST_CASE("a picture from a file is told by its bytes, not by its name") {
    const ScratchFolder folder;
    for (const char * const name : {"rgb8.png", "ycc420.jpg", "lossy.webp"}) {
        const std::string bytes = image_bytes(name), path = folder.save("picture.gif", bytes);
        const Result<Image> image = read_image(path);
        REQUIRE_MESSAGE(image.ok(), image.status().message());
        CHECK(image.value().rgb == decode_image(bytes, name).value().rgb);
    }
    const Status missing = read_image(folder / "none.png").take_status();
    CHECK(missing.code() == Code::not_found);
    CHECK(missing.message().find("none.png") != std::string::npos);
    const Status large =
        read_image(folder.save("large.png", image_bytes("rgb8.png")), {.max_file_bytes = 100}).take_status();
    CHECK(large.message().find("large.png") != std::string::npos);
    CHECK(read_image(folder.path()).status().message().find(folder.path()) != std::string::npos);
}

TEST_CASE("files of other kinds are named") {
    struct {
        std::string bytes, text;
        Code code;
    } const cases[] = {
        {"", "the file is empty", Code::format},
        {"GIF89a\1\1", "GIF", Code::unsupported},
        {"BM\1\1", "BMP", Code::unsupported},
        {std::string("II*\0", 4), "TIFF", Code::unsupported},
        {std::string("\0\0\0\x1c"
                     "ftypavif",
                     12),
         "AVIF", Code::unsupported},
        {std::string("\0\0\0\x1c"
                     "ftypheic",
                     12),
         "HEIC", Code::unsupported},
        {"<svg xmlns=", "SVG", Code::unsupported},
        {"version https://git-lfs.example/spec/v1", "Git LFS pointer", Code::unsupported},
        {"RIFF....WAVE", "no signature", Code::format},
        {"........WEBP", "no signature", Code::format},
        {"some text", "no signature", Code::format},
        {std::string(1000, '\0'), "no signature", Code::format},
    };
    for (const auto & item : cases) {
        CAPTURE(item.text);
        const Status status = decode_image(item.bytes, "record 7").take_status();
        CHECK(status.code() == item.code);
        CHECK(starts_with(status.message(), "record 7: "));
        CHECK(status.message().find(item.text) != std::string::npos);
        CHECK(read_image_info(item.bytes, "record 7").status().message() == status.message());
    }
}
