// Causal attention in blocks of 64 queries: scores and weighted sums with mma.sync in BF16, softmax in F32 as it goes (running
// maximum and sum). Probabilities are rounded to BF16 before they are divided by their sum, not after.
//
//   a block: 4 warps x 16 queries of one head; keys and values come in tiles through shared memory
#include "cuda/kernels.cuh"

namespace gnv::cuda {

namespace {

constexpr int warps = 4, queries = warps * 16;
constexpr int padding = 8; // elements behind each row in shared memory: rows start in different banks

struct Attention {
    int64_t tokens;
    int query_heads, key_heads;
    float scale;
};

__device__ uint32_t shared_address(const void * pointer) { return uint32_t(__cvta_generic_to_shared(pointer)); }

__device__ void load_matrices(uint32_t (&out)[4], const bf16 * row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row)));
}
__device__ void load_matrices_transposed(uint32_t (&out)[4], const bf16 * row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(out[0]), "=r"(out[1]), "=r"(out[2]), "=r"(out[3])
                 : "r"(shared_address(row)));
}
__device__ void multiply_add(float (&c)[4], const uint32_t (&a)[4], uint32_t b0, uint32_t b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
                 "{%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
__device__ uint32_t pair_of(float low, float high) {
    const __nv_bfloat162 pair = __floats2bfloat162_rn(low, high);
    return *reinterpret_cast<const uint32_t *>(&pair);
}

// Copies rows of one head to shared memory; rows from `count` on become zeros.
template <int head, int rows>
__device__ void copy_rows(bf16 * to, const bf16 * from, int64_t stride, int64_t count) {
    constexpr int pieces = head / 8;
    for (int i = threadIdx.x; i < rows * pieces; i += warps * warp_size) {
        const int row = i / pieces, piece = i % pieces;
        const uint32_t address = shared_address(to + row * (head + padding) + piece * 8);
        const void * const source = from + (row < count ? row : 0) * stride + piece * 8;
        const int bytes = row < count ? 16 : 0; // the rest is filled with zeros
        asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(address), "l"(source), "r"(bytes));
    }
}

