// pixel_values and grid_thw that Transformers recorded, and sizes that Python computed.
#include "golden_file.h"
#include "images/image_fixture.h"
#include "images/preprocess.h"
#include "images/resize.h"

#include <random>

using namespace gnv;
using namespace gnv::test;

static ImageProcessorConfig small_config() {
    const std::shared_ptr<const Folder> folder = open_folder(GNV_TEST_BINARY_DIR "/data/qwen36-tiny").take();
    return read_processor_config(*folder).take().images;
}

TEST_CASE("recorded pixel_values and grid_thw") {
    const GoldenFile golden("pixel_levels.safetensors");
    const ImageProcessorConfig config = small_config();
    const std::unique_ptr<ThreadPool> pool = ThreadPool::create(3).take();
    for (const std::string name :
         {"circle64.png", "gray.png", "rgba.png", "small.png", "square64.png", "tall.png", "texture.jpg", "wide.png"}) {
        CAPTURE(name);
        const Image image = read_image(GNV_TEST_DATA "/golden/images/" + name).take();
        const PixelValues pixels = preprocess_image(config, image, name).take();
        const std::vector<int32_t> grid = golden.ints(std::string(name) + ".grid_thw");
        CHECK(pixels.grid == VisionGrid{grid[0], grid[1], grid[2]});
        const std::vector<uint8_t> levels = golden.bytes(std::string(name) + ".levels"); // [patches, 3, 256]
        REQUIRE(pixels.values.size() == levels.size() * 2);
        size_t different = 0;
        for (size_t i = 0; i < levels.size(); i++) {
            const float expected = (float(levels[i]) - 127.5f) / 127.5f;
            const size_t channel = i / 256, at = channel * 512 + i % 256;
            for (const float value : {pixels.values[at], pixels.values[at + 256]}) different += value != expected;
        }
        CHECK(different == 0); // not one level of one value
        CHECK(preprocess_image(config, image, name, pool.get()).value().values == pixels.values);
    }
}

TEST_CASE("resized sizes are Python's") {
    const JsonDocument document = JsonDocument::read(image_path("sizes.json"), 1 << 20).take();
    const auto each = [&](const char * list, size_t count, const auto & check) {
        const Status status =
            document.root().get(list).take().for_each_element([&](size_t, const JsonValue & row) -> Status {
                std::vector<int64_t> numbers;
                GNV_TRY(row.for_each_element([&](size_t, const JsonValue & number) -> Status {
                    GNV_ASSIGN(const int64_t value, number.as_int());
                    numbers.push_back(value);
                    return {};
                }));
                REQUIRE(numbers.size() == count);
                CAPTURE(row.text());
                check(numbers);
                return {};
            });
        REQUIRE_MESSAGE(status.ok(), status.message());
    };
    const auto config_of = [](const std::vector<int64_t> & numbers) {
        ImageProcessorConfig config;
        config.patch_size = numbers[0] / 2;
        config.min_pixels = uint64_t(numbers[1]), config.max_pixels = uint64_t(numbers[2]);
        return config;
    };
    each("images", 7, [&](const std::vector<int64_t> & numbers) {
        const PatchPlan plan = plan_image(config_of(numbers), numbers[3], numbers[4], "photo").take();
        CHECK(plan.width == numbers[5]);
        CHECK(plan.height == numbers[6]);
        CHECK(plan.grid == VisionGrid{1, numbers[6] * 2 / numbers[0], numbers[5] * 2 / numbers[0]});
    });
    each("videos", 8, [&](const std::vector<int64_t> & numbers) {
        const PatchPlan plan = plan_frames(config_of(numbers), numbers[3], numbers[4], numbers[5], "film").take();
        CHECK(plan.width == numbers[6]);
        CHECK(plan.height == numbers[7]);
        CHECK(plan.grid.t == (numbers[3] + 1) / 2);
    });
}

TEST_CASE("half to even") {
    CHECK(round_half_even(1.5) == 2);
    CHECK(round_half_even(2.5) == 2);
    CHECK(round_half_even(0.5) == 0);
    CHECK(round_half_even(0.49999999999999994) == 0); // where floor(x + 0.5) is 1
    CHECK(round_half_even(3.0000001) == 3);
}

