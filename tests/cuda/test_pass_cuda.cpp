// Forward passes and comparisons of predictions on a CUDA device: the same bytes however they are run, the recorded numbers
// of the reference, and the CPU's in BF16.
#include "core/clock.h"
#include "evaluate/evaluate_fixture.h"
#include "forward/pass_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

struct CudaComparison : Comparison {
    CudaComparison() : Comparison(untripped_pair().quantized, Precision::bf16) { remote.device = open_cuda(0).take(); }
};

Fixture on_cuda(const std::string & folder = tiny_folder) {
    Fixture f(folder);
    f.precisions = {Precision::bf16};
    f.device = open_cuda(0).take();
    return f;
}

} // namespace

TEST_CASE("a pass gives the same bytes twice, in any batches, wherever hidden states are") {
    const ScratchFolder scratch;
    CudaComparison c;
    const auto texts = make_texts({70, 1, 63, 64, 65, 7, 130, 1000});
    for (const ExpertTokens tokens : {ExpertTokens::all, ExpertTokens::routed}) {
        PassOptions options = everything();
        options.expert_tokens = tokens;
        const Outcome expected = c.remote.run(texts, options);
        CHECK(expected.plan.store_place == StorePlace::device);
        CHECK(expected.plan.weight_buffers == 2);
        check_same(c.remote.run(texts, options), expected);
        options.device = expected.plan.device.used() - 1;
        const Outcome one_buffer = c.remote.run(texts, options);
        CHECK(one_buffer.plan.weight_buffers == 1);
        CHECK(one_buffer.plan.batches.size() == expected.plan.batches.size());
        check_same(one_buffer, expected);
        options.device = 0;
        for (const int64_t positions : {1, 200}) {
            CAPTURE(positions);
            options.batch_positions = positions;
            check_same(c.remote.run(texts, options), expected);
        }
        options.batch_positions = 0;
        check_same(run_on_host(c.remote, texts, options), expected);
        options.device = options.device.total() - 1;
        CHECK(c.remote.create(texts, options).status().code() == Code::out_of_memory);
        options.device = options.device.total() + 1;
        check_same(run_in_file(c.remote, texts, options, scratch.path()), expected);
    }
}

TEST_CASE("statistics of a pass: nearly the CPU's in BF16") {
    Fixture cuda = on_cuda(), cpu;
    cpu.precisions = {Precision::bf16};
    const auto texts = make_texts({300, 200});
    const Outcome found = cuda.run(texts, everything()), expected = cpu.run(texts, everything());
    double worst = 0;
    int64_t counted = 0, elsewhere = 0;
    REQUIRE(found.statistics[0].same_shapes(expected.statistics[0]));
    for (const auto & [key, b] : expected.statistics[0].totals()) {
        const StatisticTotal & a = found.statistics[0].totals().at(key);
        const int64_t elements = b.shape.elements();
        int64_t sum = 0;
        for (int64_t i = 0; i < elements && key.statistic == &Statistic::maximum; i++)
            worst = std::max(worst, std::abs(double(a.as<float>()[i]) / double(b.as<float>()[i]) - 1));
        for (int64_t i = 0; i < elements && key.statistic == &Statistic::magnitudes; i++) {
            sum += a.as<int64_t>()[i] - b.as<int64_t>()[i];
            elsewhere += std::abs(a.as<int64_t>()[i] - b.as<int64_t>()[i]);
            counted += b.as<int64_t>()[i];
        }
        CHECK(sum == 0);
    }
    MESSAGE("maxima differ by up to ", 100 * worst, " %, ", 100 * double(elsewhere) / double(counted),
            " % of values are counted in another bin");
    CHECK(worst < 0.15);
    CHECK(double(elsewhere) < 0.05 * double(counted));
}

