#include "evaluate/evaluation.h"

#include "evaluate/evaluation_state.h"
#include "evaluate/logits_file.h"
#include "evaluate/sensitivity.h"
#include "model/fingerprint.h"
#include "run/device_list.h"
#include "run/open_model.h"

#include <algorithm>
#include <optional>

namespace gnv::evaluate {

const LineReport * Evaluation::find(Line line) const {
    for (const LineReport & report : lines)
        if (report.line == line) return &report;
    return nullptr;
}

uint64_t Evaluation::failed_gates() const {
    return uint64_t(std::count_if(gates.begin(), gates.end(), [](const GateResult & gate) { return !gate.passed; }));
}

uint64_t Evaluation::suspicions() const {
    return uint64_t(std::count_if(gates.begin(), gates.end(), [](const GateResult & gate) { return gate.flagged; }));
}

namespace {

constexpr int64_t stretches = 24; // of windows, for the divergence by position

class Run {
  public:
    Run(const EvaluationData & data, ThreadPool & threads, const EvaluateOptions & options)
        : data_(data), threads_(threads), options_(options) {}
    Result<Evaluation> run(std::shared_ptr<const Folder> checkpoint, std::shared_ptr<const Folder> source);

  private:
    Status compare_all(std::shared_ptr<const Folder> checkpoint, std::shared_ptr<const Folder> source);
    Status open(std::shared_ptr<const Folder> checkpoint, std::shared_ptr<const Folder> source);
    Status check_same_model() const;
    void choose_lines();
    Status create_pass();
    Status take_pictures(Budget & host);
    const std::vector<TextSequence> & sequences() const { return pictures_ ? texts_ : data_.sequences; }
    LogitsHeader logits_header() const;
    Status open_reader();
    Status open_state();
    Status open_writer();
    Status finish_logits();
    Status open_baseline();
    Status run_pass();
    Status compare(int64_t first, const std::vector<Tensor> & logits);
    Status after_group(const PassGroup & group);
    Status report();

    bool reads_logits() const { return !options_.logits.empty(); }
    size_t first_line() const { return reads_logits() ? 0 : 1; } // among the variants
    const TextModelSizes & sizes() const { return candidate_->model->sizes(); }

