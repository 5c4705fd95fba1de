#include "json_answer.h"

#include <algorithm>
#include <cmath>

namespace server {

void JsonAnswer::read(const std::string & bytes) {
    if (!is_free_) {
        guide_.push(bytes);
        return;
    }
    static const std::string tag = "</think>";
    thoughts_ += bytes;
    const size_t end = thoughts_.find(tag);
    if (end == std::string::npos) return;
    is_free_ = false;
    guide_.push(thoughts_.substr(end + tag.size()));
}

void JsonAnswer::limit(const gnv_logits & logits) {
    for (; read_ < logits.id_count; read_++) read((*tokens_)[size_t(logits.ids[read_])]);
    if (is_free_) return;
    const bool is_complete = guide_.is_complete();
    for (size_t id = 0; id < logits.vocabulary; id++) {
        const std::string & bytes = (*tokens_)[id];
        bool fits = is_complete ? std::find(stop_ids_.begin(), stop_ids_.end(), int32_t(id)) != stop_ids_.end()
                                : !bytes.empty();
        if (fits && !is_complete) {
            JsonGuide tried = guide_;
            fits = tried.push(bytes);
        }
        if (!fits) logits.values[id] = -INFINITY;
    }
}

} // namespace server
