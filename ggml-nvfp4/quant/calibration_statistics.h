// What calibration measured of a model: the largest inputs of its Linears and how often its experts were chosen. Kept in a
// file, merged with others, used again without a forward pass.
//
// The file is JSON (schema ggml-nvfp4.statistics.2, docs/json.md) that names the model by a fingerprint, so that one model is
// not quantized with another's statistics, and that has checksums (formats/sealed_json.h).
#pragma once

#include "core/status.h"
#include "formats/safetensors.h"
#include "graph/ops.h"
#include "model/statistic_set.h"
#include "model/text_model.h"

#include <string>
#include <vector>

namespace gnv {

struct Statistics {
    std::string model_fingerprint;
    std::string data_sha256; // hash_sequences() of the data; of merged ones, of their hashes in order
    uint64_t sequences = 0, positions = 0, tokens = 0; // tokens: positions without pads
    Precision precision = Precision::f32;
    ExpertTokens expert_tokens = ExpertTokens::all;
    std::vector<std::string> data; // JSON objects about where the sequences come from, one for each run
    StatisticSet totals;
};

class JsonWriter;
Status write_data(JsonWriter & json, const Statistics & statistics); // Statistics::data as an array
Result<std::string> statistics_json(const Statistics & statistics);
// Fails on anything that quantize could not have written: damage, other schemas, maxima that are negative or not finite.
// `warning`: what the caller should know of a file that is read; else unchanged.
Result<Statistics> read_statistics(const std::string & path, std::string & warning);
// Largest of maxima, sums of counts. Fails when they are of different models, precisions or ways to feed experts, and where
// a sum is beyond 63 bits, with the layer; `into` holds anything then.
Status merge_statistics(Statistics & into, const Statistics & other);
std::string statistics_text(const Statistics & statistics); // a table for people

} // namespace gnv
