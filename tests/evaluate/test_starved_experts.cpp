// Experts that calibration gave few tokens or none: what methods that fit to inputs make of them, judged by inputs that they never
// saw, is no worse than round-to-nearest.
#include "e2e/calibrated_fixture.h"
#include "evaluate/evaluate_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

// Below this an expert is starved: fewer tokens than a block has columns. Experts are judged by so many tokens at least.
constexpr int64_t few_tokens = 16;
constexpr double enough_tokens = 32;

struct Expert {
    int64_t layer = 0, expert = 0, tokens = 0; // that calibration sent it
};

// What is quantized, and the text that judges: other records than those that calibrate.
struct Slice {
    ScratchFolder scratch;
    std::string tokens;
    std::map<std::string, std::string> judging; // tensor of second moments -> F32 [32, K, K], of weights -> F64 [32, 3]
    std::vector<Expert> experts;

    Slice() {
        Ids all = read_ids(reference_tokens);
        Ids few(all.begin(), all.begin() + 3);
        for (std::vector<int32_t> & ids : few) ids.resize(48);
        tokens = scratch.save("few.json", tokens_text(few));
        CalibratedRun judge;
        judge.tokens = scratch.save("judge.json", tokens_text(Ids(all.begin() + 8, all.end())));
        judge.method = GNV_METHOD_GPTQ;
        judge.experts = GNV_EXPERTS_ROUTED;
        judge.destination = scratch / "judge";
        judge.save_statistics = scratch / "judge-stats.json";
        require_good(quantize(judge));
        for (const MemoryTensor & tensor : tensors_of_file(judge.save_statistics + ".moments.safetensors"))
            judging[tensor.name] = tensor.data;
    }
    std::string folder(gnv_method method) const { return scratch / std::to_string(int(method)); }
    double judging_tokens(const Expert & expert) const {
        double count;
        memcpy(&count,
               judging.at(concat(expert.layer, ".routed_expert_input.fitted_weights")).data() + expert.expert * 24,
               sizeof count);
        return count;
    }
    static std::vector<MemoryTensor> tensors_of_file(const std::string & path) {
        const ScratchFolder folder;
        REQUIRE(copy_file_synced(path, folder / "model.safetensors").ok());
        return load_tensors(folder.path());
    }

    std::map<std::string, std::string> make(gnv_method method) {
        CalibratedRun run;
        run.destination = folder(method);
        run.tokens = tokens;
        run.method = method;
        run.experts = GNV_EXPERTS_ROUTED;
        require_good(quantize(run));
        const Json report = Json::parse(read_file(run.destination + "/quantization_report.json", 1 << 24).value());
        const auto counts = report["calibration"]["tokens_per_expert"].get<std::vector<std::vector<int64_t>>>();
        experts.clear();
        for (size_t layer = 0; layer < counts.size(); layer++)
            for (size_t e = 0; e < counts[layer].size(); e++)
                experts.push_back({int64_t(layer), int64_t(e), counts[layer][e]});
        std::map<std::string, std::string> tensors;
        for (MemoryTensor & tensor : load_tensors(run.destination)) tensors[tensor.name] = std::move(tensor.data);
        return tensors;
    }
};

// The source's fused weights of an expert: gate, up [64, 256] or down [256, 64].
std::vector<float> source_weights(const std::map<std::string, std::string> & source, const Expert & expert,
                                  const std::string & projection) {
    const std::string prefix = concat("model.language_model.layers.", expert.layer, ".mlp.experts.");
    const bool is_down = projection == "down_proj";
    const std::string & fused = source.at(prefix + (is_down ? "down_proj" : "gate_up_proj"));
    constexpr size_t count = 64 * 256;
    const size_t first =
        is_down ? size_t(expert.expert) * count : (size_t(expert.expert) * 2 + (projection == "up_proj")) * count;
    std::vector<float> weights;
    for (size_t i = 0; i < count; i++) {
        uint16_t bits;
        memcpy(&bits, fused.data() + (first + i) * 2, 2);
        weights.push_back(nvfp4::bf16_to_float(bits));
    }
    return weights;
}

