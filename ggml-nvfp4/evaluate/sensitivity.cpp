#include "evaluate/sensitivity.h"

#include "core/strings.h"
#include "core/table.h"
#include "formats/json_writer.h"

#include <algorithm>
#include <cstring>
#include <map>

namespace gnv::evaluate {

namespace {

constexpr size_t mixtures_at_once = 4; // beside the source and the checkpoint

struct Kind {
    const char * name;
    std::vector<Role> roles;
};
const std::vector<Kind> & kinds() {
    static const std::vector<Kind> list = {
        {"attention", {Role::attention_q, Role::attention_k, Role::attention_v, Role::attention_o}},
        {"linear attention",
         {Role::linear_attention_in_qkv, Role::linear_attention_in_z, Role::linear_attention_in_a,
          Role::linear_attention_in_b, Role::linear_attention_out}},
        {"routed experts", {Role::expert_gate, Role::expert_up, Role::expert_down}}, // loaders want one format for all
        {"shared expert", {Role::shared_expert_gate_proj, Role::shared_expert_up, Role::shared_expert_down}},
        {"MLP, gate and up", {Role::mlp_gate, Role::mlp_up}},
        {"MLP, down", {Role::mlp_down}},
        {"head", {Role::lm_head}},
    };
    return list;
}

// The files of two folders, those of the second under names of their own, and an index that names each tensor once.
class JoinedFolder final : public Folder {
  public:
    JoinedFolder(const Checkpoint & first, const Checkpoint & second) : first_(first), second_(second) {
        JsonWriter json(JsonWriter::Form::indented);
        json.begin_object().key("weight_map").begin_object();
        for (const Checkpoint * const from : {&first, &second})
            for (const TensorInfo & tensor : from->tensors())
                if (from == &first || first.find(tensor.name) < 0)
                    json.member(tensor.name, name_of(*from, from->shards()[tensor.shard].file_name));
        index_ = json.end_object().end_object().take();
    }
    const std::string & path() const override { return first_.folder(); }
    Result<std::vector<DirectoryEntry>> list() const override {
        std::vector<DirectoryEntry> entries;
        for (const Checkpoint * const from : {&first_, &second_}) {
            GNV_ASSIGN(std::vector<DirectoryEntry> some, from->files().list());
            for (DirectoryEntry & entry : some) {
                const bool is_weights = is_shard(*from, entry.name);
                if (!is_weights && (from == &second_ || entry.name == index_file_name)) continue;
                if (is_weights) entry.name = name_of(*from, entry.name);
                entries.push_back(std::move(entry));
            }
        }
        DirectoryEntry index = entries.front();
        index.name = index_file_name;
        entries.push_back(std::move(index));
        std::sort(entries.begin(), entries.end(),
                  [](const DirectoryEntry & a, const DirectoryEntry & b) { return a.name < b.name; });
        return entries;
    }
    Result<std::unique_ptr<FolderFile>> open(const std::string & name) const override {
        if (name == index_file_name) return std::unique_ptr<FolderFile>(std::make_unique<IndexFile>(index_));
        for (const Checkpoint * const from : {&first_, &second_})
            for (const Shard & shard : from->shards())
                if (name_of(*from, shard.file_name) == name) return from->files().open(shard.file_name);
        return first_.files().open(name);
    }

  private:
    class IndexFile final : public FolderFile {
      public:
        explicit IndexFile(const std::string & text) : text_(text) {}
        const std::string & path() const override { return name_; }
        Result<FileStamp> stamp() const override {
            FileStamp stamp;
            stamp.size = text_.size();
            return stamp;
        }
        Status read(void * data, uint64_t size, uint64_t offset) const override {
            GNV_CHECK(offset <= text_.size() && size <= text_.size() - offset);
            memcpy(data, text_.data() + offset, size);
            return {};
        }

      private:
        const std::string & text_;
        const std::string name_ = index_file_name;
    };
    static bool is_shard(const Checkpoint & from, const std::string & name) {
        return std::any_of(from.shards().begin(), from.shards().end(),
                           [&](const Shard & shard) { return shard.file_name == name; });
    }
    std::string name_of(const Checkpoint & from, const std::string & shard) const {
        return (&from == &first_ ? "checkpoint-" : "source-") + shard;
    }
    const Checkpoint &first_, &second_;
    std::string index_;
};

bool is_of(const SensitivityGroup & group, const LinearModule & module) {
    return module.part == Part::text && module.stored && module.layer >= group.first_layer &&
           module.layer <= group.last_layer &&
           std::find(group.roles.begin(), group.roles.end(), module.role) != group.roles.end();
}

// One pass over source, checkpoint and some mixtures.
class SensitivityPass {
  public:
    SensitivityPass(const EvaluationData & data, ThreadPool & threads, std::vector<Backend *> devices,
                    const EvaluateOptions & options)
        : data_(data), threads_(threads), devices_(std::move(devices)), options_(options),
          positions_(list_positions(data.sequences)) {}

