// One regular expression of a pre-tokenizer, run by PCRE2.
//
// tokenizer.json patterns are written for Oniguruma. Constructs with the same meaning in both engines are kept, a few
// spellings are rewritten, and constructs that PCRE2 would accept with another meaning are refused, so that a pattern
// gives either the published library's pieces or an error. (Characters that Unicode added after the version of the
// installed PCRE2 count as unassigned.)
//
// A pattern is compiled twice. The fast code searches a short window of the text with few steps: enough for almost
// every match. If a match needs more, the counting code searches the whole text and charges a WorkLimit with every byte
// that it passes, forward and back.
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

// The pattern for PCRE2 (UTF, UCP, MULTILINE). Code::unsupported names the construct and its byte.
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

    // The leftmost match that starts at or after `from`; assertions see the text before it. `text` is valid UTF-8.
    // Code::unsupported when `work` is spent before the match is found.
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
