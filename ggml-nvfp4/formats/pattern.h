// Names and patterns of quantization configs: "lm_head" is the exact name, "re:.*mlp\.gate$" a regular expression with
// the meaning of Python's re.match (anchored at the start, not at the end). Runs on PCRE2.
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
    // `text` with or without "re:"; without it, `plain_is_regex` decides between an expression and a name.
    static Result<Pattern> compile(const std::string & text, bool plain_is_regex);
    Pattern(Pattern &&) noexcept;
    Pattern & operator=(Pattern &&) noexcept;
    ~Pattern();

    // Fails if the expression needs too many steps.
    Result<bool> matches(std::string_view name) const;
    // The same for untrusted files: the match is tried with more and more steps, whose cost is subtracted from
    // `budget`; beyond it the call fails with Code::unsupported. A plain name costs 0, an ordinary expression 1, the
    // same on every machine.
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
