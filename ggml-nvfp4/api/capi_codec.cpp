#include "api/arguments.h"
#include "codec/format.h"
#include "codec/nvfp4_pack.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using namespace gnv;

static constexpr int64_t elements_per_task = 1 << 16; // small enough for a core's own cache

static int64_t tasks_for(int64_t count, int64_t per_task) { return count / per_task + (count % per_task != 0); }

static int64_t rows_per_task(int64_t columns) { return std::max<int64_t>(1, elements_per_task / columns); }

static Result<DType> source_dtype(gnv_dtype dtype) {
    static constexpr DType dtypes[] = {DType::bf16, DType::f16, DType::f32};
    GNV_TRY(api::check_number(dtype, GNV_DTYPE_F32, "gnv_dtype"));
    return dtypes[dtype];
}

static int64_t element_bytes(DType dtype) { return dtype_traits(dtype).bits / 8; }

// The limit of an array of the largest element type.
static bool shape_makes_sense(int64_t rows, int64_t columns) {
    constexpr auto most = int64_t(api::most_bytes / sizeof(float));
    return rows >= 0 && columns >= 0 && columns % nvfp4::block_size == 0 && (columns == 0 || rows <= most / columns);
}

static Status check_weight(int64_t rows, int64_t columns, float global_scale) {
    if (!shape_makes_sense(rows, columns))
        return fail(Code::invalid_argument, "a weight [", rows, ", ", columns, "]: the columns must be divisible by ",
                    nvfp4::block_size, " and the whole must fit into memory");
    if (!(std::isfinite(global_scale) && global_scale > 0.0f))
        return fail(Code::invalid_argument, "global scale ", double(global_scale),
                    " is not a finite number above zero");
    return {};
}

// Rows [first, first + rows) of a weight with these codes and scales.
template <class Byte>
static nvfp4::BasicWeight<Byte> rows_of(Byte * codes, Byte * scales, int64_t first, int64_t rows, int64_t columns,
                                        float global_scale) {
    constexpr auto layout = nvfp4::Layout::row_major;
    const size_t code_count = nvfp4::code_bytes(layout, rows, columns);
    const size_t scale_count = nvfp4::scale_bytes(layout, rows, columns);
    return {rows,
            columns,
            layout,
            {codes + nvfp4::code_bytes(layout, first, columns), code_count},
            {scales + nvfp4::scale_bytes(layout, first, columns), scale_count},
            global_scale};
}

static Status check_arrays(int64_t elements, std::initializer_list<const void *> pointers) {
    if (elements > 0 && std::find(pointers.begin(), pointers.end(), nullptr) != pointers.end())
        return Status(Code::invalid_argument, "an array is NULL");
    return {};
}

// The position of the first NaN or Inf, which must exist.
static int64_t find_not_finite(InstructionSet set, DType dtype, const char * weights, int64_t count) {
    for (int64_t i = 0; i < count; i++) {
        bool finite = false;
        absolute_maximum(set, dtype, weights + i * element_bytes(dtype), 1, finite);
        if (!finite) return i;
    }
    return count;
}

uint64_t gnv_nvfp4_code_bytes(int64_t rows, int64_t columns) {
    if (!shape_makes_sense(rows, columns)) return 0;
    return nvfp4::code_bytes(nvfp4::Layout::row_major, rows, columns);
}

uint64_t gnv_nvfp4_scale_bytes(int64_t rows, int64_t columns) {
    if (!shape_makes_sense(rows, columns)) return 0;
    return nvfp4::scale_bytes(nvfp4::Layout::row_major, rows, columns);
}