// Squared errors of an expert's outputs on the judging text: sum over rows of d M d^T, d = w - v.
double output_error(const Slice & slice, const std::map<std::string, std::string> & made,
                    const std::map<std::string, std::string> & source, const Expert & expert,
                    const std::string & projection) {
    const bool is_down = projection == "down_proj";
    const int64_t rows = is_down ? 256 : 64, columns = is_down ? 64 : 256;
    const std::string name =
        concat("model.language_model.layers.", expert.layer, ".mlp.experts.", expert.expert, ".", projection);
    std::string codes = made.at(name + ".weight_packed"), scales = made.at(name + ".weight_scale");
    const PackedRows packed = {
        rows, columns, {reinterpret_cast<uint8_t *>(codes.data()), reinterpret_cast<uint8_t *>(scales.data())}};
    std::vector<float> values(size_t(rows * columns));
    formats::nvfp4.unpack(best_instruction_set(), packed, float_of(made.at(name + ".weight_global_scale")),
                          values.data());
    const std::vector<float> weights = source_weights(source, expert, projection);
    const std::string & moments = slice.judging.at(
        concat(expert.layer, is_down ? ".routed_down_input" : ".routed_expert_input", ".fitted_moments"));
    const float * const m = reinterpret_cast<const float *>(moments.data()) + expert.expert * columns * columns;
    double error = 0;
    std::vector<double> missed(static_cast<size_t>(columns));
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t k = 0; k < columns; k++)
            missed[size_t(k)] = double(weights[size_t(r * columns + k)]) - double(values[size_t(r * columns + k)]);
        for (int64_t i = 0; i < columns; i++) {
            double sum = 0;
            for (int64_t j = 0; j < columns; j++) sum += double(m[i * columns + j]) * missed[size_t(j)];
            error += missed[size_t(i)] * sum;
        }
    }
    return error;
}

} // namespace

TEST_CASE(
    "starved experts: outputs no worse than round-to-nearest's on text that calibration never saw, nor predictions") {
    Slice slice;
    std::map<std::string, std::string> source;
    for (MemoryTensor & tensor : load_tensors(tiny)) source[tensor.name] = std::move(tensor.data);
    evaluate::EvaluationData data;
    const Ids judging = read_ids(slice.scratch / "judge.json");
    for (size_t i = 0; i < 8; i++) data.sequences.emplace_back().ids = judging[i];
    const auto divergences = [&](const std::string & folder) {
        evaluate::EvaluateOptions options;
        options.lines[size_t(evaluate::Line::activations)] = false;
        const evaluate::Evaluation found = evaluate_folder(open_folder(folder).take(), data, options);
        return std::pair(found.lines[0].all.divergence.mean, found.lines[1].all.divergence.mean); // W4A4, W4A16
    };
    const auto nearest = slice.make(GNV_METHOD_RTN);
    const auto usual = divergences(slice.folder(GNV_METHOD_RTN));
    for (const gnv_method method : {GNV_METHOD_HESSIAN, GNV_METHOD_GPTQ}) {
        CAPTURE(method);
        const auto made = slice.make(method);
        int starved = 0, silent = 0;
        double parts = 0;
        for (const Expert & expert : slice.experts) {
            if (expert.tokens >= few_tokens || slice.judging_tokens(expert) < enough_tokens) continue;
            starved++, silent += expert.tokens == 0;
            for (const char * projection : {"gate_proj", "up_proj", "down_proj"}) {
                const double theirs = output_error(slice, nearest, source, expert, projection);
                const double ours = output_error(slice, made, source, expert, projection);
                CHECK_MESSAGE(ours <= theirs, "layer " << expert.layer << ", expert " << expert.expert << ", "
                                                       << projection << ", " << expert.tokens
                                                       << " tokens: " << ours / theirs);
                parts += ours / theirs / 3;
            }
        }
        CHECK(starved > 60);
        CHECK(silent > 10);
        CHECK(parts / starved < 0.8);
        const auto ours = divergences(slice.folder(method));
        CHECK(ours.first < usual.first);
        CHECK(ours.second < usual.second);
    }
}
