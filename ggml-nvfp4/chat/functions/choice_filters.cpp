// Filters that look at each element through a member, another filter or a test.
#include "chat/functions/member_path.h"
#include "chat/functions/method_tables.h"
#include "chat/functions/operators.h"

#include <charconv>

namespace gnv::chat {

MemberPath::MemberPath(const Value & path, const Value & otherwise) : otherwise_(otherwise) {
    if (path.is(Kind::none)) return;
    if (!path.is_string()) parts_.push_back(path);
    std::string_view rest = path.is_string() ? path.text : std::string_view();
    for (bool more = path.is_string(); more;) {
        const size_t dot = rest.find('.');
        const std::string_view part = rest.substr(0, dot);
        more = dot != rest.npos;
        if (more) rest.remove_prefix(dot + 1);
        int64_t index = 0;
        const auto parsed = std::from_chars(part.data(), part.data() + part.size(), index);
        const bool is_index = parsed.ec == std::errc() && parsed.ptr == part.data() + part.size() && part[0] != '-';
        parts_.push_back(is_index ? Value::number(index) : Value::string(part));
    }
}

std::vector<MemberPath> MemberPath::several(const Value & paths) {
    std::vector<MemberPath> out;
    std::string_view rest = paths.is_string() ? paths.text : std::string_view();
    for (size_t comma = rest.find(','); comma != rest.npos; comma = rest.find(',')) {
        out.emplace_back(Value::string(rest.substr(0, comma)));
        rest.remove_prefix(comma + 1);
    }
    out.emplace_back(paths.is_string() ? Value::string(rest) : paths);
    return out;
}

Result<Value> MemberPath::of(Engine & engine, const Value & element) const {
    Value value = element;
    for (const Value & part : parts_) {
        GNV_ASSIGN(value, item_of(engine, value, part));
        if (value.is_undefined() && !otherwise_.is(Kind::none)) value = otherwise_;
    }
    return value;
}

namespace {

// default(value, default_value, boolean)
Result<Value> otherwise(Call & call) {
    if (!call.self.is_undefined() && !(call.flag(1) && !truth(call.self))) return call.self;
    return call.has(0) ? call.get(0) : Value::string({});
}

Result<Value> attribute(Call & call) {
    GNV_ASSIGN(const std::string_view name, call.text(0));
    if (call.self.is(Kind::dict) && !find_method(call.self, name)) return Value::undefined(name);
    return attribute_of(call.engine, call.self, name);
}

// The first argument that is left, as the name of a row of a table.
Result<const Function *> take_function(Call & call, size_t & at, const Function * (*find)(std::string_view),
                                       const char * what) {
    const Value & name = call.arguments.values[at++];
    if (!name.is_string()) return fail(Code::invalid_argument, "the name of a ", what, " must be a string");
    const Function * const function = find(name.text);
    if (!function) return fail(Code::unsupported, "the ", what, " '", printable(name.text, 60), "' is not supported");
    return function;
}

Result<Value> map(Call & call) {
    if (!truth(call.self)) return call.work.list({}, Kind::generator);
    Arguments & all = call.arguments;
    std::vector<Value> mapped;
    if (all.values.empty()) {
        Value member, otherwise = Value::none();
        for (const NamedValue & named : all.named) {
            if (named.first == "attribute") {
                member = named.second;
            } else if (named.first == "default") {
                otherwise = named.second;
            } else {
                return fail(Code::invalid_argument, "the argument '", printable(named.first, 60), "' is unknown");
            }
        }
        if (member.is_undefined()) return Status(Code::invalid_argument, "a filter or attribute=... is needed");
        const MemberPath path(member, otherwise);
        GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
        for (const Value & item : items) {
            GNV_ASSIGN(const Value value, path.of(call.engine, item));
            mapped.push_back(value);
        }
        return call.work.list(std::move(mapped), Kind::generator);
    }
    size_t at = 0;
    GNV_ASSIGN(const Function * const filter, take_function(call, at, find_filter, "filter"));
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
    const Arguments rest{{all.values.begin() + 1, all.values.end()}, all.named};
    for (const Value & item : items) {
        Arguments arguments = rest;
        GNV_ASSIGN(const Value value, call_function(call.engine, *filter, item, arguments));
        mapped.push_back(value);
    }
    return call.work.list(std::move(mapped), Kind::generator);
}

// select, reject, selectattr, rejectattr
template <bool wanted, bool by_member>
Result<Value> choose(Call & call) {
    if (!truth(call.self)) return call.work.list({}, Kind::generator);
    Arguments & all = call.arguments;
    size_t at = 0;
    if (by_member && all.values.empty()) return Status(Code::invalid_argument, "the name of a member is missing");
    const MemberPath path(by_member ? all.values[at++] : Value::none());
    const Function * test = nullptr;
    if (at < all.values.size()) {
        GNV_ASSIGN(test, take_function(call, at, find_test, "test"));
    }
    const Arguments rest{{all.values.begin() + ptrdiff_t(at), all.values.end()}, all.named};
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
    std::vector<Value> chosen;
    for (const Value & item : items) {
        GNV_ASSIGN(Value subject, path.of(call.engine, item));
        if (test) {
            Arguments arguments = rest;
            GNV_ASSIGN(subject, call_function(call.engine, *test, subject, arguments));
        }
        if (truth(subject) == wanted) chosen.push_back(item);
    }
    return call.work.list(std::move(chosen), Kind::generator);
}

constexpr Function choice_filters[] = {
    {"attr", "name", attribute},
    {"d", "default_value? boolean?", otherwise},
    {"default", "default_value? boolean?", otherwise},
    {"map", "*", map},
    {"reject", "*", choose<false, false>},
    {"rejectattr", "*", choose<false, true>},
    {"select", "*", choose<true, false>},
    {"selectattr", "*", choose<true, true>},
};

} // namespace

const Function * find_choice_filter(std::string_view name) { return find_function(choice_filters, name); }

} // namespace gnv::chat
