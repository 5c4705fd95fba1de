// A tensor, a slice of a tensor or a quantized weight as one run of numbers in C order, read in pieces.
#pragma once

#include "core/instruction_set.h"
#include "core/status.h"
#include "inspect/contents.h"

#include <cstdint>
#include <vector>

namespace gnv {

// Elements that are read at once. Sums are made per piece and then added in order, so every sum depends on this
// constant and not on threads or memory.
inline constexpr int64_t piece_elements = 1 << 16;

// Memory of one thread.
struct NumberBuffers {
    InstructionSet instructions = best_instruction_set(); // of unpacking
    std::vector<uint8_t> bytes;
    std::vector<float> floats;
    std::vector<double> wide;
};

class Numbers {
  public:
    // Code::unsupported for dtypes without values (6-bit floats).
    static Result<Numbers> of_tensor(const Contents & contents, uint32_t tensor);
    // The weight of a Linear that lies in a larger tensor.
    static Result<Numbers> of_linear(const Contents & contents, const LinearModule & linear);
    // Dequantized. A NaN scale gives NaN; a global scale of zero gives Inf and NaN.
    static Result<Numbers> of_module(const Contents & contents, uint32_t module);

    const std::vector<int64_t> & shape() const { return shape_; }
    int64_t count() const { return count_; }
    int64_t pieces() const { return (count_ + piece_elements - 1) / piece_elements; }

    // Numbers [first, first + count), at most piece_elements of them.
    Status read(int64_t first, int64_t count, NumberBuffers & buffers, double * out) const;
    // Numbers of one piece, into `out`; their count.
    Result<int64_t> read_piece(int64_t piece, NumberBuffers & buffers, std::vector<double> & out) const;

  private:
    Numbers(const Contents & contents, std::vector<int64_t> shape);
    Status read_aligned(int64_t first, int64_t count, NumberBuffers & buffers, double * out) const;

    const Contents * contents_;
    std::vector<int64_t> shape_;
    int64_t count_ = 1;
    const TensorInfo * tensor_ = nullptr;      // elements
    uint64_t offset_ = 0;                      // bytes, inside the tensor
    const QuantizedModule * module_ = nullptr; // instead: a quantized one
    float scale_ = 1;                          // of its unit
};

} // namespace gnv
