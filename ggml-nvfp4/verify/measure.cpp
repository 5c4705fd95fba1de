#include "verify/measure.h"

#include "codec/nvfp4.h"
#include "core/sha256.h"
#include "model/weight_source.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <limits>
#include <mutex>

namespace gnv::verify {

static constexpr int64_t task_blocks = Recomputer::most_blocks; // 1 Mi elements
static constexpr uint64_t preserved_task_bytes = 4 << 20;       // a multiple of every element's size
// The data of one read stay in a core's cache until they are used.
static constexpr int64_t step_blocks = 1 << 13;       // 256 kB of BF16
static constexpr uint64_t preserved_step = 256 << 10; // bytes

void ScaleCensus::add(const ScaleCensus & other) {
    blocks += other.blocks;
    nan += other.nan, negative += other.negative, zero += other.zero;
    subnormal += other.subnormal, saturated += other.saturated;
    largest = std::max(largest, other.largest);
}

double ModuleValues::relative_error() const {
    if (comparison.error_squares == 0) return 0;
    const double ratio = comparison.error_squares / comparison.weight_squares;
    return std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio;
}

double ModuleValues::sqnr_db() const { return -10 * std::log10(relative_error()); }

double ModuleValues::cosine() const {
    const double norm = std::sqrt(comparison.weight_squares) * std::sqrt(comparison.value_squares);
    return norm > 0 ? comparison.products() / norm : comparison.error_squares == 0 ? 1 : 0;
}

static ScaleCensus take_census(const uint8_t * scales, int64_t blocks) {
    uint64_t histogram[256] = {};
    for (int64_t b = 0; b < blocks; b++) histogram[scales[b]]++;
    ScaleCensus census;
    census.blocks = uint64_t(blocks);
    for (int byte = 0; byte < 256; byte++) {
        const uint64_t count = histogram[byte];
        const int magnitude = byte & 0x7f;
        if (count == 0) continue;
        if (magnitude == 0x7f) {
            census.nan += count;
        } else if (magnitude == 0) {
            census.zero += count;
        } else if (byte & 0x80) {
            census.negative += count;
        } else {
            if (magnitude < 8) census.subnormal += count;
            if (magnitude == 0x7e) census.saturated += count;
            census.largest = std::max(census.largest, nvfp4::e4m3_value(uint8_t(byte)));
        }
    }
    return census;
}

namespace {

enum class Work : uint8_t {
    weight,    // a run of blocks of an NVFP4 module
    preserved, // a run of bytes of a tensor that the source has, too
    plain,     // the same without a source
    fp8,       // a run of rows of an FP8 module
};
struct Task {
    Work work = Work::weight;
    uint32_t number = 0;           // of the module, of the preserved tensor, or of the tensor
    uint64_t first = 0, count = 0; // blocks, bytes or rows
    bool last = true;              // of its tensor
    uint64_t order = 0;            // place of its first byte in the checkpoint, to read files in order
};

// Bytes of the source.
struct SourcePart {
    uint32_t tensor = 0;
    uint64_t offset = 0, bytes = 0; // in the tensor
};

// --- Elements ---------------------------------------------------------------------------------------------------------------

uint64_t element_bytes(DType dtype) { return uint64_t(dtype_traits(dtype).bits) / 8; }

// Norms whose weight w means a factor of 1 + w.
bool is_offset_norm(Role role) {
    return role == Role::input_norm || role == Role::post_attention_norm || role == Role::final_norm ||
           role == Role::attention_q_norm || role == Role::attention_k_norm;
}

bool same_number(float a, float b) { return a == b || (std::isnan(a) && std::isnan(b)); }

// The evidence of a tensor's elements for each possible kind.
struct Evidence {
    bool same = true; // byte for byte
    bool rounded = true, norm_trip = true;
    uint64_t differing = 0, first_differing = 0;

