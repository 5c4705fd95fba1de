// Differences between two checkpoints. Tensors are matched by name. A quantized weight is matched with the same weight
// on the other side in any form there: quantized, as a tensor, or as a slice of a fused one; likewise the two layouts
// of experts.
#pragma once

#include "core/status.h"
#include "core/thread_pool.h"
#include "formats/pattern.h"
#include "inspect/contents.h"
#include "inspect/numbers.h"

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

namespace gnv {

// Differences of two runs of numbers, over the positions where both are finite.
struct NumberErrors {
    uint64_t elements = 0, different = 0;
    uint64_t not_finite = 0;                   // positions with a NaN or Inf on one side that the other lacks
    int64_t first_different = -1;              // position in C order
    double max_absolute = 0, max_relative = 0; // relative: |here - there| / |reference|, for a reference other than 0
    double error_squares = 0, reference_squares = 0, other_squares = 0, products = 0; // sums

    // Sum of squared errors over sum of squared reference values; 0 without errors, Inf for errors beside a zero
    // reference.
    double relative_squared_error() const;
    double sqnr_db() const; // -10 log10 of it; Inf without errors
    double cosine() const;  // of the angle between both; 1 if both are zero
};
// `reference` must have as many numbers as `other`.
Result<NumberErrors> compare_numbers(const Numbers & other, const Numbers & reference, ThreadPool & threads);

enum class Difference : uint8_t {
    only_here,
    only_there,
    form,      // another dtype or shape
    values,    // the same form, other bytes
    quantized, // the same shape, quantized on one side only
};
const char * difference_name(Difference difference); // "only here"

struct ComparedItem {
    Difference difference = Difference::values;
    std::string name;        // of the tensor, or of the module if one side is quantized or a slice
    std::string role;        // as Contents::role_name()
    std::string here, there; // "BF16 [256, 256]", "nvfp4a16 [256, 256]"; empty if absent
    // For equal shapes. The reference is the only side that is not quantized, else `there`.
    std::optional<NumberErrors> errors;
};

struct Comparison {
    std::vector<ComparedItem> items; // matched and different, then only here, then only there
    uint64_t equal = 0;              // tensors and modules with the same form and bytes
    uint64_t count(Difference difference) const;
};

struct ComparisonOptions {
    const Pattern * filter = nullptr; // of names; null: all
    // Bytes of `here`: done, total; items: done, total. False stops.
    std::function<bool(uint64_t bytes, uint64_t bytes_total, uint64_t items, uint64_t items_total)> progress;
};

Result<Comparison> compare(const Contents & here, const Contents & there, ThreadPool & threads,
                           const ComparisonOptions & options);

} // namespace gnv
