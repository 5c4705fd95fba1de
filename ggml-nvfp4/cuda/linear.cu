#include "cuda/few_rows.cuh"
#include "cuda/fp4_product.h"
#include "cuda/gemm_lt.h"
#include "cuda/kernels.cuh"
#include "cuda/plain_product.cuh"
#include "cuda/tiles.cuh"
#include "cuda/widen.cuh"

#include "codec/scale_tiles.h"

#include <numeric>

namespace gnv::cuda {

namespace {

// A block of 16 a thread.
__global__ void widen_kernel(const uint2 * codes, const uint8_t * scales, int64_t blocks, uint4 * out) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x;
    for (int64_t b = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; b < blocks; b += step) {
        const __nv_bfloat162 scale = scale_pair(scales[b]);
        const uint2 sixteen = codes[b];
        out[b * 2] = widened(sixteen.x, scale);
        out[b * 2 + 1] = widened(sixteen.y, scale);
    }
}

// A block of 16 a thread.
__global__ void inputs_kernel(InputsToQuantize p, bf16 * out) {
    const int64_t step = int64_t(gridDim.x) * blockDim.x, blocks = p.columns / 16;
    const int64_t rows = p.offsets ? min(p.rows, int64_t(p.offsets[p.groups])) : p.rows;
    for (int64_t i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x; i < rows * blocks; i += step) {
        const int64_t row = i / blocks, block = i % blocks;
        const int group = p.offsets ? stretch_of(p.offsets, p.groups, row) : 0;
        const float g = p.input_scales[group];
        if (p.known_scales && p.known_scales[group] == g) continue;
        const bf16 * const from = p.x + ((p.gather ? p.gather[row] / p.slots_per_row : row) * blocks + block) * 16;
        float values[2][8];
        for (int half = 0; half < 2; half++) load_several<8>(from + half * 8, values[half]);
        quantize_block(values, g);
        for (int half = 0; half < 2; half++) reinterpret_cast<uint4 *>(out)[i * 2 + half] = pack(values[half]);
    }
}

__global__ void factor_kernel(const float * weight_scale, const float * input_scale, float * out) {
    out[0] = factor_of(weight_scale, input_scale);
    out[1] = 0;
}

// Of products on FP4 tensor cores: offsets of the inputs' codes and scales, of the weight's scales and of the factor.
struct Fp4Scratch {
    uint64_t input_scales = 0, weight_scales = 0, factor = 0, total = 0;
    Fp4Scratch(int64_t m, int64_t n, int64_t k) {
        input_scales = aligned(uint64_t(m * k / 2));
        weight_scales = input_scales + aligned(uint64_t(nvfp4::scale_tile_bytes(m, k / 16)));
        factor = weight_scales + aligned(uint64_t(nvfp4::scale_tile_bytes(n, k / 16)));
        total = factor + 256;
    }
};
bool may_be_fp4(const KernelCall & call) { return call.inputs[1].dtype == DType::f4 && call.inputs[2].shape.rank > 0; }

struct Scratch { // offsets
    uint64_t weight = 0, inputs = 0, factor = 0, total = 0;
    explicit Scratch(const KernelCall & call) {
        const Tensor &x = call.inputs[0], &w = call.inputs[1];
        const uint64_t rows = uint64_t(x.shape.rows());
        inputs = w.dtype == DType::f4 ? aligned(uint64_t(w.shape.elements()) * sizeof(bf16)) : 0;
        factor = inputs + (call.inputs[2].shape.rank > 0 ? aligned(rows * uint64_t(x.shape.last()) * sizeof(bf16)) : 0);
        total = factor + 256;
        if (may_be_fp4(call)) total = std::max(total, Fp4Scratch(int64_t(rows), w.shape[0], w.shape[1]).total);
        if (call.as<LinearParams>().few_rows && x.shape.rows() > most_few_rows)
            total = std::max(total, few_rows_scratch_bytes(x.shape.rows(), x.shape.last()));
    }
};

// A thread has `width` columns of some rows.
template <int width>
__global__ void bias_kernel(bf16 * out, const float * bias, int64_t rows, int64_t n) {
    const int64_t column = (int64_t(blockIdx.x) * blockDim.x + threadIdx.x) * width;
    if (column >= n) return;
    float added[width], values[width];
    load_several<width>(bias + column, added);
    for (int64_t row = blockIdx.y; row < rows; row += gridDim.y) {
        bf16 * const at = out + row * n + column;
        load_several<width>(at, values);
#pragma unroll
        for (int i = 0; i < width; i++) values[i] += added[i];
        store_several<width>(at, values);
    }
}

template <int width>
void add_bias(cudaStream_t stream, bf16 * out, const float * bias, int64_t rows, int64_t n) {
    const dim3 grid(blocks_for(n / width, 64), unsigned(std::min<int64_t>(rows, 4096)));
    bias_kernel<width><<<grid, 64, 0, stream>>>(out, bias, rows, n);
}

// W4A4 on FP4 tensor cores, without the bias.
Status multiply_fp4(KernelCall & call, int64_t rows_each, int64_t step) {
    CudaContext & context = context_of(call);
    const Tensor &x = call.inputs[0], &w = call.inputs[1];
    const auto * input_scale = call.inputs[2].as<const float>();
    const int64_t m = x.shape.rows(), n = w.shape[0], k = w.shape[1];
    const Fp4Scratch scratch(m, n, k);
    auto * const memory = static_cast<uint8_t *>(call.scratch);
    auto * const factor = reinterpret_cast<float *>(memory + scratch.factor);
    const GemmLt::Fp4 a = {memory, memory + scratch.input_scales};
    GNV_TRY(pack_inputs(context.stream, x.data, m, k, input_scale, memory, memory + scratch.input_scales));
    for (int64_t first = 0; first < n; first += rows_each) { // rows that share a global scale
        const int64_t rows = std::min(rows_each, n - first);
        GNV_TRY(product_factor(context.stream, w.global_scales + first / w.global_scale_rows, input_scale, factor));
        GNV_TRY(
            tile_scales(context.stream, w.block_scales + first * k / 16, rows, k / 16, memory + scratch.weight_scales));
        GNV_TRY(context.gemm->run_fp4(context.stream, m, rows, k, a,
                                      {w.as<const uint8_t>() + first * k / 2, memory + scratch.weight_scales},
                                      call.outputs[0].as<bf16>() + first, n, factor, step));
    }
    return {};
}

// Whether multiply_fp4() takes it, with all rows of the weight that share a global scale.
bool supports_fp4(const CudaContext & context, const KernelCall & call, int64_t rows_each, int64_t step) {
    const Shape & w = call.inputs[1].shape;
    if (!may_be_fp4(call) || !context.gemm->supports_fp4(rows_each, w[1], w[0], step)) return false;
    return w[0] % rows_each == 0 || context.gemm->supports_fp4(w[0] % rows_each, w[1], w[0], step);
}

// Without the bias.
Status multiply(KernelCall & call) {
    CudaContext & context = context_of(call);
    const Tensor &x = call.inputs[0], &w = call.inputs[1];
    const auto * input_scale = call.inputs[2].as<const float>();
    const int64_t m = x.shape.rows(), n = w.shape[0], k = w.shape[1];
    const int64_t rows_each = w.dtype == DType::f4 ? std::min(w.global_scale_rows, n) : n;
    const int64_t step = std::gcd(rows_each, n);
    if (!is_plain(w) && supports_fp4(context, call, rows_each, step)) return multiply_fp4(call, rows_each, step);
    const Scratch scratch(call);
    auto * const memory = static_cast<uint8_t *>(call.scratch);
    const auto * a = x.as<const bf16>();
    auto * const out = call.outputs[0].as<bf16>();
    if (input_scale) {
        auto * const codes = reinterpret_cast<bf16 *>(memory + scratch.inputs);
        GNV_TRY(quantize_inputs(context.stream, {a, nullptr, m, k, input_scale, nullptr, 0}, codes));
        a = codes;
    }
    if (is_plain(w)) return plain_product(context.stream, w, {.m = m, .a = a, .out = out, .input_scales = input_scale});
    if (w.dtype == DType::bf16 && !input_scale) return context.gemm->run(context.stream, m, n, k, a, k, w.data, out, n);
    const auto * weight = w.as<const bf16>();
    if (w.dtype == DType::f4) {
        auto * const widened = reinterpret_cast<bf16 *>(memory + scratch.weight);
        GNV_TRY(widen_nvfp4(context.stream, w.as<const uint8_t>(), w.block_scales, n, k, widened));
        weight = widened;
    }
    auto * const factor = reinterpret_cast<float *>(memory + scratch.factor);
    for (int64_t first = 0; first < n; first += rows_each) { // rows that share a global scale
        const float * const global = w.dtype == DType::f4 ? w.global_scales + first / w.global_scale_rows : nullptr;
        GNV_TRY(product_factor(context.stream, global, input_scale, factor));
        GNV_TRY(context.gemm->run(context.stream, m, std::min(rows_each, n - first), k, a, k, weight + first * k,
                                  out + first, n, factor, step));
    }
    return {};
}

Status run_few_rows(KernelCall & call) {
    const Tensor &x = call.inputs[0], &w = call.inputs[1];
    FewRowsLinears p;
    p.rows = x.shape.rows(), p.k = x.shape.last(), p.count = 1;
    p.source.x = x.as<const bf16>();
    p.scratch = static_cast<bf16 *>(call.scratch);
    p.weights[0] =
        few_rows_weight(w, call.inputs[2].as<const float>(), call.inputs[3].as<const float>(), call.outputs[0].data);
    return few_rows_linears(context_of(call), p);
}

Status run(KernelCall & call) {
    const Tensor &w = call.inputs[1], &out = call.outputs[0];
    if (call.as<LinearParams>().few_rows && few_rows_can_read(w.dtype, w.shape.last())) return run_few_rows(call);
    GNV_TRY(multiply(call));
    const auto * const bias = call.inputs[3].as<const float>();
    const int64_t count = out.shape.elements();
    if (!bias || count == 0) return {};
    const bool wide = out.shape.last() % 8 == 0 && reinterpret_cast<uintptr_t>(bias) % 16 == 0;
    (wide ? add_bias<8> : add_bias<1>)(context_of(call).stream, out.as<bf16>(), bias, out.shape.rows(),
                                       out.shape.last());
    return launched("linear");
}

uint64_t scratch_bytes(const KernelCall & call) { return Scratch(call).total; }

} // namespace

Status widen_nvfp4(cudaStream_t stream, const uint8_t * codes, const uint8_t * block_scales, int64_t rows,
                   int64_t columns, bf16 * out) {
    const int64_t blocks = rows * columns / 16;
    widen_kernel<<<grid_for(blocks), 256, 0, stream>>>(reinterpret_cast<const uint2 *>(codes), block_scales, blocks,
                                                       reinterpret_cast<uint4 *>(out));
    return launched("widening NVFP4");
}

Status quantize_inputs(cudaStream_t stream, const InputsToQuantize & inputs, bf16 * out) {
    if (inputs.rows == 0) return {};
    inputs_kernel<<<grid_for(inputs.rows * inputs.columns / 16), 256, 0, stream>>>(inputs, out);
    return launched("quantizing inputs");
}

Status product_factor(cudaStream_t stream, const float * weight_scale, const float * input_scale, float * out) {
    factor_kernel<<<1, 1, 0, stream>>>(weight_scale, input_scale, out);
    return launched("factor of a product");
}

const KernelEntry linear_entry = {run, scratch_bytes};

} // namespace gnv::cuda
