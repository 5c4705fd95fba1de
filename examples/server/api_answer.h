// Answers in the form of the OpenAI API: whole, and as the events of a stream.
#pragma once

#include "answer_parts.h"
#include "api_request.h"

namespace server {

class ApiAnswer {
  public:
    ApiAnswer(const ApiRequest & request, const std::string & model);

    // The events ("data: {..}\n\n") of an update, for a stream; "" if nothing can be shown yet.
    std::string events(const TextUpdate & update);
    // Keeps an update, for whole().
    void keep(const TextUpdate & update);
    // The answer, after the last update.
    std::string whole() const;

  private:
    AnswerDelta parts_of(const TextUpdate & update);
    std::string event(Json delta, const Json & finish_reason) const;
    Json head(const char * object_of_chat, const char * object_of_text) const;
    Json usage() const;
    Json calls_of(const std::vector<ToolCall> & calls, bool has_index);

    const bool is_chat_, streams_usage_;
    const uint64_t prompt_tokens_;
    const std::string model_, id_;
    const int64_t created_;
    AnswerParts parts_;
    bool has_begun_ = false;
    size_t calls_told_ = 0;
    std::string finish_reason_;
    uint64_t tokens_ = 0, reused_ = 0;
    std::string reasoning_, content_; // kept
    Json calls_ = Json::array();
};

// The event of a failure in the middle of a stream.
std::string error_event(const ApiError & error);

} // namespace server
