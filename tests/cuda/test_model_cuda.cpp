// Models on a CUDA device through the C API: NVFP4 checkpoints, and what is refused.
#include "e2e/calibrated_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

using Model = Handle<gnv_model_t>;

gnv_model_options options_for(int32_t device) {
    gnv_model_options options;
    gnv_model_options_init(&options);
    options.precision = GNV_PRECISION_BF16;
    options.capacity = 128;
    options.device = device;
    return options;
}

Model open(gnv_engine_t * engine, const std::string & folder, const gnv_model_options & options) {
    gnv_model_t * model = nullptr;
    const gnv_status status = gnv_model_open(engine, folder.c_str(), &options, &model);
    REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine));
    return Model(model);
}

std::vector<float> logits_of(gnv_engine_t * engine, gnv_model_t * model, const std::vector<int32_t> & ids) {
    std::vector<float> logits(ids.size() * 4096);
    gnv_forward_options options;
    gnv_forward_options_init(&options);
    options.all_logits = 1;
    REQUIRE(gnv_model_reset(model) == GNV_OK);
    const gnv_status status =
        gnv_model_forward(model, ids.data(), ids.size(), &options, logits.data(), logits.size(), nullptr);
    REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine));
    return logits;
}

// Root of the mean squared difference over that of the expected values, of the median position.
double typical_error(const std::vector<float> & found, const std::vector<float> & expected) {
    std::vector<double> errors;
    for (size_t begin = 0; begin < expected.size(); begin += 4096) {
        double error = 0, squares = 1e-30;
        for (size_t i = begin; i < begin + 4096; i++) {
            error += std::pow(double(found[i]) - double(expected[i]), 2);
            squares += std::pow(double(expected[i]), 2);
        }
        errors.push_back(std::sqrt(error / squares));
    }
    std::sort(errors.begin(), errors.end());
    return errors[errors.size() / 2];
}

std::vector<int32_t> some_ids(size_t count) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < count; i++) ids.push_back(int32_t((i * 37 + i * i) % 4000));
    return ids;
}

} // namespace

TEST_CASE("NVFP4 checkpoints, with activations as they are and in W4A4") {
    const ScratchFolder folder;
    CalibratedRun run;
    run.destination = folder / "nvfp4";
    std::string ids = "{\"input_ids\": [[";
    for (const int32_t id : some_ids(200)) ids += std::to_string(id) + ", ";
    run.tokens = folder.save("tokens.json", ids + "1]]}");
    const RunResult made = quantize(run);
    REQUIRE_MESSAGE(made.status == GNV_OK, made.message);
    const Handle<gnv_engine_t> engine = make_engine(2);
    const std::vector<int32_t> text = some_ids(70);
    for (const int weights_only : {1, 0}) {
        CAPTURE(weights_only);
        const auto open_on = [&](int32_t device, gnv_precision precision) {
            gnv_model_options options = options_for(device);
            options.weights_only = weights_only;
            options.precision = precision;
            return open(engine.get(), run.destination, options);
        };
        const Model found = open_on(1, GNV_PRECISION_BF16);
        gnv_model_info info = {};
        info.struct_size = sizeof info;
        REQUIRE(gnv_model_get_info(found.get(), &info) == GNV_OK);
        CHECK(info.quantized_modules > 100);
        CHECK(info.quantizes_inputs == !weights_only);
        CHECK(info.weights_stay == 1);
        const std::vector<float> logits = logits_of(engine.get(), found.get(), text);
        CHECK(logits_of(engine.get(), found.get(), text) == logits);
        // As far from FP32 as BF16 on the CPU is: more in W4A4, where rounding moves inputs over the edge of a code.
        const std::vector<float> exact = logits_of(engine.get(), open_on(0, GNV_PRECISION_FP32).get(), text);
        const double noise = typical_error(logits_of(engine.get(), open_on(0, GNV_PRECISION_BF16).get(), text), exact);
        const double error = typical_error(logits, exact);
        CAPTURE(noise);
        CAPTURE(error);
        CHECK(noise < 0.25);
        CHECK(error < 1.5 * noise);
    }
}

TEST_CASE("what a device does not have is refused, with what to do") {
    const Handle<gnv_engine_t> engine = make_engine(1);
    gnv_model_t * model = nullptr;
    gnv_model_options options = options_for(1);
    options.precision = GNV_PRECISION_FP32;
    CHECK(gnv_model_open(engine.get(), tiny_folder.c_str(), &options, &model) == GNV_UNSUPPORTED);
    CHECK(std::string(gnv_last_error(engine.get())).find("use precision bf16, or the CPU") != std::string::npos);
    CHECK(model == nullptr);
    options = options_for(1);
    options.device_bytes = 1000;
    CHECK(gnv_model_open(engine.get(), tiny_folder.c_str(), &options, &model) == GNV_OUT_OF_MEMORY);
    CHECK(std::string(gnv_last_error(engine.get())).find("the smallest sufficient one is ") != std::string::npos);
    options = options_for(1000);
    CHECK(gnv_model_open(engine.get(), tiny_folder.c_str(), &options, &model) == GNV_NOT_FOUND);
    options = options_for(-1);
    CHECK(gnv_model_open(engine.get(), tiny_folder.c_str(), &options, &model) == GNV_INVALID_ARGUMENT);
}
