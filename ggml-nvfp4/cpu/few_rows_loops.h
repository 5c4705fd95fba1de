// Products of few rows: see cpu/few_rows_loops_table.h.
namespace gnv::cpu::GNV_LOOPS_VARIANT {

namespace {

// Weights come from memory once, and a processor foresees one long stream: F32 and BF16 go row by row. Several rows at a
// time, which NVFP4 needs, are as many short streams: each line is asked for bytes_ahead before its use, in the order in
// which lines lie in memory. Powers of two are bad distances: such lines push each other out of the first cache.
constexpr int64_t bytes_ahead = 3072, line_bytes = 64;

// A panel of rows is done in steps, each of which asks for its share of the lines.
inline void ask_ahead(const void * panel, int64_t step, int64_t step_bytes) {
    const char * const from = static_cast<const char *>(panel) + step * step_bytes + bytes_ahead;
#pragma GCC unroll 4
    for (int64_t at = 0; at < step_bytes; at += line_bytes) __builtin_prefetch(from + at);
}

// Pairwise: i with i + 8, + 4, + 2, + 1.
inline float sum_of(const Lanes & lanes) {
#if defined(__AVX2__)
#if defined(__AVX512F__)
    const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(lanes.part[0]), _mm512_extractf32x8_ps(lanes.part[0], 1));
#else
    const __m256 eight = _mm256_add_ps(lanes.part[0], lanes.part[1]);
#endif
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
#else
    float all[16];
    store(lanes, all);
    return sum_of_16(all);
#endif
}

// How a weight's sixteen columns come into lanes: load_block(row, block, lanes), from column 16 * block on, and
// value(row, k).
struct F32Weight {
    const float * first;
    int64_t k;
    void load_block(int64_t row, int64_t block, Lanes & lanes) const { load(first + row * k + block * 16, lanes); }
    float value(int64_t row, int64_t column) const { return first[row * k + column]; }
};

inline void load_bf16(const uint16_t * from, Lanes & lanes) {
#if defined(__AVX512F__)
    __m256i halves;
    memcpy(&halves, from, sizeof halves);
    lanes.part[0] = _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
#elif defined(__AVX2__)
    __m128i halves[2];
    memcpy(halves, from, sizeof halves);
    for (int i = 0; i < 2; i++)
        lanes.part[i] = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves[i]), 16));
#else
    for (int i = 0; i < 16; i++) lanes.part[i] = float_of(uint32_t(from[i]) << 16);
#endif
}

struct Bf16Weight {
    const uint16_t * first;
    int64_t k;
    void load_block(int64_t row, int64_t block, Lanes & lanes) const { load_bf16(first + row * k + block * 16, lanes); }
    float value(int64_t row, int64_t column) const { return float_of(uint32_t(first[row * k + column]) << 16); }
};

// A group of NVFP4 weights: 128 columns, eight codes in each of sixteen words. x lies spread: the 16 inputs for the same
// place in all words are side by side, so that a vector of x meets a vector of codes after one shift.
constexpr int64_t spread_columns = few_rows_spread_columns;
constexpr int64_t group_code_bytes = spread_columns / 2, group_scales = spread_columns / 16;

// The codes of a word in the order in which their products are added. Codes i and i + 4 are 16 bits apart: one shift of 16-bit
// numbers brings both to the lowest bits of their halves, and the upper half is multiplied first.
constexpr int code_order[8] = {4, 0, 5, 1, 6, 2, 7, 3};

// How x lies: a number in each word, or two of BF16.
struct Singles {
    static constexpr int64_t group_words = spread_columns;
};
struct Pairs {
    static constexpr int64_t group_words = spread_columns / 2;
};

void spread_row(const float * x, int64_t k, float * out) {
    for (int64_t first = 0; first < k; first += spread_columns)
        for (int64_t i = 0; i < 8; i++)
            for (int64_t lane = 0; lane < 16; lane++, out++) {
                const int64_t column = first + lane * 8 + code_order[i];
                *out = column < k ? x[column] : 0.0f;
            }
}

