// Products of many rows on Hopper's tensor cores, with the bits of few_rows_product.cuh: tests compare them. A group of four warps
// has 64 rows of w in registers, and multiplies them with 64 or 128 rows of x in shared memory at once.
//
//   before     x is arranged as the tiles that blocks copy: 16 positions behind each other are the k of one product
//   a block    groups of warps, each with rows of w, which every thread copies to where it reads them itself; a thread asks for
//              tiles of x. Both are some steps ahead
//   sums       those of a part of k in order, then parts
//
// A product of the tensor cores is the sum of 16 products that mma.sync also adds at once; both round alike.
#include "cuda/many_rows_hopper.cuh"

#include "cuda/chain.cuh"
#include "cuda/copy_engine.cuh"
#include "cuda/few_rows_product.cuh"
#include "cuda/wgmma.cuh"

namespace gnv::cuda {

namespace {

using namespace hopper;
using few_rows::Parts;
using few_rows::tile;
using few_rows::unit_bytes;

constexpr int row_block = 64; // rows of x of a tile
constexpr int tile_bytes = row_block * tile_columns * int(sizeof(bf16));
constexpr int warps_of_group = 4, rows_of_group = warps_of_group * tile;

int64_t columns_for(int64_t k) { return (k + 127) / 128 * 128; }
int64_t rows_for(int64_t rows) { return (rows + 127) / 128 * 128; }

// --- Rows of x --------------------------------------------------------------------------------------------------------

// Eight numbers as a product with eight codes takes them: pairs of numbers i and i + 4.
__device__ uint4 as_pairs(const uint4 & eight) {
    return {__byte_perm(eight.x, eight.z, 0x5410), __byte_perm(eight.x, eight.z, 0x7632),
            __byte_perm(eight.y, eight.w, 0x5410), __byte_perm(eight.y, eight.w, 0x7632)};
}

// out [row blocks, columns / 64]: tiles. A thread has 16 numbers of a row; the four words of each eight go to two products.
__global__ void arrange_kernel(const bf16 * x, int64_t rows, int64_t k, int64_t all_rows, int64_t columns, bool coded,
                               const float * input_scale, bf16 * out) {
    let_later_start();
    wait_for_earlier();
    const int64_t each = columns / 16, i = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= all_rows * each) return;
    const int64_t row = i / each, chunk = i % each * 2;
    const auto * const from = reinterpret_cast<const uint4 *>(x + row * k) + chunk;
    uint4 eight[2] = {};
    for (int half = 0; half < 2; half++)
        if (row < rows && (chunk + half) * 8 < k) eight[half] = from[half];
    if (input_scale) few_rows::quantize_chunks(eight[0], eight[1], *input_scale);
    bf16 * const to = out + row / row_block * columns * row_block;
#pragma unroll
    for (int half = 0; half < 2; half++) {
        const int64_t c = chunk + half, base = coded ? c / 16 * 128 + c % 4 * 32 : c / 4 * 32;
        const int lane = int(coded ? c % 16 / 4 : c % 4);
        const uint4 words = coded ? as_pairs(eight[half]) : eight[half];
#pragma unroll
        for (int j = 0; j < 4; j++) {
            const int64_t column = base + j / 2 * 16 + j % 2 * 8 + lane * 2;
            *reinterpret_cast<uint32_t *>(to + column / tile_columns * (row_block * tile_columns) +
                                          piece_at(int(row % row_block), int(column % tile_columns / 8)) + column % 8) =
                few_rows::word_of(words, j);
        }
    }
}

// --- Products ---------------------------------------------------------------------------------------------------------

// Both block scales of a unit's 32 codes of a lane, each twice, times 2^118 (widen.cuh).
__device__ void large_scales(uint16_t bytes, __nv_bfloat162 (&scales)[2]) {
    const __nv_bfloat162 both = two_large_scales(bytes);
    scales[0] = __low2bfloat162(both), scales[1] = __high2bfloat162(both);
}

// What the sums of a column are multiplied with, and what is added to them.
struct ColumnOfProduct {
    float factor, bias = 0;
    bool has_bias;
    __device__ ColumnOfProduct(const FewRowsWeight & w, int64_t column)
        : factor(few_rows::product_factor(w, column, w.input_scale)), has_bias(w.bias != nullptr) {
        if (has_bias) bias = w.bias[column];
    }
};

// The rest of a product, as in few_rows.cu, for those rows of a column of which exists(i). Everything is loaded before anything is
// stored.
template <int count, class RowOf, class Exists>
__device__ void finish_rows(const FewRowsLinears & p, const FewRowsWeight & w, const ColumnOfProduct & of_column,
                            int64_t column, const float (&sums)[count], const RowOf & row_of, const Exists & exists) {
    float operands[most_row_steps][count];
#pragma unroll
    for (int s = 0; s < most_row_steps; s++) {
        if (s >= p.steps) break;
        const RowStep & step = p.step[s];
        const bool is_gate = step.kind == RowStep::Kind::gate;
#pragma unroll
        for (int i = 0; i < count; i++) {
            if (!exists(i)) continue;
            const int64_t from = is_gate ? row_of(i) * step.stride + step.column : row_of(i) * w.n + column;
            operands[s][i] = step.in_f32 ? static_cast<const float *>(step.operand)[from]
                                         : __bfloat162float(static_cast<const bf16 *>(step.operand)[from]);
        }
    }
#pragma unroll
    for (int i = 0; i < count; i++) {
        if (!exists(i)) continue;
        const int64_t at = row_of(i) * w.n + column;
        float value = rounded(sums[i] * of_column.factor);
        if (of_column.has_bias) value = rounded(value + of_column.bias);
        w.out[at] = __float2bfloat16_rn(value);
#pragma unroll
        for (int s = 0; s < most_row_steps; s++) {
            if (s >= p.steps) break;
            value = p.step[s].kind == RowStep::Kind::gate ? value * rounded(sigmoid(operands[s][i]))
                                                          : value + operands[s][i];
            value = rounded(value);
            p.step[s].out[at] = __float2bfloat16_rn(value);
        }
    }
}

struct ManyTiles {
    int first[most_few_weights + 1]; // tiles of w before each weight
    int chunks;                      // of rows of x
};

// groups: of warps. rows: of x.
template <int groups, int rows, bool coded>
struct ManyForm {
    static constexpr int warps = groups * warps_of_group, threads = warps * warp_size;
    static constexpr int units = coded ? 1 : 2;      // of a step
    static constexpr int tiles_deep = coded ? 2 : 1; // columns of x of a step, in tiles
    static constexpr int boxes = tiles_deep * rows / row_block;
    static constexpr int x_stages = coded ? 4 : 6, x_bytes = boxes * tile_bytes; // of a stage
    // Of w: what each thread reads itself, and the block scales of a warp's rows.
    static constexpr int w_stages = 5, pieces = 2 * units, w_bytes = threads * pieces * 16;
    static constexpr int scale_bytes = coded ? warps * tile * 8 : 0;
    static constexpr int rows_put = 32; // that a warp finishes at once
    static constexpr int put_stride = tile + 4, put_bytes = rows_put * put_stride * int(sizeof(float)); // of a warp
    static constexpr size_t bytes =
        size_t(x_stages) * x_bytes + size_t(w_stages) * (w_bytes + scale_bytes) + warps * put_bytes + tile_alignment;
    static constexpr int blocks = groups == 1 ? 2 : 1; // of a processor
};

__device__ inline void copy_8_bytes(void * to, const void * from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8;" ::"r"(shared_address(to)), "l"(from) : "memory");
}

template <int groups, int rows, bool coded>
__global__ void __launch_bounds__(ManyForm<groups, rows, coded>::threads, (ManyForm<groups, rows, coded>::blocks))
    many_rows_kernel(const __grid_constant__ FewRowsLinears p, const __grid_constant__ ManyTiles tiles,
                     const bf16 * arranged, int64_t columns) {
    using F = ManyForm<groups, rows, coded>;
    extern __shared__ unsigned char memory[];
    __shared__ Arrivals full[F::x_stages], empty[F::x_stages];
    auto * const x_memory = static_cast<unsigned char *>(aligned_tiles(memory));
    auto * const w_memory = reinterpret_cast<uint4 *>(x_memory + F::x_stages * F::x_bytes);
    auto * const scale_memory = reinterpret_cast<unsigned char *>(w_memory) + F::w_stages * F::w_bytes;
    auto * const put_memory = reinterpret_cast<float *>(scale_memory + F::w_stages * F::scale_bytes);
    const int lane = threadIdx.x % warp_size, warp = threadIdx.x / warp_size;
    const int chunk = int(blockIdx.x) % tiles.chunks, tile_of_block = int(blockIdx.x) / tiles.chunks;
    int at = 0;
    while (tile_of_block >= tiles.first[at + 1]) at++;
    const FewRowsWeight & weight = p.weights[at];
    const Parts parts(coded, p.k);
    const int steps = (parts.units + F::units - 1) / F::units;
    if (threadIdx.x == 0) {
        for (int s = 0; s < F::x_stages; s++) {
            start_arrivals(full[s], 1);
            start_arrivals(empty[s], F::warps);
        }
        show_barriers();
    }
    __syncthreads();

    const int64_t first_row = int64_t(tile_of_block - tiles.first[at]) * (groups * rows_of_group) + warp * tile;
    const few_rows::TileRows of_w(weight, 0, first_row, parts);
    // What this thread multiplies in a step, to memory that it alone reads; scales are for the warp.
    const auto copy_w = [&](int s) {
        if (s < steps) {
            uint4 * const to = w_memory + s % F::w_stages * (F::w_bytes / 16) + threadIdx.x;
#pragma unroll
            for (int u = 0; u < F::units; u++) {
                const int unit = s * F::units + u, in_row = unit * unit_bytes + lane % 4 * 16;
                const bool exists = in_row < parts.row_bytes;
#pragma unroll
                for (int half = 0; half < 2; half++)
                    copy_16_bytes(to + (u * 2 + half) * F::threads,
                                  of_w.data + of_w.first + half * of_w.below + (exists ? in_row : 0), exists);
            }
            if (coded && lane % 4 < 2) // of the upper rows, of those below
                copy_8_bytes(scale_memory + s % F::w_stages * F::scale_bytes +
                                 (warp * tile + lane % 4 * 8 + lane / 4) * 8,
                             of_w.scales + (of_w.first + lane % 4 * of_w.below + s * unit_bytes) / 8);
        }
        commit_copies();
    };
    // Tiles of x of a step, by one thread.
    const auto copy_x = [&](int s) {
        constexpr int row_blocks = rows / row_block;
        const int stage = s % F::x_stages;
        if (s >= F::x_stages) wait_for(empty[stage], s / F::x_stages - 1);
        expect_bytes(full[stage], F::x_bytes);
        for (int box = 0; box < F::boxes; box++) {
            const int deep = box / row_blocks, block = box % row_blocks;
            const bf16 * const from = arranged + ((int64_t(chunk) * row_blocks + block) * (columns / tile_columns) +
                                                  int64_t(s) * F::tiles_deep + deep) *
                                                     (row_block * tile_columns);
            copy_bytes(x_memory + stage * F::x_bytes + box * tile_bytes, from, tile_bytes, full[stage]);
        }
    };
    constexpr int x_ahead = F::x_stages - 2;             // so that a copy seldom waits for slower warps
    for (int s = 0; s + 1 < F::w_stages; s++) copy_w(s); // no earlier kernel writes weights
    wait_for_earlier();
    if (threadIdx.x == 0)
        for (int s = 0; s < min(steps, x_ahead); s++) copy_x(s);

    constexpr int sums = rows / 2; // of a thread
    float of_part[sums], total[sums];
#pragma unroll
    for (int i = 0; i < sums; i++) of_part[i] = 0;
    const auto free_stage = [&](int s) {
        if (lane == 0) arrive(empty[s % F::x_stages]);
    };
    // The products of a step are under way while the next one begins.
    const auto step = [&](int s, uint4(&w)[F::pieces]) {
        __syncwarp(); // all have read the scales that are replaced now
        copy_w(s + F::w_stages - 1);
        if (threadIdx.x == 0 && s + x_ahead < steps) copy_x(s + x_ahead);
        wait_for_copies<F::w_stages - 1>();
        __syncwarp();
        const uint4 * const from = w_memory + s % F::w_stages * (F::w_bytes / 16) + threadIdx.x;
#pragma unroll
        for (int i = 0; i < F::pieces; i++) w[i] = from[i * F::threads];
        const int stage = s % F::x_stages;
        const auto * const x = reinterpret_cast<const bf16 *>(x_memory + stage * F::x_bytes);
        const auto slice = [&](int column) {
            return from_column(tile_descriptor(x + column / tile_columns * (rows * tile_columns)),
                               column % tile_columns);
        };
        if constexpr (coded) {
            uint32_t codes[4][2][4];
            const auto * const scales = reinterpret_cast<const uint16_t *>(
                scale_memory + s % F::w_stages * F::scale_bytes + (warp * tile + lane / 4) * 8);
#pragma unroll
            for (int half = 0; half < 2; half++) {
                __nv_bfloat162 large[2];
                large_scales(scales[half * 32 + lane % 4], large);
#pragma unroll
                for (int word = 0; word < 4; word++)
                    few_rows::pairs_of_codes(few_rows::word_of(w[half], word), large[word / 2], codes[word][half]);
            }
            wait_for(full[stage], s / F::x_stages);
            begin_products();
#pragma unroll
            for (int word = 0; word < 4; word++) {
                const auto & c = codes[word];
                multiply_rows(of_part, {c[0][0], c[1][0], c[0][1], c[1][1]}, slice(word * 32));
                multiply_rows(of_part, {c[0][2], c[1][2], c[0][3], c[1][3]}, slice(word * 32 + 16));
            }
        } else {
            wait_for(full[stage], s / F::x_stages);
            begin_products();
#pragma unroll
            for (int u = 0; u < F::units; u++) {
                const uint4 &upper = w[u * 2], &below = w[u * 2 + 1];
                multiply_rows(of_part, {upper.x, below.x, upper.y, below.y}, slice(u * 32));
                multiply_rows(of_part, {upper.z, below.z, upper.w, below.w}, slice(u * 32 + 16));
            }
        }
        commit_products();
        const int done = (s + 1) * F::units;
        if (done % parts.each != 0 && s + 1 < steps) {
            wait_for_products<1>();
            if (s > 0) free_stage(s - 1);
            return;
        }
        wait_for_products<0>(); // a part ends
        if (s > 0) free_stage(s - 1);
        const bool is_first = done <= parts.each;
#pragma unroll
        for (int i = 0; i < sums; i++) {
            total[i] = is_first ? of_part[i] : total[i] + of_part[i];
            of_part[i] = 0;
        }
    };
    uint4 even[F::pieces], odd[F::pieces];
    for (int s = 0; s < steps; s += 2) {
        step(s, even);
        if (s + 1 < steps) step(s + 1, odd);
    }
    let_later_start();
    if (parts.units <= (parts.count - 1) * parts.each) // parts without units
#pragma unroll
        for (int i = 0; i < sums; i++) total[i] += 0.0f;

    float * const put = put_memory + warp * (F::put_bytes / int(sizeof(float)));
    const int first_x = chunk * rows, count = int(min(int64_t(rows), p.rows - first_x));
    const int64_t column = first_row + lane % tile;
    const bool is_column = column < weight.n;
    const ColumnOfProduct of_column(weight, min(column, weight.n - 1));
#pragma unroll
    for (int begin = 0; begin < rows; begin += F::rows_put) {
        if (begin >= count) break;
        __syncwarp();
#pragma unroll
        for (int j = 0; j < F::rows_put / 8; j++)
#pragma unroll
            for (int i = 0; i < 4; i++)
                put[(j * 8 + lane % 4 * 2 + i % 2) * F::put_stride + lane / 4 + i / 2 * 8] =
                    total[(begin / 8 + j) * 4 + i];
        __syncwarp();
#pragma unroll
        for (int half = 0; half < 2; half++) { // of the rows
            float found[F::rows_put / 4];
            const auto row_of = [&](int i) { return half * (F::rows_put / 2) + i * 2 + lane / tile; };
#pragma unroll
            for (int i = 0; i < F::rows_put / 4; i++) found[i] = put[row_of(i) * F::put_stride + lane % tile];
            finish_rows(
                p, weight, of_column, column, found, [&](int i) { return int64_t(first_x + begin + row_of(i)); },
                [&](int i) { return is_column && begin + row_of(i) < count; });
        }
    }
}

template <int groups, int rows, bool coded>
Status launch_many(const CudaContext & context, const FewRowsLinears & p, const bf16 * arranged, int64_t columns) {
    using F = ManyForm<groups, rows, coded>;
    ManyTiles tiles = {};
    for (int i = 0; i < p.count; i++)
        tiles.first[i + 1] = tiles.first[i] + int(blocks_for(p.weights[i].n, groups * rows_of_group));
    tiles.chunks = int(blocks_for(p.rows, rows));
    const unsigned blocks = unsigned(tiles.first[p.count]) * unsigned(tiles.chunks);
    if (blocks == 0) return {};
    return launch_chained("linear", context, many_rows_kernel<groups, rows, coded>, blocks, F::threads, F::bytes, p,
                          tiles, arranged, columns);
}

} // namespace

