// Matrix products in BF16 and FP4 through cuBLASLt, which is loaded when it is first needed: programs start without it.
#pragma once

#include "core/status.h"

#include <cstdint>
#include <cuda_runtime.h>
#include <memory>

namespace gnv::cuda {

class GemmLt {
  public:
    // Code::unsupported, with the places that were searched, without a libcublasLt of this build's major version.
    static Result<std::unique_ptr<GemmLt>> load();
    ~GemmLt();

    // d[i, j] = alpha * sum over k of a[i, k] * w[j, k], i < m, j < n: BF16 in and out, sums in F32. Rows of a and d
    // have strides in elements; w is dense. `alpha`: two floats on the device, the factor and a zero; null for 1. a and
    // w are aligned to 16; d begins a multiple of `d_step` elements behind a place that is, and so does every row of it
    // (0: of the stride). One algorithm for each n, k and strides, chosen for many rows and without splitting k:
    // a row's bits depend on that row alone, and not on the products before.
    Status run(cudaStream_t stream, int64_t m, int64_t n, int64_t k, const void * a, int64_t a_stride, const void * w,
               void * d, int64_t d_stride, const float * alpha = nullptr, int64_t d_step = 0);

    // Matrices in E2M1, two codes a byte, the first in the low bits, with a scale for each 16 columns in the order of
    // codec/scale_tiles.h; all aligned to 16.
    struct Fp4 {
        const void *codes, *scales;
    };
    // Whether run_fp4() runs products of these sizes: the device has compute capability 10.x or 12.x, k is a multiple of 32, and
    // the library has an algorithm. No such product has been run yet.
    bool supports_fp4(int64_t n, int64_t k, int64_t d_stride, int64_t d_step);
    // The same of codes times scales; `alpha` is not null.
    Status run_fp4(cudaStream_t stream, int64_t m, int64_t n, int64_t k, const Fp4 & a, const Fp4 & w, void * d,
                   int64_t d_stride, const float * alpha, int64_t d_step);

  private:
    struct Call;
    struct State;
    explicit GemmLt(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace gnv::cuda
