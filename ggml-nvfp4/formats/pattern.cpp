#include "formats/pattern.h"

#include <new>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

namespace gnv {

static constexpr uint32_t step_limit = 1'000'000;

struct Pattern::State {
    std::string text;
    bool is_regex = false;
    pcre2_code * code = nullptr;
    pcre2_match_data * match_data = nullptr;
    pcre2_match_context * context = nullptr;
    ~State() {
        pcre2_match_context_free(context);
        pcre2_match_data_free(match_data);
        pcre2_code_free(code);
    }
};

Pattern::Pattern(std::unique_ptr<State> state) : state_(std::move(state)) {}
Pattern::Pattern(Pattern &&) noexcept = default;
Pattern & Pattern::operator=(Pattern &&) noexcept = default;
Pattern::~Pattern() = default;

const std::string & Pattern::text() const { return state_->text; }

static std::string pcre2_text(int error) {
    PCRE2_UCHAR text[160];
    pcre2_get_error_message(error, text, sizeof text);
    return reinterpret_cast<const char *>(text);
}

Result<Pattern> Pattern::compile(const std::string & text, bool plain_is_regex) {
    auto state = std::make_unique<State>();
    state->text = text;
    const bool marked = starts_with(text, "re:");
    state->is_regex = marked || plain_is_regex;
    if (!state->is_regex) return Pattern(std::move(state));

    const std::string expression = marked ? text.substr(3) : text;
    int error = 0;
    size_t at = 0;
    state->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(expression.data()), expression.size(),
                                PCRE2_ANCHORED | PCRE2_UTF, &error, &at, nullptr);
    if (error == PCRE2_ERROR_HEAP_FAILED) return Status::out_of_memory();
    if (!state->code)
        return fail(Code::invalid_argument, "pattern \"", printable(text), "\": ", pcre2_text(error), " at character ",
                    at, text[0] == '*' ? "; it is a regular expression, in which .* stands for any text" : "");
    (void)pcre2_jit_compile(state->code, PCRE2_JIT_COMPLETE); // faster than the interpreter, with the same results
    state->match_data = pcre2_match_data_create(1, nullptr);
    state->context = pcre2_match_context_create(nullptr);
    if (!state->match_data || !state->context) return Status::out_of_memory();
    return Pattern(std::move(state));
}

size_t Pattern::compiled_bytes() const {
    size_t size = 0;
    return state_->code && pcre2_pattern_info(state_->code, PCRE2_INFO_SIZE, &size) == 0 ? size : 0;
}

Result<bool> Pattern::match(std::string_view name, uint32_t limit, bool & exceeded) const {
    exceeded = false;
    if (!state_->is_regex) return name == state_->text;
    pcre2_set_match_limit(state_->context, limit);
    const int count = pcre2_match(state_->code, reinterpret_cast<PCRE2_SPTR>(name.data()), name.size(), 0, 0,
                                  state_->match_data, state_->context);
    if (count == PCRE2_ERROR_NOMATCH) return false;
    if (count >= 0) return true; // 0: matched, with more groups than requested
    if (count == PCRE2_ERROR_NOMEMORY) return Status::out_of_memory();
    exceeded = count == PCRE2_ERROR_MATCHLIMIT;
    return fail(Code::invalid_argument, "pattern \"", printable(state_->text), "\" on \"", printable(name),
                "\": ", pcre2_text(count));
}

Result<bool> Pattern::matches(std::string_view name) const {
    bool exceeded;
    return match(name, step_limit, exceeded);
}

Result<bool> Pattern::matches(std::string_view name, uint64_t & budget) const {
    if (!state_->is_regex) return name == state_->text;
    struct Attempt {
        uint32_t steps;
        uint64_t cost;
    };
    for (const Attempt attempt : {Attempt{40, 1}, Attempt{200, 4}, Attempt{4'000, 60}, Attempt{100'000, 1500}}) {
        if (budget < attempt.cost)
            return fail(Code::unsupported, "the patterns take too many steps, at last \"", printable(state_->text),
                        "\" on \"", printable(name), "\"");
        budget -= attempt.cost;
        bool exceeded;
        Result<bool> result = match(name, attempt.steps, exceeded);
        if (!exceeded) return result;
    }
    return fail(Code::unsupported, "pattern \"", printable(state_->text), "\" takes too many steps on \"",
                printable(name), "\"");
}

} // namespace gnv
