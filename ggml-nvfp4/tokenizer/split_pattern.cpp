#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/split_pattern.h"

#include <pcre2.h>

namespace gnv {

static constexpr size_t longest_pattern = 1 << 16;
static constexpr size_t largest_compiled_pattern = 1 << 22; // PCRE2 unrolls counted repeats
static constexpr size_t largest_jit_stack = 1 << 20;
static constexpr uint32_t interpreter_heap_kib = 64 << 10;

static std::string pcre2_text(int error) {
    PCRE2_UCHAR text[160];
    if (pcre2_get_error_message(error, text, sizeof text) < 0) return concat("PCRE2 error ", error);
    return reinterpret_cast<const char *>(text);
}

MatchMemory::MatchMemory()
    : data_(pcre2_match_data_create(1, nullptr), pcre2_match_data_free),
      context_(pcre2_match_context_create(nullptr), pcre2_match_context_free),
      jit_stack_(pcre2_jit_stack_create(32 << 10, largest_jit_stack, nullptr), pcre2_jit_stack_free) {
    if (!ok()) return;
    pcre2_set_heap_limit(context_.get(), interpreter_heap_kib);
    if (jit_stack_) pcre2_jit_stack_assign(context_.get(), nullptr, jit_stack_.get());
}

Result<SplitPattern> SplitPattern::compile(std::string_view pattern) {
    if (pattern.size() > longest_pattern)
        return fail(Code::unsupported, "the pattern has ", pattern.size(), " bytes; at most ", longest_pattern,
                    " are accepted");
    GNV_ASSIGN(const std::string translated, translate_pattern(pattern));
    const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context *)> context(
        pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
    if (!context) return Status(Code::out_of_memory, "not enough memory to compile the pattern");
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    // MULTILINE: ^ and $ mean lines to Oniguruma. Captures serve no purpose but back references.
    constexpr uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C;
    int error = 0;
    PCRE2_SIZE at = 0;
    const std::shared_ptr<pcre2_code> code(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(translated.data()),
                                                         translated.size(), options, &error, &at, context.get()),
                                           pcre2_code_free);
    if (!code)
        return fail(Code::unsupported, "PCRE2 cannot use the pattern \"", printable(pattern), "\" (as \"",
                    printable(translated), "\", byte ", at, "): ", pcre2_text(error));
    size_t size = 0;
    if (pcre2_pattern_info(code.get(), PCRE2_INFO_SIZE, &size) != 0 || size > largest_compiled_pattern)
        return fail(Code::unsupported, "the pattern \"", printable(pattern), "\" needs ", size,
                    " bytes compiled; at most ", largest_compiled_pattern, " are accepted");
    // Without a just-in-time compiler for this processor PCRE2 interprets: slower, the same matches.
    (void)pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE);
    return SplitPattern(code);
}

Result<Match> SplitPattern::find(std::string_view text, size_t from, MatchMemory & memory) const {
    // Honest patterns look at a character a few times; 32 bits are PCRE2's own width.
    const size_t steps = 1'000'000 + 4 * text.size();
    pcre2_set_match_limit(memory.context_.get(), steps < UINT32_MAX ? uint32_t(steps) : UINT32_MAX);
    const auto run = [&](uint32_t options) {
        return pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from,
                           options | PCRE2_NO_UTF_CHECK, memory.data_.get(), memory.context_.get());
    };
    int matched = run(0);
    if (matched == PCRE2_ERROR_JIT_STACKLIMIT) matched = run(PCRE2_NO_JIT); // which keeps its stack on the heap
    if (matched == PCRE2_ERROR_NOMATCH) return Match();
    if (matched < 0)
        return fail(matched == PCRE2_ERROR_NOMEMORY ? Code::out_of_memory : Code::unsupported,
                    "the split pattern gives up at byte ", from, " of a stretch of ", text.size(),
                    " bytes: ", pcre2_text(matched));
    const PCRE2_SIZE * const ends = pcre2_get_ovector_pointer(memory.data_.get());
    return Match{ends[0], ends[1], true};
}

} // namespace gnv
