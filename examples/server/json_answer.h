// Keeps a text that a model writes a JSON object: before each choice it rules out the tokens after which it could be none. An example of
// gnv_logits_callback.
#pragma once

#include "json_guide.h"

#include <ggml-nvfp4.h>

#include <memory>
#include <string>
#include <vector>

namespace server {

using TokenBytes = std::vector<std::string>; // by id; "": a special token, or none

class JsonAnswer {
  public:
    // `thinks`: the text is free up to </think>. `stop_ids` are chosen at its end.
    JsonAnswer(std::shared_ptr<const TokenBytes> tokens, bool thinks, std::vector<int32_t> stop_ids)
        : tokens_(std::move(tokens)), is_free_(thinks), stop_ids_(std::move(stop_ids)) {}
    void limit(const gnv_logits & logits);

  private:
    void read(const std::string & bytes);

    const std::shared_ptr<const TokenBytes> tokens_;
    bool is_free_;
    const std::vector<int32_t> stop_ids_;
    JsonGuide guide_;
    std::string thoughts_;
    uint64_t read_ = 0; // of the chosen ids
};

} // namespace server
