// The vision tower on a CUDA device: rows of pictures beside the CPU's, and the tower of the 35B shape at work.
#include "forward/vision_fixture.h"
#include "scratch.h"
#include "tools/synthetic_checkpoint.h"

#include <random>

using namespace gnv;
using namespace gnv::test;

namespace {

struct CudaVision {
    std::unique_ptr<ThreadPool> threads = ThreadPool::create(0).take();
    std::unique_ptr<Backend> device = open_cuda(0).take();

    std::vector<float> encode(const OpenModel & model, const std::vector<Picture> & pictures) {
        Result<std::vector<float>> rows = encode_pictures(model.vision, model.vision_variant(Precision::bf16), *device,
                                                          *threads, pictures, PictureOptions());
        REQUIRE_MESSAGE(rows.ok(), rows.status().message());
        return rows.take();
    }
};

// The config of the 35B shape, with a text model of four layers and eight experts: its tower is the whole one.
std::string config_of_tower() {
    std::string config = read_file(std::string(GNV_TEST_DATA) + "/configs/qwen36-35b-a3b.json", 1 << 20).take();
    const auto set = [&](const std::string & key, const std::string & value) {
        const size_t at = config.find("\"" + key + "\": ") + key.size() + 4;
        REQUIRE(at < config.size());
        const size_t end = config[at] == '[' ? config.find(']', at) + 1 : config.find_first_of(",\n", at);
        config.replace(at, end - at, value);
    };
    set("layer_types", R"(["linear_attention", "linear_attention", "linear_attention", "full_attention"])");
    set("num_hidden_layers", "4");
    set("num_experts", "8");
    return config;
}

} // namespace

TEST_CASE("pictures: rows in BF16, of which each is a matter of its picture") {
    VisionFixture cpu;
    CudaVision cuda;
    std::vector<RecordedPicture> recorded;
    for (const std::string & name : picture_names) recorded.emplace_back(name);
    std::vector<Picture> pictures;
    for (const RecordedPicture & each : recorded) pictures.push_back(each.picture);
    const std::vector<float> expected = cpu.encode(pictures, {}, Precision::bf16);
    const std::vector<float> found = cuda.encode(*cpu.model, pictures);
    REQUIRE(found.size() == expected.size());
    CHECK(relative_error(found, expected) < 0.04);
    std::vector<float> one_by_one;
    for (const Picture & picture : pictures) {
        const std::vector<float> rows = cuda.encode(*cpu.model, {picture});
        one_by_one.insert(one_by_one.end(), rows.begin(), rows.end());
    }
    CHECK(one_by_one == found);
}

TEST_CASE("bench of a vision tower" * doctest::skip()) {
    const ScratchFolder scratch;
    SyntheticOptions options;
    options.threads = 0;
    REQUIRE(write_synthetic_checkpoint(config_of_tower(), scratch / "model", options).ok());
    const std::unique_ptr<OpenModel> model = open_model(scratch / "model");
    const int count = 64, side = 64; // pictures of 64 x 64 patches of 16 x 16
    std::vector<float> pixels(size_t(side * side * model->vision.tower->sizes().given));
    std::mt19937 random(1);
    for (float & value : pixels) value = float(random() % 2001) / 1000 - 1;
    Picture picture;
    picture.rows = picture.columns = side;
    picture.pixels = pixels;
    CudaVision cuda;
    const std::vector<Picture> pictures(size_t(count), picture);
    cuda.encode(*model, {picture}); // loads kernels
    Trace trace;
    cuda.device->set_trace(&trace);
    const auto start = Clock::now();
    cuda.encode(*model, pictures);
    const double seconds = seconds_since(start);
    cuda.device->set_trace(nullptr);
    double flops = 0;
    for (const Trace::Total & total : trace.totals()) {
        printf("%-10s %-24s %8.1f ms %8.1f TFLOP/s %8.0f GB/s\n", total.lane, total.name, total.seconds * 1e3,
               total.work.flops / total.seconds / 1e12, total.work.bytes / total.seconds / 1e9);
        flops += total.work.flops;
    }
    printf("%d pictures of %d patches: %.2f s, %.1f a second, %.0f TFLOP/s\n", count, side * side, seconds,
           count / seconds, flops / seconds / 1e12);
}
