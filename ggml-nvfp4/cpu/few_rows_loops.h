// Products of few rows: see cpu/few_rows_loops_table.h.
namespace gnv::cpu::GNV_LOOPS_VARIANT {

namespace {

// Weights come from memory once, a few short rows at a time, which processors do not foresee: so many bytes ahead of
// its use, each line is asked for. That is where the rows lie that come next.
inline int64_t bytes_ahead(int64_t row_bytes) {
    constexpr int64_t panel = 4, least = 2048;
    return (least + panel * row_bytes - 1) / (panel * row_bytes) * (panel * row_bytes);
}

// How a weight's sixteen columns come into lanes: load_block(row, block, lanes), from column 16 * block on, and
// value(row, k).
struct F32Weight {
    const float * first;
    int64_t k, ahead = bytes_ahead(k * int64_t(sizeof(float)));
    void load_block(int64_t row, int64_t block, Lanes & lanes) const {
        const float * const from = first + row * k + block * 16;
        __builtin_prefetch(reinterpret_cast<const char *>(from) + ahead);
        load(from, lanes);
    }
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
    int64_t k, ahead = bytes_ahead(k * int64_t(sizeof(uint16_t)));
    void load_block(int64_t row, int64_t block, Lanes & lanes) const {
        const uint16_t * const from = first + row * k + block * 16;
        __builtin_prefetch(reinterpret_cast<const char *>(from) + ahead);
        load_bf16(from, lanes);
    }
    float value(int64_t row, int64_t column) const { return float_of(uint32_t(first[row * k + column]) << 16); }
};

// The values of sixteen codes in eight bytes, the low half of a byte first, each times `scale`.
inline void load_codes(const uint8_t * codes, float scale, Lanes & lanes) {
#if defined(__AVX512F__)
    const __m512 values = _mm512_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f, -0.0f, -0.5f, -1.0f, -1.5f,
                                         -2.0f, -3.0f, -4.0f, -6.0f);
    const __m512i shifts = _mm512_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28, 0, 4, 8, 12, 16, 20, 24, 28);
    int32_t words[2];
    memcpy(words, codes, sizeof words);
    const __m512i spread = _mm512_mask_set1_epi32(_mm512_set1_epi32(words[0]), 0xff00, words[1]);
    // The permutation looks at the low four bits of each lane alone.
    lanes.part[0] =
        _mm512_mul_ps(_mm512_permutexvar_ps(_mm512_srlv_epi32(spread, shifts), values), _mm512_set1_ps(scale));
#elif defined(__AVX2__)
    const __m256 magnitudes = _mm256_setr_ps(0.0f, 0.5f, 1.0f, 1.5f, 2.0f, 3.0f, 4.0f, 6.0f);
    const __m256i shifts = _mm256_setr_epi32(0, 4, 8, 12, 16, 20, 24, 28);
    const __m256i sign = _mm256_set1_epi32(int(0x80000000));
    for (int i = 0; i < 2; i++) {
        int32_t word;
        memcpy(&word, codes + 4 * i, sizeof word);
        const __m256i code = _mm256_srlv_epi32(_mm256_set1_epi32(word), shifts);
        const __m256i signs = _mm256_and_si256(_mm256_slli_epi32(code, 28), sign);
        const __m256 value = _mm256_permutevar8x32_ps(magnitudes, code); // by the low three bits
        lanes.part[i] = _mm256_mul_ps(_mm256_xor_ps(value, _mm256_castsi256_ps(signs)), _mm256_set1_ps(scale));
    }
#else
    static const float values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                     -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
    for (int i = 0; i < 16; i++) lanes.part[i] = values[i % 2 ? codes[i / 2] >> 4 : codes[i / 2] & 15] * scale;
#endif
}

struct Nvfp4Weight {
    const uint8_t *codes, *scales;
    const float * scale_values;
    int64_t blocks; // of a row
    int64_t ahead = bytes_ahead(blocks * 8);
    void load_block(int64_t row, int64_t block, Lanes & lanes) const {
        const int64_t at = row * blocks + block;
        __builtin_prefetch(codes + at * 8 + ahead);
        load_codes(codes + at * 8, scale_values[scales[at]], lanes);
    }
    float value(int64_t, int64_t) const { return 0; } // there are no columns beyond the last block
};

// Rows [row, row + rows) of the weight with `count` rows of x: their sums stay in registers.
template <int rows, int count, class Weight>
inline void few_rows_panel(const FewRows & p, int64_t row, const Weight & weight) {
    Lanes sums[rows][count] = {};
    const int64_t blocks = p.k / 16;
    for (int64_t block = 0; block < blocks; block++) {
        Lanes x[count];
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) load(p.x[i] + block * 16, x[i]);
#pragma GCC unroll 4
        for (int r = 0; r < rows; r++) {
            Lanes values;
            weight.load_block(row + r, block, values);
#pragma GCC unroll 4
            for (int i = 0; i < count; i++) fma_lanes(x[i], values, sums[r][i]);
        }
    }
#pragma GCC unroll 4
    for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
        for (int i = 0; i < count; i++) {
            float lanes[16];
            store(sums[r][i], lanes);
            for (int64_t c = blocks * 16; c < p.k; c++)
                lanes[c % 16] = fma32(p.x[i][c], weight.value(row + r, c), lanes[c % 16]);
            p.y[i][row + r] = sum_of_16(lanes);
        }
    }
}

template <int count, class Weight>
inline void few_rows_of_weight(const FewRows & p, const Weight & weight) {
    constexpr int panel = count == 1 ? 4 : 2; // rows of the weight at a time, to hide the latency of a multiply-add
    int64_t row = 0;
    for (; row + panel <= p.rows; row += panel) few_rows_panel<panel, count>(p, row, weight);
    for (; row < p.rows; row++) few_rows_panel<1, count>(p, row, weight);
}

template <class Weight>
inline void few_rows(const FewRows & p, const Weight & weight) {
    switch (p.count) {
    case 1: return few_rows_of_weight<1>(p, weight);
    case 2: return few_rows_of_weight<2>(p, weight);
    case 3: return few_rows_of_weight<3>(p, weight);
    default: return few_rows_of_weight<few_rows_most>(p, weight);
    }
}

void few_rows_f32(const FewRows & p, const float * weight) { few_rows(p, F32Weight{weight, p.k}); }
void few_rows_bf16(const FewRows & p, const uint16_t * weight) { few_rows(p, Bf16Weight{weight, p.k}); }
void few_rows_nvfp4(const FewRows & p, const uint8_t * codes, const uint8_t * scales, const float * scale_values) {
    few_rows(p, Nvfp4Weight{codes, scales, scale_values, p.k / 16});
}

constexpr FewRowsLoops few_rows_loops = {few_rows_f32, few_rows_bf16, few_rows_nvfp4};

} // namespace

} // namespace gnv::cpu::GNV_LOOPS_VARIANT
