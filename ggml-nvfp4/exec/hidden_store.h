// What is kept of every position between groups of stages: the fields of graph/text_model.h, one row each position. In
// memory, or in a scratch file that has no name and is gone when its store is.
#pragma once

#include "core/memory.h"
#include "core/tensor.h"
#include "exec/backend.h"
#include "formats/file.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>

namespace gnv {

enum class Field : uint8_t { hidden, routed, router_weights, router_indices, count_ };

class HiddenStore {
  public:
    struct Layout {
        int64_t positions = 0;
        std::array<int64_t, size_t(Field::count_)> columns{}; // of 4 bytes; 0: the field is not kept
        uint64_t bytes() const;
    };
    // `scratch_folder` empty: in memory. Fails when the scratch file cannot grow to its size now.
    static Result<HiddenStore> create(const Layout & layout, const std::string & scratch_folder);

    bool in_memory() const { return memory_ != nullptr; }
    // Rows [first, first + count) of a field: in the store's own memory, or null.
    void * rows(Field field, int64_t first) const;
    Status read(Field field, int64_t first, int64_t count, void * to) const;
    Status write(Field field, int64_t first, int64_t count, const void * from);

  private:
    uint64_t offset(Field field, int64_t row) const;
    Layout layout_;
    AlignedBlock memory_;
    std::unique_ptr<File> file_;
};

} // namespace gnv
