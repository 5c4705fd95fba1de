// A pattern and a text, with a zero byte between them: all matches, as PCRE2 finds them in the whole text at once. (Its
// interpreter and its compiler do not agree about every pattern; either is right here.) Patterns that are hard on PCRE2 give
// up, in time that is in proportion to the text.
#define PCRE2_CODE_UNIT_WIDTH 8
#include "core/utf8.h"
#include "fuzz/fuzz_input.h"
#include "tokenizer/split_pattern.h"

#include <pcre2.h>

using namespace gnv;

namespace {

struct Oracle {
    explicit Oracle(const std::string & pattern) {
        int error = 0;
        PCRE2_SIZE at = 0;
        code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                             PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &at, nullptr);
        fuzz::require(code != nullptr);
        (void)pcre2_jit_compile(code, PCRE2_JIT_COMPLETE);
        data = pcre2_match_data_create(1, nullptr);
        context = pcre2_match_context_create(nullptr);
        pcre2_set_match_limit(context, 200'000);
    }
    Oracle(const Oracle &) = delete;
    Oracle & operator=(const Oracle &) = delete;
    ~Oracle() {
        pcre2_match_context_free(context);
        pcre2_match_data_free(data);
        pcre2_code_free(code);
    }
    // Whether the match is the interpreter's or the compiler's, or neither knows.
    bool agrees(std::string_view text, size_t from, const Match & match) const {
        return finds(text, from, match, PCRE2_NO_JIT) || finds(text, from, match, 0);
    }

  private:
    bool finds(std::string_view text, size_t from, const Match & match, uint32_t options) const {
        const int matched =
            pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, options, data, context);
        if (matched <= 0) return matched != PCRE2_ERROR_NOMATCH || !match.found;
        const PCRE2_SIZE * const ends = pcre2_get_ovector_pointer(data);
        return match.found && match.begin == ends[0] && match.end == ends[1];
    }
    pcre2_code * code;
    pcre2_match_data * data;
    pcre2_match_context * context;
};

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const std::string_view input(reinterpret_cast<const char *>(data), size);
    const size_t zero = std::min(input.find('\0'), input.size());
    const std::string pattern(input.substr(0, zero));
    std::string text(input.substr(std::min(zero + 1, input.size())));
    text.resize(utf8_valid_prefix(text));
    // Stretches longer than what the fast code sees at once, out of short inputs.
    const std::string once = text;
    for (int i = 0; i < 12 && text.size() + once.size() < 2000; i++) text += once;

    const Result<std::string> translated = translate_pattern(pattern);
    const Result<SplitPattern> compiled = SplitPattern::compile(pattern);
    fuzz::require_message(compiled.status());
    if (!compiled.ok()) return 0;
    const Oracle oracle(translated.value());
    MatchMemory memory;
    fuzz::require(memory.ok());
    WorkLimit work;
    const StopCheck no_stop;
    work.start(text.size(), 1, no_stop);
    for (size_t from = 0; from <= text.size();) {
        const Result<Match> found = compiled.value().find(text, from, memory, work);
        fuzz::require_message(found.status());
        if (!found.ok()) break;
        const Match & match = found.value();
        fuzz::require(oracle.agrees(text, from, match));
        if (!match.found) break;
        fuzz::require(match.begin >= from && match.end >= match.begin && match.end <= text.size());
        from = match.end;
        if (match.begin < match.end) continue;
        size_t bytes = 1;
        if (from < text.size()) utf8_decode(text, from, bytes);
        from += bytes;
    }
    return 0;
}
