// The results of inspection, as tables for people and as JSON for programs (schema ggml-nvfp4.inspect.1, docs/json.md).
#pragma once

#include "formats/pattern.h"
#include "inspect/comparison.h"
#include "inspect/contents.h"
#include "inspect/tensor_statistics.h"

#include <string>

namespace gnv {

// A summary by role; with `list` a line per tensor after it. `filter` (null: all) matches names of tensors and modules.
Result<std::string> contents_text(const Contents & contents, const Pattern * filter, bool list);
// Always with every tensor that the filter lets through.
Result<std::string> contents_json(const Contents & contents, const Pattern * filter);

std::string statistics_text(const Contents & contents, const WeightStatistics & weight);
std::string statistics_json(const Contents & contents, const WeightStatistics & weight);

// Counts, quantization errors by role with the worst ten, and at most `list_limit` names of each kind of difference.
std::string comparison_text(const Contents & here, const Contents & there, const Comparison & comparison,
                            size_t list_limit = 20);
std::string comparison_json(const Contents & here, const Contents & there, const Comparison & comparison);

} // namespace gnv
