// Comparisons of the small checkpoint with what was made of it, on tests/data/eval.jsonl.zst.
#pragma once

#include "api/parts/calibration_data.h"
#include "evaluate/evaluation.h"
#include "verify/verify_fixture.h"

#include <fstream>

namespace gnv::test {

// The first `documents` (0: all), of each the first `tokens`, without a template.
inline evaluate::EvaluationData read_data(uint64_t documents, uint64_t tokens = 512) {
    static const std::unique_ptr<Tokenizer> tokenizer = std::make_unique<Tokenizer>(Tokenizer::load(tiny).take());
    CalibrationOptions options;
    options.sources = {GNV_TEST_DATA "/eval.jsonl.zst"};
    options.form = TextForm::none;
    options.samples = documents;
    options.sequence_length = tokens;
    options.shuffle = false;
    const CalibrationSet set = build_calibration_set(options, *tokenizer, two_threads()).take();
    CalibrationData data = make_calibration_data(set, options).take();
    return {std::move(data.sequences), {}, data.sha256, data.json};
}

inline evaluate::Evaluation evaluate_folder(std::shared_ptr<const Folder> folder, const evaluate::EvaluationData & data,
                                            const evaluate::EvaluateOptions & options = {},
                                            ThreadPool & threads = two_threads()) {
    Result<evaluate::Evaluation> result =
        evaluate::evaluate(std::move(folder), open_folder(tiny).take(), data, threads, options);
    REQUIRE_MESSAGE(result.ok(), result.status().message());
    return result.take();
}
// llm-compressor's codes and scales with the norms of the source.
inline evaluate::Evaluation evaluate_reference(const evaluate::EvaluationData & data,
                                               const evaluate::EvaluateOptions & options = {},
                                               ThreadPool & threads = two_threads()) {
    return evaluate_folder(open_folder(untripped_pair().quantized).take(), data, options, threads);
}

inline double perplexity(const evaluate::Figures & figures) { return evaluate::Figures::exponential(figures.nll).mean; }
inline double source_perplexity(const evaluate::Figures & figures) {
    return evaluate::Figures::exponential(figures.source_nll).mean;
}

struct ExpectedFigures {
    evaluate::Line line;
    double kl, same_top, perplexity;
};
// The recorded runs of an emulation in FP32 over all 90 documents, each with its input scales moved a little.
inline ExpectedFigures mean_of_emulation(evaluate::Line line) {
    ExpectedFigures mean = {line, 0, 0, 0};
    double runs = 0;
    std::ifstream file(GNV_TEST_DATA "/golden/emulated-predictions.jsonl");
    for (std::string text; std::getline(file, text);) {
        const Json run = Json::parse(text);
        if (run["line"] != evaluate::line_key(line)) continue;
        REQUIRE(run["positions"] == 41526);
        REQUIRE(run["modules"] == 800);
        mean.kl += run["kl"].get<double>();
        mean.same_top += run["same_top"].get<double>();
        mean.perplexity += run["perplexity"].get<double>();
        runs++;
    }
    REQUIRE(runs > 0);
    return {line, mean.kl / runs, mean.same_top / runs, mean.perplexity / runs};
}
constexpr double emulated_source_perplexity = 15.404816;

} // namespace gnv::test