TEST_CASE("logits against those that the reference computed in FP32") {
    const GoldenFile golden("text.safetensors");
    Fixture f = on_cuda();
    std::vector<TextSequence> texts;
    std::vector<float> expected;
    for (const std::string name : {"text1", "text63", "text70", "text700"}) {
        texts.emplace_back();
        texts.back().ids = golden.ints(name + ".input_ids");
        if (name == "text700") continue;
        const std::vector<float> logits = golden.floats(name + ".logits");
        expected.insert(expected.end(), logits.begin(), logits.end());
    }
    PassOptions options;
    options.head = true;
    const std::string bytes = f.run(texts, options).values[0].at("logits");
    std::vector<float> found(bytes.size() / sizeof(float));
    memcpy(found.data(), bytes.data(), bytes.size());
    const size_t vocabulary = 4096, positions = expected.size() / vocabulary;
    REQUIRE(positions == 1 + 63 + 70);
    std::vector<double> errors;
    double divergence = 0;
    for (size_t t = 0; t < positions; t++) {
        const float *a = found.data() + t * vocabulary, *b = expected.data() + t * vocabulary;
        double error = 0, power = 0;
        for (size_t i = 0; i < vocabulary; i++) {
            error += std::pow(double(a[i]) - double(b[i]), 2);
            power += std::pow(double(b[i]), 2);
        }
        errors.push_back(std::sqrt(error / power));
        const std::vector<double> q = log_softmax(a, vocabulary), p = log_softmax(b, vocabulary);
        for (size_t i = 0; i < vocabulary; i++) divergence += std::exp(p[i]) * (p[i] - q[i]) / double(positions);
    }
    double mean = 0;
    for (const double error : errors) mean += error / double(positions);
    std::sort(errors.begin(), errors.end());
    const double median = errors[positions / 2];
    // Of the long text: the most likely token and what the true one gets.
    const std::vector<int32_t> ids = texts.back().ids, argmax = golden.ints("text700.argmax");
    const std::vector<float> next = golden.floats("text700.logprob_next");
    double worst = 0, squares = 0;
    int same_top = 0;
    for (size_t t = 0; t < 700; t++) {
        const float * const row = found.data() + (positions + t) * vocabulary;
        same_top += int32_t(std::max_element(row, row + vocabulary) - row) == argmax[t];
        if (t == 699) continue;
        const double difference = log_softmax(row, vocabulary)[size_t(ids[t + 1])] - double(next[t]);
        worst = std::max(worst, std::abs(difference));
        squares += difference * difference / 699;
    }
    MESSAGE("relative error of logits: median ", 100 * median, " %, mean ", 100 * mean, " %, largest ",
            100 * errors.back(), " %; mean KL ", divergence, "; of 700 positions ", same_top,
            " have the same top token, log-probabilities differ by ", std::sqrt(squares), " (RMS), ", worst,
            " at most");
    CHECK(median < 0.02);
    CHECK(divergence < 1e-3);
    CHECK(same_top >= 686); // 98 %; in BF16 on the CPU 687: routers flip, and tokens tie
}

TEST_CASE("a NaN on CUDA is named as on the CPU") {
    const ScratchFolder scratch;
    const auto texts = make_texts({70, 64, 200, 64});
    const auto & first = texts[0].ids;
    size_t position = 0;
    while (std::count(first.begin(), first.end(), texts[1].ids[position]) > 0) position++;
    for (const std::string & folder : save_models_with_nan(scratch, texts[1].ids[position])) {
        CAPTURE(folder);
        Fixture host(folder), remote = on_cuda(folder);
        host.precisions = {Precision::bf16};
        PassOptions options = everything();
        options.head = false;
        options.batch_positions = 140;
        const std::string expected = failure(host, texts, options);
        CHECK(expected.find("sample") != std::string::npos);
        CHECK(failure(remote, texts, options) == expected);
        options.device = 1;
        options.device = smallest_budget(remote.create(texts, options).take_status());
        CHECK(failure(remote, texts, options) == expected);
    }
}

TEST_CASE("full precision is the CPU's") {
    Fixture f = on_cuda();
    f.precisions = {Precision::f32};
    const Status refused = f.create(make_texts({5}), everything()).take_status();
    CHECK(refused.code() == Code::unsupported);
    CHECK(refused.message().find("use precision bf16, or the CPU") != std::string::npos);
}

