// Products on Hopper's tensor cores (compute capability 9.0, code for 90a): four warps multiply tiles that lie in shared memory,
// asynchronously. Sums are F32 in registers.
//
// A tile in shared memory has rows of 64 BF16 numbers, 128 bytes, as eight pieces of 16 bytes; piece p of row r is where p ^ r % 8
// would be, so that equal pieces of eight rows lie in different banks. It begins at a multiple of 1024 bytes. Wider rows are
// several tiles, one behind the other.
//
// Layout of a sum of 64 x n, with lane = 4 * row + pair / 2: d[4 * j] and d[4 * j + 1] are row `row` of the warp's 16 rows,
// columns 8 * j + pair and + 1; d[4 * j + 2] and d[4 * j + 3] are the same columns of row + 8. As pairs of BF16, 16 columns of it
// are a left operand in registers.
#pragma once

#include "cuda/mma.cuh"

namespace gnv::cuda::hopper {

constexpr int tile_columns = 64; // of a row in shared memory
constexpr int tile_alignment = 1024;

// Where a piece of a row of a tile is, in elements.
__device__ inline int piece_at(int row, int piece) { return row * tile_columns + (piece ^ row % 8) * 8; }

// The first multiple of tile_alignment in dynamic shared memory, which must have as many bytes more.
__device__ inline void * aligned_tiles(unsigned char * memory) {
    return memory + (tile_alignment - shared_address(memory) % tile_alignment) % tile_alignment;
}

// What the tensor cores need to know of a tile: its address, 1024 bytes between groups of eight rows, and how pieces are
// exchanged. Tiles of several columns, one behind the other, are `tile_bytes` apart; that matters to transposed operands alone.
__device__ inline uint64_t tile_descriptor(const bf16 * tile, int tile_bytes = 16) {
    constexpr uint64_t exchanged = uint64_t(1) << 62, eight_rows = uint64_t(1024 >> 4) << 32;
    return exchanged | eight_rows | uint64_t(tile_bytes >> 4) << 16 | (shared_address(tile) & 0x3ffff) >> 4;
}
// The same, from a column or from a row on: a multiple of 16.
__device__ inline uint64_t from_column(uint64_t descriptor, int column) {
    return descriptor + uint64_t(column * 2 >> 4);
}
__device__ inline uint64_t from_row(uint64_t descriptor, int row) {
    return descriptor + uint64_t(row * tile_columns * 2 >> 4);
}

// What this thread wrote to shared memory becomes visible to the tensor cores; a barrier for all writers must follow.
__device__ inline void show_to_tensor_cores() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// Before the first product that follows an access to its registers.
__device__ inline void begin_products() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ inline void commit_products() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
// Waits until at most `pending` of the committed groups are unfinished.
template <int pending>
__device__ inline void wait_for_products() {
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
}

// Stores four 8 x 8 matrices of BF16, a pair in each lane, as they are or transposed: lane i gives the address of row i % 8 of
// matrix i / 8.
__device__ inline void store_matrices(bf16 * row, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)), "r"(a),
                 "r"(b), "r"(c), "r"(d)
                 : "memory");
}
__device__ inline void store_matrices_transposed(bf16 * row, uint32_t a, uint32_t b, uint32_t c, uint32_t d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(shared_address(row)),
                 "r"(a), "r"(b), "r"(c), "r"(d)
                 : "memory");
}

