// One regular expression of a pre-tokenizer, run by PCRE2.
//
// tokenizer.json patterns are written for Oniguruma. What both engines understand alike is passed on; the few things
// that they spell differently are rewritten; what PCRE2 would accept but understand differently is refused, so that a
// pattern either gives the published library's pieces or an error. (Characters that Unicode added after the version
// that the installed PCRE2 knows count as unassigned.)
//
// A pattern is compiled twice. The fast code sees a short stretch of the text and may take few steps: enough for almost
// every match. Where a match would look beyond, the counting code searches the whole text and charges a WorkLimit with
// every byte that it passes, forth and back.
#pragma once

#include "core/status.h"
#include "tokenizer/work_limit.h"

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct pcre2_real_code_8;
struct pcre2_real_match_data_8;
struct pcre2_real_match_context_8;
struct pcre2_real_jit_stack_8;

namespace gnv {

// The pattern as PCRE2 (UTF, UCP, MULTILINE) has to be given it. Code::unsupported names the construct and its byte.
Result<std::string> translate_pattern(std::string_view pattern);

// Working memory of matching, for one thread.
class MatchMemory {
  public:
    MatchMemory();
    bool ok() const { return data_ && context_; } // false: out of memory

  private:
    friend class SplitPattern;
    template <class T>
    using Owned = std::unique_ptr<T, void (*)(T *)>;
    Owned<pcre2_real_match_data_8> data_;
    Owned<pcre2_real_match_context_8> context_;
    Owned<pcre2_real_jit_stack_8> jit_stack_;
};

struct Match {
    size_t begin = 0, end = 0; // bytes of the text
    bool found = false;
};

class SplitPattern {
  public:
    static Result<SplitPattern> compile(std::string_view pattern);

    // The leftmost match that starts at or after `from`; what stands before it is seen by assertions. `text` is valid
    // UTF-8. Code::unsupported when `work` is spent before the match is found.
    Result<Match> find(std::string_view text, size_t from, MatchMemory & memory, WorkLimit & work) const;

  private:
    using CompiledCode = std::shared_ptr<const pcre2_real_code_8>;
    SplitPattern(CompiledCode fast, CompiledCode counting, bool is_machine_code)
        : fast_(std::move(fast)), counting_(std::move(counting)), is_machine_code_(is_machine_code) {}
    Result<Match> find_counting(std::string_view text, size_t from, MatchMemory & memory, WorkLimit & work) const;
    CompiledCode fast_, counting_;
    bool is_machine_code_; // the fast code
};

} // namespace gnv