TEST_CASE("a comparison on CUDA: any budget gives the same report, the CPU in BF16 nearly the same") {
    using namespace gnv::evaluate;
    const EvaluationData data = read_data(8);
    EvaluateOptions options;
    options.precision = Precision::bf16;
    const Evaluation cpu = evaluate_reference(data, options);
    options.open_device = [](ThreadPool &) { return open_cuda(0); };
    const Evaluation found = evaluate_reference(data, options);
    CHECK(evaluation_json(found).find("\"device\": \"" + found.device + "\"") != std::string::npos);
    CHECK(found.device != cpu.device);
    const ScratchFolder scratch;
    options.scratch_folder = scratch.path();
    options.device_bytes = 720 << 20;
    options.ram_bytes = 40 << 20;
    CHECK(evaluation_json(evaluate_reference(data, options)) == evaluation_json(found));
    for (const LineReport & line : found.lines) {
        const LineReport & other = *cpu.find(line.line);
        MESSAGE(std::string(line_name(line.line)), ": KL ", line.all.divergence.mean, " on CUDA, ",
                other.all.divergence.mean, " on the CPU; same top token ", line.all.same_top.mean, ", ",
                other.all.same_top.mean, "; perplexity ", source_perplexity(line.all), " -> ", perplexity(line.all),
                ", ", source_perplexity(other.all), " -> ", perplexity(other.all));
        CHECK(line.all.divergence.mean == doctest::Approx(other.all.divergence.mean).epsilon(0.02));
        CHECK(line.all.same_top.mean == doctest::Approx(other.all.same_top.mean).epsilon(0.01));
        // Inputs are rounded to four bits: a last bit of BF16 that differs between devices may cost a whole code.
        CHECK(perplexity(line.all) == doctest::Approx(perplexity(other.all)).epsilon(0.01));
        CHECK(source_perplexity(line.all) == doctest::Approx(source_perplexity(other.all)).epsilon(0.002));
        REQUIRE(line.layers.size() == other.layers.size());
        for (size_t layer = 0; layer < line.layers.size(); layer++)
            CHECK(std::abs(line.layers[layer].sqnr_db() - other.layers[layer].sqnr_db()) < 0.5);
    }
    for (size_t i = 0; i < cpu.inputs.roles.size(); i++) {
        CHECK(found.inputs.roles[i].values == cpu.inputs.roles[i].values);
        CHECK(found.inputs.roles[i].least_room == doctest::Approx(cpu.inputs.roles[i].least_room).epsilon(0.1));
    }
}

// All of the text, as in test_evaluate's "all 90 documents agree with the emulation", which computes in FP32.
TEST_CASE("llm-compressor's output compared on CUDA: the figures of the emulation in FP32") {
    using namespace gnv::evaluate;
    EvaluateOptions options;
    options.precision = Precision::bf16;
    options.open_device = [](ThreadPool &) { return open_cuda(0); };
    const EvaluationData data = read_data(0);
    const auto start = Clock::now();
    const Evaluation found = evaluate_reference(data, options);
    const double seconds = seconds_since(start);
    CHECK(found.positions == 41526);
    for (const Line which : {Line::w4a4, Line::w4a16, Line::activations}) {
        const ExpectedFigures expected = mean_of_emulation(which);
        const LineReport & line = *found.find(expected.line);
        MESSAGE(std::string(line_name(expected.line)), ": KL ", line.all.divergence.mean, ", perplexity ",
                source_perplexity(line.all), " -> ", perplexity(line.all), ", same top token ", line.all.same_top.mean,
                ", ", seconds, " s");
        // What BF16 adds, on the CPU as well: 0.0005 to W4A16, 0.0012 to W4A4.
        CHECK(std::abs(line.all.divergence.mean - expected.kl) < 0.01 * expected.kl + 0.0005);
        CHECK(perplexity(line.all) == doctest::Approx(expected.perplexity).epsilon(0.0025));
        CHECK(source_perplexity(line.all) == doctest::Approx(emulated_source_perplexity).epsilon(0.001));
    }
}