// The instruction names each register of a sum: the lists of 32 and more sums, in its text and as operands. Each list begins
// with the one before it.
#define GNV_NAMES_8   "%0, %1, %2, %3, %4, %5, %6, %7"
#define GNV_NAMES_16  GNV_NAMES_8 ", %8, %9, %10, %11, %12, %13, %14, %15"
#define GNV_NAMES_24  GNV_NAMES_16 ", %16, %17, %18, %19, %20, %21, %22, %23"
#define GNV_NAMES_32  GNV_NAMES_24 ", %24, %25, %26, %27, %28, %29, %30, %31"
#define GNV_NAMES_40  GNV_NAMES_32 ", %32, %33, %34, %35, %36, %37, %38, %39"
#define GNV_NAMES_48  GNV_NAMES_40 ", %40, %41, %42, %43, %44, %45, %46, %47"
#define GNV_NAMES_56  GNV_NAMES_48 ", %48, %49, %50, %51, %52, %53, %54, %55"
#define GNV_NAMES_64  GNV_NAMES_56 ", %56, %57, %58, %59, %60, %61, %62, %63"
#define GNV_NAMES_72  GNV_NAMES_64 ", %64, %65, %66, %67, %68, %69, %70, %71"
#define GNV_NAMES_80  GNV_NAMES_72 ", %72, %73, %74, %75, %76, %77, %78, %79"
#define GNV_NAMES_88  GNV_NAMES_80 ", %80, %81, %82, %83, %84, %85, %86, %87"
#define GNV_NAMES_96  GNV_NAMES_88 ", %88, %89, %90, %91, %92, %93, %94, %95"
#define GNV_NAMES_104 GNV_NAMES_96 ", %96, %97, %98, %99, %100, %101, %102, %103"
#define GNV_NAMES_112 GNV_NAMES_104 ", %104, %105, %106, %107, %108, %109, %110, %111"
#define GNV_NAMES_120 GNV_NAMES_112 ", %112, %113, %114, %115, %116, %117, %118, %119"
#define GNV_NAMES_128 GNV_NAMES_120 ", %120, %121, %122, %123, %124, %125, %126, %127"
#define GNV_EIGHT(constraint, d, i)                                                                                    \
    constraint(d[i]), constraint(d[i + 1]), constraint(d[i + 2]), constraint(d[i + 3]), constraint(d[i + 4]),          \
        constraint(d[i + 5]), constraint(d[i + 6]), constraint(d[i + 7])
#define GNV_SUMS_8(d)   GNV_EIGHT("+f", d, 0)
#define GNV_SUMS_16(d)  GNV_SUMS_8(d), GNV_EIGHT("+f", d, 8)
#define GNV_SUMS_24(d)  GNV_SUMS_16(d), GNV_EIGHT("+f", d, 16)
#define GNV_SUMS_32(d)  GNV_SUMS_24(d), GNV_EIGHT("+f", d, 24)
#define GNV_SUMS_40(d)  GNV_SUMS_32(d), GNV_EIGHT("+f", d, 32)
#define GNV_SUMS_48(d)  GNV_SUMS_40(d), GNV_EIGHT("+f", d, 40)
#define GNV_SUMS_56(d)  GNV_SUMS_48(d), GNV_EIGHT("+f", d, 48)
#define GNV_SUMS_64(d)  GNV_SUMS_56(d), GNV_EIGHT("+f", d, 56)
#define GNV_SUMS_72(d)  GNV_SUMS_64(d), GNV_EIGHT("+f", d, 64)
#define GNV_SUMS_80(d)  GNV_SUMS_72(d), GNV_EIGHT("+f", d, 72)
#define GNV_SUMS_88(d)  GNV_SUMS_80(d), GNV_EIGHT("+f", d, 80)
#define GNV_SUMS_96(d)  GNV_SUMS_88(d), GNV_EIGHT("+f", d, 88)
#define GNV_SUMS_104(d) GNV_SUMS_96(d), GNV_EIGHT("+f", d, 96)
#define GNV_SUMS_112(d) GNV_SUMS_104(d), GNV_EIGHT("+f", d, 104)
#define GNV_SUMS_120(d) GNV_SUMS_112(d), GNV_EIGHT("+f", d, 112)
#define GNV_SUMS_128(d) GNV_SUMS_120(d), GNV_EIGHT("+f", d, 120)
#define GNV_INTEGERS_32(d, i)                                                                                          \
    GNV_EIGHT("+r", d, i), GNV_EIGHT("+r", d, i + 8), GNV_EIGHT("+r", d, i + 16), GNV_EIGHT("+r", d, i + 24)
#define GNV_INTEGERS_128(d)                                                                                            \
    GNV_INTEGERS_32(d, 0), GNV_INTEGERS_32(d, 32), GNV_INTEGERS_32(d, 64), GNV_INTEGERS_32(d, 96)

