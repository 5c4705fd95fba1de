// The comparison of a quantized checkpoint's predictions with its source's: both run over the same text, side by side,
// and every position's predictions are compared.
#pragma once

#include "evaluate/figures.h"
#include "evaluate/gates.h"
#include "evaluate/inputs.h"
#include "evaluate/layers.h"
#include "formats/folder.h"
#include "output/state_folder.h"
#include "pass/pass_state.h"
#include "pass/picture_rows.h"

#include <functional>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace gnv::evaluate {

struct EvaluationData {
    std::vector<TextSequence> sequences; // those with pictures lack the rows that stand for them
    PassPictures pictures;
    std::string sha256;      // of the sequences
    std::string description; // a JSON object: their origin
};

struct EvaluateOptions {
    bool lines[size_t(Line::count_)] = {true, true, true,
                                        false}; // those that the checkpoint does not allow are left out
    bool share_expert_scale = false; // the smallest input scale for all experts of a layer, as some kernels do
    Precision precision = Precision::f32;
    OpenDevice open_device = open_cpu;    // the device that computes
    std::vector<OpenDevice> more_devices; // of the same model, which share its work; see run/device_list.h
    uint64_t device_bytes = 0;            // of each CUDA device's memory; 0: most of the free memory
    uint64_t ram_bytes = 0;               // 0: most of the free memory
    std::string scratch_folder;           // for hidden states that do not fit; empty: they must fit
    int64_t batch_positions = 0;          // 0: automatic; changes only the time
    std::string save_logits;              // a new file for the source's predictions; empty: none
    std::string logits;                   // such a file, instead of running the source; empty: none
    Gates gates;
    size_t worst_positions = 0; // how many to keep of each line, with the tokens before them
    int sensitivity_ranges = 0; // of layers, by which sensitivity is measured; 0: it is not
    // A folder for the state to go on with if the run is stopped, which Evaluation::remove_state() removes; empty: none.
    std::string state_folder;
    Resume resume = Resume::on;
    std::function<void(const std::string & note)> note;          // for the user
    std::function<bool(const PassProgress & progress)> progress; // false stops the run
};

// evaluate/sensitivity.h
struct SensitivityRow {
    std::string kind; // of modules
    int32_t first_layer = 0, last_layer = 0;
    uint64_t modules = 0, bytes_added = 0; // in the source's precision instead of the checkpoint's
    Estimate divergence, saved;            // with them so; saved: of the checkpoint's, paired
};
struct Sensitivity {
    Line line = Line::w4a4;
    uint64_t bytes = 0;  // of the checkpoint's tensors
    Estimate divergence; // of the checkpoint as it is
    std::vector<SensitivityRow> rows;
};

struct LineReport {
    Line line = Line::w4a4;
    Figures all, last_quarter;
    Figures text, pictures;           // positions of tokens and of pictures apart; empty without pictures
    std::vector<LayerFigures> layers; // empty if the source did not run
    std::vector<WindowSums> windows;
    DivergenceHistogram histogram;
    std::vector<StretchFigures> by_position;
    std::vector<WorstPosition> worst; // only if it was asked for
};

struct Evaluation {
    std::string checkpoint, source; // folders; source "" if its logits were read from a file
    std::string model;              // one line for people
    std::string source_fingerprint;
    std::string data_sha256, data_description;
    uint64_t windows = 0, positions = 0, predictions = 0;
    Precision precision = Precision::f32;
    std::string device = "CPU"; // or the name of the CUDA device
    bool shared_expert_scale = false, source_logits_read = false;
    std::vector<LineReport> lines;
    InputReport inputs;
    Sensitivity sensitivity; // no rows: not measured
    std::vector<GateResult> gates;
    std::vector<std::string> notes;
    // Text of tokens, for worst positions; null or "": not known.
    std::function<std::string(std::span<const int32_t> ids)> text_of;
    std::shared_ptr<StateFolder> state; // null: none

    // Once the results are where they belong: a run that is repeated before goes on with the last saved layer.
    Status remove_state() { return state ? std::exchange(state, nullptr)->remove() : Status(); }

    const LineReport * find(Line line) const;
    uint64_t failed_gates() const;
    uint64_t suspicions() const; // flagged gates
};

// Fails if evaluate() would because of a file or folder in the options: it cannot be read or made, is damaged, or
// belongs to other data. Opens no checkpoint and leaves no file.
Status check_named_files(const EvaluationData & data, const EvaluateOptions & options);

// `source` may be null if the source's logits come from a file; the line of activations alone and the figures by layer
// are then absent. The result is the same for any number of threads, any memory budget and any batch.
Result<Evaluation> evaluate(std::shared_ptr<const Folder> checkpoint, std::shared_ptr<const Folder> source,
                            const EvaluationData & data, ThreadPool & threads, const EvaluateOptions & options);

// For people, for programs (schema ggml-nvfp4.evaluation.1, docs/json.md) and for a model card.
std::string evaluation_text(const Evaluation & evaluation, size_t width = 0); // see format_table()
std::string evaluation_json(const Evaluation & evaluation);
std::string evaluation_markdown(const Evaluation & evaluation);

} // namespace gnv::evaluate
