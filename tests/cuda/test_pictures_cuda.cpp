// The vision tower on a CUDA device: rows of pictures beside the CPU's, and the tower of the 35B shape at work.
#include "bench/tower_bench.h"
#include "forward/vision_fixture.h"
#include "id_list.h"
#include "scratch.h"
#include "session/texts/generate.h"

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

std::string first_line(const std::string & text) { return text.substr(0, text.find('\n')); }

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

TEST_CASE("pictures: in BF16 the first line of every recorded answer") {
    CudaVision cuda;
    const std::unique_ptr<OpenModel> model = open_model(tiny_folder);
    const JsonDocument golden = JsonDocument::read(GNV_TEST_DATA "/golden/vision.json", 1 << 20).take();
    const Tokenizer tokenizer = Tokenizer::load(tiny_folder).take();
    for (const std::string & name : picture_names) {
        CAPTURE(name);
        const RecordedPicture recorded(name);
        const JsonValue expected = golden.root().get(name).take();
        const std::vector<int32_t> answer = read_id_list(expected.get("new_ids").take());
        const std::vector<float> rows = cuda.encode(*model, {recorded.picture});
        TextSequence text;
        text.ids = recorded_vision().ints(name + ".input_ids");
        REQUIRE(place_pictures({&recorded.picture, 1}, model->vision, text).ok());
        text.given = rows;
        Result<std::unique_ptr<TextSession>> session =
            TextSession::create(model->variant(Precision::bf16), *cuda.device, *cuda.threads, {1, 128});
        REQUIRE_MESSAGE(session.ok(), session.status().message());
        GenerateOptions options;
        options.max_tokens = int64_t(answer.size());
        std::vector<int32_t> found;
        REQUIRE(generate(*session.value(), 128, tokenizer, text, options, {}, found).ok());
        const std::string text_found = tokenizer.decode(found).take();
        CHECK(first_line(text_found) == first_line(std::string(expected.get("text").take().as_string().take())));
    }
}

TEST_CASE("bench of a vision tower" * doctest::skip()) {
    const ScratchFolder scratch;
    Result<TowerBench> made = TowerBench::create(GNV_TEST_DATA "/configs/qwen36-35b-a3b.json", scratch / "model");
    REQUIRE_MESSAGE(made.ok(), made.status().message());
    const TowerBench tower = made.take();
    const int count = 64, side = 64; // pictures of 64 x 64 patches of 16 x 16
    CudaVision cuda;
    const auto encode = [&](int pictures, Trace * trace = nullptr) {
        return tower.encode(*cuda.device, *cuda.threads, pictures, side, trace).take();
    };
    encode(1); // loads kernels
    Trace trace;
    const double traced = encode(count, &trace), seconds = encode(count);
    double flops = 0, busy = 0;
    for (const Trace::Total & total : trace.totals()) {
        printf("%-10s %-24s %8.1f ms %8.1f TFLOP/s %8.0f GB/s\n", total.lane, total.name, total.seconds * 1e3,
               total.work.flops / total.seconds / 1e12, total.work.bytes / total.seconds / 1e9);
        flops += total.work.flops;
        busy += std::string_view(total.lane) == "compute" ? total.seconds : 0;
    }
    printf("%d pictures of %d patches: %.3f s, %.1f a second, %.0f TFLOP/s; with a trace %.3f s, %.3f s of it busy\n",
           count, side * side, seconds, count / seconds, flops / seconds / 1e12, traced, busy);
}
