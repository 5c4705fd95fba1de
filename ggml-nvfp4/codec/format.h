// The formats in which the weight of a Linear can be stored. A row of the table defines the tensors that a weight
// becomes, their description in config.json, and the packing and unpacking of rows. The rest of the library asks the
// table and knows no format by its tensors.
//
// A unit is the modules that share one scale (q, k and v; gate and up of an expert). The largest magnitude of all its
// weights gives the scale; the rows are then packed independently of each other.
#pragma once

#include "codec/block_search.h"
#include "core/dtype.h"
#include "core/instruction_set.h"

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

namespace gnv {

// One tensor of a stored weight [N, K].
struct FormatComponent {
    enum class Scope : uint8_t {
        rows,  // [N, K / columns]: row r belongs to row r of the weight
        unit,  // F32 [1]: the scale of the unit, the same in all its modules
        input, // F32 [1]: the scale of the module's inputs, from calibration
    };
    const char * suffix; // of the tensor's name, after the module's: ".weight_packed"
    const char * name;   // in JSON: "weight_global_scale"
    const char * title;  // for people: "global scale"
    DType dtype;
    Scope scope;
    int32_t columns = 1; // of the weight, for one element; Scope::rows only

    std::vector<int64_t> shape(int64_t rows, int64_t columns) const;
    uint64_t bytes(int64_t rows, int64_t columns) const; // of the tensor; with Scope::rows also of some of its rows
};

inline constexpr size_t most_components = 4;

// Rows of a weight in its source's precision: dense, row-major, at any address.
struct WeightRows {
    DType dtype = DType::bf16; // BF16, F16 or F32
    const void * data = nullptr;
    int64_t rows = 0, columns = 0;
};

// The same rows in a format: memory for each component of Scope::rows, null for the others.
struct PackedRows {
    int64_t rows = 0, columns = 0;
    std::array<uint8_t *, most_components> data = {};
};

// The distance of packed rows from their source.
struct ErrorFigures {
    uint64_t elements = 0;
    double weight_squares = 0, error_squares = 0; // sums over the elements
    double largest_error = 0;
    uint64_t saturated = 0; // elements beyond the largest value of their block

    double sqnr_db() const; // signal to quantization noise; infinite without an error
    void add(const ErrorFigures & other);
};

// An object of config.json's config_groups, as compressed-tensors spells it.
struct QuantizationArgs {
    int num_bits;
    const char *type, *strategy;
    int group_size;
    const char * scale_dtype;
    const char * dynamic; // "local"; null: false
    const char * observer;
};

struct Format {
    const char * name;        // "nvfp4": in options and JSON
    const char * title;       // "NVFP4": in messages
    const char * description; // "NVFP4 (W4A4)"
    const char * preset;      // of llm-compressor: "NVFP4"
    const char * codec;       // formats with the same codec have the same components except Scope::input
    int64_t block;            // K must be a multiple of it
    std::span<const FormatComponent> components; // Scope::input last
    DType graph_dtype;                           // of the weight in a graph

    const char * group_format; // of a group in config.json
    const QuantizationArgs * weights;
    const QuantizationArgs * inputs; // null: inputs stay as they are

    // The scale of a unit in the arithmetic of its source's dtype.
    float (*unit_scale)(DType source, float absolute_maximum);
    // The scale of inputs with this largest magnitude; false if the magnitude is too small for a scale.
    bool (*input_scale)(DType source, float absolute_maximum, float & scale);
    // Rounds to nearest. The source is finite, `scale` positive and finite.
    void (*pack)(InstructionSet set, const WeightRows & source, float scale, const PackedRows & out);
    void (*unpack)(InstructionSet set, const PackedRows & packed, float scale,
                   float * out); // rows x columns floats; reads `packed` only
    uint64_t (*count_saturated)(InstructionSet set, const WeightRows & source, float scale, const PackedRows & packed);

    // For quantizers that search scales of blocks; null where a format has none. `search` finds the best for a tile, `store` puts
    // its rows [0, rows) to [row, row + rows) and columns [column, column + block) of packed rows. The unit's scale is then
    // that of a maximum `search_room` times as large, so that there are larger scales for all blocks.
    void (*search)(InstructionSet set, BlockSearch & tile, float scale) = nullptr;
    void (*store)(const BlockSearch & tile, const PackedRows & out, int64_t row, int64_t rows,
                  int64_t column) = nullptr;
    float search_room = 1;
    // Codes and scales of packed rows to a tile: the opposite of `store`.
    void (*load)(BlockSearch & tile, const PackedRows & packed, int64_t row, int64_t rows, int64_t column) = nullptr;

    bool takes_input_scale() const { return input_component() >= 0; }
    int input_component() const; // its position, or -1
    int unit_component() const;  // the same
    // Bytes of the components of Scope::rows together.
    uint64_t packed_bytes(int64_t rows, int64_t columns) const;
};

namespace formats {
extern const Format nvfp4;    // W4A4
extern const Format nvfp4a16; // W4A16
} // namespace formats

// The table, in the order of gnv_scheme. Formats with one codec are neighbours; the format with an input scale is the
// first.
std::span<const Format * const> all_formats();

// Compares packed rows with their source, element by element.
ErrorFigures measure_errors(InstructionSet set, const Format & format, const WeightRows & source, float scale,
                            const PackedRows & packed);

// The largest magnitude of `count` elements of a BF16, F16 or F32 array, exact. A NaN or Inf makes `finite` false; the
// value is then meaningless. Vectorised for BF16.
float absolute_maximum(InstructionSet set, DType dtype, const void * weights, int64_t count, bool & finite);
// The same for BF16, as bits without sign; 0x7f80 or more: a NaN or Inf.
uint16_t absolute_maximum_bf16(InstructionSet set, const uint16_t * weights, int64_t count);

// The name of the quantizer that rounds to nearest, for which devices have kernels (Backend::quantizer).
inline constexpr const char * round_to_nearest_name = "rtn";

} // namespace gnv
