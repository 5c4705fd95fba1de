#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokenizer/split_pattern.h"

#include <algorithm>
#include <pcre2.h>

namespace gnv {

static constexpr size_t longest_pattern = 16 << 10;         // a class costs time for each of its items
static constexpr size_t largest_compiled_pattern = 1 << 22; // PCRE2 unrolls counted repeats
static constexpr uint32_t longest_look_behind = 256;        // characters
static constexpr size_t largest_jit_stack = 1 << 20;
static constexpr uint32_t interpreter_heap_kib = 16 << 10;

// The window of the fast code, and its limit of steps.
static constexpr size_t fast_window = 256;
static constexpr uint32_t fast_match_limit = 200;

static std::string pcre2_text(int error) {
    PCRE2_UCHAR text[160];
    if (pcre2_get_error_message(error, text, sizeof text) < 0) return concat("PCRE2 error ", error);
    return reinterpret_cast<const char *>(text);
}

// --- Compiling ------------------------------------------------------------------------------------------------------------

MatchMemory::MatchMemory()
    : data_(pcre2_match_data_create(1, nullptr), pcre2_match_data_free),
      context_(pcre2_match_context_create(nullptr), pcre2_match_context_free),
      jit_stack_(pcre2_jit_stack_create(32 << 10, largest_jit_stack, nullptr), pcre2_jit_stack_free) {
    if (!ok()) return;
    pcre2_set_heap_limit(context_.get(), interpreter_heap_kib);
    pcre2_set_match_limit(context_.get(), fast_match_limit);
    if (jit_stack_) pcre2_jit_stack_assign(context_.get(), nullptr, jit_stack_.get());
}

static Result<std::shared_ptr<const pcre2_code>> compile_code(std::string_view pattern, const std::string & translated,
                                                              uint32_t more_options) {
    const std::unique_ptr<pcre2_compile_context, void (*)(pcre2_compile_context *)> context(
        pcre2_compile_context_create(nullptr), pcre2_compile_context_free);
    if (!context) return Status(Code::out_of_memory, "not enough memory to compile the pattern");
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    // MULTILINE: ^ and $ mean lines to Oniguruma.
    const uint32_t options = PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE | PCRE2_NEVER_BACKSLASH_C | more_options;
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
    uint32_t behind = 0;
    if (pcre2_pattern_info(code.get(), PCRE2_INFO_MAXLOOKBEHIND, &behind) != 0 || behind > longest_look_behind)
        return fail(Code::unsupported, "the pattern \"", printable(pattern), "\" looks ", behind,
                    " characters back; at most ", longest_look_behind, " are accepted");
    // Without a just-in-time compiler for this processor PCRE2 interprets: slower, the same matches.
    (void)pcre2_jit_compile(code.get(), PCRE2_JIT_COMPLETE | PCRE2_JIT_PARTIAL_HARD);
    return std::shared_ptr<const pcre2_code>(code);
}

Result<SplitPattern> SplitPattern::compile(std::string_view pattern) {
    if (pattern.size() > longest_pattern)
        return fail(Code::unsupported, "the pattern has ", pattern.size(), " bytes; at most ", longest_pattern,
                    " are accepted");
    GNV_ASSIGN(const std::string translated, translate_pattern(pattern));
    GNV_ASSIGN(CompiledCode fast, compile_code(pattern, translated, 0));
    GNV_ASSIGN(CompiledCode counting, compile_code(pattern, translated, PCRE2_AUTO_CALLOUT));
    size_t machine_code_size = 0;
    const bool is_machine_code =
        pcre2_pattern_info(fast.get(), PCRE2_INFO_JITSIZE, &machine_code_size) == 0 && machine_code_size > 0;
    return SplitPattern(std::move(fast), std::move(counting), is_machine_code);
}

// --- Matching -------------------------------------------------------------------------------------------------------------

static int run(const pcre2_code * code, std::string_view text, size_t from, uint32_t options, pcre2_match_data * data,
               pcre2_match_context * context) {
    return pcre2_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, options | PCRE2_NO_UTF_CHECK,
                       data, context);
}

static int run_machine_code(const pcre2_code * code, std::string_view text, size_t from, uint32_t options,
                            pcre2_match_data * data, pcre2_match_context * context) {
    return pcre2_jit_match(code, reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), from, options, data, context);
}

// The end of the fast code's window; never inside a character.
static size_t window_end(std::string_view text, size_t begin) {
    if (text.size() - begin <= fast_window) return text.size();
    size_t end = begin + fast_window;
    while ((static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) end--;
    return end;
}

Result<Match> SplitPattern::find(std::string_view text, size_t from, MatchMemory & memory, WorkLimit & work) const {
    for (size_t begin = from;;) {
        const size_t end = window_end(text, begin);
        const bool is_whole = end == text.size();
        // PARTIAL_HARD: an attempt that reaches the end of the window gives PARTIAL, not a match or a failure.
        // Machine code is called without the checks of pcre2_match, which take as long as a short match.
        const int matched = (is_machine_code_ ? run_machine_code : run)(fast_.get(), text.substr(0, end), begin,
                                                                        is_whole ? 0 : PCRE2_PARTIAL_HARD,
                                                                        memory.data_.get(), memory.context_.get());
        const PCRE2_SIZE * const ends = pcre2_get_ovector_pointer(memory.data_.get());
        if (!work.spend(1)) return work.status();
        if (matched > 0 && (is_whole || ends[0] < end)) return Match{ends[0], ends[1], true};
        const bool failed_inside = matched == PCRE2_ERROR_NOMATCH || matched > 0; // nothing begins before the end
        if (!failed_inside) return find_counting(text, begin, memory, work);
        if (is_whole) return Match();
        begin = end;
    }
}

namespace {

struct Counter {
    WorkLimit * work;
    size_t at; // where the last callout was
};

// PCRE2 calls this before each item of the pattern and at its end, also when it comes back to try another way.
int count_looks(pcre2_callout_block * block, void * data) {
    Counter & counter = *static_cast<Counter *>(data);
    const size_t at = block->current_position;
    const size_t passed = at > counter.at ? at - counter.at : counter.at - at;
    counter.at = at;
    return counter.work->spend(passed + 1) ? 0 : PCRE2_ERROR_CALLOUT;
}

} // namespace

Result<Match> SplitPattern::find_counting(std::string_view text, size_t from, MatchMemory & memory,
                                          WorkLimit & work) const {
    Counter counter{&work, from};
    pcre2_match_context * const context = memory.context_.get();
    pcre2_set_callout(context, count_looks, &counter);
    pcre2_set_match_limit(context, UINT32_MAX);
    const auto search = [&](uint32_t options) {
        return run(counting_.get(), text, from, options, memory.data_.get(), context);
    };
    int matched = search(0);
    if (matched == PCRE2_ERROR_JIT_STACKLIMIT) matched = search(PCRE2_NO_JIT); // which keeps its stack on the heap
    pcre2_set_callout(context, nullptr, nullptr);
    pcre2_set_match_limit(context, fast_match_limit);
    if (matched == PCRE2_ERROR_NOMATCH) return Match();
    if (matched < 0) {
        const std::string where =
            concat("the split pattern gives up at byte ", from, " of a stretch of ", text.size(), " bytes");
        if (work.is_spent()) return work.status().add_context(where);
        return fail(matched == PCRE2_ERROR_NOMEMORY ? Code::out_of_memory : Code::unsupported, where, ": ",
                    pcre2_text(matched));
    }
    const PCRE2_SIZE * const ends = pcre2_get_ovector_pointer(memory.data_.get());
    return Match{ends[0], ends[1], true};
}

} // namespace gnv
