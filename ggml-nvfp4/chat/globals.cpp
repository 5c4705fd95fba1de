// Functions that every template has, and what `loop` offers.
#include "chat/date_text.h"
#include "chat/interpreter.h"

namespace gnv::chat {

namespace {

Result<Value> make_range(Call & call) {
    constexpr int64_t longest = 100'000; // as in Jinja's sandbox
    GNV_ASSIGN(int64_t start, call.integer(0));
    int64_t stop = 0, step = 1;
    if (call.has(1)) {
        GNV_ASSIGN(stop, call.integer(1));
        GNV_ASSIGN(step, call.integer(2, 1));
    } else {
        std::swap(start, stop);
    }
    if (step == 0) return Status(Code::invalid_argument, "the step cannot be zero");
    std::vector<Value> items;
    for (int64_t i = start; step > 0 ? i < stop : i > stop;) {
        items.push_back(Value::number(i));
        if (int64_t(items.size()) > longest)
            return fail(Code::invalid_argument, "more than ", count_text(longest), " numbers");
        if (__builtin_add_overflow(i, step, &i)) break;
    }
    GNV_TRY(call.work.step(items.size()));
    const Value range = call.work.list(std::move(items), Kind::range);
    range.sequence->start = start;
    range.sequence->stop = stop;
    range.sequence->step = step;
    return range;
}

// The entries of dict(...) and namespace(...): a dict or pairs, then names.
Status fill(Call & call, Dict & dict) {
    if (call.arguments.values.size() > 1) return Status(Code::invalid_argument, "at most one argument has no name");
    if (!call.arguments.values.empty()) {
        const Value & source = call.arguments.values[0];
        if (source.is(Kind::dict)) {
            dict.entries = source.dict->entries;
        } else {
            GNV_ASSIGN(const std::vector<Value> pairs, elements_of(call.work, source));
            for (const Value & pair : pairs) {
                GNV_ASSIGN(const std::vector<Value> parts, elements_of(call.work, pair));
                if (parts.size() != 2) return Status(Code::invalid_argument, "pairs of key and value are needed");
                GNV_ASSIGN(const uint64_t hash, hash_of(parts[0]));
                dict.set(parts[0], hash, parts[1]);
            }
        }
    }
    for (const NamedValue & named : call.arguments.named) dict.set(named.first, named.second);
    call.work.took(dict.entries.size() * sizeof(Dict::Entry));
    return {};
}

Result<Value> make_dict(Call & call) {
    Dict * const made = call.work.make<Dict>();
    GNV_TRY(fill(call, *made));
    return Value::of(Kind::dict, made);
}

Result<Value> make_namespace(Call & call) {
    Dict * const made = call.work.make<Dict>();
    GNV_TRY(fill(call, *made));
    return Value::of(Kind::name_space, made);
}

Result<Value> make_cycler(Call & call) {
    if (call.arguments.values.empty()) return Status(Code::invalid_argument, "at least one item is needed");
    Cycler * const made = call.work.make<Cycler>();
    made->items = call.arguments.values;
    return Value::of(made);
}

Result<Value> make_joiner(Call & call) {
    Joiner * const made = call.work.make<Joiner>();
    GNV_ASSIGN(made->separator, call.text(0, ", "));
    return Value::of(made);
}

Result<Value> raise_exception(Call & call) {
    GNV_ASSIGN(const std::string_view message, text_of(call.work, call.get(0)));
    return fail(Code::invalid_argument, "the template refuses the conversation: ", message);
}

Result<Value> strftime_now(Call & call) {
    GNV_ASSIGN(const std::string_view format, call.text(0));
    GNV_ASSIGN(std::string text, date_text(format, call.interpreter.local_time()));
    return call.work.keep_text(std::move(text));
}

constexpr Function globals[] = {
    {"range", "start stop? step?", make_range},
    {"dict", "*", make_dict},
    {"namespace", "*", make_namespace},
    {"cycler", "*", make_cycler},
    {"joiner", "sep?", make_joiner},
    {"raise_exception", "message", raise_exception},
    {"strftime_now", "format", strftime_now},
};

// --- loop -----------------------------------------------------------------------------------------------------------------

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

const Function * find_global(std::string_view name) { return find_function(globals, name); }

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
