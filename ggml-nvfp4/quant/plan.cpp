#include "quant/plan.h"

#include "core/sha256.h"
#include "model/fingerprint.h"
#include "model/matched_checkpoint.h"
#include "quant/plan_files.h"

#include <algorithm>
#include <limits>
#include <optional>

namespace gnv {

// The largest piece of source rows that is packed and written at once: the piece and its codes stay in a core's cache.
static constexpr uint64_t pack_piece_bytes = 2 << 20;
// The smallest source buffer with which a thread works well.
static constexpr uint64_t smallest_source_buffer = 1 << 20;

uint64_t Plan::source_bytes_read() const {
    uint64_t sum = 0;
    for (const PlanUnit & unit : units) sum += unit.source_bytes * (unit.read_twice ? 2 : 1);
    return sum;
}

uint64_t Plan::disk_bytes() const {
    uint64_t sum = output.file_bytes() + config_text.size();
    for (const PlanFile & file : files) sum += file.bytes;
    return sum;
}

bool Plan::takes_input_scales() const {
    return std::any_of(modules.begin(), modules.end(),
                       [&](const PlanModule & module) { return format(module).takes_input_scale(); });
}

uint64_t Plan::row_bytes(const LinearModule & linear) const {
    return uint64_t(linear.columns) * uint64_t(dtype_traits(source_of(linear).dtype).bits) / 8;
}

int64_t Plan::rows_that_fit(const LinearModule & linear) const {
    return std::max<int64_t>(1, int64_t(memory.source_buffer / std::max<uint64_t>(1, row_bytes(linear))));
}

Budget Plan::memory_left() const {
    if (options.ram_bytes == 0) return Budget::of_host(0);
    Budget budget(options.ram_bytes);
    budget.reserve_share("buffers", memory.total(), memory.smallest, options.buffer_share);
    return budget.rest();
}

// --- Output tensors ---------------------------------------------------------------------------------------------------------

// Tensors of no layer are copied or packed beside the layers, which come in their order; the scales of all inputs are known
// after the last.
static int32_t turn_of(Part part, int32_t layer) { return part == Part::text ? layer + 1 : 0; }

static void add_output(Plan & plan, std::vector<OutputTensor> & outputs, const PlanTensor & what, int32_t turn,
                       std::string name, DType dtype, std::vector<int64_t> shape) {
    OutputTensor output;
    output.name = std::move(name);
    output.dtype = dtype;
    output.turn = turn;
    output.bytes = uint64_t(dtype_traits(dtype).bits) / 8;
    for (const int64_t extent : shape) output.bytes *= uint64_t(extent);
    output.shape = std::move(shape);
    outputs.push_back(std::move(output));
    plan.tensors.push_back(what);
}

static Status add_module(Plan & plan, std::vector<OutputTensor> & outputs, uint32_t module_number) {
    const LinearModule & linear = plan.layout.modules[module_number];
    const DType source = plan.source_of(linear).dtype;
    if (!is_float(source))
        return fail(Code::unsupported, plan.checkpoint.describe(plan.source_of(linear)), " is ", dtype_name(source),
                    "; only BF16, F16 and F32 weights can be quantized");
    plan.modules.push_back({module_number, uint32_t(outputs.size()), source});
    const Format & format = plan.format(plan.modules.back());
    for (size_t c = 0; c < format.components.size(); c++) {
        const FormatComponent & component = format.components[c];
        const bool is_of_input = component.scope == FormatComponent::Scope::input;
        add_output(plan, outputs, {int32_t(c), linear.source, module_number},
                   is_of_input ? OutputTensor::last_turn : turn_of(linear.part, linear.layer),
                   linear.name + component.suffix, component.dtype, component.shape(linear.rows, linear.columns));
    }
    return {};
}

static Status plan_outputs(Plan & plan) {
    const std::vector<TensorInfo> & sources = plan.checkpoint.tensors();
    std::vector<std::vector<uint32_t>> modules_in(sources.size());
    for (uint32_t m = 0; m < plan.layout.modules.size(); m++)
        if (plan.selection.format[m]) modules_in[plan.layout.modules[m].source].push_back(m);

    std::vector<OutputTensor> outputs;
    for (const ModelTensor & tensor : plan.layout.tensors) {
        const TensorInfo & source = sources[tensor.source];
        std::vector<uint32_t> & modules = modules_in[tensor.source];
        if (modules.empty()) {
            add_output(plan, outputs, {-1, tensor.source, 0}, turn_of(tensor.part, tensor.layer), source.name,
                       source.dtype, source.shape);
            GNV_CHECK(outputs.back().bytes == source.bytes);
            continue;
        }
        std::sort(modules.begin(), modules.end(), [&](uint32_t a, uint32_t b) {
            return plan.layout.modules[a].offset < plan.layout.modules[b].offset;
        });
        uint64_t covered = 0; // a tensor that is quantized in part would lose the rest
        for (const uint32_t m : modules) {
            const LinearModule & linear = plan.layout.modules[m];
            GNV_CHECK(linear.offset == covered);
            covered += plan.weight_bytes(linear);
            GNV_TRY(add_module(plan, outputs, m));
        }
        GNV_CHECK(covered == source.bytes);
    }
    plan.output = lay_out(std::move(outputs), plan.options.shard_bytes);
    return {};
}

// --- Work -----------------------------------------------------------------------------------------------------------------

static Status plan_memory(Plan & plan) {
    uint64_t largest_group = 0, widest_row = smallest_source_buffer;
    for (const PlanUnit & unit : plan.units)
        if (unit.quantize) largest_group = std::max(largest_group, unit.source_bytes);
    for (const PlanModule & module : plan.modules)
        widest_row = std::max(widest_row, plan.row_bytes(plan.linear(module)));
    // The output of one piece, whose elements have 16 bits or more.
    const uint64_t piece = std::max(pack_piece_bytes, widest_row);
    for (const Format * const format : plan.selection.formats(plan.options.recipe.scheme))
        plan.memory.output_buffer =
            std::max(plan.memory.output_buffer, format->packed_bytes(1, int64_t(piece / 2)) + 64);
    const uint64_t smallest = plan.memory.smallest = widest_row + plan.memory.output_buffer;
    uint64_t budget = plan.options.ram_bytes > 0 ? plan.options.ram_bytes : default_ram_bytes;
    const uint64_t part = plan.options.buffer_share;
    if (budget < smallest && part == 1) // else the forward pass reports the sum of both
        return Status(Code::out_of_memory, Budget(budget).refusal("", smallest));
    if (part > 1) budget = std::max(smallest, std::min(default_ram_bytes, budget / part));
    plan.memory.workers = int(std::min<uint64_t>(uint64_t(plan.options.threads), budget / smallest));
    const uint64_t share = budget / uint64_t(plan.memory.workers) - plan.memory.output_buffer;
    plan.memory.source_buffer = std::min(share, std::max(largest_group, pack_piece_bytes));
    for (PlanUnit & unit : plan.units) unit.read_twice = unit.quantize && unit.source_bytes > plan.memory.source_buffer;
    return {};
}

// The dtype that config.json gives the text model.
static std::optional<DType> config_dtype(const JsonValue & config) {
    static constexpr std::pair<const char *, DType> names[] = {{"bfloat16", DType::bf16}, {"float16", DType::f16}};
    JsonValue text, value;
    const JsonValue objects[] = {config.find("text_config", text) ? text : config, config};
    for (const JsonValue & object : objects)
        for (const char * const key : {"dtype", "torch_dtype"})
            if (object.find(key, value) && value.is_string())
                for (const auto & [name, dtype] : names)
                    if (value.text() == concat("\"", name, "\"")) return dtype;
    return std::nullopt;
}

// Gives all modules of a unit the dtype of config.json, if each has it or is F32.
static bool round_to_config(Plan & plan, const PlanUnit & unit, const JsonValue & config) {
    const std::optional<DType> dtype = config_dtype(config);
    std::vector<std::string> rounded;
    for (uint32_t m = unit.first; m < unit.first + unit.count; m++) {
        const TensorInfo & source = plan.source_of(plan.linear(plan.modules[m]));
        if (!dtype || (source.dtype != *dtype && source.dtype != DType::f32)) return false;
        if (source.dtype != *dtype) rounded.push_back(printable(source.name));
    }
    for (uint32_t m = unit.first; m < unit.first + unit.count; m++) plan.modules[m].dtype = *dtype;
    for (const std::string & name : rounded)
        plan.notes.push_back(concat(name, " is F32 and shares a global scale with weights in ", dtype_name(*dtype),
                                    ", which config.json names: it is rounded to that first, as llm-compressor does"));
    return true;
}

static Status plan_units(Plan & plan, const JsonValue & config) {
    const std::vector<TensorInfo> & sources = plan.checkpoint.tensors();
    // Modules that share a global scale become neighbours; otherwise the order is that of the source.
    std::vector<int64_t> first_of_group; // fused_group -> first position in plan.modules
    std::vector<uint32_t> leader(plan.modules.size());
    for (uint32_t i = 0; i < plan.modules.size(); i++) {
        const int32_t group = plan.linear(plan.modules[i]).fused_group;
        if (group >= int32_t(first_of_group.size())) first_of_group.resize(size_t(group) + 1, -1);
        leader[i] = i;
        if (group < 0) continue;
        if (first_of_group[size_t(group)] < 0) first_of_group[size_t(group)] = i;
        leader[i] = uint32_t(first_of_group[size_t(group)]);
    }
    std::vector<uint32_t> order(plan.modules.size());
    for (uint32_t i = 0; i < order.size(); i++) order[i] = i;
    std::stable_sort(order.begin(), order.end(), [&](uint32_t a, uint32_t b) { return leader[a] < leader[b]; });
    std::vector<PlanModule> modules;
    for (size_t i = 0; i < order.size(); i++) {
        const PlanModule & module = plan.modules[order[i]];
        if (i == 0 || leader[order[i]] != leader[order[i - 1]])
            plan.units.push_back({true, uint32_t(modules.size()), 0, 0, false});
        plan.units.back().count++;
        plan.units.back().source_bytes += plan.weight_bytes(plan.linear(module));
        modules.push_back(module);
    }
    plan.modules = std::move(modules);
    for (const PlanUnit & unit : plan.units) { // one global scale has one arithmetic
        const TensorInfo & first = plan.source_of(plan.linear(plan.modules[unit.first]));
        for (uint32_t m = unit.first + 1; m < unit.first + unit.count; m++) {
            const TensorInfo & other = plan.source_of(plan.linear(plan.modules[m]));
            if (other.dtype == first.dtype) continue;
            if (round_to_config(plan, unit, config)) break;
            return fail(Code::unsupported, plan.checkpoint.describe(first), " is ", dtype_name(first.dtype), ", but ",
                        plan.checkpoint.describe(other), ", which shares its global scale, is ",
                        dtype_name(other.dtype));
        }
    }
    for (uint32_t i = 0; i < plan.tensors.size(); i++)
        if (plan.tensors[i].component < 0)
            plan.units.push_back({false, i, 1, sources[plan.tensors[i].source].bytes, false});

    const auto position = [&](const PlanUnit & unit) {
        if (!unit.quantize) return std::pair(plan.tensors[unit.first].source, uint64_t(0));
        const LinearModule & linear = plan.linear(plan.modules[unit.first]);
        return std::pair(linear.source, linear.offset);
    };
    std::stable_sort(plan.units.begin(), plan.units.end(),
                     [&](const PlanUnit & a, const PlanUnit & b) { return position(a) < position(b); });
    return plan_memory(plan);
}

// --- Files and folders ------------------------------------------------------------------------------------------------------

std::vector<std::string> Plan::source_files() const {
    std::vector<std::string> paths;
    const auto add = [&](const std::string & name) { paths.push_back(join_path(checkpoint.folder(), name)); };
    add("config.json");
    if (checkpoint.has_index()) add(index_file_name);
    for (const Shard & shard : checkpoint.shards()) add(shard.file_name);
    for (const PlanFile & file : files) add(file.name);
    return paths;
}

Destination Plan::destination(const std::string & folder, bool overwrite) const {
    Destination to;
    to.folder = folder;
    to.overwrite = overwrite;
    to.source = checkpoint.folder();
    to.reads = source_files();
    if (!options.recipe.file.empty()) to.reads.push_back(options.recipe.file);
    for (const PlanFile & file : files) to.files.push_back(file.name);
    return to;
}

static void check_destination_now(Plan & plan) {
    if (plan.options.destination.empty()) return;
    Destination to = plan.destination(plan.options.destination, plan.options.overwrite);
    to.resumes = plan.options.resumes;
    const Result<bool> goes_on = check_destination(to);
    if (!goes_on.ok()) {
        plan.warnings.push_back(goes_on.status().message());
        return;
    }
    if (goes_on.value()) {
        plan.notes.push_back(concat(plan.options.destination,
                                    ".partial is unfinished: a run with the same source, plan "
                                    "and data goes on with it"));
        return;
    }
    const Result<uint64_t> available = free_disk_bytes(parent_path(plan.options.destination));
    if (available.ok() && available.value() < plan.disk_bytes())
        plan.warnings.push_back(concat("the result needs ", bytes_text(plan.disk_bytes()), " at ",
                                       plan.options.destination, ", where ", bytes_text(available.value()),
                                       " are free"));
}

// --- Fingerprints -----------------------------------------------------------------------------------------------------------

static Status fingerprint(Plan & plan) {
    GNV_ASSIGN(plan.source_fingerprint, shard_fingerprint(plan.checkpoint));
    Sha256 hash;
    for (size_t i = 0; i < plan.output.tensors.size(); i++) {
        const OutputTensor & tensor = plan.output.tensors[i];
        hash.update(concat(tensor.name, " ", dtype_name(tensor.dtype), " ", shape_text(tensor.shape), " ", tensor.shard,
                           " ", tensor.offset, " ", plan.tensors[i].component + 1, "\n"));
    }
    hash.update(plan.config_text);
    hash.update(concat(plan.quantizer().name(), " ", double(plan.options.recipe.headroom)));
    plan.plan_fingerprint = hash.finish();
    return {};
}

// Files that the result needs and that the source, which they are copied from, does not have.
static void add_missing_files(Plan & plan) {
    const auto has = [&](const char * name) {
        return std::any_of(plan.files.begin(), plan.files.end(),
                           [&](const PlanFile & file) { return file.name == name; });
    };
    if (plan.layout.has_vision && !has("preprocessor_config.json") && !has("processor_config.json"))
        plan.warnings.push_back("the source has a vision tower, but neither preprocessor_config.json nor "
                                "processor_config.json: vLLM does not start "
                                "such a checkpoint (docs/engines.md)");
    std::string missing;
    if (!has("tokenizer.json") && !(has("vocab.json") && has("merges.txt"))) missing = "tokenizer.json";
    if (!has("tokenizer_config.json")) missing += concat(missing.empty() ? "" : " and ", "tokenizer_config.json");
    if (!missing.empty())
        plan.warnings.push_back(concat("the source lacks ", missing,
                                       ": engines cannot build the result's tokenizer; put ",
                                       "it into the source, from the model that it was made of"));
}

Result<Plan> make_plan(const std::string & source, const PlanOptions & options) {
    GNV_ASSIGN(std::shared_ptr<const Folder> folder, open_folder(source));
    return make_plan(std::move(folder), options);
}

Result<Plan> make_plan(std::shared_ptr<const Folder> folder, const PlanOptions & options) {
    const std::string source = folder->path();
    if (options.shard_bytes < 1'000'000)
        return fail(Code::invalid_argument, "a shard size of ", options.shard_bytes,
                    " bytes is too small; at least 1 MB");
    GNV_ASSIGN(MatchedCheckpoint matched, open_matched(std::move(folder)));
    Checkpoint & checkpoint = matched.checkpoint;
    const JsonDocument & config = matched.config;
    ModelLayout & layout = matched.layout;
    GNV_ASSIGN(const std::unique_ptr<FolderFile> config_file, checkpoint.files().open("config.json"));
    GNV_ASSIGN(const FileStamp config_stamp, config_file->stamp());
    GNV_ASSIGN(Recipe recipe, Recipe::create(options.recipe));
    GNV_ASSIGN(Selection selection, recipe.select(layout));

    Plan plan{.checkpoint = std::move(checkpoint),
              .layout = std::move(layout),
              .recipe = std::move(recipe),
              .selection = std::move(selection),
              .options = options};
    for (const MissingPart & missing : plan.layout.missing)
        plan.warnings.push_back(
            concat("config.json announces a ", missing.what, ", but no tensor starts with ", missing.prefix));
    plan.notes = plan.selection.notes;
    plan.notes.insert(plan.notes.end(), plan.layout.notes.begin(), plan.layout.notes.end());
    for (std::string & note : plan.checkpoint.notes()) plan.notes.push_back(std::move(note));
    GNV_TRY(plan_outputs(plan));
    GNV_TRY(plan_units(plan, config.root()));
    plan.config_stamp = config_stamp;
    GNV_ASSIGN(OtherFiles other_files, find_other_files(source));
    plan.files = std::move(other_files.files);
    plan.notes.insert(plan.notes.end(), other_files.notes.begin(), other_files.notes.end());
    add_missing_files(plan);
    GNV_ASSIGN(plan.config_text, quantized_config(config.root(), plan.layout, plan.selection, options.recipe.scheme));
    GNV_TRY(fingerprint(plan));
    check_destination_now(plan);
    return plan;
}

} // namespace gnv
