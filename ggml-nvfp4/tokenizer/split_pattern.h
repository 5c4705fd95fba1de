// One regular expression of a pre-tokenizer, run by PCRE2.
//
// tokenizer.json patterns are written for Oniguruma. What both engines understand alike is passed on; the few things
// that they spell differently are rewritten; what PCRE2 would accept but understand differently is refused, so that a
// pattern either gives the published library's pieces or an error. (Characters that Unicode added after the version
// that the installed PCRE2 knows count as unassigned.)
#pragma once

#include "core/status.h"

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
    // UTF-8. Code::unsupported when the match would need far more steps than the text has characters.
    Result<Match> find(std::string_view text, size_t from, MatchMemory & memory) const;

  private:
    explicit SplitPattern(std::shared_ptr<const pcre2_real_code_8> code) : code_(std::move(code)) {}
    std::shared_ptr<const pcre2_real_code_8> code_;
};

} // namespace gnv
