#include "cpu/gemm_avx512.h"

#include "cpu/gemm_kernels.h"
#include "cpu/load_transposed.h"

#include <cstring>

namespace gnv::cpu {

namespace {

inline Words load_words(const uint32_t * from) { return _mm512_loadu_si512(from); }
inline void store_words(uint32_t * to, Words words) { _mm512_storeu_si512(to, words); }
inline Words all(int word) { return _mm512_set1_epi32(word); }

// What BF16 numbers leave of themselves: the least magnitude but zero, and the largest.
struct Magnitudes {
    Words least_less_1 = all(-1), largest = zero(); // bits without the sign, doubled; 0 less 1 is above all others

    void see(Words numbers) {
        const Words doubled = _mm512_add_epi16(numbers, numbers);
        least_less_1 = _mm512_min_epu16(least_less_1, _mm512_add_epi16(doubled, all(-1)));
        largest = _mm512_max_epu16(largest, doubled);
    }
    int lowest_exponent() const {
        constexpr int infinite = 255, bias = 127;
        const int lowest = (smallest_of(least_less_1) + 1) >> 8;
        const int highest = (0xffff - smallest_of(_mm512_xor_si512(largest, all(-1)))) >> 8;
        return lowest == 0 || highest == infinite ? not_for_pairs : lowest - bias;
    }

  private:
    static int smallest_of(Words words) { // of 16 bits
        const __m256i half = _mm256_min_epu16(_mm512_castsi512_si256(words), _mm512_extracti64x4_epi64(words, 1));
        const __m128i quarter = _mm_min_epu16(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
        return _mm_extract_epi16(_mm_minpos_epu16(quarter), 0);
    }
};

// Rows that a router chose and weights that are read once come from far away, and a processor foresees few such streams. They
// are asked for into the second cache: at distances that are powers of two they push each other out of the first.
constexpr int rows_ahead = 4;
inline void ask_for(const void * line) { _mm_prefetch(line, _MM_HINT_T1); }

// `bytes` of each row of the panel that follows, its first column there being at `next`.
inline void ask_for_rows(const void * next, int64_t stride_bytes, int64_t bytes) {
    const auto * const from = static_cast<const uint8_t *>(next);
#pragma GCC unroll 16
    for (int row = 0; row < lanes; row++)
        for (int64_t i = 0; i < bytes; i += 64) ask_for(from + row * stride_bytes + i);
}

int pack_rows(const float * const * rows, int count, int64_t k, uint32_t * panel) {
    alignas(64) uint16_t places[32]; // of the upper halves of floats, each two exchanged
    for (int i = 0; i < 32; i++) places[i] = uint16_t((i ^ 1) * 2 + 1);
    const Words exchanged = _mm512_load_si512(places);
    Magnitudes magnitudes;
    Words bits = zero();
    for (int row = 0; row < count; row++, panel += pair_stride(k)) {
        const float * const later = rows[row + rows_ahead < count ? row + rows_ahead : row];
        for (int64_t i = 0; i < k; i += 2 * lanes) {
            ask_for(later + i), ask_for(later + i + lanes);
            const int64_t columns = smaller(2 * lanes, k - i);
            Words low, high;
            if (columns == 2 * lanes) {
                low = load(rows[row] + i), high = load(rows[row] + i + lanes);
            } else {
                low = load_part(rows[row] + i, part_of(4 * smaller(lanes, columns)));
                high = load_part(rows[row] + i + lanes, part_of(columns > lanes ? 4 * (columns - lanes) : 0));
            }
            bits = _mm512_or_si512(bits, _mm512_or_si512(low, high));
            const Words pairs = _mm512_permutex2var_epi16(low, exchanged, high);
            magnitudes.see(pairs);
            store_words(panel + i / 2, pairs);
        }
    }
    return _mm512_test_epi32_mask(bits, all(0xffff)) ? not_for_pairs : magnitudes.lowest_exponent();
}

int pack_bf16(const uint16_t * weight, int64_t stride, int rows, int64_t k, uint32_t * panel) {
    Magnitudes magnitudes;
    for (int64_t i = 0; i < k; i += 2 * lanes) {
        const int64_t columns = smaller(2 * lanes, k - i);
        for (int first = 0; first < panel_columns; first += lanes) {
            uint32_t * out = panel + i / 2 * panel_columns + first;
            const auto * const from = reinterpret_cast<const uint8_t *>(weight) + (first * stride + i) * 2;
            ask_for_rows(from + 2 * panel_columns * stride, 2 * stride, vector_bytes);
            Words words[lanes];
            load_transposed(from, 2 * stride, rows - first, 2 * columns, words);
            const auto put = [&](Words word) {
                const Words pairs = _mm512_rol_epi32(word, 16);
                magnitudes.see(pairs);
                store_words(out, pairs);
                out += panel_columns;
            };
            if (columns == 2 * lanes) {
#pragma GCC unroll 16
                for (int j = 0; j < lanes; j++) put(words[j]);
            } else {
                for (int j = 0; 2 * j < columns; j++) put(words[j]);
            }
        }
    }
    return magnitudes.lowest_exponent();
}

// Values of E2M1 codes times a block scale, in 16 bits each: the bits of 4 * scale or, for 1.5, 3 and 6, of 6 * scale,
// less what the exponent of the code lacks to that; saturation makes zeros. The sign bit says which of the two it is, in
// the table and in those of 6 * scale, until the difference has taken it away.
struct Nvfp4Pairs {
    Words missing; // by code

