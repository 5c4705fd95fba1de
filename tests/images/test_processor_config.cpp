// The published forms of a processor's config.
#include "images/processor_config.h"

#include "scratch.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

static Result<ProcessorConfig> read(const ScratchFolder & folder) {
    GNV_ASSIGN(const std::shared_ptr<const Folder> opened, open_folder(folder.path()));
    return read_processor_config(*opened);
}

TEST_CASE("preprocessor_config.json with edges") {
    const ScratchFolder folder;
    folder.save("preprocessor_config.json",
                R"({"size": {"longest_edge": 65536, "shortest_edge": 4096}, "patch_size": 16,
        "temporal_patch_size": 2, "merge_size": 2, "image_mean": [0.5, 0.5, 0.5], "image_std": 0.25, "min_pixels": null,
        "processor_class": "Qwen3VLProcessor", "image_processor_type": "Qwen2VLImageProcessorFast"})");
    const ProcessorConfig config = read(folder).take();
    CHECK(config.images.min_pixels == 4096);
    CHECK(config.images.max_pixels == 65536);
    CHECK(config.images.patch_size == 16);
    CHECK(config.images.merged_size() == 32);
    CHECK(config.images.patch_values() == 1536);
    CHECK(config.images.mean == std::array{0.5, 0.5, 0.5});
    CHECK(config.images.deviation == std::array{0.25, 0.25, 0.25});
    CHECK(config.videos.frames.max_pixels == 65536); // there is no config of videos
    CHECK(config.videos.frames_per_second == 2);
}

TEST_CASE("preprocessor_config.json with pixels, and defaults of the class") {
    const ScratchFolder folder;
    folder.save("preprocessor_config.json", R"({"min_pixels": 3136, "max_pixels": 12845056,
        "size": {"min_pixels": 1, "max_pixels": 2}, "image_processor_type": "Qwen2VLImageProcessor"})");
    const ProcessorConfig config = read(folder).take();
    CHECK(config.images.min_pixels == 3136);
    CHECK(config.images.max_pixels == 12845056);
    CHECK(config.images.patch_size == 14);
    CHECK(config.images.mean[0] == 0.48145466);
    CHECK(config.images.deviation[2] == 0.27577711);
    CHECK(config.images.rescale_factor == 1 / 255.0);
}

TEST_CASE("processor_config.json holds both, and wins") {
    const ScratchFolder folder;
    folder.save("preprocessor_config.json", R"({"patch_size": 8})");
    folder.save("video_preprocessor_config.json", R"({"fps": 9})");
    folder.save("processor_config.json", R"({"image_processor": {"patch_size": 16, "max_pixels": 1000000},
        "video_processor": {"size": {"longest_edge": 25165824, "shortest_edge": 4096}, "fps": 1.5, "max_frames": 32,
        "video_processor_type": "Qwen3VLVideoProcessor"}, "processor_class": "Qwen3VLProcessor"})");
    ProcessorConfig config = read(folder).take();
    CHECK(config.images.patch_size == 16);
    CHECK(config.images.max_pixels == 1000000);
    CHECK(config.videos.frames.max_pixels == 25165824);
    CHECK(config.videos.frames.patch_size == 16);
    CHECK(config.videos.frames_per_second == 1.5);
    CHECK(config.videos.min_frames == 4);
    CHECK(config.videos.max_frames == 32);
    folder.save("processor_config.json", R"({"processor_class": "Qwen3VLProcessor"})"); // the older form of that file
    config = read(folder).take();
    CHECK(config.images.patch_size == 8);
    CHECK(config.videos.frames_per_second == 9);
}

TEST_CASE("configs that make no sense") {
    const ScratchFolder folder;
    const Status none = read(folder).take_status();
    CHECK(none.code() == Code::not_found);
    CHECK(none.message().find("this model takes no pictures") != std::string::npos);
    struct {
        const char *text, *message;
        Code code = Code::format;
    } const cases[] = {
        {R"({"patch_size": 0})", "patch_size: expected 1 to 1024, found 0"},
        {R"({"patch_size": "16"})", "patch_size: expected an integer"},
        {R"({"merge_size": 1000000})", "merge_size: expected 1 to 64"},
        {R"({"size": [1]})", "size: expected an object"},
        {R"({"size": {"shortest_edge": 9, "longest_edge": 8}})", "at least 9 pixels and at most 8"},
        {R"({"size": {"shortest_edge": 1e15}})", "size.shortest_edge: expected 1 to "},
        {R"({"num_frames": 16})", "num_frames: a fixed number of frames", Code::unsupported},
        {R"({"video_processor_type": "Qwen2VLVideoProcessor"})", "not by Qwen2VLVideoProcessor", Code::unsupported},
        {R"({"image_mean": [0.5]})", "image_mean: expected 3 numbers, found 1"},
        {R"({"image_std": [0.5, 0, 0.5]})", "image_std numbers above 0"},
        {R"({"rescale_factor": 0})", "rescale_factor: expected a number above 0"},
        {R"({"do_resize": 1})", "do_resize: expected"},
        {R"({"fps": -1})", "fps: expected a number above 0"},
        {R"({"min_frames": 9, "max_frames": 8})", "min_frames is above max_frames"},
        {R"({"resample": 2})", "resample is 2, and only 3", Code::unsupported},
        {R"({"image_processor_type": "CLIPImageProcessor"})", "not by CLIPImageProcessor", Code::unsupported},
        {"[]", "expected an object"},
        {"{", "preprocessor_config.json"},
    };
    for (const auto & item : cases) {
        CAPTURE(item.text);
        folder.save("preprocessor_config.json", item.text);
        const Status status = read(folder).take_status();
        CHECK(status.code() == item.code);
        CHECK(status.message().find("preprocessor_config.json") != std::string::npos);
        CHECK_MESSAGE(status.message().find(item.message) != std::string::npos, status.message());
    }
}