TEST_CASE("pictures that no size fits") {
    ImageProcessorConfig config;
    CHECK(plan_image(config, 200, 1, "photo").ok());
    const Status narrow = plan_image(config, 201, 1, "photo").take_status();
    CHECK(narrow.code() == Code::unsupported);
    CHECK(narrow.message() ==
          "photo: a picture of 201 x 1 pixels: one side is more than 200 times the other; cut it, or leave it out");
    CHECK(plan_image(config, 0, 5, "photo").status().code() == Code::invalid_argument);
    config.min_pixels = 1;
    CHECK(plan_image(config, 10, 10, "photo").value().grid == VisionGrid{1, 2, 2}); // whose sides round to 0
    config.do_resize = false;
    CHECK(plan_image(config, 56, 84, "photo").value().grid == VisionGrid{1, 6, 4});
    CHECK(plan_image(config, 56, 80, "photo").status().message().find("no multiples of 28") != std::string::npos);
    CHECK(plan_frames(config, 1, 56, 56, "film").status().message().find("take it as a picture") != std::string::npos);
}

TEST_CASE("patches in the order of merge blocks") {
    // A picture that needs no resize and whose bytes tell where they were.
    ImageProcessorConfig config;
    config.patch_size = 2, config.merge_size = 3, config.temporal_patch_size = 2;
    config.do_resize = config.do_rescale = config.do_normalize = false;
    Image image{12, 6, std::vector<uint8_t>(12 * 6 * 3)};
    for (size_t i = 0; i < image.rgb.size(); i++) image.rgb[i] = uint8_t(i);
    const PixelValues pixels = preprocess_image(config, image, "photo").take();
    CHECK(pixels.grid == VisionGrid{1, 3, 6});
    size_t at = 0;
    for (int block = 0; block < 2; block++)
        for (int a = 0; a < 3; a++)
            for (int b = 0; b < 3; b++)
                for (int c = 0; c < 3; c++)
                    for (int frame = 0; frame < 2; frame++)
                        for (int y = 0; y < 2; y++)
                            for (int x = 0; x < 2; x++)
                                REQUIRE(pixels.values[at++] ==
                                        float(((a * 2 + y) * 12 + (block * 3 + b) * 2 + x) * 3 + c));
    CHECK(at == pixels.values.size());
}

TEST_CASE("rescale and normalize, each with and without the other") {
    ImageProcessorConfig config;
    config.do_resize = false;
    config.patch_size = 1, config.merge_size = 1, config.temporal_patch_size = 1;
    config.mean = {0.5, 0.25, 0}, config.deviation = {0.5, 0.2, 2};
    const Image image{1, 1, {255, 128, 7}};
    const auto values = [&] { return preprocess_image(config, image, "photo").value().values; };
    CHECK(values() == std::vector<float>{1.0f, (128.0f - 0.25f * 255.0f) / (0.2f * 255.0f), 7.0f / 510.0f});
    config.do_normalize = false;
    CHECK(values() ==
          std::vector<float>{255.0f * float(1 / 255.0), 128.0f * float(1 / 255.0), 7.0f * float(1 / 255.0)});
    config.do_rescale = false;
    CHECK(values() == std::vector<float>{255, 128, 7});
    config.do_normalize = true;
    CHECK(values() == std::vector<float>{254.5f / 0.5f, (128.0f - 0.25f) / 0.2f, 3.5f});
}

TEST_CASE("mean and deviation are scaled in F32, as numpy computes it") {
    ImageProcessorConfig config; // CLIP's, of which four of six differ from what F64 gives
    config.do_resize = false;
    config.patch_size = 1, config.merge_size = 1, config.temporal_patch_size = 1;
    const Image image{2, 1, {0, 7, 128, 255, 0, 255}};
    CHECK(preprocess_image(config, image, "photo").value().values ==
          std::vector<float>{-0x1.cad1b8p+0f, -0x1.a5a496p+0f, 0x1.5c1b82p-2f, 0x1.ee2a84p+0f, -0x1.c0896ep+0f,
                             0x1.12acc2p+1f});
}

TEST_CASE("resize keeps flat colours, and gives the same bytes with threads") {
    std::mt19937 random(9);
    const std::unique_ptr<ThreadPool> pool = ThreadPool::create(4).take();
    Image flat{37, 53, std::vector<uint8_t>(37 * 53 * 3, 201)}, noise = flat;
    for (uint8_t & level : noise.rgb) level = uint8_t(random());
    for (const auto & [width, height] : {std::pair{32, 64}, {37, 20}, {1, 1}, {200, 53}, {2000, 3}}) {
        const Image out = resize_bicubic(flat, width, height).take();
        CHECK(out.rgb == std::vector<uint8_t>(size_t(width * height * 3), 201));
        CHECK(resize_bicubic(noise, width, height).value().rgb ==
              resize_bicubic(noise, width, height, pool.get()).value().rgb);
    }
    CHECK(resize_bicubic(noise, 37, 53).value().rgb == noise.rgb);
}