    Nvfp4Pairs() {
        constexpr uint16_t odd = 0x8000;
        constexpr uint16_t by_magnitude[8] = {0x7fff, 3 << 7, 2 << 7, odd | 2 << 7, 1 << 7, odd | 1 << 7, 0, odd};
        alignas(64) uint16_t steps[32]; // each four times: the sign, and the fifth bit of an index is the next code's
        for (int i = 0; i < 32; i++) steps[i] = by_magnitude[i & 7];
        missing = _mm512_load_si512(steps);
    }

    // Of 16 bits each: the lowest of an index are the code, the highest is its sign.
    Words of(Words indices, Words four, Words marked_six) const {
        const Words less = _mm512_permutexvar_epi16(indices, missing), is_odd = _mm512_srai_epi16(less, 15);
        const Words largest = _mm512_ternarylogic_epi32(is_odd, marked_six, four, 0xca); // is_odd ? six : four
        const Words value = _mm512_subs_epu16(largest, less);
        return _mm512_ternarylogic_epi32(value, indices, all(int(0x80008000)), 0xf8); // value | indices & sign
    }
};

// factor * scale in both halves of each word, as BF16; byte j of each word is the scale in E4M3, not negative.
inline Words both_halves(Floats scale, float factor) {
    const Words bits = _mm512_castps_si512(_mm512_mul_ps(scale, _mm512_set1_ps(factor)));
    return _mm512_or_si512(bits, _mm512_srli_epi32(bits, 16));
}

int pack_nvfp4(const Nvfp4Rows & weight, int rows, int64_t k, uint32_t * panel) {
    constexpr int lowest_exponent = -10; // half of the least block scale, 2^-9
    const Nvfp4Pairs values;
    // Where fields of 8 bits begin, of two words of codes together: of pair i the field with the later code below, that
    // with its sign on top, and both of the earlier code.
    Words fields[4];
    for (int i = 0; i < 4; i++) {
        const uint64_t word =
            uint64_t((8 * i - 4) & 63) << 24 | uint64_t(8 * i) << 16 | uint64_t(8 * i) << 8 | uint64_t(8 * i + 4);
        fields[i] = _mm512_set1_epi64(int64_t((word ^ 0x20202020) << 32 | word));
    }
    __mmask64 unusual = 0; // block scales that are negative or NaN
    for (int first = 0; first < panel_columns; first += lanes) {
        const int count = int(smaller(lanes, rows - first));
        const uint8_t * const from_scales = weight.scales + first * weight.scale_stride;
        ask_for_rows(from_scales + panel_columns * weight.scale_stride, weight.scale_stride, 1);
        Words scales[lanes]; // four blocks in each word
        load_transposed(from_scales, weight.scale_stride, count, k / 16, scales);
        for (int64_t i = 0; i < k; i += 64) {
            const Words bytes = scales[i / 64], next = _mm512_add_epi8(bytes, all(0x01010101));
            unusual |= _mm512_test_epi8_mask(_mm512_or_si512(bytes, next), all(int(0x80808080)));
        }
        for (int64_t i = 0; i < k; i += 8 * lanes) {
            const int64_t columns = smaller(8 * lanes, k - i);
            const uint8_t * const from = weight.codes + first * weight.code_stride + i / 2;
            ask_for_rows(from + panel_columns * weight.code_stride, weight.code_stride, vector_bytes);
            Words codes[lanes]; // eight columns in each word
            load_transposed(from, weight.code_stride, count, columns / 2, codes);
            uint32_t * out = panel + i / 2 * panel_columns + first;
            const auto put = [&](int64_t block) {
                const int64_t at = i / 16 + block;
                // E4M3 moved to the place of F16's bits is its value times 2^-8, subnormal or not.
                const Words byte = _mm512_and_si512(_mm512_srli_epi32(scales[at / 4], unsigned(at % 4 * 8)), all(0xff));
                const Floats scale = _mm512_cvtph_ps(_mm512_cvtepi32_epi16(_mm512_slli_epi32(byte, 7)));
                const Words four = both_halves(scale, 4 * 256.0f), six = both_halves(scale, 6 * 256.0f);
                const Words marked_six = _mm512_or_si512(six, all(int(0x80008000)));
#pragma GCC unroll 2
                for (int half = 0; half < 2; half++)
#pragma GCC unroll 4
                    for (int j = 0; j < 4; j++, out += panel_columns)
                        store_words(out, values.of(_mm512_multishift_epi64_epi8(fields[j], codes[2 * block + half]),
                                                   four, marked_six));
            };
            if (columns == 8 * lanes) {
#pragma GCC unroll 8
                for (int block = 0; block < 8; block++) put(block);
            } else {
                for (int64_t block = 0; block < columns / 16; block++) put(block);
            }
        }
    }
    return unusual ? not_for_pairs : lowest_exponent;
}

// As finish_loop() has it.
inline Floats rounded_to_bf16(Floats value) {
    const Words bits = _mm512_castps_si512(value), lowest = _mm512_and_si512(_mm512_srli_epi32(bits, 16), all(1));
    const Words rounded = _mm512_add_epi32(_mm512_add_epi32(bits, all(0x7fff)), lowest);
    const __mmask16 is_nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
    const Words quiet = _mm512_mask_or_epi32(rounded, is_nan, bits, all(0x400000));
    return _mm512_castsi512_ps(_mm512_and_si512(quiet, all(int(0xffff0000))));
}

constexpr int64_t last_steps = 24; // of a sum: as long as its place may take to come near

// `vectors` vectors of columns: those of one panel, or of several.
template <int64_t stride, int rows, int vectors>
void multiply_vectors(const uint32_t * a, const uint32_t * b, int64_t panel_stride, int64_t pairs, bool first,
                      const Finish * finish, float * c, int64_t c_stride) {
    Floats sum[rows][vectors];
    const auto for_all = [&sum](const auto & body) {
#pragma GCC unroll 16
        for (int row = 0; row < rows; row++)
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++) body(row, v, sum[row][v]);
    };
    const auto place = [=](int row, int v) { return c + row * c_stride + v * lanes; };
    for_all([&](int row, int v, Floats & one) { one = first ? broadcast(0.0f) : load_floats(place(row, v)); });
    // The next call most likely continues below these rows.
    for_all([&](int row, int v, const Floats &) { expect_store(place(rows + row, v)); });
    const auto step = [&] {
        Words weight[vectors];
#pragma GCC unroll 4
        for (int v = 0; v < vectors; v++) weight[v] = load_words(b + v / 2 * panel_stride + v % 2 * lanes);
#pragma GCC unroll 16
        for (int row = 0; row < rows; row++) {
            const Words value = all(int(a[row * stride]));
#pragma GCC unroll 4
            for (int v = 0; v < vectors; v++)
                sum[row][v] = _mm512_dpbf16_ps(sum[row][v], (__m512bh)value, (__m512bh)weight[v]);
        }
        a++, b += panel_columns;
    };
    for (; pairs > last_steps; pairs--) step();
    // By now what `a` and `b` brought has pushed these lines out of the first cache.
    for_all([&](int row, int v, const Floats &) { expect_store(place(row, v)); });
    for (; pairs > 0; pairs--) step();
    if (finish && finish->divisor != 1.0f) {
        const Floats divisor = broadcast(finish->divisor);
        for_all([&](int, int, Floats & one) { one = _mm512_div_ps(one, divisor); });
    }
    if (finish && finish->round_to_bf16) for_all([&](int, int, Floats & one) { one = rounded_to_bf16(one); });
    for_all([&](int row, int v, const Floats & one) { store_floats(place(row, v), one); });
}

using Multiply = decltype(&multiply_vectors<1, 1, 2>);

template <int64_t stride>
void multiply_rows(const uint32_t * a, int rows, const uint32_t * b, int64_t panel_stride, int64_t panels, int64_t k,
                   bool first, const Finish * finish, float * c, int64_t c_stride) {
    // 14 rows: 28 accumulators, 2 vectors of the weight, 1 of a.
    static constexpr Multiply one_panel[] = {
        multiply_vectors<stride, 1, 2>,  multiply_vectors<stride, 2, 2>,  multiply_vectors<stride, 3, 2>,
        multiply_vectors<stride, 4, 2>,  multiply_vectors<stride, 5, 2>,  multiply_vectors<stride, 6, 2>,
        multiply_vectors<stride, 7, 2>,  multiply_vectors<stride, 8, 2>,  multiply_vectors<stride, 9, 2>,
        multiply_vectors<stride, 10, 2>, multiply_vectors<stride, 11, 2>, multiply_vectors<stride, 12, 2>,
        multiply_vectors<stride, 13, 2>, multiply_vectors<stride, 14, 2>};
    // Few rows make few chains: too few to hide the latency of a multiply-add.
    static constexpr Multiply two_panels[] = {multiply_vectors<stride, 1, 4>, multiply_vectors<stride, 2, 4>,
                                              multiply_vectors<stride, 3, 4>};
    const int64_t pairs = (k + 1) / 2;
    int64_t panel = 0;
    if (rows <= 3)
        for (; panel + 2 <= panels; panel += 2)
            two_panels[rows - 1](a, b + panel * panel_stride, panel_stride, pairs, first, finish,
                                 c + panel * panel_columns, c_stride);
    for (; panel < panels; panel++)
        one_panel[rows - 1](a, b + panel * panel_stride, panel_stride, pairs, first, finish, c + panel * panel_columns,
                            c_stride);
}

void multiply(const uint32_t * a, int rows, const uint32_t * b, int64_t panel_stride, int64_t panels, int64_t k,
              bool first, const Finish * finish, float * c, int64_t c_stride) {
    constexpr int64_t shortest = pair_stride(1), middle = pair_stride(512), longest = pair_stride(gemm_depth);
    const int64_t stride = pair_stride(k);
    const auto of_stride = stride == shortest ? multiply_rows<shortest>
                           : stride == middle ? multiply_rows<middle>
                                              : multiply_rows<longest>;
    of_stride(a, rows, b, panel_stride, panels, k, first, finish, c, c_stride);
}

// What PairKernels promise of the instruction, with numbers whose sums need every kind of rounding, cancel or overflow.
bool keep_the_chain() {
    uint64_t state = 1;
    const auto random = [&state] {
        state = state * 6364136223846793005u + 1442695040888963407u;
        return uint32_t(state >> 32);
    };
    for (int round = 0; round < 1000; round++) {
        const uint32_t range = round % 10 == 9 ? 184 : 1 + round % 4 * 6; // of exponents; from 71 on: 2^-56
        const uint32_t lowest = round % 10 == 9 ? 71 : 127 - range / 2;
        const auto number = [&] { return (random() & 0x807f) | (lowest + random() % range) << 7; };
        alignas(64) uint32_t a[lanes], b[lanes];
        alignas(64) float sums[lanes], found[lanes];
        for (int i = 0; i < lanes; i++) {
            a[i] = number() << 16 | number(), b[i] = number() << 16 | number();
            if (round % 5 == 0) { // the second product takes the first away
                a[i] = (a[i] & 0xffff0000) | ((a[i] >> 16) ^ 0x8000);
                b[i] = (b[i] & 0xffff0000) | b[i] >> 16;
            }
            sums[i] = 0;
        }
        Floats sum = broadcast(0.0f);
        for (int step = 0; step < 8; step++) {
            for (int i = 0; i < lanes; i++) {
                const auto value = [](uint32_t bits) { return __builtin_bit_cast(float, bits); };
                sums[i] = __builtin_fmaf(value(a[i] & 0xffff0000), value(b[i] & 0xffff0000), sums[i]);
                sums[i] = __builtin_fmaf(value(a[i] << 16), value(b[i] << 16), sums[i]);
            }
            sum = _mm512_dpbf16_ps(sum, (__m512bh)_mm512_load_si512(a), (__m512bh)_mm512_load_si512(b));
            _mm512_store_ps(found, sum);
            if (memcmp(found, sums, sizeof sums) != 0) return false;
            for (int i = 0; i < lanes; i++) a[i] = number() << 16 | number();
        }
    }
    return true;
}

} // namespace

const PairKernels pairs_avx512_bf16 = {pack_rows, pack_bf16, pack_nvfp4, multiply, keep_the_chain};

} // namespace gnv::cpu
