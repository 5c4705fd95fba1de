#include "canary/answers.h"

#include "session/sampling/sampler.h"
#include "session/texts/repetition.h"
#include "session/texts/shared_texts.h"

#include <algorithm>
#include <memory>

namespace gnv::canary {

namespace {

class Writer {
  public:
    Writer(const QuestionSet & questions, const AnswerOptions & options) : questions_(questions), options_(options) {}

    Status open(const TextVariant & variant, const DeviceList & devices, ThreadPool & threads);
    Result<std::vector<Answer>> run();

  private:
    struct Text {
        std::unique_ptr<SharedText> state;
        size_t number = 0; // of the prompt
    };
    bool report() const;
    Status begin(SharedTexts & texts, Text & text);
    Result<bool> go_on(SharedTexts & texts, Text & text);

    const QuestionSet & questions_;
    const AnswerOptions & options_;
    std::unique_ptr<TextSession> session_;
    int64_t texts_at_once_ = 0;
    std::vector<Answer> answers_;
    size_t next_ = 0;
    int64_t written_ = 0;
};

bool Writer::report() const {
    return !options_.progress || options_.progress(written_, int64_t(questions_.ids.size()) * options_.max_tokens);
}

// Weights that stay come first: they are worth more than many texts at once.
Status Writer::open(const TextVariant & variant, const DeviceList & devices, ThreadPool & threads) {
    const int64_t count = int64_t(questions_.ids.size());
    const int64_t most = options_.texts_at_once > 0 ? std::min(options_.texts_at_once, count) : count;
    SessionOptions options;
    options.capacity = questions_.longest() + options_.max_tokens;
    options.ram_bytes = options_.ram_bytes, options.device_bytes = options_.device_bytes;
    options.on_load = [this](const SessionLoad &) { return report(); };
    Status refusal;
    for (const bool must_stay : {true, false})
        for (int64_t texts = most; texts > 0; texts = texts == 1 ? 0 : (texts + 3) / 4) {
            options.pool_texts = texts;
            options.pool_positions = texts * ((options.capacity + cache_page - 1) / cache_page * cache_page);
            Result<std::unique_ptr<TextSession>> made = TextSession::create(variant, devices.all(), threads, options);
            if (!made.ok() && made.status().code() != Code::out_of_memory) return made.take_status();
            if (!made.ok()) {
                refusal = made.take_status();
                continue;
            }
            session_ = made.take();
            if (must_stay && !session_->weights_stay()) continue;
            if (!must_stay && options_.note)
                options_.note(concat("the weights do not fit into memory: each token of ", texts,
                                     " answers at once reads them; give more memory, or fewer tokens"));
            texts_at_once_ = texts;
            std::vector<uint8_t> allowed(size_t(session_->vocabulary()));
            for (size_t id = 0; id < allowed.size(); id++) allowed[id] = questions_.tokenizer->is_token(TokenId(id));
            return session_->allow_in_pool(allowed);
        }
    return refusal;
}

Status Writer::begin(SharedTexts & texts, Text & text) {
    texts.restart(*text.state);
    text.number = next_++;
    return texts.feed(*text.state, questions_.ids[text.number], TextWant::largest);
}

// Takes the next token. False: the answer is complete.
Result<bool> Writer::go_on(SharedTexts & texts, Text & text) {
    Answer & answer = answers_[text.number];
    const LargestLogit & largest = text.state->largest;
    GNV_ASSIGN(const int32_t id, checked_choice(largest.id, double(largest.logit)));
    const std::vector<int32_t> & stops = questions_.stop_ids;
    const bool ends = std::find(stops.begin(), stops.end(), id) != stops.end();
    if (!ends) answer.ids.push_back(id);
    written_ += ends ? options_.max_tokens - int64_t(answer.ids.size()) : 1;
    answer.capped = !ends && int64_t(answer.ids.size()) == options_.max_tokens;
    if (!ends && !answer.capped) {
        GNV_TRY(texts.feed(*text.state, {&id, 1}, TextWant::largest));
        return true;
    }
    answer.repeats = tokens_repeat(answer.ids);
    return false;
}

// Texts go on together, a token each; where an answer ends, the next begins.
Result<std::vector<Answer>> Writer::run() {
    answers_.assign(questions_.ids.size(), {});
    SharedTexts texts(*session_);
    std::vector<Text> open;
    open.resize(size_t(texts_at_once_));
    for (Text & text : open) {
        GNV_ASSIGN(text.state, texts.open());
        GNV_TRY(begin(texts, text));
    }
    while (!open.empty()) {
        std::vector<SharedText *> now;
        for (const Text & text : open) now.push_back(text.state.get());
        Result<SharedTexts::Step> step = texts.step(now, [this](int64_t, int64_t) { return report(); });
        if (!step.ok() && step.status().code() == Code::cancelled) return Status(Code::cancelled, "stopped on request");
        if (!step.ok()) return step.take_status();
        std::vector<Text> going;
        for (Text & text : open) {
            bool goes_on = text.state->waiting() > 0; // a piece of a prompt
            if (!goes_on) {
                Result<bool> more = go_on(texts, text);
                if (!more.ok()) return more.take_status().add_context(concat("the answer to prompt ", text.number + 1));
                goes_on = more.value();
            }
            if (!goes_on && next_ < answers_.size()) {
                GNV_TRY(begin(texts, text));
                goes_on = true;
            }
            if (goes_on) {
                going.push_back(std::move(text));
            } else {
                texts.close(*text.state);
            }
        }
        open = std::move(going);
    }
    return report() ? Result<std::vector<Answer>>(std::move(answers_))
                    : Result<std::vector<Answer>>(Status(Code::cancelled, "stopped on request"));
}

} // namespace

Result<std::vector<Answer>> write_answers(const TextVariant & variant, const QuestionSet & questions,
                                          const DeviceList & devices, ThreadPool & threads,
                                          const AnswerOptions & options) {
    Writer writer(questions, options);
    GNV_TRY(writer.open(variant, devices, threads));
    return writer.run();
}

} // namespace gnv::canary