uint64_t many_rows_bytes(int64_t rows, int64_t k) { return uint64_t(rows_for(rows) * columns_for(k)) * sizeof(bf16); }

// How many blocks there are with so many rows of w and x each.
static int64_t blocks_of(const FewRowsLinears & p, int rows_of_w, int rows_of_x) {
    int64_t tiles = 0;
    for (int i = 0; i < p.count; i++) tiles += blocks_for(p.weights[i].n, rows_of_w);
    return tiles * blocks_for(p.rows, rows_of_x);
}

// As measured on an H200: with fewer blocks than processors the kernels of few_rows.cu, which divide k, are faster.
bool many_rows_are_faster(const CudaContext & context, const FewRowsLinears & p) {
    const bool coded = p.weights[0].block_scales != nullptr;
    const bool fits = coded ? p.k % 128 == 0 : Parts(coded, p.k).each % 2 == 0;
    return fits && p.rows > 16 && blocks_of(p, 64, 64) * 10 >= context.processors * int64_t(9);
}

Status many_rows_linears(const CudaContext & context, const FewRowsLinears & p) {
    const bool coded = p.weights[0].block_scales != nullptr;
    const int64_t all_rows = rows_for(p.rows), columns = columns_for(p.k);
    GNV_TRY(launch_chained("linear", context, arrange_kernel, blocks_for(all_rows * columns / 16, 256), 256, 0,
                           p.source.x, p.rows, p.k, all_rows, columns, coded, p.weights[0].input_scale, p.scratch));
    // Large tiles read less; not where they leave many processors without work, in one round or in the second.
    const int64_t large = blocks_of(p, 128, 128), processors = context.processors;
    const bool is_large =
        p.rows > 64 && large * 2 >= processors && (large <= processors || large * 4 >= processors * 5);
    const auto launch = is_large ? (coded ? launch_many<2, 128, true> : launch_many<2, 128, false>)
                                 : (coded ? launch_many<1, 64, true> : launch_many<1, 64, false>);
    return launch(context, p, p.scratch, columns);
}

} // namespace gnv::cuda