    const EvaluationData & data_;
    ThreadPool & threads_;
    const EvaluateOptions & options_;
    std::unique_ptr<OpenModel> candidate_, source_;
    InputScales scales_;
    DeviceList devices_;
    std::vector<TextSequence> texts_; // with the rows of their pictures; empty without pictures
    std::unique_ptr<PictureRows> pictures_;
    std::unique_ptr<LayerPass> pass_;
    Positions positions_;
    std::vector<Line> lines_;
    std::vector<Predictions> predictions_; // by line
    Predictions source_predictions_;
    std::unique_ptr<Comparer> comparer_;
    std::unique_ptr<LayerComparer> layers_; // if the source runs
    std::unique_ptr<LogitsReader> reader_;
    std::unique_ptr<LogitsReader> saved_; // save_logits, which the stopped run completed
    std::unique_ptr<LogitsWriter> writer_;
    std::unique_ptr<EvaluationState> state_; // null: nothing is saved
    std::optional<Baseline> baseline_;
    std::vector<uint16_t> source_rows_; // from the reader
    Evaluation out_;
};

Status Run::open(std::shared_ptr<const Folder> checkpoint, std::shared_ptr<const Folder> source) {
    out_.checkpoint = checkpoint->path();
    GNV_ASSIGN(candidate_, OpenModel::open(std::move(checkpoint), all_formats()));
    out_.model = candidate_->layout.description;
    GNV_ASSIGN(scales_, InputScales::read(candidate_->weights, candidate_->files));
    if (options_.share_expert_scale) scales_.share_between_experts();
    if (!source) return {};
    out_.source = source->path();
    Result<std::unique_ptr<OpenModel>> opened = OpenModel::open(std::move(source), Accept());
    if (!opened.ok()) return opened.take_status().add_context("source");
    source_ = opened.take();
    GNV_ASSIGN(out_.source_fingerprint, model_fingerprint(source_->checkpoint, source_->files));
    return check_same_model();
}

Status Run::check_same_model() const {
    const TextModelSizes &a = candidate_->model->sizes(), &b = source_->model->sizes();
    if (a.hidden == b.hidden && a.vocabulary == b.vocabulary && a.layers == b.layers && a.experts == b.experts &&
        a.experts_per_token == b.experts_per_token)
        return {};
    return fail(Code::model, candidate_->checkpoint.folder(), " (", candidate_->layout.description, ") and ",
                source_->checkpoint.folder(), " (", source_->layout.description, ") are different models");
}

void Run::choose_lines() {
    const auto note = [&](Line line, const char * why) {
        if (options_.lines[size_t(line)]) out_.notes.push_back(concat(line_name(line), " is left out: ", why));
    };
    const bool quantized = std::any_of(candidate_->layout.modules.begin(), candidate_->layout.modules.end(),
                                       [](const LinearModule & module) { return module.stored != nullptr; });
    if (!quantized) out_.notes.push_back("the checkpoint has no NVFP4 weights");
    for (size_t i = 0; i < size_t(Line::count_); i++) {
        const Line line = Line(i);
        if (!options_.lines[i]) continue;
        if ((line == Line::w4a4 || line == Line::activations) && scales_.empty()) {
            note(line, "the checkpoint has no input scales");
        } else if (line == Line::activations && !source_) {
            note(line, "it needs the source's weights, and --source is not given");
        } else if (line == Line::bf16 && (reads_logits() || options_.precision == Precision::bf16)) {
            note(line, reads_logits() ? "the source does not run" : "the source itself is computed in BF16");
        } else {
            lines_.push_back(line);
        }
    }
    // Variants with the same weights run one after another: the source's, then the checkpoint's.
    std::stable_sort(lines_.begin(), lines_.end(), [](Line a, Line b) {
        const auto takes_source = [](Line line) { return line == Line::activations || line == Line::bf16; };
        return takes_source(a) > takes_source(b);
    });
}

// The tower runs before the texts do. It is not quantized: the source's and the checkpoint's are the same.
Status Run::take_pictures(Budget & host) {
    if (data_.pictures.list.empty()) return {};
    const OpenModel & from = source_ && source_->vision.tower ? *source_ : *candidate_;
    for (const OpenModel * const model : {source_.get(), candidate_.get()})
        if (model && model->vision.tower)
            GNV_TRY(check_same_tower(*data_.pictures.vision, model->vision).add_context(model->checkpoint.folder()));
    GNV_TRY(check_same_tower(*data_.pictures.vision, from.vision).add_context(from.checkpoint.folder()));
    texts_ = data_.sequences;
    GNV_ASSIGN(PictureRows rows, PictureRows::create(data_.pictures, texts_));
    pictures_ = std::make_unique<PictureRows>(std::move(rows));
    const auto go_on = [&] { return !options_.progress || options_.progress({0, 1, 0, 1}); };
    GNV_TRY(pictures_->encode(from.vision_variant(options_.precision), devices_.first(), threads_,
                              {host.rest(), options_.device_bytes, go_on}));
    host.reserve("pictures", pictures_->bytes());
    return {};
}

Status Run::create_pass() {
    std::vector<TextVariant> variants;
    if (!reads_logits()) variants.push_back(source_->variant(options_.precision));
    for (const Line line : lines_) {
        const bool takes_source = line == Line::activations || line == Line::bf16;
        const Precision precision = line == Line::bf16 ? Precision::bf16 : options_.precision;
        TextVariant variant = (takes_source ? source_ : candidate_)->variant(precision);
        variant.quantize_inputs = line == Line::w4a4 || line == Line::activations;
        if (variant.quantize_inputs) variant.input_scales = &scales_;
        variant.observe = variants.empty();
        variants.push_back(variant);
    }
    positions_ = list_positions(data_.sequences);
    const int64_t count = positions_.count();
    uint64_t own =
        Predictions::bytes(count, lines_.size()) + Comparer::scratch_bytes(sizes().vocabulary, threads_.size());
    const bool copies = !rows_are_aliases(devices_.first()) || !options_.scratch_folder.empty();
    if (!reads_logits()) own += LayerComparer::bytes(sizes(), count, variants.size(), copies);
    if (reads_logits() || !options_.save_logits.empty()) own += logits_frame_bytes(sizes().vocabulary) * 3;
    Budget host = Budget::of_host(options_.ram_bytes);
    host.reserve("figures", own);
    if (host.left() == 0)
        return fail(Code::out_of_memory, "a memory budget of ", bytes_text(host.total()), " is too small to keep ", own,
                    " bytes of figures for ", count, " positions");
    GNV_TRY(take_pictures(host));
    PassOptions pass;
    pass.host = host.rest();
    pass.device = options_.device_bytes;
    pass.scratch_folder = options_.scratch_folder;
    pass.statistics = {{&Statistic::maximum}, {&Statistic::magnitudes}, {&Statistic::tokens}};
    pass.head = true;
    pass.batch_positions = options_.batch_positions;
    const size_t variant_count = variants.size();
    GNV_ASSIGN(pass_, LayerPass::create(std::move(variants), devices_.all(), threads_, sequences(), pass));
    if (pass_->plan().uses_device()) out_.device = devices_.first().device().name;

    predictions_.resize(lines_.size());
    for (Predictions & predictions : predictions_) predictions.resize(count, false);
    source_predictions_.resize(count, true);
    comparer_ = std::make_unique<Comparer>(positions_, sizes().vocabulary, threads_);
    if (!reads_logits()) layers_ = std::make_unique<LayerComparer>(positions_, sizes(), variant_count, threads_);
    return {};
}

LogitsHeader Run::logits_header() const {
    LogitsHeader header;
    header.vocabulary = sizes().vocabulary;
    header.positions = positions_.count();
    header.precision = precision_name(options_.precision);
    header.data_sha256 = data_.sha256;
    header.source_fingerprint = out_.source_fingerprint;
    return header;
}

Status Run::open_reader() {
    if (!reads_logits()) return {};
    GNV_ASSIGN(reader_, LogitsReader::open(options_.logits, logits_header()));
    reader_->take_positions(source_predictions_.nll, source_predictions_.top);
    out_.source_fingerprint = reader_->header().source_fingerprint;
    out_.source_logits_read = true;
    return {};
}

// Of all rows of the pass.
static std::vector<int32_t> ids_of(const std::vector<TextSequence> & sequences) {
    std::vector<int32_t> ids;
    for (const TextSequence & sequence : sequences) {
        const size_t begin = ids.size();
        ids.insert(ids.end(), sequence.ids.begin(), sequence.ids.end());
        for (const int32_t row : sequence.given_at) ids[begin + size_t(row)] = -1;
    }
    return ids;
}

Status Run::open_state() {
    if (options_.state_folder.empty() || options_.resume == Resume::off) return {};
    GNV_ASSIGN(const RunIdentity identity,
               comparison_identity(*candidate_, source_.get(), lines_, data_, options_, devices_.first().device(),
                                   reader_ ? reader_->tables_sha256() : ""));
    GNV_ASSIGN(state_, EvaluationState::open(options_, identity, *pass_, layers_.get()));
    return {};
}

Status Run::open_writer() {
    const std::string & path = options_.save_logits;
    if (path.empty()) return {};
    if (state_ && state_->folder().is_known(path)) { // the stopped run was to make it
        if (path_exists(path)) {
            GNV_ASSIGN(saved_, LogitsReader::open(path, logits_header()));
            return {};
        }
        const std::string unfinished = NewFile::unfinished_name(path);
        if (path_exists(unfinished)) GNV_TRY(remove_file(unfinished));
    }
    GNV_ASSIGN(writer_, LogitsWriter::create(path, logits_header()));
    return state_ ? state_->folder().record_file(path) : Status();
}

Status Run::finish_logits() {
    if (writer_) return writer_->finish(source_predictions_.nll, source_predictions_.top);
    if (!saved_) return {};
    std::vector<double> nll;
    std::vector<int32_t> top;
    saved_->take_positions(nll, top);
    if (nll == source_predictions_.nll && top == source_predictions_.top) return {};
    return fail(Code::already_exists, options_.save_logits, " exists, with other predictions than those of this run");
}

// Of the line that the gates use.
Status Run::open_baseline() {
    const std::string & path = options_.gates.baseline;
    if (path.empty()) return {};
    GNV_ASSIGN(baseline_, read_baseline(path, *std::min_element(lines_.begin(), lines_.end())));
    return check_baseline(path, *baseline_, data_.sha256, options_.precision, out_.source_fingerprint);
}

Status Run::compare(int64_t first, const std::vector<Tensor> & logits) {
    std::vector<const float *> lines;
    for (size_t v = first_line(); v < logits.size(); v++) lines.push_back(logits[v].as<const float>());
    const int64_t count = logits.front().shape[0], vocabulary = sizes().vocabulary;
    SourceRows source;
    if (reader_) {
        // Memory holds one frame of the file at a time.
        const int64_t step = logits_frame_positions(vocabulary);
        source_rows_.resize(size_t(std::min(step, count) * vocabulary));
        for (int64_t done = 0; done < count; done += step) {
            const int64_t rows = std::min(step, count - done);
            GNV_TRY(reader_->read(first + done, rows, source_rows_.data()));
            source.probabilities = source_rows_.data();
            std::vector<const float *> here;
            for (const float * line : lines) here.push_back(line + done * vocabulary);
            GNV_TRY(comparer_->compare(first + done, rows, source, here, source_predictions_, predictions_));
        }
        return {};
    }
    source.logits = logits.front().as<const float>();
    GNV_TRY(comparer_->compare(first, count, source, lines, source_predictions_, predictions_));
    return writer_ ? writer_->append(source.logits, comparer_->source_normalizers(), count, threads_) : Status();
}

Status Run::after_group(const PassGroup & group) {
    const Stage & last = group.stages.back();
    return layers_ && last.kind == StageKind::combine ? layers_->compare(*pass_, last.layer) : Status();
}

Status Run::report() {
    out_.data_sha256 = data_.sha256;
    out_.data_description = data_.description;
    out_.windows = positions_.windows.size();
    out_.precision = options_.precision;
    out_.shared_expert_scale = options_.share_expert_scale;
    out_.inputs = compare_inputs(scales_, pass_->statistics(0));
    const std::vector<int32_t> ids = options_.worst_positions > 0 ? ids_of(data_.sequences) : std::vector<int32_t>();
    for (size_t i = 0; i < size_t(Line::count_); i++) {
        const auto found = std::find(lines_.begin(), lines_.end(), Line(i));
        if (found == lines_.end()) continue;
        const auto at = size_t(found - lines_.begin());
        LineReport line;
        line.line = Line(i);
        line.all = measure(positions_, source_predictions_, predictions_[at], Stretch::all);
        line.last_quarter = measure(positions_, source_predictions_, predictions_[at], Stretch::last_quarter);
        if (!positions_.of_picture.empty()) {
            line.text = measure(positions_, source_predictions_, predictions_[at], Stretch::text);
            line.pictures = measure(positions_, source_predictions_, predictions_[at], Stretch::pictures);
        }
        line.windows = sum_windows(positions_, source_predictions_, predictions_[at]);
        line.histogram = histogram(positions_, predictions_[at]);
        line.by_position = evaluate::by_position(positions_, predictions_[at], stretches);
        if (options_.worst_positions > 0)
            line.worst =
                worst_positions(positions_, source_predictions_, predictions_[at], ids, options_.worst_positions);
        if (layers_) line.layers = layers_->figures(at + 1);
        out_.positions = line.all.positions;
        out_.predictions = line.all.predictions;
        out_.lines.push_back(std::move(line));
    }
    return judge(options_.gates, baseline_ ? &*baseline_ : nullptr, out_);
}

Status Run::run_pass() {
    PassHooks hooks;
    hooks.progress = options_.progress;
    hooks.on_group = [&](const PassGroup & group, const WeightGroup &, const std::vector<LaneWeights> &) {
        return after_group(group);
    };
    if (layers_) {
        hooks.wants_tap = [&](const Tap & tap) { return tap.site == candidate_->model->names().chosen_experts; };
        hooks.on_tap = [&](size_t variant, const PassBatch & batch, const Tap &, const Tensor & tensor) -> Status {
            layers_->keep_choice(variant, batch.begin, tensor);
            return {};
        };
    }
    hooks.on_logits = [&](int64_t first, const std::vector<Tensor> & logits) { return compare(first, logits); };
    if (state_) state_->add_to(hooks);
    return pass_->run(hooks);
}

Status Run::compare_all(std::shared_ptr<const Folder> checkpoint, std::shared_ptr<const Folder> source) {
    if (!source && !reads_logits())
        return Status(Code::invalid_argument, "a comparison needs the source, or a file of its logits");
    if (options_.sensitivity_ranges > 0 && !source)
        return Status(Code::invalid_argument, "sensitivity needs the source's weights, and --source is not given");
    GNV_TRY(check_named_files(data_, options_));
    GNV_TRY(open(std::move(checkpoint), std::move(source)));
    choose_lines();
    if (lines_.empty()) return Status(Code::invalid_argument, "no line is left to compare");
    std::vector<OpenDevice> choices = {options_.open_device};
    choices.insert(choices.end(), options_.more_devices.begin(), options_.more_devices.end());
    GNV_ASSIGN(devices_, DeviceList::open(choices, threads_));
    GNV_TRY(create_pass());
    if (std::none_of(positions_.scored.begin(), positions_.scored.end(), [](uint8_t scored) { return scored != 0; }))
        return Status(Code::invalid_argument, "the data hold only pads");
    GNV_TRY(open_reader());
    GNV_TRY(open_baseline());
    GNV_TRY(open_state());
    GNV_TRY(open_writer());
    GNV_TRY(run_pass());
    GNV_TRY(finish_logits());
    GNV_TRY(report());
    if (options_.sensitivity_ranges == 0) return {};
    pass_.reset(); // its memory
    GNV_ASSIGN(out_.sensitivity, measure_sensitivity(*candidate_, *source_, data_, threads_, devices_.all(), options_));
    return {};
}

Result<Evaluation> Run::run(std::shared_ptr<const Folder> checkpoint, std::shared_ptr<const Folder> source) {
    Status status = compare_all(std::move(checkpoint), std::move(source));
    if (!status.ok()) return state_ ? state_->leave(std::move(status)) : std::move(status);
    if (state_) out_.state = state_->finish();
    return std::move(out_);
}

} // namespace

Status check_named_files(const EvaluationData & data, const EvaluateOptions & options) {
    if (!options.logits.empty() && !options.save_logits.empty())
        return Status(Code::invalid_argument, "give either a file of logits to read or a file to save, not both");
    if (!options.logits.empty()) {
        LogitsHeader header;
        header.positions = list_positions(data.sequences).count();
        header.precision = precision_name(options.precision);
        header.data_sha256 = data.sha256;
        GNV_TRY(LogitsReader::open(options.logits, header).take_status());
    }
    const bool saves_state = !options.state_folder.empty() && options.resume != Resume::off;
    bool goes_on = false;
    if (saves_state) {
        GNV_ASSIGN(goes_on, StateFolder::check(options.state_folder));
    }
    // A stopped run may have completed it.
    if (!options.save_logits.empty() && !(goes_on && path_exists(options.save_logits)))
        GNV_TRY(check_new_file(options.save_logits));
    if (!options.scratch_folder.empty()) GNV_TRY(check_new_file(join_path(options.scratch_folder, ".scratch")));
    if (options.gates.baseline.empty()) return {};
    GNV_ASSIGN(const Baseline baseline, read_baseline(options.gates.baseline, {}));
    return check_baseline(options.gates.baseline, baseline, data.sha256, options.precision, "");
}

Result<Evaluation> evaluate(std::shared_ptr<const Folder> checkpoint, std::shared_ptr<const Folder> source,
                            const EvaluationData & data, ThreadPool & threads, const EvaluateOptions & options) {
    Run run(data, threads, options);
    return run.run(std::move(checkpoint), std::move(source));
}

} // namespace gnv::evaluate
