// The reader of a checkpoint's weights: bytes for copies, elements for graphs, rows of a Linear for quantizers. Data in
// the wanted form are read straight into place; other ways to store weights become cases here.
#pragma once

#include "checkpoint/safetensors.h"
#include "core/status.h"
#include "model/model_def.h"

#include <cstdint>

namespace gnv {

class WeightSource {
  public:
    // A view: both must outlive it. Reading is safe from any thread; failures name tensor, file and offset.
    WeightSource(const Checkpoint & checkpoint, const FolderFiles & files) : checkpoint_(&checkpoint), files_(&files) {}

    const TensorInfo & tensor(uint64_t position) const { return checkpoint_->tensors()[position]; }

    // Bytes [offset, offset + bytes) of a tensor, unchanged.
    Status read(const TensorInfo & tensor, uint64_t offset, void * out, uint64_t bytes) const;
    // The elements in the same bytes of a BF16, F16 or F32 tensor, as F32.
    Status read_f32(const TensorInfo & tensor, uint64_t offset, void * out, uint64_t bytes) const;
    // All of an FP8 weight as F32; `out` has four bytes an element.
    Status read_fp8(const TensorInfo & weight, const TensorInfo & scales, void * out) const;
    // Asks the system to read ahead.
    void will_need(const TensorInfo & tensor, uint64_t offset, uint64_t bytes) const;

    // The dtype of read_rows(): that of the stored rows if it is BF16, F16 or F32, else F32.
    DType row_dtype(const LinearModule & linear) const;
    // Rows [first, first + rows), dense.
    Status read_rows(const LinearModule & linear, int64_t first, int64_t rows, void * out,
                     InstructionSet set = best_instruction_set()) const;

  private:
    const Checkpoint * checkpoint_;
    const FolderFiles * files_;
};

} // namespace gnv