gnv_status gnv_nvfp4_absolute_maximum(gnv_engine_t * engine, gnv_dtype given, const void * weights, int64_t count,
                                      float * amax) {
    return api::run(engine, [&]() -> Status {
        const InstructionSet set = engine->threads->instructions();
        GNV_TRY(api::check_pointers({amax}, "gnv_nvfp4_absolute_maximum"));
        GNV_ASSIGN(const DType dtype, source_dtype(given));
        if (!shape_makes_sense(count, nvfp4::block_size)) return fail(Code::invalid_argument, count, " elements");
        GNV_TRY(check_arrays(count, {weights}));
        std::vector<float> largest(size_t(engine->threads->size()), 0.0f);
        const int64_t tasks = tasks_for(count, elements_per_task);
        GNV_TRY(engine->threads->parallel_for_thread(tasks, [&](int64_t task, int thread) -> Status {
            const int64_t first = task * elements_per_task, n = std::min(elements_per_task, count - first);
            const char * part = static_cast<const char *>(weights) + first * element_bytes(dtype);
            bool finite = false;
            const float part_amax = absolute_maximum(set, dtype, part, n, finite);
            if (!finite)
                return fail(Code::bad_value, "element ", first + find_not_finite(set, dtype, part, n),
                            " is NaN or Inf");
            largest[size_t(thread)] = std::max(largest[size_t(thread)], part_amax);
            return {};
        }));
        *amax = *std::max_element(largest.begin(), largest.end());
        return {};
    });
}

gnv_status gnv_nvfp4_global_scale(gnv_engine_t * engine, gnv_dtype given, float amax, float * global_scale) {
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({global_scale}, "gnv_nvfp4_global_scale"));
        GNV_ASSIGN(const DType dtype, source_dtype(given));
        if (!std::isfinite(amax)) return Status(Code::bad_value, "the largest magnitude is NaN or Inf");
        if (amax < 0.0f) return fail(Code::invalid_argument, "the largest magnitude ", double(amax), " is negative");
        *global_scale = nvfp4::global_scale(dtype, amax);
        return {};
    });
}

gnv_status gnv_nvfp4_quantize_rows(gnv_engine_t * engine, gnv_dtype given, const void * weights, int64_t rows,
                                   int64_t columns, float global_scale, uint8_t * codes, uint8_t * scales) {
    return api::run(engine, [&]() -> Status {
        const InstructionSet set = engine->threads->instructions();
        GNV_ASSIGN(const DType dtype, source_dtype(given));
        GNV_TRY(check_weight(rows, columns, global_scale));
        GNV_TRY(check_arrays(rows * columns, {weights, codes, scales}));
        if (columns == 0) return {};
        const int64_t step = rows_per_task(columns);
        return engine->threads->parallel_for(tasks_for(rows, step), [&](int64_t task) -> Status {
            const int64_t first = task * step, n = std::min(step, rows - first);
            const char * part = static_cast<const char *>(weights) + first * columns * element_bytes(dtype);
            bool finite = false;
            absolute_maximum(set, dtype, part, n * columns, finite);
            if (!finite) {
                const int64_t bad = find_not_finite(set, dtype, part, n * columns);
                return fail(Code::bad_value, "the weight is NaN or Inf in row ", first + bad / columns, ", column ",
                            bad % columns);
            }
            const auto out = rows_of(codes, scales, first, n, columns, global_scale);
            nvfp4::quantize(set, dtype, part, out);
            return {};
        });
    });
}

gnv_status gnv_nvfp4_dequantize_rows(gnv_engine_t * engine, const uint8_t * codes, const uint8_t * scales, int64_t rows,
                                     int64_t columns, float global_scale, float * values) {
    return api::run(engine, [&]() -> Status {
        const InstructionSet set = engine->threads->instructions();
        GNV_TRY(check_weight(rows, columns, global_scale));
        GNV_TRY(check_arrays(rows * columns, {codes, scales, values}));
        if (columns == 0) return {};
        const int64_t step = rows_per_task(columns), blocks = columns / nvfp4::block_size;
        return engine->threads->parallel_for(tasks_for(rows, step), [&](int64_t task) -> Status {
            const int64_t first = task * step, n = std::min(step, rows - first);
            const auto part = rows_of(codes, scales, first, n, columns, global_scale);
            const auto bad = std::find_if(part.scales.begin(), part.scales.end(),
                                          [](uint8_t scale) { return (scale & 0x7f) == 0x7f; });
            if (bad != part.scales.end()) {
                const int64_t block = bad - part.scales.begin();
                return fail(Code::bad_value, "the scale is NaN in row ", first + block / blocks, ", block ",
                            block % blocks);
            }
            nvfp4::dequantize(set, part, values + first * columns);
            return {};
        });
    });
}