// d += a * b^T: 64 x n += 64 x 16 times 16 x n, for multiples of 16 up to 192; = without `add`. Both operands are tiles, 64
// rows of a and n rows of b. multiply_add_rows: += with a in registers, for n up to 128.
#define GNV_PRODUCT_TILES(n, sums, a, b, c)                                                                            \
    __device__ inline void multiply_add(float(&d)[sums], uint64_t first, uint64_t second, bool add = true) {           \
        asm volatile("{ .reg .pred add; setp.ne.b32 add, %" #c ", 0; wgmma.mma_async.sync.aligned.m64n" #n             \
                     "k16.f32.bf16.bf16 {" GNV_NAMES_##sums "}, %" #a ", %" #b ", add, 1, 1, 0, 0; }"                  \
                     : GNV_SUMS_##sums(d)                                                                              \
                     : "l"(first), "l"(second), "r"(int(add)));                                                        \
    }
#define GNV_PRODUCT_ROWS(n, sums, a0, a1, a2, a3, b)                                                                   \
    __device__ inline void multiply_add_rows(float(&d)[sums], const uint32_t(&first)[4], uint64_t second) {            \
        asm volatile("{ .reg .pred add; setp.eq.u32 add, 0, 0; wgmma.mma_async.sync.aligned.m64n" #n                   \
                     "k16.f32.bf16.bf16 {" GNV_NAMES_##sums "}, {%" #a0 ", %" #a1 ", %" #a2 ", %" #a3 "}, %" #b        \
                                                            ", add, 1, 1, 0; }"                                        \
                     : GNV_SUMS_##sums(d)                                                                              \
                     : "r"(first[0]), "r"(first[1]), "r"(first[2]), "r"(first[3]), "l"(second));                       \
    }
GNV_PRODUCT_TILES(16, 8, 8, 9, 10)
GNV_PRODUCT_ROWS(16, 8, 8, 9, 10, 11, 12)
GNV_PRODUCT_TILES(32, 16, 16, 17, 18)
GNV_PRODUCT_ROWS(32, 16, 16, 17, 18, 19, 20)
GNV_PRODUCT_TILES(48, 24, 24, 25, 26)
GNV_PRODUCT_ROWS(48, 24, 24, 25, 26, 27, 28)
GNV_PRODUCT_TILES(64, 32, 32, 33, 34)
GNV_PRODUCT_ROWS(64, 32, 32, 33, 34, 35, 36)
GNV_PRODUCT_TILES(80, 40, 40, 41, 42)
GNV_PRODUCT_ROWS(80, 40, 40, 41, 42, 43, 44)
GNV_PRODUCT_TILES(96, 48, 48, 49, 50)
GNV_PRODUCT_ROWS(96, 48, 48, 49, 50, 51, 52)
GNV_PRODUCT_TILES(112, 56, 56, 57, 58)
GNV_PRODUCT_ROWS(112, 56, 56, 57, 58, 59, 60)
GNV_PRODUCT_TILES(128, 64, 64, 65, 66)
GNV_PRODUCT_ROWS(128, 64, 64, 65, 66, 67, 68)
GNV_PRODUCT_TILES(144, 72, 72, 73, 74)
GNV_PRODUCT_TILES(160, 80, 80, 81, 82)
GNV_PRODUCT_TILES(176, 88, 88, 89, 90)
GNV_PRODUCT_TILES(192, 96, 96, 97, 98)

