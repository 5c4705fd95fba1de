// The statistics of calibration: the largest inputs of a model's Linears and the tokens of its experts. They are kept
// in a file, merged with others, and used again without a forward pass.
//
// The file is JSON (schema ggml-nvfp4.statistics.2, docs/json.md) with checksums (formats/sealed_json.h). It names the
// model by a fingerprint, so that a model is not quantized with the statistics of another. Second moments are in a file
// beside it (quant/quantizers/moment_file.h), of which it lists the contents.
#pragma once

#include "checkpoint/safetensors.h"
#include "core/status.h"
#include "graph/ops.h"
#include "model/statistic_set.h"
#include "model/text_model.h"
#include "quant/quantizers/moment_file.h"

#include <string>
#include <vector>

namespace gnv {

struct Statistics {
    std::string model_fingerprint;
    std::string data_sha256; // hash_sequences() of all the data; after a merge, of the hashes in order
    // Which of `parts` parts of the data were measured; 0: all the data. Counts are those of the parts.
    uint32_t parts = 0;
    std::vector<uint32_t> part_numbers;                // ascending, from 1
    uint64_t sequences = 0, positions = 0, tokens = 0; // tokens: positions without pads
    Precision precision = Precision::f32;
    ExpertTokens expert_tokens = ExpertTokens::all;
    std::vector<std::string> data; // JSON objects with the origin of the sequences, one for each run
    StatisticSet totals;
    MomentFiles moments; // of statistics that were read: those too large for `totals`; empty: there are none
};

class JsonWriter;
Status write_data(JsonWriter & json, const Statistics & statistics); // Statistics::data as an array
// What the file beside it holds: of the method that was measured for.
struct WrittenMoments {
    const char * method;
    const std::vector<MomentTotal> & totals;
};
Result<std::string> statistics_json(const Statistics & statistics, const WrittenMoments * moments = nullptr);
// Fails on content that quantize does not write: damage, other schemas, maxima that are negative or not finite.
// `warning`: receives a remark on an accepted file; else unchanged.
Result<Statistics> read_statistics(const std::string & path, std::string & warning);
// Largest of maxima, sums of counts and of moments. Fails for different models, precisions or choices of tokens for experts, and, with
// the layer, if a sum exceeds 63 bits; the content of `into` is then undefined.
Status merge_statistics(Statistics & into, const Statistics & other);
// The same for many files, in their order, `names` for messages. Parts of one data set merge first: all parts give the
// statistics of one run, byte for byte. Some parts alone are accepted, with Statistics::parts.
Result<Statistics> merge_all(std::vector<Statistics> list, const std::vector<std::string> & names);
// Fails if parts are missing, and names them.
Status check_complete(const Statistics & statistics);
std::string statistics_text(const Statistics & statistics, size_t width = 0); // a table for people, see format_table()

} // namespace gnv
