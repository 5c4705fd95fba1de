// The "quantization_config" of config.json with the meaning of compressed-tensors' loaders: the modules that are
// declared quantized, and their formats.
//
//   ignore    exact names and re: patterns (anchored at the start, as Python's re.match); wins over every group
//   groups    first match wins: exact name before re: pattern before class name ("Linear")
#pragma once

#include "codec/format.h"
#include "core/status.h"
#include "formats/json.h"
#include "formats/pattern.h"
#include "verify/finding.h"
#include "verify/loader_names.h"

#include <string>
#include <unordered_set>
#include <vector>

namespace gnv::verify {

// The storage of a config group's weights, and the treatment of their inputs.
struct DeclaredFormat {
    const Format * format = nullptr; // null: none of the table, not checked
    bool is_fp8 = false;             // 8-bit floats: recognised, values are not checked
    bool is_other() const { return !format && !is_fp8; }
    const char * description() const { return format ? format->description : is_fp8 ? "FP8" : "another scheme"; }
    friend bool operator==(const DeclaredFormat &, const DeclaredFormat &) = default;
};

// Names in a hash, patterns in order.
struct NameList {
    std::unordered_set<std::string> names;
    std::vector<Pattern> patterns;
};

struct ConfigGroup {
    std::string name; // "group_0"
    DeclaredFormat declares;
    NameList targets;
    bool targets_linear = false; // the class name "Linear" is among the targets
};

inline constexpr int undeclared = -1;

struct QuantizationConfig {
    bool present = false;
    std::string method; // "compressed-tensors"
    std::vector<ConfigGroup> groups;
    NameList ignore;
    bool too_costly = false; // its patterns cannot be tried on all modules in a sensible time

    bool usable() const { return method == "compressed-tensors" && !too_costly; }

    // Position in `groups`, or `undeclared`. `module` is a Linear's name in the name space of the config. The cost of
    // patterns is subtracted from `budget`; Code::unsupported beyond it.
    Result<int> declared(const std::string & module, uint64_t & budget) const;
};

// For all modules of a checkpoint in all name spaces: 100 ordinary patterns on 30,000 modules; a recipe has some ten.
// It lasts less than ten seconds.
inline constexpr uint64_t pattern_budget = 10'000'000;

// Reads parsed config.json for one name space. Obstacles for loaders become findings of check L10. Fails only if memory
// runs out.
Result<QuantizationConfig> read_quantization_config(const JsonValue & config, const NameSpace & space,
                                                    Findings & findings);

} // namespace gnv::verify
