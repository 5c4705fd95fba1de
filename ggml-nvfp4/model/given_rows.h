// Rows of numbers that come with a sequence in place of embeddings: pixels of patches, or what a vision tower made of them.
#pragma once

#include "core/status.h"

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

namespace gnv {

// F32 [rows, columns], row by row: memory of the caller, or a function that writes rows when a batch takes them. With a function
// the rows of one batch exist at a time.
class GivenRows {
  public:
    // Writes the rows [first, first + count). Several threads call it at a time; the rows depend on nothing but their numbers. A
    // failure ends the pass with this status.
    using Writer = std::function<Status(int64_t first, int64_t count, float * rows)>;

    GivenRows() = default;
    GivenRows(std::span<const float> memory) : memory_(memory), size_(memory.size()) {}
    GivenRows(const std::vector<float> & memory) : GivenRows(std::span<const float>(memory)) {}
    GivenRows(int64_t rows, int64_t columns, Writer writer)
        : size_(size_t(rows) * size_t(columns)), writer_(std::move(writer)) {}

    size_t size() const { return size_; } // rows * columns
    bool empty() const { return size_ == 0; }
    std::span<const float> in_memory() const { return memory_; } // empty: a function writes them

    // Rows [first, first + count) as rows of their own.
    GivenRows part(int64_t first, int64_t count, int64_t columns) const;
    Status write(int64_t first, int64_t count, int64_t columns, float * to) const;

  private:
    std::span<const float> memory_;
    size_t size_ = 0;
    Writer writer_;
};

} // namespace gnv
