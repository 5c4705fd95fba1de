// Tables of a report: coverage by role, and error figures by role and by layer.
#pragma once

#include "verify/verify.h"

#include <map>
#include <string>
#include <vector>

namespace gnv::verify {

// Linears of one role.
struct CoverageRow {
    Part part = Part::text;
    Role role = Role::extra;
    uint64_t modules = 0, nvfp4 = 0, fp8 = 0, plain = 0, absent = 0;
    uint64_t declared = 0; // quantized, by config.json
    uint64_t weights = 0;  // elements
};
std::vector<CoverageRow> coverage(const VerifyReport & report);

struct Quantiles {
    double least = 0, median = 0, p99 = 0, largest = 0;
};

// Quantized modules of one role, or of one layer.
struct ErrorRow {
    std::string what; // "expert gate", "layer 3"
    uint64_t modules = 0;
    Quantiles error;    // relative squared error
    double sqnr_db = 0; // of all weights together
    double cosine = 0;  // the smallest
    // Shares of elements, or of blocks.
    double clipped = 0, zeroed = 0, nearest = 0, saturated = 0, subnormal = 0;
};
std::vector<ErrorRow> errors_by_role(const VerifyReport & report);
std::vector<ErrorRow> errors_by_layer(const VerifyReport & report);
// Quantized modules of one role in one layer.
struct PlaceRow {
    Part part = Part::text;
    int32_t layer = -1;
    Role role = Role::extra;
    uint64_t modules = 0, compared = 0;
    double relative_error = 0; // of all weights together; if `compared`
    struct Range {
        double least = 0, median = 0, largest = 0;
    };
    Range weight_scale, input_scale; // global scales, as stored; zeros: none
};
std::vector<PlaceRow> places(const VerifyReport & report);
// Error energy over weight energy of every expert's projections together, by layer of the text; NaN: not compared.
std::map<int32_t, std::vector<double>> expert_errors(const VerifyReport & report);
// Positions in Subject::modules, largest error first.
std::vector<uint32_t> worst_modules(const VerifyReport & report, size_t count);

struct PreservedSummary {
    uint64_t tensors = 0, bytes = 0;
    uint64_t same = 0, converted = 0, rounded = 0, norm_trip = 0, different = 0;
};
PreservedSummary preserved_summary(const VerifyReport & report);

// Weights that a device quantized again; blocks whose codes and scale equal the stored ones.
struct RecomputedSummary {
    uint64_t modules = 0, same_modules = 0;
    uint64_t blocks = 0, same_blocks = 0;
};
RecomputedSummary recomputed_summary(const VerifyReport & report);

const char * part_name(Part part);

} // namespace gnv::verify
