// Files that are cut, damaged or claim too much: a failure with the name of the file, and never a picture of what is missing.
#include "images/image_fixture.h"

#include <random>

using namespace gnv;
using namespace gnv::test;

static void check_refused(const std::string & bytes, const std::string & text, Code code = Code::format) {
    const Status status = decode_image(bytes, "photo").take_status();
    CHECK(status.code() == code);
    CHECK(starts_with(status.message(), "photo: "));
    CHECK_MESSAGE(status.message().find(text) != std::string::npos, status.message());
}

TEST_CASE("a file that ends early is refused, wherever it ends") {
    for (const ImageSample & sample : image_samples()) {
        CAPTURE(sample.name);
        std::string bytes = image_bytes(sample.name);
        if (sample.name == "trailing.jpg") bytes.resize(bytes.rfind("bytes behind"));
        const bool all = sample.name == "palette4.png" || sample.name == "low-quality.jpg" ||
                         sample.name == "grey-progressive.jpg" || sample.name == "lossy-alpha.webp";
        const size_t step = all ? 1 : bytes.size() / 23;
        for (size_t size = 1; size < bytes.size(); size += step) {
            CAPTURE(size);
            const Status status = decode_image(bytes.substr(0, size), "photo").take_status();
            REQUIRE_MESSAGE(status.code() == Code::format, status.message());
            CHECK(starts_with(status.message(), "photo: "));
        }
    }
    check_refused(image_bytes("rgb8.png").substr(0, 1000), "byte 1000: damaged PNG: the file ends early");
    check_refused(image_bytes("ycc420.jpg").substr(0, 700), "byte 700: damaged JPEG: the file ends early");
    check_refused(image_bytes("lossy.webp").substr(0, 200), "byte 200: damaged WebP: the file ends early");
}

TEST_CASE("flipped bits give a picture or a message") {
    std::mt19937 random(5);
    for (const ImageSample & sample : image_samples()) {
        CAPTURE(sample.name);
        const std::string bytes = image_bytes(sample.name);
        for (int i = 0; i < 60; i++) {
            std::string damaged = bytes;
            for (int flips = 1 + i % 3; flips > 0; flips--)
                damaged[random() % (i % 2 ? damaged.size() : std::min(damaged.size(), size_t(200)))] ^=
                    char(1 << random() % 8);
            const Result<Image> image = decode_image(damaged, "photo", {.max_pixels = 1 << 20});
            if (image.ok()) {
                CHECK(image.value().rgb.size() == size_t(image.value().width * image.value().height * 3));
                continue;
            }
            CHECK(starts_with(image.status().message(), "photo: "));
            CHECK((image.status().code() == Code::format || image.status().code() == Code::unsupported));
        }
    }
}

TEST_CASE("every damaged byte of the pixels of a PNG is noticed") {
    const std::string bytes = image_bytes("rgb8.png");
    const size_t begin = bytes.find("IDAT") + 4, end = bytes.find("IEND") - 4;
    for (size_t at = begin; at < end; at += 13) {
        std::string damaged = bytes;
        damaged[at] ^= 4;
        check_refused(damaged, "damaged PNG");
    }
}

static std::string with(std::string bytes, size_t at, const std::string & part) {
    return bytes.replace(at, part.size(), part);
}

TEST_CASE("what a header declares is checked before memory is taken") {
    const std::string png = with(image_bytes("rgb8.png"), 16, std::string("\x7f\xff\xff\xff\x7f\xff\xff\xff", 8));
    check_refused(png, "2147483647 x 2147483647 pixels, and at most 178,956,970 are decoded", Code::unsupported);
    const std::string jpeg = image_bytes("ycc420.jpg");
    const size_t frame = jpeg.find("\xff\xc0");
    check_refused(with(jpeg, frame + 5, "\xff\xdc\xff\xdc"), "65500 x 65500 pixels", Code::unsupported);
    const std::string webp = image_bytes("animated.webp");
    check_refused(with(webp, webp.find("VP8X") + 12, std::string("\xff\x7f\x00\xff\x7f\x00", 6)), "32768 x ",
                  Code::unsupported);
    check_refused(with(image_bytes("rgb8.png"), 16, std::string(4, '\0')), "0 x 35 pixels");
    check_refused(with(image_bytes("rgb8.png"), 16, std::string(1, '\x80')), "no header of an image");

    const Status small = decode_image(image_bytes("rgb8.png"), "photo", {.max_pixels = 45 * 35 - 1}).take_status();
    CHECK(small.message().find("45 x 35 pixels, and at most 1,574 are decoded") != std::string::npos);
    CHECK(decode_image(image_bytes("rgb8.png"), "photo", {.max_pixels = 45 * 35}).ok());
}

TEST_CASE("a small file cannot ask for work without end") {
    // A progressive JPEG whose first scan, of the averages of all blocks, comes many times.
    const std::string jpeg = image_bytes("grey-progressive.jpg");
    const size_t begin = jpeg.find("\xff\xda"), end = jpeg.find("\xff\xc4", begin);
    const auto repeated = [&](int times) {
        std::string out = jpeg.substr(0, begin);
        for (int i = 0; i < times; i++) out += jpeg.substr(begin, end - begin);
        return out + jpeg.substr(end);
    };
    CHECK(decode_image(repeated(50), "photo").value().rgb == decode_image(jpeg, "photo").value().rgb);
    check_refused(repeated(200), "more scans than any encoder writes");
}

TEST_CASE("parts of a JPEG that are not there") {
    const std::string jpeg = image_bytes("ycc420.jpg");
    // A byte of the entropy-coded data is gone, or is a marker; PIL fills the rest with grey.
    const size_t scan = jpeg.find("\xff\xda");
    check_refused(jpeg.substr(0, scan + 200) + "\xff\xd9", "damaged JPEG");
    check_refused(with(jpeg, scan + 100, "\xff\xd9"), "damaged JPEG");
    std::string deep = jpeg;
    deep[deep.find("\xff\xc0") + 4] = 12;
    check_refused(deep, "a kind of JPEG that is not read", Code::unsupported);
    std::string lossless = jpeg;
    lossless[lossless.find("\xff\xc0") + 1] = '\xc3';
    check_refused(lossless, "a kind of JPEG that is not read", Code::unsupported);
    check_refused("\xff\xd8\xff\xd9", "damaged JPEG");
}

TEST_CASE("animations with a broken frame") {
    const std::string webp = image_bytes("animated-offset.webp");
    const size_t frame = webp.find("ANMF");
    check_refused(with(webp, frame + 8, "\x10"), "a frame outside the canvas");
    std::string renamed = webp;
    for (size_t at = renamed.find("ANMF"); at != std::string::npos; at = renamed.find("ANMF")) renamed[at] = 'X';
    check_refused(renamed, "an animation without a whole frame");
}
