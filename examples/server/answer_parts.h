// The parts of an answer that arrives in pieces: reasoning between <think> and </think>, content, calls of tools. Pieces may end
// inside of a tag; what may become one is held back.
#pragma once

#include "tool_calls.h"

#include <string>
#include <vector>

namespace server {

struct AnswerDelta {
    std::string reasoning, content;
    std::vector<ToolCall> calls; // complete ones
    bool is_empty() const { return reasoning.empty() && content.empty() && calls.empty(); }
};

class AnswerParts {
  public:
    // `thinks`: the prompt ends inside of <think>. `tools`: of the request; null: calls stay text.
    AnswerParts(bool thinks, Json tools) : place_(thinks ? Place::reasoning : Place::begin), tools_(std::move(tools)) {}
    AnswerDelta push(const std::string & piece);
    // The rest, at the end of the text: a call without its end is content.
    AnswerDelta finish();
    size_t calls() const { return calls_; } // so far

  private:
    enum class Place { begin, reasoning, content, call };
    bool step(bool is_last, AnswerDelta & delta);
    bool take_text(const std::string & end_tag, bool is_last, std::string & text);
    bool take_call(AnswerDelta & delta);
    AnswerDelta read(bool is_last);

    Place place_;
    const Json tools_;
    std::string pending_;
    bool skips_blanks_ = false; // behind a tag
    std::string gap_;           // the blanks before a tag, which are shown if there is no call after all
    size_t searched_ = 0;       // of a call: there is no end before
    size_t calls_ = 0;
};

} // namespace server
