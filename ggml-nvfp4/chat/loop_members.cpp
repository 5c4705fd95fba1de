// What `loop` offers.
#include "chat/interpreter.h"

namespace gnv::chat {

namespace {

Result<Value> cycle(Call & call) {
    const std::vector<Value> & items = call.arguments.values;
    if (items.empty()) return Status(Code::invalid_argument, "at least one item is needed");
    return items[size_t(call.self.loop->index) % items.size()];
}

// Whether the values are others than at the last call.
Result<Value> changed(Call & call) {
    LoopState & loop = *call.self.loop;
    bool same = std::exchange(loop.was_asked, true) && loop.asked.size() == call.arguments.values.size();
    for (size_t i = 0; same && i < loop.asked.size(); i++) {
        GNV_ASSIGN(same, equal(call.work, loop.asked[i], call.arguments.values[i]));
    }
    loop.asked = call.arguments.values;
    return Value::boolean(!same);
}

constexpr Function loop_functions[] = {{"cycle", "*", cycle}, {"changed", "*", changed}};

} // namespace

Result<Value> Interpreter::loop_member(LoopState & loop, std::string_view name) {
    const auto number = [](int64_t of) { return Value::number(of); };
    if (name == "index0") return number(loop.index);
    if (name == "index") return number(loop.index + 1);
    if (name == "first") return Value::boolean(loop.index == 0);
    if (name == "depth") return number(1);
    if (name == "depth0") return number(0);
    if (name == "previtem") return loop.index == 0 ? Value::undefined(name) : loop.previous;
    if (name == "last" || name == "nextitem") {
        GNV_ASSIGN(const bool more, look_ahead(loop, 1));
        if (name == "last") return Value::boolean(!more);
        return more ? loop.ahead.front() : Value::undefined(name);
    }
    if (name == "length" || name == "revindex" || name == "revindex0") {
        int64_t length = int64_t(loop.source.sequence->items.size());
        if (loop.statement->filter || loop.source.is(Kind::generator)) {
            GNV_ASSIGN(const bool endless, look_ahead(loop, SIZE_MAX));
            GNV_CHECK(!endless);
            length = loop.index + 1 + int64_t(loop.ahead.size());
        }
        return number(name == "length" ? length : length - loop.index - (name == "revindex0"));
    }
    const Function * const function = find_function(loop_functions, name);
    if (!function) return Value::undefined(name);
    BoundFunction * const bound = work_.make<BoundFunction>();
    bound->function = function;
    bound->self = Value::of(&loop);
    return Value::of(bound);
}

} // namespace gnv::chat
