// What the tests of data sets share: the small checkpoint's tokenizer and sets built from files.
#pragma once

#include "data/calibration_set.h"
#include "data/tokens_file.h"
#include "formats/json.h"
#include "scratch.h"

#include <doctest/doctest.h>

namespace gnv::test {

inline const std::string data_folder = GNV_TEST_DATA;

inline const Tokenizer & tiny_tokenizer() {
    static const Tokenizer tokenizer = Tokenizer::load(GNV_TEST_BINARY_DIR "/data/qwen36-tiny").take();
    return tokenizer;
}

inline Result<CalibrationSet> build(const CalibrationOptions & options, int threads = 2) {
    const auto pool = ThreadPool::create(threads).take();
    return build_calibration_set(options, tiny_tokenizer(), *pool);
}

inline CalibrationOptions from(const std::string & source, uint64_t samples = 256) {
    CalibrationOptions options;
    options.sources = {source};
    options.samples = samples;
    return options;
}

// The texts of all sequences, decoded, each followed by "|"; or the failure.
inline std::string texts_of(const Result<CalibrationSet> & set) {
    if (!set.ok()) return set.status().message();
    std::string out;
    for (const CalibrationSequence & sequence : set.value().sequences)
        out += tiny_tokenizer().decode(sequence.ids).value() + "|";
    return out;
}

inline std::vector<uint64_t> rows_of(const CalibrationSet & set) {
    std::vector<uint64_t> rows;
    for (const CalibrationSequence & sequence : set.sequences)
        for (const CalibrationDocument & document : sequence.documents) rows.push_back(document.row);
    return rows;
}

} // namespace gnv::test