    Status run(const std::vector<TextVariant> & variants) {
        const int64_t count = positions_.count(), vocabulary = variants.front().model->sizes().vocabulary;
        const size_t lines = variants.size() - 1;
        Budget host = Budget::of_host(options_.ram_bytes);
        host.reserve("figures",
                     Predictions::bytes(count, lines) + Comparer::scratch_bytes(vocabulary, threads_.size()));
        if (host.left() == 0)
            return fail(Code::out_of_memory, "a memory budget of ", bytes_text(host.total()),
                        " is too small for the figures of ", count, " positions");
        PassOptions options;
        options.host = host.rest();
        options.device = options_.device_bytes;
        options.scratch_folder = options_.scratch_folder;
        options.head = true;
        options.batch_positions = options_.batch_positions;
        GNV_ASSIGN(const std::unique_ptr<LayerPass> pass,
                   LayerPass::create(variants, devices_, threads_, data_.sequences, options));
        predictions_.assign(lines, {});
        for (Predictions & line : predictions_) line.resize(count, false);
        source_.resize(count, true);
        Comparer comparer(positions_, vocabulary, threads_);
        PassHooks hooks;
        hooks.progress = options_.progress;
        hooks.on_logits = [&](int64_t first, const std::vector<Tensor> & logits) {
            SourceRows source;
            source.logits = logits.front().as<const float>();
            std::vector<const float *> rows;
            for (size_t v = 1; v < logits.size(); v++) rows.push_back(logits[v].as<const float>());
            return comparer.compare(first, logits.front().shape[0], source, rows, source_, predictions_);
        };
        return pass->run(hooks);
    }
    Figures figures(size_t line) const { return measure(positions_, source_, predictions_[line], Stretch::all); }
    // How much nearer `line` is than line 0, with the error of the difference: windows are the same for both.
    Estimate saved(size_t line) const {
        Predictions difference = predictions_[line];
        for (size_t p = 0; p < difference.divergence.size(); p++)
            difference.divergence[p] = predictions_[0].divergence[p] - difference.divergence[p];
        return measure(positions_, source_, difference, Stretch::all).divergence;
    }

