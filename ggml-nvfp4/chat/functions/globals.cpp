// Functions that every template has.
#include "chat/functions/call.h"
#include "chat/values/date_text.h"

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
    GNV_ASSIGN(std::string text, date_text(format, call.engine.local_time()));
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

} // namespace

const Function * find_global(std::string_view name) { return find_function(globals, name); }

} // namespace gnv::chat
