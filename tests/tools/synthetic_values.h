// Reproducible weights: every value is a function of (key, position), so tensors can be made in any order, by any number
// of threads, whole or in pieces. BF16, from a table of quantiles, without the math library: the same on every machine.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <vector>

namespace gnv::test {

// How the values of a tensor are spread, and which of its rows and columns stand out.
struct Spread {
    double center = 0;
    double width = 1;             // standard deviation, or half the range where uniform
    bool uniform = false;         // otherwise normal
    bool outlier_columns = false; // one column of each 256 is four times as large
    bool skewed_rows = false;     // rows differ by powers of two; about one in sixteen is nearly zero
};

// The key of a tensor.
uint64_t value_key(uint64_t seed, std::string_view name);

class ValueMaker {
  public:
    ValueMaker(); // builds the table of normal quantiles

    // Rows [first_row, first_row + rows) of the tensor with this key, as BF16.
    void fill(uint64_t key, const Spread & spread, int64_t columns, int64_t first_row, int64_t rows,
              uint16_t * out) const;

  private:
    std::vector<double> normal_; // quantiles at (i + 1/2) / size
};

} // namespace gnv::test
