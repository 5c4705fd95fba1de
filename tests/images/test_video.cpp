// Videos: which frames are looked at, as numpy computes it, and where they go.
#include "images/image_fixture.h"
#include "images/video.h"
#include "scratch.h"

using namespace gnv;
using namespace gnv::test;

TEST_CASE("frames are sampled as by numpy") {
    const JsonDocument document = JsonDocument::read(image_path("sizes.json"), 1 << 20).take();
    const VideoProcessorConfig config;
    const Status status =
        document.root().get("samples").take().for_each_element([&](size_t, const JsonValue & sample) -> Status {
            const int64_t total = sample.get("total").take().as_int().take();
            const double rate = sample.get("rate").take().as_double().take();
            CAPTURE(total);
            CAPTURE(rate);
            const std::vector<int64_t> frames = sample_frames(config, total, rate);
            CHECK(int64_t(frames.size()) == sample.get("count").take().as_int().take());
            int64_t sum = 0;
            for (const int64_t frame : frames) sum += frame;
            CHECK(sum == sample.get("sum").take().as_int().take());
            return sample.get("first").take().for_each_element([&](size_t index, const JsonValue & frame) -> Status {
                CHECK(frames[index] == frame.as_int().take());
                return {};
            });
        });
    REQUIRE_MESSAGE(status.ok(), status.message());
    VideoProcessorConfig all;
    all.do_sample_frames = false;
    CHECK(sample_frames(all, 3, 24) == std::vector<int64_t>{0, 1, 2});
    CHECK(group_seconds(config, {0, 24, 48}, 24) == std::vector<double>{0.5, 2});
    CHECK(seconds_text(0.25) == "<0.2 seconds>");
    CHECK(seconds_text(12) == "<12.0 seconds>");
}

static VideoProcessorConfig small_config() {
    VideoProcessorConfig config;
    config.frames.min_pixels = 1, config.frames.max_pixels = 1 << 20;
    config.frames.patch_size = 8;
    return config;
}

TEST_CASE("frames of a folder, in the order of their numbers, two to a group") {
    const ScratchFolder scratch;
    const char * const files[] = {"rgb8.png", "ycc444.jpg", "lossy.webp", "palette8.png", "grey8.png"};
    const char * const names[] = {"frame2.png", "frame9.JPG", "frame010.png", "frame10.png", "frame11.png"};
    for (int i = 0; i < 5; i++) scratch.save(names[i], image_bytes(files[i]));
    scratch.save(".hidden", "no frame");
    const std::shared_ptr<const Folder> folder = open_folder(scratch.path()).take();
    const VideoProcessorConfig config = small_config();
    const VideoPlan plan = plan_video(config, *folder, 2).take();
    REQUIRE(plan.files.size() == 5);
    CHECK(plan.files[0] == names[0]);
    CHECK(plan.files[1] == names[1]);
    CHECK(plan.files[2] == names[2]);
    CHECK(plan.files[4] == names[4]);
    CHECK(plan.seconds == std::vector<double>{0.25, 1.25, 2});
    CHECK(plan.patches.grid == VisionGrid{3, 4, 6}); // 45 x 35 becomes 48 x 32
    std::vector<float> values(plan.patches.values(config.frames), -9);
    REQUIRE(preprocess_video(config, plan, *folder, values.data()).ok());

    // Each frame is where a picture of the same file has its two.
    const size_t plane = 64, row = size_t(config.frames.patch_values()), group = 4 * 6 * row;
    for (size_t frame = 0; frame < 6; frame++) {
        const Image image = decode_image(image_bytes(files[std::min(frame, size_t(4))]), "frame").take();
        std::vector<float> expected(group);
        const PatchPlan one{plan.patches.width, plan.patches.height, {1, 4, 6}};
        REQUIRE(preprocess_image(config.frames, one, image, expected.data()).ok());
        for (size_t i = 0; i < group; i++)
            if (i / plane % 2 == frame % 2) REQUIRE(values[frame / 2 * group + i] == expected[i]);
    }
}

TEST_CASE("folders that are no video") {
    const ScratchFolder scratch;
    const auto check = [&](const std::string & text, double rate = 24) {
        const std::shared_ptr<const Folder> folder = open_folder(scratch.path()).take();
        const VideoProcessorConfig config = small_config();
        Result<VideoPlan> plan = plan_video(config, *folder, rate);
        Status status = plan.take_status();
        if (status.ok()) {
            std::vector<float> values(plan.value().patches.values(config.frames));
            status = preprocess_video(config, plan.value(), *folder, values.data());
        }
        CHECK_MESSAGE(status.message().find(text) != std::string::npos, status.message());
        CHECK(status.message().find(scratch.path()) != std::string::npos);
    };
    check("a video without frames");
    scratch.save("1.png", image_bytes("rgb8.png"));
    check("a video has 2 frames at least");
    check("expected a number above 0", 0);
    scratch.save("2.png", read_file(GNV_TEST_DATA "/golden/images/small.png", 1 << 20).take());
    check("2.png: a frame of 20 x 13 pixels in a video of 45 x 35");
    scratch.save("2.png", image_bytes("rgb8.png").substr(0, 300));
    check("2.png: byte 300: damaged PNG");
    scratch.save("notes.txt", "");
    check("notes.txt: no frame");
}