// 64 x 256 += 64 x 32 bytes of k times 256 x 32 bytes, or = without `add`: 16 BF16 numbers with sums in F32, or 32 integers of 8
// bits with exact sums in 32.
__device__ inline void multiply_wide(float (&d)[128], uint64_t a, uint64_t b, bool add) {
    asm volatile("{ .reg .pred add; setp.ne.b32 add, %130, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
                 "{" GNV_NAMES_128 "}, %128, %129, add, 1, 1, 0, 0; }"
                 : GNV_SUMS_128(d)
                 : "l"(a), "l"(b), "r"(int(add)));
}
__device__ inline void multiply_wide(int (&d)[128], uint64_t a, uint64_t b, bool add) {
    asm volatile("{ .reg .pred add; setp.ne.b32 add, %130, 0; wgmma.mma_async.sync.aligned.m64n256k32.s32.s8.s8 "
                 "{" GNV_NAMES_128 "}, %128, %129, add; }"
                 : GNV_INTEGERS_128(d)
                 : "l"(a), "l"(b), "r"(int(add)));
}

// d += a * b: 64 x n += 64 x 16 times 16 x n, for n of 64, 80, 128 and 256. a is in registers, b 16 rows of tiles.
__device__ inline void multiply_add(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("{ .reg .pred add; setp.eq.u32 add, 0, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{" GNV_NAMES_32 "}, {%32, %33, %34, %35}, %36, add, 1, 1, 1; }"
                 : GNV_SUMS_32(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ inline void multiply_add(float (&d)[40], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("{ .reg .pred add; setp.eq.u32 add, 0, 0; wgmma.mma_async.sync.aligned.m64n80k16.f32.bf16.bf16 "
                 "{" GNV_NAMES_40 "}, {%40, %41, %42, %43}, %44, add, 1, 1, 1; }"
                 : GNV_SUMS_40(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ inline void multiply_add(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("{ .reg .pred add; setp.eq.u32 add, 0, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{" GNV_NAMES_64 "}, {%64, %65, %66, %67}, %68, add, 1, 1, 1; }"
                 : GNV_SUMS_64(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ inline void multiply_add(float (&d)[128], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("{ .reg .pred add; setp.eq.u32 add, 0, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
                 "{" GNV_NAMES_128 "}, {%128, %129, %130, %131}, %132, add, 1, 1, 1; }"
                 : GNV_SUMS_128(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

// d += a * b^T: 64 x n += 64 x 16 times 16 x n, for n of 64 and 128. a is in registers, b a tile of n rows.
__device__ inline void multiply_rows(float (&d)[32], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("{ .reg .pred add; setp.eq.u32 add, 0, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
                 "{" GNV_NAMES_32 "}, {%32, %33, %34, %35}, %36, add, 1, 1, 0; }"
                 : GNV_SUMS_32(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}
__device__ inline void multiply_rows(float (&d)[64], const uint32_t (&a)[4], uint64_t b) {
    asm volatile("{ .reg .pred add; setp.eq.u32 add, 0, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
                 "{" GNV_NAMES_64 "}, {%64, %65, %66, %67}, %68, add, 1, 1, 0; }"
                 : GNV_SUMS_64(d)
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b));
}

#undef GNV_NAMES_8
#undef GNV_SUMS_8
#undef GNV_NAMES_16
#undef GNV_SUMS_16
#undef GNV_NAMES_24
#undef GNV_SUMS_24
#undef GNV_NAMES_32
#undef GNV_SUMS_32
#undef GNV_NAMES_40
#undef GNV_SUMS_40
#undef GNV_NAMES_48
#undef GNV_SUMS_48
#undef GNV_NAMES_56
#undef GNV_SUMS_56
#undef GNV_NAMES_64
#undef GNV_SUMS_64
#undef GNV_NAMES_72
#undef GNV_SUMS_72
#undef GNV_NAMES_80
#undef GNV_SUMS_80
#undef GNV_NAMES_88
#undef GNV_SUMS_88
#undef GNV_NAMES_96
#undef GNV_SUMS_96
#undef GNV_NAMES_104
#undef GNV_SUMS_104
#undef GNV_NAMES_112
#undef GNV_SUMS_112
#undef GNV_NAMES_120
#undef GNV_SUMS_120
#undef GNV_NAMES_128
#undef GNV_SUMS_128
#undef GNV_PRODUCT_TILES
#undef GNV_PRODUCT_ROWS
#undef GNV_INTEGERS_32
#undef GNV_INTEGERS_128
#undef GNV_EIGHT

} // namespace gnv::cuda::hopper
