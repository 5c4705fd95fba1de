// Compact BF16 weights (cpu/compact_bf16.h) in vectors, for each instruction set. All functions are without a name outside
// their file, as in cpu/gemm_loops.h.
#pragma once

#include "codec/compact_bf16_layout.h"

#include <stdint.h>
#include <string.h>
#ifdef __AVX2__
#include <immintrin.h>
#endif

namespace gnv::cpu {

namespace {

#if defined(__AVX2__)
#if defined(__AVX512BW__)
constexpr int compact_parts = 1; // vectors of bytes in 64
using CompactBytes = __m512i;
inline CompactBytes compact_table(const uint8_t * table) {
    return _mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i *>(table)));
}
inline CompactBytes compact_look_up(CompactBytes table, CompactBytes codes) {
    return _mm512_shuffle_epi8(table, codes);
}
inline CompactBytes compact_low(CompactBytes a, CompactBytes b) { return _mm512_unpacklo_epi8(a, b); }
inline CompactBytes compact_high(CompactBytes a, CompactBytes b) { return _mm512_unpackhi_epi8(a, b); }
#else
constexpr int compact_parts = 2;
using CompactBytes = __m256i;
inline CompactBytes compact_table(const uint8_t * table) {
    return _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i *>(table)));
}
inline CompactBytes compact_look_up(CompactBytes table, CompactBytes codes) {
    return _mm256_shuffle_epi8(table, codes);
}
inline CompactBytes compact_low(CompactBytes a, CompactBytes b) { return _mm256_unpacklo_epi8(a, b); }
inline CompactBytes compact_high(CompactBytes a, CompactBytes b) { return _mm256_unpackhi_epi8(a, b); }
#endif
typedef uint16_t CompactHalves __attribute__((vector_size(sizeof(CompactBytes))));
typedef uint32_t CompactWords __attribute__((vector_size(sizeof(CompactBytes))));

inline CompactBytes compact_load(const void * from) {
    CompactBytes bytes;
    memcpy(&bytes, from, sizeof bytes);
    return bytes;
}
inline CompactBytes compact_codes(CompactBytes both, int row) {
    const CompactHalves halves = CompactHalves(both);
    return CompactBytes((row ? halves >> 4 : halves) & 0x0f0f);
}
inline CompactBytes compact_even(CompactBytes words) { return CompactBytes(CompactWords(words) << 16); }
inline CompactBytes compact_odd(CompactBytes words) { return CompactBytes(CompactWords(words) & 0xffff0000); }

// 64 columns of one of two rows as bits of F32: vectors of sixteen columns, in parts.
inline void compact_decode(const uint8_t * group, int row, int part, CompactBytes table, CompactBytes (&out)[4]) {
    const int64_t at = part * int64_t(sizeof(CompactBytes));
    const CompactBytes lower = compact_load(group + row * compact_columns + at);
    const CompactBytes codes = compact_codes(compact_load(group + 2 * compact_columns + at), row);
    const CompactBytes upper = compact_look_up(table, codes);
    const CompactBytes low = compact_low(lower, upper), high = compact_high(lower, upper);
    out[0] = compact_even(low), out[1] = compact_odd(low), out[2] = compact_even(high), out[3] = compact_odd(high);
}
#endif

inline uint16_t compact_number(const uint8_t * group, int row, int column, const uint8_t * table) {
    const int place = compact_place(column);
    const int code = group[2 * compact_columns + place] >> (4 * row) & 15;
    return uint16_t(table[code] << 8 | group[row * compact_columns + place]);
}

// 64 columns of one of two rows as BF16 numbers.
inline void unpack_compact_group(const uint8_t * group, int row, const uint8_t * table, uint16_t * out) {
#if defined(__AVX512BW__)
    CompactBytes vectors[4];
    compact_decode(group, row, 0, compact_table(table), vectors);
    for (int v = 0; v < 4; v++) {
        const __m256i words = _mm512_cvtepi32_epi16(_mm512_srli_epi32(vectors[v], 16));
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(out + 16 * v), words);
    }
#elif defined(__AVX2__)
    CompactBytes parts[2][4];
    for (int part = 0; part < 2; part++) compact_decode(group, row, part, compact_table(table), parts[part]);
    for (int v = 0; v < 4; v++) {
        const __m256i words =
            _mm256_packus_epi32(_mm256_srli_epi32(parts[0][v], 16), _mm256_srli_epi32(parts[1][v], 16));
        _mm256_storeu_si256(reinterpret_cast<__m256i *>(out + 16 * v), _mm256_permute4x64_epi64(words, 0xd8));
    }
#else
    for (int column = 0; column < compact_columns; column++) out[column] = compact_number(group, row, column, table);
#endif
}

// Rows [row, row + rows) of a weight, `columns` of each from k on: out [rows, columns]. k and columns are divisible by 64.
[[maybe_unused]] void unpack_compact(const CompactBf16 & weight, int64_t row, int rows, int64_t k, int64_t columns,
                                     uint16_t * out) {
    for (int r = 0; r < rows; r++, out += columns) {
        const int64_t two = (row + r) / 2;
        const int which = int((row + r) % 2);
        const uint8_t * const groups = compact_groups(weight, two);
        const CompactWhole * next = weight.whole + weight.first[two];
        const CompactWhole * const end = weight.whole + weight.first[two + 1];
        const int64_t first = k / compact_columns, count = columns / compact_columns;
        while (next < end && next->group < first) next++;
        for (int64_t g = 0; g < count; g++) {
            uint16_t * const to = out + g * compact_columns;
            if (next < end && next->group == first + g)
                memcpy(to, (next++)->numbers[which], sizeof next->numbers[which]);
            else
                unpack_compact_group(groups + (first + g) * compact_group_bytes, which, weight.table, to);
        }
    }
}

} // namespace

} // namespace gnv::cpu