// The same columns of consecutive rows: group_code_bytes and group_scales of each, at equal distances.
struct Nvfp4Groups {
    const uint8_t *codes, *scales;
    int64_t code_stride, scale_stride;

    const uint8_t * codes_of(int row) const { return codes + row * code_stride; }
    const uint8_t * scales_of(int row) const { return scales + row * scale_stride; }
};

inline void lookup_scales(const uint8_t * scales, const float * values, float (&out)[16]) {
    for (int lane = 0; lane < 16; lane++) out[lane] = values[scales[lane / 2]];
}

#if defined(__AVX512F__)
// Block scales, each in the two lanes of its block.
inline __m512 load_scales(const uint8_t * scales, const float * values) {
    uint64_t bytes;
    memcpy(&bytes, scales, sizeof bytes);
    // E4M3 moved to the place of F16's bits is its value times few_rows_scale_unit, subnormal or not. A NaN or a sign in
    // any of the eight bytes is what this does not hold for.
    constexpr uint64_t ones = 0x0101010101010101;
    if (__builtin_expect(((bytes + ones) | bytes) & (ones << 7), 0)) {
        float looked_up[16];
        lookup_scales(scales, values, looked_up);
        return _mm512_loadu_ps(looked_up);
    }
    const __m128i single = _mm_cvtsi64_si128(int64_t(bytes)), twice = _mm_unpacklo_epi8(single, single);
    return _mm512_cvtph_ps(_mm256_slli_epi16(_mm256_cvtepu8_epi16(twice), 7));
}

template <int rows, int count>
inline void add_scaled(const Nvfp4Groups & groups, const __m512 (&parts)[rows][count], const float * values,
                       Lanes (&sums)[rows][count]) {
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        const __m512 scales = load_scales(groups.scales_of(r), values);
#pragma GCC unroll 4
        for (int j = 0; j < count; j++) sums[r][j].part[0] = _mm512_fmadd_ps(parts[r][j], scales, sums[r][j].part[0]);
    }
}

template <int rows, int count>
inline void add_group(Singles, const Nvfp4Groups & groups, const float * const * x, const float * values,
                      Lanes (&sums)[rows][count]) {
    const __m512 table = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f, -1.0f, -1.5f,
                                        -2.0f, -3.0f, -4.0f, -6.0f);
    __m512i codes[rows];
    __m512 parts[rows][count];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) codes[r] = _mm512_loadu_si512(groups.codes_of(r));
#pragma GCC unroll 8
    for (int i = 0; i < 8; i++) {
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const __m512i index = _mm512_srli_epi32(codes[r], unsigned(4 * code_order[i])); // its low four bits
            const __m512 value = _mm512_permutexvar_ps(index, table);
#pragma GCC unroll 4
            for (int j = 0; j < count; j++) {
                const __m512 input = _mm512_loadu_ps(x[j] + 16 * i);
                parts[r][j] = i == 0 ? _mm512_mul_ps(input, value) : _mm512_fmadd_ps(input, value, parts[r][j]);
            }
        }
    }
    add_scaled(groups, parts, values, sums);
}

