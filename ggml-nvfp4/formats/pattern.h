// Names and patterns as quantization configs spell them: "lm_head" is the exact name, "re:.*mlp\.gate$" a regular
// expression with the meaning of Python's re.match (it must match at the start, not to the end). Runs on PCRE2.
#pragma once

#include "core/status.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace gnv {

class Pattern {
  public:
    // `text` with or without "re:"; without it, `plain_is_regex` tells whether it is a name or an expression.
    static Result<Pattern> compile(const std::string & text, bool plain_is_regex);
    Pattern(Pattern &&) noexcept;
    Pattern & operator=(Pattern &&) noexcept;
    ~Pattern();

    // Fails when the expression needs more steps than a name can be worth.
    Result<bool> matches(std::string_view name) const;
    // The same for files that anyone may have written: the match is tried with more and more steps, what they may have cost
    // is taken from `budget`, and it fails with Code::unsupported when that does not suffice. A plain name costs nothing, a
    // sane expression 1. The same on every machine.
    Result<bool> matches(std::string_view name, uint64_t & budget) const;
    const std::string & text() const; // as given
    size_t compiled_bytes() const;

  private:
    struct State;
    Result<bool> match(std::string_view name, uint32_t step_limit, bool & exceeded) const;
    explicit Pattern(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace gnv