template <int head, int keys>
__global__ void __launch_bounds__(warps * warp_size)
    attention_kernel(Attention p, const bf16 * q, const bf16 * k, const bf16 * v, const int32_t * segments,
                     int segment_count, const uint8_t * key_mask, bf16 * out) {
    constexpr int stride = head + padding;
    extern __shared__ __align__(16) bf16 shared[];
    bf16 * const q_tile = shared;
    bf16 * const k_tile = q_tile + queries * stride;
    bf16 * const v_tile = k_tile + keys * stride;

    // Blocks of queries are numbered through all segments.
    int64_t block = blockIdx.x, begin = 0, end = 0;
    int segment = 0;
    for (; segment < segment_count; segment++) {
        begin = segments[segment], end = segments[segment + 1];
        const int64_t blocks = (end - begin + queries - 1) / queries;
        if (block < blocks) break;
        block -= blocks;
    }
    if (segment == segment_count) return;
    const int64_t first = begin + block * queries; // of the queries
    const int query_head = blockIdx.y, key_head = query_head / (p.query_heads / p.key_heads);
    const int64_t q_stride = int64_t(p.query_heads) * head, k_stride = int64_t(p.key_heads) * head;
    const bf16 * const k_head = k + int64_t(key_head) * head;
    const bf16 * const v_head = v + int64_t(key_head) * head;

    copy_rows<head, queries>(q_tile, q + first * q_stride + int64_t(query_head) * head, q_stride, end - first);
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const int row = lane / 4,
              pair = lane % 4 * 2; // of the accumulators: rows row and row + 8, columns pair and pair + 1
    float o[head / 8][4] = {};
    float largest[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0};
    const int64_t query[2] = {first + warp * 16 + row, first + warp * 16 + row + 8};
    const int64_t last_key = min(first + queries, end); // keys from here on are later than all queries

    for (int64_t key = begin; key < last_key; key += keys) {
        __syncthreads();
        copy_rows<head, keys>(k_tile, k_head + key * k_stride, k_stride, end - key);
        copy_rows<head, keys>(v_tile, v_head + key * k_stride, k_stride, end - key);
        asm volatile("cp.async.commit_group;\ncp.async.wait_group 0;");
        __syncthreads();

        float s[keys / 8][4] = {};
#pragma unroll
        for (int d = 0; d < head; d += 16) {
            uint32_t a[4];
            load_matrices(a, q_tile + (warp * 16 + lane % 16) * stride + d + lane / 16 * 8);
#pragma unroll
            for (int n = 0; n < keys; n += 16) {
                uint32_t b[4]; // keys n.. n + 7: d, d + 8; keys n + 8..: d, d + 8
                load_matrices(b, k_tile + (n + lane % 8 + lane / 16 * 8) * stride + d + lane / 8 % 2 * 8);
                multiply_add(s[n / 8], a, b[0], b[1]);
                multiply_add(s[n / 8 + 1], a, b[2], b[3]);
            }
        }
        float most[2] = {largest[0], largest[1]};
#pragma unroll
        for (int n = 0; n < keys / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                const int64_t at = key + n * 8 + pair + i % 2;
                const bool seen = at <= query[i / 2] && at < end && (!key_mask || key_mask[at]);
                s[n][i] = seen ? s[n][i] * p.scale : -INFINITY;
                most[i / 2] = fmaxf(most[i / 2], s[n][i]);
            }
        float shrink[2];
#pragma unroll
        for (int i = 0; i < 2; i++) {
            most[i] = fmaxf(most[i], __shfl_xor_sync(all_lanes, most[i], 1));
            most[i] = fmaxf(most[i], __shfl_xor_sync(all_lanes, most[i], 2));
            shrink[i] = most[i] == -INFINITY ? 1.0f : expf(largest[i] - most[i]);
            largest[i] = most[i];
            sum[i] *= shrink[i];
        }
#pragma unroll
        for (int n = 0; n < keys / 8; n++)
#pragma unroll
            for (int i = 0; i < 4; i++) {
                s[n][i] = s[n][i] == -INFINITY ? 0.0f : expf(s[n][i] - largest[i / 2]);
                sum[i / 2] += s[n][i];
            }
#pragma unroll
        for (int d = 0; d < head / 8; d++)
#pragma unroll
            for (int i = 0; i < 4; i++) o[d][i] *= shrink[i / 2];
#pragma unroll
        for (int n = 0; n < keys; n += 16) {
            const uint32_t a[4] = {pair_of(s[n / 8][0], s[n / 8][1]), pair_of(s[n / 8][2], s[n / 8][3]),
                                   pair_of(s[n / 8 + 1][0], s[n / 8 + 1][1]),
                                   pair_of(s[n / 8 + 1][2], s[n / 8 + 1][3])};
#pragma unroll
            for (int d = 0; d < head; d += 16) {
                uint32_t b[4]; // columns d.. d + 7: keys n, n + 8; columns d + 8..: keys n, n + 8
                load_matrices_transposed(b, v_tile + (n + lane % 16) * stride + d + lane / 16 * 8);
                multiply_add(o[d / 8], a, b[0], b[1]);
                multiply_add(o[d / 8 + 1], a, b[2], b[3]);
            }
        }
    }
#pragma unroll
    for (int i = 0; i < 2; i++) {
        sum[i] += __shfl_xor_sync(all_lanes, sum[i], 1);
        sum[i] += __shfl_xor_sync(all_lanes, sum[i], 2);
        if (query[i] >= end) continue;
        const float scale = sum[i] > 0 ? 1.0f / sum[i] : 0.0f;
        bf16 * const to = out + query[i] * q_stride + int64_t(query_head) * head + pair;
#pragma unroll
        for (int d = 0; d < head / 8; d++)
            *reinterpret_cast<uint32_t *>(to + d * 8) = pair_of(o[d][2 * i] * scale, o[d][2 * i + 1] * scale);
    }
}

template <int head, int keys>
Status launch(CudaContext & context, KernelCall & call) {
    const auto & params = call.as<AttentionParams>();
    const Tensor &q = call.inputs[0], &k = call.inputs[1];
    const int segments = int(call.inputs[3].shape[0] - 1);
    const Attention p = {q.shape[0], int(q.shape[1] / head), int(k.shape[1] / head), params.scale};
    constexpr int bytes = (queries + 2 * keys) * (head + padding) * int(sizeof(bf16));
    const cudaError_t error =
        cudaFuncSetAttribute(attention_kernel<head, keys>, cudaFuncAttributeMaxDynamicSharedMemorySize, bytes);
    if (error != cudaSuccess) return fail(Code::device, "attention: ", cudaGetErrorString(error));
    // A block more for each segment than full blocks can be needed.
    const dim3 grid(unsigned(p.tokens / queries + segments), unsigned(p.query_heads));
    attention_kernel<head, keys><<<grid, warps * warp_size, bytes, context.stream>>>(
        p, q.as<const bf16>(), k.as<const bf16>(), call.inputs[2].as<const bf16>(), call.inputs[3].as<const int32_t>(),
        segments, call.inputs[4].as<const uint8_t>(), call.outputs[0].as<bf16>());
    return launched("attention");
}

Status run(CudaContext & context, KernelCall & call) {
    const int64_t head = call.as<AttentionParams>().head;
    if (call.inputs[5].exists()) return Status(Code::unsupported, "attention: caches are not there on CUDA yet");
    if (head == 256) return launch<256, 32>(context, call);
    if (head == 128) return launch<128, 64>(context, call);
    if (head == 64) return launch<64, 64>(context, call);
    return fail(Code::unsupported, "attention: heads of ", head, "; on CUDA they have 64, 128 or 256");
}

} // namespace

const CudaEntry attention_entry = {run, nullptr};

} // namespace gnv::cuda
