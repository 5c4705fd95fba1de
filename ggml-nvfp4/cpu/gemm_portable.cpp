#include "cpu/gemm_kernels.h"

#include "codec/nvfp4_variants.h"
#include "cpu/compact_bf16_loops.h"
#include "cpu/gemm_loops.h"

namespace gnv::cpu {

namespace {

constexpr int panel_rows = 4, panel_columns = 16;

// panel[k, row] = value(row, k) for rows < count, zeros for the others
template <class Value>
void pack(int rows, int64_t k, float * panel, const Value & value) {
    for (int64_t i = 0; i < k; i++)
        for (int row = 0; row < panel_columns; row++)
            panel[i * panel_columns + row] = row < rows ? value(row, i) : 0.0f;
}

void pack_bf16(const uint16_t * weight, int64_t stride, int rows, int64_t k, float * panel) {
    pack(rows, k, panel, [=](int row, int64_t i) {
        uint16_t bits; // a tensor in a file need not be aligned
        memcpy(&bits, reinterpret_cast<const uint8_t *>(weight) + (row * stride + i) * 2, sizeof bits);
        return float_of_bits(uint32_t(bits) << 16);
    });
}

void pack_f32(const float * weight, int64_t stride, int rows, int64_t k, float * panel) {
    pack(rows, k, panel, [=](int row, int64_t i) {
        float value;
        memcpy(&value, reinterpret_cast<const uint8_t *>(weight) + (row * stride + i) * 4, sizeof value);
        return value;
    });
}

void pack_nvfp4(const Nvfp4Rows & weight, int rows, int64_t k, float * panel) {
    static constexpr float values[16] = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                         -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
    for (int64_t block = 0; block < k / 16; block++) {
        float scales[panel_columns] = {};
        for (int row = 0; row < rows; row++)
            scales[row] = nvfp4::e4m3_values.of[weight.scales[row * weight.scale_stride + block]];
        pack(rows, 16, panel + block * 16 * panel_columns, [&](int row, int64_t i) {
            const uint8_t byte = weight.codes[row * weight.code_stride + block * 8 + i / 2];
            return values[i % 2 ? byte >> 4 : byte & 15] * scales[row];
        });
    }
}

void pack_rows(const float * const * rows, int count, int64_t k, float * panel) {
    for (int64_t i = 0; i < k; i++)
        for (int row = 0; row < count; row++) panel[i * count + row] = rows[row][i];
}

template <int rows>
void multiply_panel(const float * a, int64_t a_stride, const float * b, int64_t k, bool first, float * c,
                    int64_t c_stride) {
    float sum[rows][panel_columns];
    for (int row = 0; row < rows; row++)
        for (int j = 0; j < panel_columns; j++) sum[row][j] = first ? 0.0f : c[row * c_stride + j];
    for (int64_t i = 0; i < k; i++, a += a_stride, b += panel_columns)
        for (int row = 0; row < rows; row++)
            for (int j = 0; j < panel_columns; j++) sum[row][j] = __builtin_fmaf(a[row], b[j], sum[row][j]);
    for (int row = 0; row < rows; row++)
        for (int j = 0; j < panel_columns; j++) c[row * c_stride + j] = sum[row][j];
}

void multiply(const float * a, int64_t a_stride, int rows, const float * b, int64_t panel_stride, int64_t panels,
              int64_t k, bool first, float * c, int64_t c_stride) {
    static constexpr decltype(&multiply_panel<1>) by_rows[] = {multiply_panel<1>, multiply_panel<2>, multiply_panel<3>,
                                                               multiply_panel<4>};
    for (int64_t panel = 0; panel < panels; panel++)
        by_rows[rows - 1](a, a_stride, b + panel * panel_stride, k, first, c + panel * panel_columns, c_stride);
}

void multiply_direct(const float * const * a, int rows, const float * b, int64_t k, bool first, float * c,
                     int64_t c_stride) {
    for (int row = 0; row < rows; row++) multiply_panel<1>(a[row], 1, b, k, first, c + row * c_stride, c_stride);
}

} // namespace

const GemmKernels gemm_portable = {"portable",      panel_rows,  panel_columns,     pack_bf16, pack_f32,
                                   pack_nvfp4,      pack_rows,   quantize_row_loop, multiply,  panel_rows,
                                   multiply_direct, finish_loop, unpack_compact};

} // namespace gnv::cpu
