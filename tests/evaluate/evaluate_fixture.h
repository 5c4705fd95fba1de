// Comparisons of the small checkpoint with what was made of it, on tests/data/eval.jsonl.zst.
#pragma once

#include "api/calibration_data.h"
#include "evaluate/evaluation.h"
#include "verify/verify_fixture.h"

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
    CalibrationData data = make_calibration_data(set, options);
    return {std::move(data.sequences), data.sha256, data.json};
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

} // namespace gnv::test
