// Names and patterns as quantization configs spell them: "lm_head" is the exact name, "re:.*mlp\.gate$" a regular
// expression with the meaning of Python's re.match (it must match at the start, not to the end). Runs on PCRE2.
#pragma once

#include "core/status.h"

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
    const std::string & text() const; // as given

  private:
    struct State;
    explicit Pattern(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

} // namespace gnv
