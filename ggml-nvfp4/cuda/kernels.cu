#include "cuda/kernels.cuh"

namespace gnv::cuda {

const KernelEntry & kernel(Op op) {
    static const KernelEntry * const table[] = {GNV_OPS(GNV_ENTRY_ADDRESS)};
    return *table[size_t(op)];
}

} // namespace gnv::cuda