#if defined(__AVX512BF16__)
// Of the 64 words of a group, 16 i + lane holds the numbers for codes i + 4 and i of that lane's eight, the former in its upper
// half: two steps of the chain of Singles, by the same rules as PairKernels (cpu/gemm_kernels.h).
template <int rows, int count>
inline void add_group(Pairs, const Nvfp4Groups & groups, const float * const * x, const float * values,
                      Lanes (&sums)[rows][count]) {
    alignas(32) static constexpr uint16_t bf16_values[16] = {0,      0x3f00, 0x3f80, 0x3fc0, 0x4000, 0x4040,
                                                             0x4080, 0x40c0, 0x8000, 0xbf00, 0xbf80, 0xbfc0,
                                                             0xc000, 0xc040, 0xc080, 0xc0c0};
    // Twice: the fifth bit of an index is the next code's.
    const __m512i table = _mm512_broadcast_i64x4(_mm256_load_si256(reinterpret_cast<const __m256i *>(bf16_values)));
    __m512i codes[rows];
    __m512 parts[rows][count];
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
        codes[r] = _mm512_loadu_si512(groups.codes_of(r));
#pragma GCC unroll 4
        for (int j = 0; j < count; j++) parts[r][j] = _mm512_setzero_ps();
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; i++) {
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const __m512i indices = _mm512_srli_epi16(codes[r], unsigned(4 * i));
            const __m512i value = _mm512_permutexvar_epi16(indices, table);
#pragma GCC unroll 4
            for (int j = 0; j < count; j++)
                parts[r][j] = _mm512_dpbf16_ps(parts[r][j], (__m512bh)value, (__m512bh)_mm512_loadu_ps(x[j] + 16 * i));
        }
    }
    add_scaled(groups, parts, values, sums);
}

// The numbers of 128 columns, or false.
inline bool spread_group(const float * x, float * out) {
    constexpr int least = (least_pair_exponents + 1 + 127) << 7; // the least value of a code but zero is 2^-1
    constexpr int infinite = 0x7f80;
    alignas(64) uint16_t places[32]; // of the upper halves of floats; the second of each two is the earlier step
    for (int i = 0; i < 32; i++) places[i] = uint16_t((i / 8 * 8 + code_order[i % 8 ^ 1]) * 2 + 1);
    const __m512i in_order = _mm512_load_si512(places);
    __m512i pairs[4], bits = _mm512_setzero_si512(); // pairs[q], word 4 * i + j: pair j of lane 4 * q + i
    __mmask32 unfit = 0;
#pragma GCC unroll 4
    for (int q = 0; q < 4; q++) {
        const __m512i low = _mm512_loadu_si512(x + 32 * q), high = _mm512_loadu_si512(x + 32 * q + 16);
        bits = _mm512_or_si512(bits, _mm512_or_si512(low, high));
        pairs[q] = _mm512_permutex2var_epi16(low, in_order, high);
        const __m512i magnitudes = _mm512_and_si512(pairs[q], _mm512_set1_epi16(0x7fff));
        // Zero less 1 is above all others.
        const __m512i less_1 = _mm512_sub_epi16(magnitudes, _mm512_set1_epi16(1));
        unfit |= _mm512_cmplt_epu16_mask(less_1, _mm512_set1_epi16(least - 1)) |
                 _mm512_cmpge_epu16_mask(magnitudes, _mm512_set1_epi16(infinite));
    }
    if (unfit || _mm512_test_epi32_mask(bits, _mm512_set1_epi32(0xffff))) return false;
    const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 0, 0, 0, 0, 0, 0, 0);
#pragma GCC unroll 4
    for (int j = 0; j < 4; j++) {
        const __m512i places_of_j = _mm512_add_epi32(first, _mm512_set1_epi32(j));
        const __m512i lower = _mm512_permutex2var_epi32(pairs[0], places_of_j, pairs[1]);
        const __m512i upper = _mm512_permutex2var_epi32(pairs[2], places_of_j, pairs[3]);
        _mm512_storeu_si512(out + 16 * j, _mm512_inserti64x4(lower, _mm512_castsi512_si256(upper), 1));
    }
    return true;
}