    void add(float ours, float theirs, DType our_dtype, bool offset_norm, uint64_t element) {
        if (same_number(ours, theirs)) return;
        if (differing++ == 0) first_differing = element;
        rounded = rounded && same_number(ours, nvfp4::round_to(our_dtype, theirs));
        const float base = nvfp4::round_to(our_dtype, theirs); // a model is loaded in the dtype of config.json
        const float one = nvfp4::round_to(our_dtype, 1.0f + base);
        norm_trip = norm_trip && offset_norm && ours == nvfp4::round_to(our_dtype, one - 1.0f);
    }
    void add(const Evidence & later) {
        same = same && later.same, rounded = rounded && later.rounded, norm_trip = norm_trip && later.norm_trip;
        if (differing == 0) first_differing = later.first_differing;
        differing += later.differing;
    }
};

// --- The work -----------------------------------------------------------------------------------------------------------------

struct TaskFigures {
    ScaleCensus scales;
    nvfp4::Comparison comparison;
    uint64_t recomputed_blocks = 0, recomputed_same = 0;
    Evidence evidence;
    NonFinite non_finite;
    Fp8Values fp8;
};

class Measurer {
  public:
    Measurer(const Subject & subject, const Source * source, const MeasureOptions & options)
        : subject_(subject), source_(source), options_(options) {}

    Result<Measurements> run(ThreadPool & threads);

  private:
    struct Buffers {
        std::vector<uint8_t> ours, theirs, scales;
        std::vector<uint8_t> stored_codes, stored_scales; // that a recomputer's are compared with
        int thread = 0;
    };
    Status open();
    Status read_global_scales();
    Status list_tasks();
    Status run_task(const Task & task, TaskFigures & figures, Buffers & buffers);
    Status measure_weight(const Task & task, TaskFigures & figures, Buffers & buffers);
    Status measure_step(uint32_t number, int64_t first_block, int64_t block_count, TaskFigures & figures,
                        Buffers & buffers);
    Status recompute(const Task & task, TaskFigures & figures, Buffers & buffers);
    bool can_compare(const PreservedTensor & preserved) const;
    Status compare_preserved(const Task & task, TaskFigures & figures, Buffers & buffers);
    void list_plain_tasks(const std::function<uint64_t(int64_t)> & order);
    Status list_fp8_tasks(const std::function<uint64_t(int64_t)> & order);
    Status scan_plain(const Task & task, TaskFigures & figures, Buffers & buffers);
    Status scan_fp8(const Task & task, TaskFigures & figures, Buffers & buffers);
    void judge_preserved(uint32_t number, const Evidence & evidence);
    Status read(int64_t tensor, void * out, uint64_t size, uint64_t offset) const {
        return WeightSource(*subject_.checkpoint, shards_).read(subject_.info(tensor), offset, out, size);
    }
    WeightSource theirs() const { return {source_->checkpoint, source_shards_}; }
    Status advance(uint64_t bytes, bool tensor_done);
    void merge(const std::vector<TaskFigures> & figures);
    bool can_recompute(const Module & module, const LinearModule * linear, float global_scale) const;
    std::optional<SourcePart> source_part(const Task & task) const;
    void expect_source();
    Status check_recomputed() const;
    bool is_chosen(Part part, int32_t layer) const {
        return !options_.only || (options_.only->part == part && options_.only->layer == layer);
    }
    const LinearModule * source_of(uint32_t module) const {
        if (!source_ || source_->modules[module] < 0) return nullptr;
        return &source_->layout.modules[size_t(source_->modules[module])];
    }

    const Subject & subject_;
    const Source * source_;
    const MeasureOptions & options_;
    InstructionSet instructions_ = InstructionSet::portable;
    FolderFiles shards_, source_shards_;
    std::vector<Task> tasks_;
    std::map<uint32_t, Fp8Scales> fp8_scales_; // by module
    Measurements out_;

