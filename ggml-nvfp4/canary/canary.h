// The length canary: greedy answers of a source and of its quantized checkpoint to the same prompts. Damage that no mean of a
// divergence shows makes answers longer, lets them run into the limit, or makes them repeat themselves.
#pragma once

#include "canary/answers.h"
#include "canary/question_set.h"
#include "formats/folder.h"

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace gnv::canary {

enum class Line : uint8_t { source, w4a4, w4a16, count_ };
const char * line_name(Line line); // for people
const char * line_key(Line line);  // for programs

struct CanaryOptions {
    std::vector<std::string> prompts; // UTF-8; empty: fixed_prompts()
    int64_t max_tokens = 256;         // of an answer
    bool thinking = false;            // make_questions()
    bool lines[size_t(Line::count_)] = {
        true, true, true}; // that of the source always; those that the checkpoint lacks are left out
    Precision precision = Precision::f32;
    OpenDevice open_device = open_cpu;        // the device that computes
    std::vector<OpenDevice> more_devices;     // of the same model: see run/device_list.h
    std::optional<double> max_growth;         // gate: mean length / the source's
    uint64_t ram_bytes = 0, device_bytes = 0; // AnswerOptions
    int64_t texts_at_once = 0;
    std::function<void(const std::string & note)> note;
    std::function<bool(int64_t done, int64_t total)> progress; // of all lines
};

constexpr size_t most_prompts = 10'000;
constexpr int64_t most_tokens = 1 << 16; // of an answer

// Tests of the gated line against the source; each flags a checkpoint that is as good as its source in one run of 60 at most, so
// that the three together do in one of 20.
inline constexpr double level = 1.0 / 60;
inline constexpr double least_growth = 1.1; // a smaller one is not flagged, however certain it is

struct LineAnswers {
    Line line = Line::source;
    std::vector<Answer> answers; // by prompt
    double mean_tokens = 0;
    uint64_t capped = 0, repeating = 0, equal = 0; // answers; equal: to the source's, token by token
    double growth = 1;                             // mean_tokens / the source's; 1 for two of zero tokens
    // chance_of_sum() of the differences from the source.
    double chance_of_length = 1, chance_of_capped = 1, chance_of_repeating = 1;
};

struct CanaryGate {
    std::string gate;                    // "canary-growth"
    bool passed = true, flagged = false; // flagged: worse than the source, and without a limit
    double value = 0, limit = 0;
    std::string text; // a sentence
};

struct Canary {
    std::string checkpoint, source; // folders
    std::string model;              // one line for people
    Precision precision = Precision::f32;
    std::string device = "CPU"; // or the name of the CUDA device
    int64_t max_tokens = 0;
    bool thinking = false;
    QuestionSet questions;
    std::vector<LineAnswers> lines; // the source's first
    std::vector<CanaryGate> gates;
    std::vector<std::string> notes;

    const LineAnswers * find(Line line) const;
    uint64_t failed_gates() const;
    uint64_t suspicions() const;
};

// The prompts, the tokenizer and the template can be used. Opens no weights.
Status check_questions(const std::string & source, const CanaryOptions & options);

// The result is the same for any number of threads, memory budget and number of texts at once; CPU and CUDA differ by rounding.
Result<Canary> run_canary(std::shared_ptr<const Folder> checkpoint, const std::string & source, ThreadPool & threads,
                          const CanaryOptions & options);

// For people, for programs (schema ggml-nvfp4.canary.1, docs/json.md) and for a model card.
std::string canary_text(const Canary & canary);
std::string canary_json(const Canary & canary);
std::string canary_markdown(const Canary & canary);

// Of answers in the order of the prompts; the first line is the source's. Fills in the figures and adds gates.
void judge(std::optional<double> max_growth, Canary & canary);

} // namespace gnv::canary
