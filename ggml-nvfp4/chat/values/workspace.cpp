#include "chat/values/value.h"

namespace gnv::chat {

Status Workspace::step(uint64_t count) {
    steps_ += count;
    if (steps_ > limits_.steps)
        return fail(Code::unsupported, "the template takes more than ", count_text(limits_.steps),
                    " steps: it may loop without end");
    return room(0);
}

Status Workspace::room(uint64_t bytes) {
    if (bytes > limits_.memory_bytes || bytes_ > limits_.memory_bytes - bytes)
        return fail(Code::unsupported, "the template takes more than ", bytes_text(limits_.memory_bytes),
                    " of memory for its values");
    return {};
}

std::string_view Workspace::keep(std::string text) {
    bytes_ += text.size() + sizeof(std::string);
    return texts_.emplace_back(std::move(text));
}

std::string_view Workspace::joined(std::string_view left, std::string_view right) {
    constexpr size_t worth_growing = 1024;
    const size_t size = left.size() + right.size();
    if (growing_ && growing_->data() == left.data() && growing_->size() == left.size() &&
        growing_->capacity() >= size) {
        growing_->append(right); // in place: who holds `left` still sees its bytes
        return *growing_;
    }
    std::string text;
    text.reserve(size > worth_growing ? 2 * size : size);
    text.append(left).append(right);
    bytes_ += text.capacity() + sizeof(std::string);
    texts_.push_back(std::move(text));
    if (size > worth_growing) growing_ = &texts_.back();
    return texts_.back();
}

Value Workspace::list(std::vector<Value> items, Kind kind) {
    bytes_ += items.size() * sizeof(Value);
    Sequence * const sequence = make<Sequence>();
    sequence->items = std::move(items);
    return Value::of(kind, sequence);
}

} // namespace gnv::chat