    std::mutex progress_mutex_;
    MeasureProgress progress_;
};

Status Measurer::open() {
    GNV_ASSIGN(shards_, subject_.checkpoint->open_shards());
    if (source_) {
        GNV_ASSIGN(source_shards_, source_->checkpoint.open_shards());
    }
    return {};
}

Result<Measurements> Measurer::run(ThreadPool & threads) {
    instructions_ = threads.instructions();
    progress_.bytes = progress_.bytes_total = options_.bytes_before;
    GNV_TRY(open());
    out_.modules.resize(subject_.modules.size());
    if (source_) out_.preserved.resize(source_->preserved.size());
    GNV_TRY(read_global_scales());
    GNV_TRY(list_tasks());
    const FetchedFiles * const fetched = source_ ? source_->checkpoint.files().fetched() : nullptr;
    if (fetched) expect_source();
    std::vector<TaskFigures> figures(tasks_.size());
    std::vector<Buffers> buffers(size_t(threads.size()));
    Status status = threads.parallel_for_thread(int64_t(tasks_.size()), [&](int64_t i, int thread) {
        buffers[size_t(thread)].thread = thread;
        return run_task(tasks_[size_t(i)], figures[size_t(i)], buffers[size_t(thread)]);
    });
    if (fetched) fetched->expect({}); // also after a failure: the disk is free again
    if (fetched) out_.fetched = fetched->use();
    GNV_TRY(std::move(status));
    merge(figures);
    GNV_TRY(check_recomputed());
    GNV_TRY(subject_.checkpoint->check_unchanged(shards_));
    if (source_) GNV_TRY(source_->checkpoint.check_unchanged(source_shards_));
    progress_.tensors = progress_.tensors_total;
    GNV_TRY(advance(0, false));
    out_.bytes_read = progress_.bytes - options_.bytes_before;
    return std::move(out_);
}

Status Measurer::read_global_scales() {
    for (size_t i = 0; i < subject_.modules.size(); i++) {
        const Module & module = subject_.modules[i];
        ModuleValues & values = out_.modules[i];
        if (!is_chosen(module.part, module.layer)) continue;
        const int64_t input = module.tensor(Component::input_global_scale);
        values.measured = module.complete;
        values.has_input_scale = module.is_nvfp4() && input >= 0 && subject_.info(input).dtype == DType::f32 &&
                                 subject_.info(input).elements() == 1;
        if (values.measured)
            GNV_TRY(read(module.tensor(Component::weight_global_scale), &values.weight_global_scale, sizeof(float), 0));
        if (values.has_input_scale) GNV_TRY(read(input, &values.input_global_scale, sizeof(float), 0));
    }
    return {};
}

Status Measurer::list_tasks() {
    const std::function<uint64_t(int64_t)> order = [&](int64_t tensor) {
        const TensorInfo & info = subject_.info(tensor);
        return uint64_t(info.shard) << 48 | info.offset;
    };
    for (uint32_t m = 0; m < subject_.modules.size(); m++) {
        const Module & module = subject_.modules[m];
        if (!out_.modules[m].measured) continue;
        const int64_t blocks = module.rows * (module.columns / nvfp4::block_size);
        const uint64_t first = order(module.tensor(Component::codes));
        const LinearModule * linear = source_of(m);
        for (int64_t b = 0; b < blocks; b += task_blocks) {
            const int64_t count = std::min(task_blocks, blocks - b);
            tasks_.push_back(
                {Work::weight, m, uint64_t(b), uint64_t(count), b + count == blocks, first + uint64_t(b) * 8});
            progress_.bytes_total += uint64_t(count);
            if (linear) progress_.bytes_total += uint64_t(count) * 8 + uint64_t(count) * 16 * 2;
        }
    }
    for (uint32_t p = 0; p < out_.preserved.size(); p++) {
        const PreservedTensor & preserved = source_->preserved[p];
        if (!is_chosen(preserved.part, preserved.layer)) continue;
        out_.preserved[p].measured = true;
        const uint64_t bytes = subject_.info(preserved.tensor).bytes;
        // A checksum needs all bytes in their order.
        const uint64_t piece = options_.checksums ? std::max<uint64_t>(bytes, 1) : preserved_task_bytes;
        uint64_t at = 0;
        do {
            const uint64_t count = std::min(piece, bytes - at);
            tasks_.push_back({Work::preserved, p, at, count, at + count == bytes, order(preserved.tensor) + at});
            at += count;
        } while (at < bytes);
        progress_.bytes_total += bytes + preserved.bytes;
    }
    if (!source_) list_plain_tasks(order);
    GNV_TRY(list_fp8_tasks(order));
    progress_.tensors_total =
        uint64_t(std::count_if(tasks_.begin(), tasks_.end(), [](const Task & task) { return task.last; }));
    std::stable_sort(tasks_.begin(), tasks_.end(), [](const Task & a, const Task & b) { return a.order < b.order; });
    return {};
}

// Whether the source has the module, in the same shape.
static bool fits(const LinearModule * linear, const Module & module) {
    return linear && linear->rows == module.rows && linear->columns == module.columns;
}

// What a task reads of the source; nothing: it reads none.
std::optional<SourcePart> Measurer::source_part(const Task & task) const {
    if (!source_ || task.work == Work::plain) return {};
    if (task.work == Work::preserved) {
        const PreservedTensor & preserved = source_->preserved[task.number];
        const TensorInfo & ours = subject_.info(preserved.tensor);
        const DType theirs = source_->checkpoint.tensors()[preserved.source].dtype;
        if (!can_compare(preserved) && (ours.dtype != theirs || ours.bytes != preserved.bytes)) return {};
        const uint64_t our_size = element_bytes(ours.dtype), their_size = element_bytes(theirs);
        return SourcePart{preserved.source, preserved.offset + task.first / our_size * their_size,
                          task.count / our_size * their_size};
    }
    const Module & module = subject_.modules[task.number];
    const LinearModule * const linear = source_of(task.number);
    if (!fits(linear, module)) return {};
    const DType dtype = source_->checkpoint.tensors()[linear->source].dtype;
    const uint64_t elements = task.work == Work::weight ? nvfp4::block_size : uint64_t(module.columns);
    const uint64_t unit = elements * element_bytes(dtype); // a block, or a row
    return SourcePart{uint32_t(linear->source), linear->offset + task.first * unit, task.count * unit};
}

// Puts the tasks into the order of the source, whose files come one after another, each once, and says so.
void Measurer::expect_source() {
    const auto & tensors = source_->checkpoint.tensors();
    for (Task & task : tasks_) {
        const std::optional<SourcePart> part = source_part(task);
        const auto place = [&] { return uint64_t(tensors[part->tensor].shard) << 48 | tensors[part->tensor].offset; };
        task.order = part ? place() + part->offset : 0;
    }
    std::stable_sort(tasks_.begin(), tasks_.end(), [](const Task & a, const Task & b) { return a.order < b.order; });
    std::vector<FileRead> reads;
    for (const Task & task : tasks_) {
        const std::optional<SourcePart> part = source_part(task);
        if (!part) continue;
        const std::string & file = source_->checkpoint.shards()[tensors[part->tensor].shard].file_name;
        if (reads.empty() || reads.back().file != file) reads.push_back({file, 0});
        const bool twice = task.work == Work::weight && options_.recomputer &&
                           can_recompute(subject_.modules[task.number], source_of(task.number),
                                         out_.modules[task.number].weight_global_scale);
        reads.back().bytes += part->bytes * (twice ? 2 : 1);
    }
    source_->checkpoint.files().fetched()->expect(reads);
}

Status Measurer::run_task(const Task & task, TaskFigures & figures, Buffers & buffers) {
    switch (task.work) {
    case Work::weight: return measure_weight(task, figures, buffers);
    case Work::preserved: return compare_preserved(task, figures, buffers);
    case Work::plain: return scan_plain(task, figures, buffers);
    case Work::fp8: return scan_fp8(task, figures, buffers);
    }
    return {};
}

Status Measurer::measure_weight(const Task & task, TaskFigures & figures, Buffers & buffers) {
    if (options_.recomputer) GNV_TRY(recompute(task, figures, buffers));
    for (uint64_t done = 0; done < task.count; done += uint64_t(step_blocks)) {
        const uint64_t blocks = std::min(uint64_t(step_blocks), task.count - done);
        GNV_TRY(measure_step(task.number, int64_t(task.first + done), int64_t(blocks), figures, buffers));
    }
    return advance(0, task.last);
}

Status Measurer::measure_step(uint32_t number, int64_t first_block, int64_t block_count, TaskFigures & figures,
                              Buffers & buffers) {
    const Module & module = subject_.modules[number];
    const auto blocks = uint64_t(block_count), first = uint64_t(first_block);
    buffers.scales.resize(size_t(step_blocks));
    GNV_TRY(read(module.tensor(Component::block_scales), buffers.scales.data(), blocks, first));
    figures.scales.add(take_census(buffers.scales.data(), block_count));
    const LinearModule * linear = source_of(number);
    if (!fits(linear, module)) return advance(blocks, false);

    const DType dtype = source_->checkpoint.tensors()[linear->source].dtype;
    const uint64_t block_bytes = 16 * uint64_t(dtype_traits(dtype).bits) / 8;
    buffers.ours.resize(std::max(buffers.ours.size(), size_t(step_blocks) * 8));
    buffers.theirs.resize(std::max(buffers.theirs.size(), size_t(step_blocks * 16 * 4)));
    GNV_TRY(read(module.tensor(Component::codes), buffers.ours.data(), blocks * 8, first * 8));
    GNV_TRY(theirs().read(theirs().tensor(linear->source), linear->offset + first * block_bytes, buffers.theirs.data(),
                          blocks * block_bytes));
    figures.comparison.add(nvfp4::compare(instructions_, dtype, buffers.theirs.data(), block_count, buffers.ours.data(),
                                          buffers.scales.data(), out_.modules[number].weight_global_scale));
    return advance(blocks * 9 + blocks * block_bytes, false);
}

bool Measurer::can_recompute(const Module & module, const LinearModule * linear, float global_scale) const {
    if (!fits(linear, module)) return false;
    if (source_->checkpoint.tensors()[linear->source].dtype != DType::bf16) return false;
    return global_scale > 0 && std::isfinite(global_scale); // else not a usable scale; L6 reports it
}

// Compares the bytes of another device for the source's weights with the stored ones.
Status Measurer::recompute(const Task & task, TaskFigures & figures, Buffers & buffers) {
    const Module & module = subject_.modules[task.number];
    const LinearModule * linear = source_of(task.number);
    const float global = out_.modules[task.number].weight_global_scale;
    if (!can_recompute(module, linear, global)) return {};
    Recomputer & recomputer = *options_.recomputer;
    GNV_CHECK(buffers.thread < recomputer.slots() && task.count <= uint64_t(Recomputer::most_blocks));
    constexpr uint64_t block_bytes = 16 * sizeof(uint16_t);
    GNV_TRY(theirs().read(theirs().tensor(linear->source), linear->offset + task.first * block_bytes,
                          recomputer.weights(buffers.thread), task.count * block_bytes));
    buffers.stored_codes.resize(size_t(task_blocks) * 8);
    buffers.stored_scales.resize(size_t(task_blocks));
    GNV_TRY(read(module.tensor(Component::codes), buffers.stored_codes.data(), task.count * 8, task.first * 8));
    GNV_TRY(read(module.tensor(Component::block_scales), buffers.stored_scales.data(), task.count, task.first));
    GNV_ASSIGN(const Recomputer::Packed packed, recomputer.pack(buffers.thread, int64_t(task.count), global));
    figures.recomputed_blocks = task.count;
    for (uint64_t b = 0; b < task.count; b++)
        figures.recomputed_same += packed.block_scales[b] == buffers.stored_scales[b] &&
                                   memcmp(packed.codes + b * 8, buffers.stored_codes.data() + b * 8, 8) == 0;
    return {};
}

// Equal bytes are those of round-to-nearest, so both counts must agree.
Status Measurer::check_recomputed() const {
    for (size_t m = 0; m < out_.modules.size(); m++) {
        const ModuleValues & values = out_.modules[m];
        const nvfp4::Comparison & comparison = values.comparison;
        if (!values.compared || values.recomputed_blocks == 0 || values.recomputed_same != values.scales.blocks)
            continue;
        if (comparison.nearest_codes == values.elements() && comparison.nearest_scales == values.scales.blocks)
            continue;
        return fail(
            Code::device, subject_.modules[m].name, ": ", options_.recomputer->device(),
            " makes the stored bytes of the source's weights, which this processor says are not the nearest: one "
            "of the two computes wrongly");
    }
    return {};
}

void Measurer::merge(const std::vector<TaskFigures> & figures) {
    // Tasks of one module are in the order of their blocks, since its codes lie in one run; so are those of a tensor.
    std::vector<Evidence> evidence(out_.preserved.size());
    for (size_t i = 0; i < tasks_.size(); i++) {
        const Task & task = tasks_[i];
        if (task.work == Work::preserved || task.work == Work::plain) {
            const bool preserved = task.work == Work::preserved;
            if (preserved) evidence[task.number].add(figures[i].evidence);
            if (figures[i].non_finite.count > 0)
                out_.non_finite[preserved ? source_->preserved[task.number].tensor : task.number].add(
                    figures[i].non_finite);
            continue;
        }
        if (task.work == Work::fp8) {
            out_.fp8[task.number].add(figures[i].fp8);
            continue;
        }
        ModuleValues & values = out_.modules[tasks_[i].number];
        values.scales.add(figures[i].scales);
        values.comparison.add(figures[i].comparison);
        values.compared = values.comparison.blocks > 0;
        values.recomputed_blocks += figures[i].recomputed_blocks;
        values.recomputed_same += figures[i].recomputed_same;
    }
    for (uint32_t p = 0; p < out_.preserved.size(); p++)
        if (out_.preserved[p].measured) judge_preserved(p, evidence[p]);
}

// --- Plain tensors without a source, and FP8 --------------------------------------------------------------------------------

void Measurer::list_plain_tasks(const std::function<uint64_t(int64_t)> & order) {
    for (size_t s = 0; s < subject_.specs.size(); s++) {
        const TensorSpec & spec = subject_.specs[s];
        const int64_t tensor = subject_.spec_tensors[s];
        if (tensor < 0 || !is_chosen(spec.part, spec.layer) || !is_float(subject_.info(tensor).dtype)) continue;
        const uint64_t bytes = subject_.info(tensor).bytes;
        for (uint64_t at = 0; at < bytes; at += preserved_task_bytes) {
            const uint64_t count = std::min(preserved_task_bytes, bytes - at);
            tasks_.push_back({Work::plain, uint32_t(tensor), at, count, at + count == bytes, order(tensor) + at});
        }
        progress_.bytes_total += bytes;
    }
}

Status Measurer::list_fp8_tasks(const std::function<uint64_t(int64_t)> & order) {
    out_.fp8.resize(subject_.modules.size());
    for (uint32_t m = 0; m < subject_.modules.size(); m++) {
        const Module & module = subject_.modules[m];
        const int64_t weight = module.weight(), scale = module.tensor(fp8_scale_suffix);
        if (module.stored != Stored::fp8 || scale < 0 || !is_chosen(module.part, module.layer)) continue;
        const TensorInfo & scales = subject_.info(scale);
        Fp8Scales fitted;
        if (subject_.info(weight).dtype != DType::f8_e4m3 || !is_float(scales.dtype) ||
            subject_.info(weight).shape != std::vector<int64_t>{module.rows, module.columns} ||
            !fit_fp8_scales(scales.shape, module.rows, module.columns, fitted))
            continue;
        std::vector<uint8_t> bytes(scales.bytes);
        GNV_TRY(read(scale, bytes.data(), bytes.size(), 0));
        Fp8Values & values = out_.fp8[m];
        values.measured = true;
        for (int64_t i = 0; i < scales.elements(); i++) {
            fitted.values.push_back(nvfp4::load_element(scales.dtype, bytes.data(), i));
            values.bad_scales += !(std::isfinite(fitted.values.back()) && fitted.values.back() > 0);
        }
        fp8_scales_.emplace(m, std::move(fitted));
        const int64_t rows_each = std::max<int64_t>(1, (1 << 20) / std::max<int64_t>(1, module.columns));
        for (int64_t row = 0; row < module.rows; row += rows_each) {
            const int64_t count = std::min(rows_each, module.rows - row);
            tasks_.push_back({Work::fp8, m, uint64_t(row), uint64_t(count), row + count == module.rows,
                              order(weight) + uint64_t(row * module.columns)});
        }
        progress_.bytes_total += subject_.info(weight).bytes;
    }
    return {};
}

Status Measurer::scan_plain(const Task & task, TaskFigures & figures, Buffers & buffers) {
    const DType dtype = subject_.info(task.number).dtype;
    buffers.ours.resize(std::max(buffers.ours.size(), size_t(preserved_step)));
    for (uint64_t done = 0; done < task.count; done += preserved_step) {
        const uint64_t bytes = std::min(preserved_step, task.count - done);
        GNV_TRY(read(task.number, buffers.ours.data(), bytes, task.first + done));
        figures.non_finite.add(
            find_non_finite(dtype, buffers.ours.data(), bytes, (task.first + done) / element_bytes(dtype)));
        GNV_TRY(advance(bytes, false));
    }
    return advance(0, task.last);
}

Status Measurer::scan_fp8(const Task & task, TaskFigures & figures, Buffers & buffers) {
    const Module & module = subject_.modules[task.number];
    const auto columns = uint64_t(module.columns);
    const LinearModule * linear = source_of(task.number);
    if (!fits(linear, module)) linear = nullptr;
    buffers.ours.resize(std::max(buffers.ours.size(), size_t(task.count * columns)));
    GNV_TRY(read(module.weight(), buffers.ours.data(), task.count * columns, task.first * columns));
    DType dtype = DType::bf16;
    if (linear) {
        dtype = source_->checkpoint.tensors()[linear->source].dtype;
        const uint64_t row_bytes = columns * element_bytes(dtype);
        buffers.theirs.resize(std::max(buffers.theirs.size(), size_t(task.count * row_bytes)));
        GNV_TRY(theirs().read(theirs().tensor(linear->source), linear->offset + task.first * row_bytes,
                              buffers.theirs.data(), task.count * row_bytes));
    }
    figures.fp8 = measure_fp8(buffers.ours.data(), fp8_scales_.at(task.number), int64_t(task.first),
                              int64_t(task.count), module.columns, linear ? buffers.theirs.data() : nullptr, dtype);
    return advance(task.count * columns, task.last);
}

// --- Preserved tensors ------------------------------------------------------------------------------------------------------

// One element of both sides. Pieces with equal bytes skip this.
bool Measurer::can_compare(const PreservedTensor & preserved) const {
    const TensorInfo & ours = subject_.info(preserved.tensor);
    const DType theirs = source_->checkpoint.tensors()[preserved.source].dtype;
    return is_float(ours.dtype) && is_float(theirs) &&
           ours.bytes / element_bytes(ours.dtype) == preserved.bytes / element_bytes(theirs);
}

Status Measurer::compare_preserved(const Task & task, TaskFigures & figures, Buffers & buffers) {
    const PreservedTensor & preserved = source_->preserved[task.number];
    const TensorInfo & ours = subject_.info(preserved.tensor);
    const DType our_dtype = ours.dtype, their_dtype = source_->checkpoint.tensors()[preserved.source].dtype;
    const uint64_t our_size = element_bytes(our_dtype), their_size = element_bytes(their_dtype);
    const bool comparable = can_compare(preserved);
    Evidence & evidence = figures.evidence;
    evidence.same = our_dtype == their_dtype && ours.bytes == preserved.bytes;
    const bool both = comparable || evidence.same;

    buffers.ours.resize(std::max(buffers.ours.size(), size_t(preserved_step)));
    buffers.theirs.resize(std::max(buffers.theirs.size(), size_t(preserved_step) * 2));
    std::optional<Sha256> hash;
    if (options_.checksums) hash.emplace();
    for (uint64_t done = 0; done < task.count; done += preserved_step) {
        const uint64_t bytes = std::min(preserved_step, task.count - done), count = bytes / our_size;
        const uint64_t first = (task.first + done) / our_size;
        GNV_TRY(read(preserved.tensor, buffers.ours.data(), bytes, task.first + done));
        if (hash) hash->update(buffers.ours.data(), bytes);
        figures.non_finite.add(find_non_finite(our_dtype, buffers.ours.data(), bytes, first));
        if (both) {
            GNV_TRY(theirs().read(theirs().tensor(preserved.source), preserved.offset + first * their_size,
                                  buffers.theirs.data(), count * their_size));
            if (our_dtype == their_dtype && memcmp(buffers.ours.data(), buffers.theirs.data(), bytes) == 0) {
                GNV_TRY(advance(bytes * 2, false));
                continue;
            }
            evidence.same = false;
            for (uint64_t i = 0; comparable && i < count; i++)
                evidence.add(nvfp4::load_element(our_dtype, buffers.ours.data(), int64_t(i)),
                             nvfp4::load_element(their_dtype, buffers.theirs.data(), int64_t(i)), our_dtype,
                             is_offset_norm(preserved.role), first + i);
        }
        GNV_TRY(advance(bytes + (both ? count * their_size : 0), false));
    }
    if (hash) out_.preserved[task.number].sha256 = hash->finish();
    return advance(0, task.last);
}

void Measurer::judge_preserved(uint32_t number, const Evidence & evidence) {
    const PreservedTensor & preserved = source_->preserved[number];
    const bool converted =
        subject_.info(preserved.tensor).dtype != source_->checkpoint.tensors()[preserved.source].dtype;
    PreservedValues & values = out_.preserved[number];
    values.differing = evidence.differing, values.first_differing = evidence.first_differing;
    if (evidence.same) {
        values.kind = Preserved::same;
    } else if (!can_compare(preserved)) {
        values.kind = Preserved::different;
    } else if (converted && evidence.rounded) {
        values.kind = evidence.differing == 0 ? Preserved::converted : Preserved::rounded;
    } else if (evidence.differing > 0 && evidence.norm_trip) {
        values.kind = Preserved::norm_trip;
    } else {
        values.kind = Preserved::different;
    }
}

Status Measurer::advance(uint64_t bytes, bool tensor_done) {
    const std::lock_guard<std::mutex> lock(progress_mutex_);
    progress_.bytes += bytes;
    progress_.tensors += tensor_done;
    if (!options_.progress || options_.progress(progress_)) return {};
    return Status(Code::cancelled, "stopped on request");
}

} // namespace

Result<Measurements> measure(const Subject & subject, const Source * source, ThreadPool & threads,
                             const MeasureOptions & options) {
    return Measurer(subject, source, options).run(threads);
}

} // namespace gnv::verify