bool spread_pairs(const float * x, int64_t k, float * out) {
    for (int64_t first = 0; first < k; first += spread_columns, out += Pairs::group_words) {
        const float * columns = x + first;
        float padded[spread_columns] = {};
        if (k - first < spread_columns) {
            memcpy(padded, columns, size_t(k - first) * sizeof(float));
            columns = padded;
        }
        if (!spread_group(columns, out)) return false;
    }
    return true;
}
#endif
#elif defined(__AVX2__)
template <int rows, int count>
inline void add_group(Singles, const Nvfp4Groups & groups, const float * const * x, const float * values,
                      Lanes (&sums)[rows][count]) {
    const __m256 magnitudes = _mm256_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f);
    const __m256i sign = _mm256_set1_epi32(int(0x80000000));
    for (int half = 0; half < 2; half++) {
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            const __m256i codes = _mm256_loadu_si256(reinterpret_cast<const __m256i *>(groups.codes_of(r)) + half);
            __m256 parts[count];
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++) {
                const int place = 4 * code_order[i];
                const __m256i index = _mm256_srli_epi32(codes, place); // its low three bits
                const __m256i signs = _mm256_and_si256(_mm256_slli_epi32(codes, 28 - place), sign);
                const __m256 value =
                    _mm256_xor_ps(_mm256_permutevar8x32_ps(magnitudes, index), _mm256_castsi256_ps(signs));
#pragma GCC unroll 4
                for (int j = 0; j < count; j++) {
                    const __m256 input = _mm256_loadu_ps(x[j] + 16 * i + 8 * half);
                    parts[j] = i == 0 ? _mm256_mul_ps(input, value) : _mm256_fmadd_ps(input, value, parts[j]);
                }
            }
            const uint8_t * const bytes = groups.scales_of(r) + 4 * half;
            const __m256 scales =
                _mm256_setr_ps(values[bytes[0]], values[bytes[0]], values[bytes[1]], values[bytes[1]], values[bytes[2]],
                               values[bytes[2]], values[bytes[3]], values[bytes[3]]);
