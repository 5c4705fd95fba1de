// How far a quantized checkpoint's answers are from those of the checkpoint it was made from: both run over the same text,
// side by side, and every position's predictions are compared.
#pragma once

#include "evaluate/figures.h"
#include "evaluate/gates.h"
#include "evaluate/inputs.h"
#include "evaluate/layers.h"
#include "formats/folder.h"

#include <functional>
#include <memory>
#include <string>
#include <vector>

namespace gnv::evaluate {

struct EvaluationData {
    std::vector<TextSequence> sequences;
    std::string sha256;      // of the sequences
    std::string description; // a JSON object: where they come from
};

struct EvaluateOptions {
    bool lines[size_t(Line::count_)] = {true, true, true, false}; // those that the checkpoint cannot give are left out
    bool share_expert_scale = false; // one input scale for a layer's experts, the least: what some kernels take
    Precision precision = Precision::f32;
    OpenDevice open_device = open_cpu; // that computes
    uint64_t device_bytes = 0;         // of a CUDA device's memory; 0: most of what is free
    uint64_t ram_bytes = 0;            // 0: most of what is free
    std::string scratch_folder;        // for hidden states that do not fit; empty: they must fit
    int64_t batch_positions = 0;       // 0: chosen; changes nothing but the time
    std::string save_logits;           // a new file for the source's predictions; empty: none
    std::string logits;                // such a file, instead of running the source; empty: none
    Gates gates;
    std::function<bool(const PassProgress & progress)> progress; // false stops the run
};

struct LineReport {
    Line line = Line::w4a4;
    Figures all, last_quarter;
    std::vector<LayerFigures> layers; // empty when the source did not run
    std::vector<WindowSums> windows;
};

struct Evaluation {
    std::string checkpoint, source; // folders; source "" when its logits were read and it was not needed
    std::string model;              // one line for people
    std::string source_fingerprint;
    std::string data_sha256, data_description;
    uint64_t windows = 0, positions = 0, predictions = 0;
    Precision precision = Precision::f32;
    std::string device = "CPU"; // or the name of the CUDA device
    bool shared_expert_scale = false, source_logits_read = false;
    std::vector<LineReport> lines;
    InputReport inputs;
    std::vector<GateResult> gates;
    std::vector<std::string> notes;

    const LineReport * find(Line line) const;
    uint64_t failed_gates() const;
};

// Fails where evaluate() would because of a file or folder that the options name: one that cannot be read or made, that is
// damaged, or that is about other data. Opens no checkpoint, and leaves nothing behind.
Status check_named_files(const EvaluationData & data, const EvaluateOptions & options);

// `source` may be null when the source's logits come from a file; then there is no line of activations alone, and nothing by
// layer. The result is the same for any number of threads, any budget of memory and any batch.
Result<Evaluation> evaluate(std::shared_ptr<const Folder> checkpoint, std::shared_ptr<const Folder> source,
                            const EvaluationData & data, ThreadPool & threads, const EvaluateOptions & options);

// For people, for programs (schema ggml-nvfp4.evaluation.1, docs/json.md) and for a model card.
std::string evaluation_text(const Evaluation & evaluation);
std::string evaluation_json(const Evaluation & evaluation);
std::string evaluation_markdown(const Evaluation & evaluation);

} // namespace gnv::evaluate
