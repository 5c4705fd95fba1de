// The plan of a result: every tensor, every byte range to read and write, and memory, made from headers before any
// weight is read. The same plan is run, printed and fingerprinted.
#pragma once

#include "checkpoint/safetensors.h"
#include "core/budget.h"
#include "model/model_def.h"
#include "output/checkpoint_writer.h"
#include "quant/recipe.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gnv {

class JsonWriter;

// Files that a run writes beside the checkpoint; a source's own are not copied.
inline constexpr const char * quantization_report_name = "quantization_report.json";
inline constexpr const char * recipe_file_name = "recipe.yaml";
inline constexpr uint64_t default_shard_bytes = 5'000'000'000;
inline constexpr uint64_t default_ram_bytes = 256 << 20;
inline constexpr uint64_t calibrating_buffer_share = 4; // of a budget, to leave the rest for calibration

struct PlanOptions {
    RecipeOptions recipe;
    uint64_t shard_bytes = default_shard_bytes; // of tensor data
    // For the whole run. The buffers of all threads together take all of it, or 1 / buffer_share and at most the
    // default, but at least their minimum; a forward pass takes the rest. 0: the default, and most of the free memory.
    uint64_t ram_bytes = 0;
    uint64_t buffer_share = 1;
    int threads = 1;
    std::string destination;                 // optional: obstacles of the run become warnings of the plan
    bool overwrite = false, resumes = false; // see Destination
};

struct PlanTensor {         // beside OutputLayout::tensors, same order
    int32_t component = -1; // position in Format::components; -1: a copy
    uint32_t source = 0;    // position in Checkpoint::tensors()
    uint32_t module = 0;    // position in ModelLayout::modules, unless copied
};

// A module to quantize.
struct PlanModule {
    uint32_t module = 0;       // position in ModelLayout::modules
    uint32_t first_output = 0; // the first component of its format; the others follow
    // Whose arithmetic the weight is quantized in: the tensor's, or, where modules that share a scale have several, that of
    // config.json, to which wider ones are rounded as the reference does when it loads the model.
    DType dtype = DType::bf16;
};

// The unit of work: one preserved tensor, or the modules that share a scale, all in one format.
struct PlanUnit {
    bool quantize = false;
    uint32_t first = 0; // output tensor, or position in Plan::modules
    uint32_t count = 1;
    uint64_t source_bytes = 0;
    bool read_twice = false; // larger than a thread's buffer: once for the global scale, once to pack
};

// A file of the source that is not part of the safetensors set.
struct PlanFile {
    std::string name; // relative to the folder, "images/a.png"
    uint64_t bytes = 0;
    FileStamp stamp = {}; // at the time of the plan
};

struct PlanMemory {
    int workers = 1;            // threads that get buffers
    uint64_t source_buffer = 0; // bytes of each worker for source weights
    uint64_t output_buffer = 0; // bytes of each worker for packed rows
    uint64_t smallest = 0;      // smallest sufficient total
    uint64_t total() const { return uint64_t(workers) * (source_buffer + output_buffer); }
};

struct Plan {
    Checkpoint checkpoint;
    ModelLayout layout;
    Recipe recipe;
    Selection selection;
    PlanOptions options;

    OutputLayout output = {};
    std::vector<PlanTensor> tensors = {};
    std::vector<PlanModule> modules = {};
    std::vector<PlanUnit> units = {}; // in the order of the source
    std::vector<PlanFile> files = {}; // copied byte for byte
    PlanMemory memory = {};
    std::string config_text = {}; // config.json of the result
    std::vector<std::string> warnings = {};
    std::vector<std::string> notes = {}; // information
    std::string plan_fingerprint = {}, source_fingerprint = {};
    FileStamp config_stamp = {}; // of the source's config.json
    // The planned forward pass of calibration: a table, and a JSON object. It belongs to a run, not to its result.
    std::string calibration_text = {}, calibration_json = {};
    std::string estimate_text = {}, estimate_json = {}; // of its time, also a run's
    std::string stream_text = {}, stream_json = {};     // what it fetches of a streamed source

    // Every file of the source that the run reads.
    std::vector<std::string> source_files() const;
    // The destination of a run of this plan, with the inputs and outputs that the plan knows.
    Destination destination(const std::string & folder, bool overwrite) const;
    uint64_t source_bytes_read() const; // counts bytes that are read twice twice
    uint64_t disk_bytes() const;        // all files of the result
    bool takes_input_scales() const;    // of some module: calibration must measure them
    const LinearModule & linear(const PlanModule & module) const { return layout.modules[module.module]; }
    const Format & format(const PlanModule & module) const { return *selection.format[module.module]; }
    const Format & format(const PlanUnit & unit) const { return format(modules[unit.first]); } // of a quantized unit
    // The recipe's scheme; that of the draft head if nothing else is quantized.
    const Format & main_format() const { return *selection.formats(options.recipe.scheme).front(); }
    const Quantizer & quantizer() const { return *options.recipe.quantizer; } // of the text
    const Quantizer & quantizer(const LinearModule & linear) const { return recipe.quantizer_of(linear.part); }
    const Quantizer & quantizer(const PlanUnit & unit) const { return quantizer(linear(modules[unit.first])); }
    const TensorInfo & source_of(const PlanUnit & unit) const { return source_of(linear(modules[unit.first])); }

    // The weight of a Linear in the source: its tensor, and bytes of a row and of the whole.
    const TensorInfo & source_of(const LinearModule & linear) const { return checkpoint.tensors()[linear.source]; }
    uint64_t row_bytes(const LinearModule & linear) const;
    uint64_t weight_bytes(const LinearModule & linear) const { return uint64_t(linear.rows) * row_bytes(linear); }
    // Rows that fit into a worker's source buffer: at least 1.
    int64_t rows_that_fit(const LinearModule & linear) const;
    // The host memory that the buffers leave for a forward pass.
    Budget memory_left() const;
};

// Opens `source`, matches it against its config and plans. Reads headers and JSON files only.
Result<Plan> make_plan(const std::string & source, const PlanOptions & options);
Result<Plan> make_plan(std::shared_ptr<const Folder> source, const PlanOptions & options);

// For people: a summary by role, sizes, memory, files, warnings. For programs: every tensor with its byte ranges
// (docs/json.md).
std::string plan_text(const Plan & plan, size_t width = 0); // of a terminal: see format_table()
std::string plan_json(const Plan & plan);

// The value of "draft_head" in plans and reports: scheme, method and number of modules, or null where the head keeps its precision.
void write_draft_head(JsonWriter & json, const Plan & plan);

// The source's config.json, in its order of keys, with the "quantization_config" of the result in the reference's form.
Result<std::string> quantized_config(const JsonValue & source_config, const ModelLayout & layout,
                                     const Selection & selection, const Format * scheme);

} // namespace gnv