#pragma GCC unroll 4
            for (int j = 0; j < count; j++)
                sums[r][j].part[half] = _mm256_fmadd_ps(parts[j], scales, sums[r][j].part[half]);
        }
    }
}
#else
template <int rows, int count>
inline void add_group(Singles, const Nvfp4Groups & groups, const float * const * x, const float * values,
                      Lanes (&sums)[rows][count]) {
    static const float table[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                    -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
    for (int r = 0; r < rows; r++) {
        float scales[16];
        lookup_scales(groups.scales_of(r), values, scales);
        for (int lane = 0; lane < 16; lane++) {
            float value[8];
            for (int i = 0; i < 8; i++) {
                const int code = code_order[i];
                value[i] = table[groups.codes_of(r)[4 * lane + code / 2] >> (code % 2 * 4) & 15];
            }
            for (int j = 0; j < count; j++) {
                float part = x[j][lane] * value[0];
                for (int i = 1; i < 8; i++) part = fma32(x[j][16 * i + lane], value[i], part);
                sums[r][j].part[lane] = fma32(part, scales[lane], sums[r][j].part[lane]);
            }
        }
    }
}
#endif

template <class Inputs>
struct Nvfp4Weight {
    const uint8_t *codes, *scales;
    const float * scale_values;
    int64_t k;

    // The columns of the rows from `row` on that start with `column`.
    Nvfp4Groups at(int64_t row, int64_t column) const {
        return {codes + (row * k + column) / 2, scales + (row * k + column) / 16, k / 2, k / 16};
    }
};

// The last columns of some rows, with zeros behind them.
template <int rows>
struct PaddedGroups {
    uint8_t codes[rows * group_code_bytes] = {}, scales[rows * group_scales] = {};

    Nvfp4Groups of(const Nvfp4Groups & from, int64_t columns) {
        for (int r = 0; r < rows; r++) {
            memcpy(codes + r * group_code_bytes, from.codes_of(r), size_t(columns / 2));
            memcpy(scales + r * group_scales, from.scales_of(r), size_t(columns / 16));
        }
        return {codes, scales, group_code_bytes, group_scales};
    }
};

template <int rows, int count, class Inputs>
inline void few_rows_panel(const FewRows & p, int64_t row, const Nvfp4Weight<Inputs> & weight) {
    const int64_t whole = p.k / spread_columns * spread_columns;
    Lanes sums[rows][count] = {};
    const float * x[count];
    for (int j = 0; j < count; j++) x[j] = p.x[j];
    const Nvfp4Groups panel = weight.at(row, 0);
    for (int64_t at = 0; at < rows * (p.k / 16); at += line_bytes) // an eighth of the codes' bytes
        __builtin_prefetch(panel.scales + at + bytes_ahead / 8);
    for (int64_t column = 0; column < whole; column += spread_columns) {
        const Nvfp4Groups groups = weight.at(row, column);
        ask_ahead(panel.codes, column / spread_columns, rows * group_code_bytes);
        add_group<rows, count>(Inputs(), groups, x, weight.scale_values, sums);
#pragma GCC unroll 4
        for (int j = 0; j < count; j++) x[j] += Inputs::group_words;
    }
    if (whole < p.k) {
        PaddedGroups<rows> padded;
        const Nvfp4Groups groups = padded.of(weight.at(row, whole), p.k - whole);
        add_group<rows, count>(Inputs(), groups, x, weight.scale_values, sums);
    }
    for (int r = 0; r < rows; r++)
        for (int j = 0; j < count; j++) p.y[j][row + r] = sum_of(sums[r][j]) * (1.0f / few_rows_scale_unit);
}

// A row of the weight with `count` rows of x: their sums stay in registers.
template <int rows, int count, class Weight>
inline void few_rows_panel(const FewRows & p, int64_t row, const Weight & weight) {
    static_assert(rows == 1, "see bytes_ahead");
    Lanes sums[count] = {};
    const int64_t blocks = p.k / 16;
    for (int64_t block = 0; block < blocks; block++) {
        Lanes values;
        weight.load_block(row, block, values);
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) {
            Lanes x;
            load(p.x[i] + block * 16, x);
            fma_lanes(x, values, sums[i]);
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < count; i++) {
        if (blocks * 16 < p.k) {
            float lanes[16];
            store(sums[i], lanes);
            for (int64_t c = blocks * 16; c < p.k; c++)
                lanes[c % 16] = fma32(p.x[i][c], weight.value(row, c), lanes[c % 16]);
            load(lanes, sums[i]);
        }
        p.y[i][row] = sum_of(sums[i]);
    }
}

// 64 columns of two rows with `count` rows of x.
template <int count>
inline void add_compact(const FewRows & p, const uint8_t * group, const uint8_t * table, int64_t column,
                        Lanes (&sums)[2][count]) {
#if defined(__AVX2__)
    static_assert(Lanes::parts == compact_parts);
    const CompactBytes upper = compact_table(table);
#pragma GCC unroll 2
    for (int part = 0; part < compact_parts; part++) {
        CompactBytes values[2][4];
        for (int row = 0; row < 2; row++) compact_decode(group, row, part, upper, values[row]);
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
#pragma GCC unroll 4
            for (int j = 0; j < count; j++) {
                LanesPart x;
                memcpy(&x, p.x[j] + column + 16 * v + 16 / compact_parts * part, sizeof x);
#pragma GCC unroll 2
                for (int row = 0; row < 2; row++) fma_part(x, LanesPart(values[row][v]), sums[row][j].part[part]);
            }
    }
#else
    for (int row = 0; row < 2; row++)
        for (int c = 0; c < compact_columns; c++) {
            const float value = float_of(uint32_t(compact_number(group, row, c, table)) << 16);
            for (int j = 0; j < count; j++)
                sums[row][j].part[c % 16] = fma32(p.x[j][column + c], value, sums[row][j].part[c % 16]);
        }
#endif
}

template <int count>
inline void add_whole(const FewRows & p, const CompactWhole & whole, int64_t column, Lanes (&sums)[2][count]) {
    for (int row = 0; row < 2; row++)
        for (int v = 0; v < 4; v++) {
            Lanes values, x;
            load_bf16(whole.numbers[row] + 16 * v, values);
            for (int j = 0; j < count; j++) {
                load(p.x[j] + column + 16 * v, x);
                fma_lanes(x, values, sums[row][j]);
            }
        }
}

template <int count>
inline void few_rows_compact(const FewRows & p, const CompactBf16 & weight) {
    const int64_t groups = p.k / compact_columns;
    for (int64_t row = 0; row < p.rows; row += 2) {
        Lanes sums[2][count] = {};
        const uint8_t * const codes = compact_groups(weight, row / 2);
        const CompactWhole * next = weight.whole + weight.first[row / 2];
        const CompactWhole * const end = weight.whole + weight.first[row / 2 + 1];
        for (int64_t g = 0;; g++) {
            const int64_t stop = next < end ? next->group : groups;
            for (; g < stop; g++)
                add_compact<count>(p, codes + g * compact_group_bytes, weight.table, g * compact_columns, sums);
            if (g == groups) break;
            add_whole<count>(p, *next++, g * compact_columns, sums);
        }
#pragma GCC unroll 4
        for (int j = 0; j < count; j++)
            for (int r = 0; r < 2; r++) p.y[j][row + r] = sum_of(sums[r][j]);
    }
}

template <int panel, int count, class Weight>
inline void few_rows_of_weight(const FewRows & p, const Weight & weight) {
    int64_t row = 0;
    for (; row + panel <= p.rows; row += panel) few_rows_panel<panel, count>(p, row, weight);
    if constexpr (panel > 1)
        for (; row < p.rows; row++) few_rows_panel<1, count>(p, row, weight);
}

template <int n>
struct Count {
    static constexpr int value = n;
};

// Calls multiply(Count) with the count of rows of x.
template <class Multiply>
inline void with_count(int count, const Multiply & multiply) {
    switch (count) {
    case 1: return multiply(Count<1>());
    case 2: return multiply(Count<2>());
    case 3: return multiply(Count<3>());
    default: return multiply(Count<few_rows_most>());
    }
}

// `one`, `more`: rows of the weight at a time for one row of x and for more.
template <int one, int more, class Weight>
inline void few_rows(const FewRows & p, const Weight & weight) {
    with_count(p.count, [&](auto count) {
        constexpr int n = decltype(count)::value;
        few_rows_of_weight<n == 1 ? one : more, n>(p, weight);
    });
}

void few_rows_f32(const FewRows & p, const float * weight) { few_rows<1, 1>(p, F32Weight{weight, p.k}); }
void few_rows_bf16(const FewRows & p, const uint16_t * weight) { few_rows<1, 1>(p, Bf16Weight{weight, p.k}); }
void few_rows_compact_bf16(const FewRows & p, const CompactBf16 & weight) {
    with_count(p.count, [&](auto count) { few_rows_compact<decltype(count)::value>(p, weight); });
}

template <class Inputs>
void few_rows_nvfp4(const FewRows & p, const uint8_t * codes, const uint8_t * scales, const float * scale_values) {
    few_rows<4, 2>(p, Nvfp4Weight<Inputs>{codes, scales, scale_values, p.k});
}

#if defined(__AVX512BF16__)
constexpr FewRowsLoops few_rows_loops = {
    few_rows_f32, few_rows_bf16,         few_rows_compact_bf16, few_rows_nvfp4<Singles>,
    spread_row,   few_rows_nvfp4<Pairs>, spread_pairs};
#else
constexpr FewRowsLoops few_rows_loops = {
    few_rows_f32, few_rows_bf16, few_rows_compact_bf16, few_rows_nvfp4<Singles>, spread_row, nullptr, nullptr};
#endif

} // namespace

} // namespace gnv::cpu::GNV_LOOPS_VARIANT