  private:
    const EvaluationData & data_;
    ThreadPool & threads_;
    const std::vector<Backend *> devices_;
    const EvaluateOptions & options_;
    const Positions positions_;
    Predictions source_;
    std::vector<Predictions> predictions_; // of the checkpoint, then of the mixtures
};

} // namespace

std::vector<SensitivityGroup> sensitivity_groups(const ModelLayout & layout, int ranges) {
    std::vector<SensitivityGroup> groups;
    for (const Kind & kind : kinds()) {
        const SensitivityGroup all = {kind.name, kind.roles, INT32_MIN, INT32_MAX};
        std::vector<int32_t> layers;
        for (const LinearModule & module : layout.modules)
            if (is_of(all, module)) layers.push_back(module.layer);
        std::sort(layers.begin(), layers.end());
        layers.erase(std::unique(layers.begin(), layers.end()), layers.end());
        const auto parts = std::min(size_t(ranges), layers.size());
        for (size_t i = 0; i < parts; i++)
            groups.push_back({kind.name, kind.roles, layers[i * layers.size() / parts],
                              layers[(i + 1) * layers.size() / parts - 1]});
    }
    return groups;
}

Result<Checkpoint> join_checkpoints(const Checkpoint & checkpoint, const Checkpoint & source) {
    return Checkpoint::open(std::make_shared<JoinedFolder>(checkpoint, source));
}

Result<std::unique_ptr<MixedModel>> MixedModel::create(const Checkpoint & joined, const OpenModel & checkpoint,
                                                       const OpenModel & source, const SensitivityGroup & group) {
    std::unique_ptr<MixedModel> mixed(new MixedModel);
    mixed->layout_ = checkpoint.layout;
    // Positions of tensors in `joined`.
    const auto place = [&](const Checkpoint & from, size_t tensor) {
        const int64_t found = joined.find(from.tensors()[tensor].name);
        GNV_CHECK(found >= 0);
        return uint32_t(found);
    };
    for (ModelTensor & tensor : mixed->layout_.tensors) tensor.source = place(checkpoint.checkpoint, tensor.source);
    std::map<std::string_view, const LinearModule *> originals;
    for (const LinearModule & module : source.layout.modules) originals[module.name] = &module;
    for (LinearModule & module : mixed->layout_.modules) {
        const bool is_kept = is_of(group, module);
        const uint32_t stored_at = module.source;
        uint64_t stored = 0;
        for (size_t c = 0; module.stored && c < module.stored->components.size(); c++) {
            stored += checkpoint.checkpoint.tensors()[size_t(module.parts[c])].bytes;
            module.parts[c] = place(checkpoint.checkpoint, size_t(module.parts[c]));
        }
        module.source = place(checkpoint.checkpoint, stored_at);
        if (!is_kept) continue;
        const auto found = originals.find(module.name);
        if (found == originals.end() || found->second->rows != module.rows || found->second->columns != module.columns)
            return fail(Code::model, source.checkpoint.folder(), ": no ", module.name, " of the checkpoint's shape");
        const LinearModule & original = *found->second;
        const TensorInfo & tensor = source.checkpoint.tensors()[original.source];
        if (checkpoint.checkpoint.find(tensor.name) >= 0)
            return fail(Code::model, "both checkpoints have a tensor ", printable(tensor.name), ", which stores ",
                        module.name, " in one of them: the source is quantized");
        mixed->bytes_added_ +=
            uint64_t(module.rows) * uint64_t(module.columns) * uint64_t(dtype_traits(tensor.dtype).bits) / 8 - stored;
        mixed->modules_++;
        module.stored = nullptr;
        module.parts = {};
        module.source = place(source.checkpoint, original.source);
        module.offset = original.offset;
    }
    GNV_ASSIGN(mixed->files_, joined.open_shards());
    GNV_ASSIGN(mixed->model_, OpenModel::open(joined, mixed->layout_, mixed->files_));
    GNV_ASSIGN(mixed->scales_, InputScales::read(mixed->model_->weights, mixed->files_));
    return mixed;
}

Result<Sensitivity> measure_sensitivity(const OpenModel & checkpoint, const OpenModel & source,
                                        const EvaluationData & data, ThreadPool & threads,
                                        std::vector<Backend *> devices, const EvaluateOptions & options) {
    Sensitivity out;
    GNV_ASSIGN(InputScales scales, InputScales::read(checkpoint.weights, checkpoint.files));
    if (options.share_expert_scale) scales.share_between_experts();
    out.line = scales.empty() ? Line::w4a16 : Line::w4a4;
    for (const TensorInfo & tensor : checkpoint.checkpoint.tensors()) out.bytes += tensor.bytes;
    GNV_ASSIGN(const Checkpoint joined, join_checkpoints(checkpoint.checkpoint, source.checkpoint));
    const std::vector<SensitivityGroup> groups = sensitivity_groups(checkpoint.layout, options.sensitivity_ranges);
    SensitivityPass pass(data, threads, std::move(devices), options);
    for (size_t first = 0; first < groups.size(); first += mixtures_at_once) {
        const size_t count = std::min(mixtures_at_once, groups.size() - first);
        std::vector<std::unique_ptr<MixedModel>> mixtures;
        std::vector<InputScales> mixed_scales;
        for (size_t i = 0; i < count; i++) {
            GNV_ASSIGN(std::unique_ptr<MixedModel> mixed,
                       MixedModel::create(joined, checkpoint, source, groups[first + i]));
            mixed_scales.push_back(mixed->scales());
            if (options.share_expert_scale) mixed_scales.back().share_between_experts();
            mixtures.push_back(std::move(mixed));
        }
        std::vector<TextVariant> variants = {source.variant(options.precision)};
        const auto add = [&](const OpenModel & model, const InputScales & its_scales) {
            TextVariant variant = model.variant(options.precision);
            variant.quantize_inputs = out.line == Line::w4a4;
            if (variant.quantize_inputs) variant.input_scales = &its_scales;
            variants.push_back(variant);
        };
        add(checkpoint, scales);
        for (size_t i = 0; i < count; i++) add(mixtures[i]->model(), mixed_scales[i]);
        GNV_TRY(pass.run(variants));
        out.divergence = pass.figures(0).divergence;
        for (size_t i = 0; i < count; i++) {
            const SensitivityGroup & group = groups[first + i];
            SensitivityRow row = {group.kind,
                                  group.first_layer,
                                  group.last_layer,
                                  mixtures[i]->modules(),
                                  mixtures[i]->bytes_added(),
                                  pass.figures(i + 1).divergence,
                                  pass.saved(i + 1)};
            out.rows.push_back(std::move(row));
        }
    }
    return out;
}

std::string sensitivity_text(const Sensitivity & sensitivity) {
    std::vector<const SensitivityRow *> sorted;
    for (const SensitivityRow & row : sensitivity.rows) sorted.push_back(&row);
    const auto gain = [](const SensitivityRow & row) {
        return row.bytes_added > 0 ? row.saved.mean / double(row.bytes_added) : 0;
    };
    std::stable_sort(sorted.begin(), sorted.end(),
                     [&](const SensitivityRow * a, const SensitivityRow * b) { return gain(*a) > gain(*b); });
    std::vector<std::vector<std::string>> rows = {{"kept in the source's precision", "layers", "modules", "bytes more",
                                                   "KL", "KL saved", "saved per 1 % of bytes"}};
    for (const SensitivityRow * const row : sorted)
        rows.push_back({row->kind, concat(row->first_layer, " - ", row->last_layer), count_text(row->modules),
                        bytes_text(row->bytes_added), fixed_text(row->divergence.mean, 4),
                        concat(fixed_text(row->saved.mean, 4), " ± ", fixed_text(row->saved.error, 4)),
                        fixed_text(gain(*row) * double(sensitivity.bytes) / 100, 5)});
    return concat("Sensitivity (", line_name(sensitivity.line), ", KL ", fixed_text(sensitivity.divergence.mean, 4),
                  " with everything quantized, ", bytes_text(sensitivity.bytes), "); the best use of bytes first:\n",
                  format_table(rows, {false, false, true, true, true, true, true}));
}

} // namespace gnv::evaluate
