#include "canary/canary.h"

#include "canary/canary_prompts.h"
#include "run/open_model.h"

#include <algorithm>

namespace gnv::canary {

static const char * const names[] = {"source", "W4A4", "W4A16"};
static const char * const keys[] = {"source", "w4a4", "w4a16"};

const char * line_name(Line line) { return names[size_t(line)]; }
const char * line_key(Line line) { return keys[size_t(line)]; }

const LineAnswers * Canary::find(Line line) const {
    for (const LineAnswers & answers : lines)
        if (answers.line == line) return &answers;
    return nullptr;
}

uint64_t Canary::failed_gates() const {
    return uint64_t(std::count_if(gates.begin(), gates.end(), [](const CanaryGate & gate) { return !gate.passed; }));
}

uint64_t Canary::suspicions() const {
    return uint64_t(std::count_if(gates.begin(), gates.end(), [](const CanaryGate & gate) { return gate.flagged; }));
}

static Result<QuestionSet> questions_of(const std::string & source, const CanaryOptions & options) {
    if (options.prompts.size() > most_prompts)
        return fail(Code::invalid_argument, options.prompts.size(), " prompts; give at most ", most_prompts);
    if (options.max_tokens < 1 || options.max_tokens > most_tokens)
        return fail(Code::invalid_argument, "answers of at most ", options.max_tokens, " tokens; give 1 to ",
                    most_tokens);
    std::vector<std::string> prompts = options.prompts;
    if (prompts.empty()) prompts.assign(fixed_prompts().begin(), fixed_prompts().end());
    Result<QuestionSet> questions = make_questions(source, std::move(prompts), options.thinking);
    if (!questions.ok()) return questions.take_status().add_context("canary");
    return questions;
}

Status check_questions(const std::string & source, const CanaryOptions & options) {
    return questions_of(source, options).take_status();
}

static Status check_same_model(const OpenModel & candidate, const OpenModel & source, const Canary & canary) {
    const TextModelSizes &a = candidate.model->sizes(), &b = source.model->sizes();
    if (a.hidden != b.hidden || a.vocabulary != b.vocabulary || a.layers != b.layers || a.experts != b.experts ||
        a.experts_per_token != b.experts_per_token)
        return fail(Code::model, canary.checkpoint, " (", candidate.layout.description, ") and ", canary.source, " (",
                    source.layout.description, ") are different models");
    const int64_t positions = canary.questions.longest() + canary.max_tokens;
    if (positions > b.max_positions)
        return fail(Code::invalid_argument, "canary: a prompt of ", canary.questions.longest(), " tokens and ",
                    canary.max_tokens, " of its answer exceed the model's ", b.max_positions, " positions");
    return {};
}

Result<Canary> run_canary(std::shared_ptr<const Folder> checkpoint, const std::string & source, ThreadPool & threads,
                          const CanaryOptions & options) {
    Canary canary;
    canary.checkpoint = checkpoint->path(), canary.source = source;
    canary.precision = options.precision, canary.max_tokens = options.max_tokens, canary.thinking = options.thinking;
    GNV_ASSIGN(canary.questions, questions_of(source, options));
    if (!canary.questions.has_template)
        canary.notes.push_back("the source has no chat template: the prompts are given as they are");
    if (canary.questions.stop_ids.empty())
        canary.notes.push_back("the source names no token that ends a text: every answer runs into the limit");
    GNV_ASSIGN(const std::unique_ptr<OpenModel> candidate, OpenModel::open(std::move(checkpoint), all_formats()));
    canary.model = candidate->layout.description;
    GNV_ASSIGN(std::shared_ptr<const Folder> source_folder, open_folder(source));
    Result<std::unique_ptr<OpenModel>> opened = OpenModel::open(std::move(source_folder), Accept());
    if (!opened.ok()) return opened.take_status().add_context("source");
    const std::unique_ptr<OpenModel> original = opened.take();
    GNV_TRY(check_same_model(*candidate, *original, canary));

    std::vector<std::pair<Line, TextVariant>> variants = {{Line::source, original->variant(options.precision)}};
    if (options.lines[size_t(Line::w4a4)] && candidate->has_input_scales())
        variants.emplace_back(Line::w4a4, candidate->variant(options.precision, true));
    if (options.lines[size_t(Line::w4a4)] && !candidate->has_input_scales())
        canary.notes.push_back("W4A4 is left out: the checkpoint has no input scales");
    if (options.lines[size_t(Line::w4a16)]) variants.emplace_back(Line::w4a16, candidate->variant(options.precision));
    if (variants.size() == 1) return Status(Code::invalid_argument, "canary: no line is left to compare");

    std::vector<OpenDevice> choices = {options.open_device};
    choices.insert(choices.end(), options.more_devices.begin(), options.more_devices.end());
    GNV_ASSIGN(const DeviceList devices, DeviceList::open(choices, threads));
    if (devices.first().device().has_own_memory()) canary.device = devices.first().device().name;
    for (const auto & [line, variant] : variants) {
        AnswerOptions of_line;
        of_line.max_tokens = options.max_tokens;
        of_line.ram_bytes = options.ram_bytes, of_line.device_bytes = options.device_bytes;
        of_line.texts_at_once = options.texts_at_once, of_line.note = options.note;
        const int64_t before = int64_t(canary.lines.size()), count = int64_t(variants.size());
        if (options.progress)
            of_line.progress = [&options, before, count](int64_t done, int64_t total) {
                return options.progress(before * total + done, count * total);
            };
        LineAnswers answers;
        answers.line = line;
        Result<std::vector<Answer>> written = write_answers(variant, canary.questions, devices, threads, of_line);
        if (!written.ok() && written.status().code() == Code::cancelled) return written.take_status();
        if (!written.ok()) return written.take_status().add_context(concat("canary, ", line_name(line)));
        answers.answers = written.take();
        canary.lines.push_back(std::move(answers));
    }
    judge(options.max_growth, canary);
    return canary;
}

} // namespace gnv::canary
