// Tests: what may stand after `is`.
#include "chat/functions/call.h"
#include "chat/functions/operators.h"
#include "chat/values/unicode_text.h"

#include <cmath>

namespace gnv::chat {

namespace {

Result<Value> yes_or_no(bool holds) { return Value::boolean(holds); }

template <Kind... kinds>
Result<Value> is_of_kind(Call & call) {
    return yes_or_no(((call.self.kind == kinds) || ...));
}

template <bool wanted>
Result<Value> is_exactly(Call & call) {
    return yes_or_no(call.self.is(Kind::boolean) && call.self.flag == wanted);
}

template <Comparison comparison>
Result<Value> compares_to(Call & call) {
    GNV_ASSIGN(const bool result, holds(call.work, comparison, call.self, call.get(0)));
    return Value::boolean(result);
}

Result<Value> is_defined(Call & call) { return yes_or_no(!call.self.is_undefined()); }

// `value % divisor == wanted`
Result<Value> has_remainder(Call & call, const Value & divisor, int64_t wanted) {
    GNV_ASSIGN(const Value rest, find_operator("%")(call.work, call.self, divisor));
    GNV_ASSIGN(const bool same, equal(call.work, rest, Value::number(wanted)));
    return Value::boolean(same);
}
Result<Value> is_even(Call & call) { return has_remainder(call, Value::number(int64_t(2)), 0); }
Result<Value> is_odd(Call & call) { return has_remainder(call, Value::number(int64_t(2)), 1); }
Result<Value> is_divisible(Call & call) { return has_remainder(call, call.get(0), 0); }

Result<Value> is_sequence(Call & call) {
    const Value & value = call.self;
    return yes_or_no(value.is_undefined() || value.is_string() || value.is(Kind::list) || value.is(Kind::tuple) ||
                     value.is(Kind::range) || value.is(Kind::dict));
}

Result<Value> is_iterable(Call & call) {
    const Value & value = call.self;
    return yes_or_no(value.is_undefined() || value.is_string() || value.is_sequence() || value.is(Kind::dict) ||
                     value.is(Kind::loop) || value.is(Kind::cycler));
}

Result<Value> is_lower(Call & call) {
    GNV_ASSIGN(const std::string_view text, call.self_text());
    return yes_or_no(is_lower_text(text));
}
Result<Value> is_upper(Call & call) {
    GNV_ASSIGN(const std::string_view text, call.self_text());
    return yes_or_no(is_upper_text(text));
}

Result<Value> is_same(Call & call) {
    const Value a = call.self, b = call.get(0);
    if (a.kind != b.kind) return yes_or_no(false);
    if (a.is_undefined()) return yes_or_no(false);
    if (a.is_number() || a.is_string() || a.is(Kind::none)) {
        GNV_ASSIGN(const bool same, equal(call.work, a, b));
        return Value::boolean(same);
    }
    return yes_or_no(a.identity() == b.identity());
}

Result<Value> is_escaped(Call & call) { return yes_or_no(call.self.is_markup); }

Result<Value> is_filter(Call & call) {
    return yes_or_no(call.self.is_string() && find_filter(call.self.text) != nullptr);
}
Result<Value> is_test(Call & call) { return yes_or_no(call.self.is_string() && find_test(call.self.text) != nullptr); }

constexpr Function tests[] = {
    {"defined", "", is_defined},
    {"undefined", "", is_of_kind<Kind::undefined>},
    {"none", "", is_of_kind<Kind::none>},
    {"boolean", "", is_of_kind<Kind::boolean>},
    {"true", "", is_exactly<true>},
    {"false", "", is_exactly<false>},
    {"integer", "", is_of_kind<Kind::integer>},
    {"float", "", is_of_kind<Kind::real>},
    {"number", "", is_of_kind<Kind::boolean, Kind::integer, Kind::real>},
    {"string", "", is_of_kind<Kind::string>},
    {"mapping", "", is_of_kind<Kind::dict>},
    {"sequence", "", is_sequence},
    {"iterable", "", is_iterable},
    {"callable", "", is_of_kind<Kind::function, Kind::macro, Kind::joiner, Kind::undefined, Kind::loop>},
    {"lower", "", is_lower},
    {"upper", "", is_upper},
    {"even", "", is_even},
    {"odd", "", is_odd},
    {"divisibleby", "num", is_divisible},
    {"in", "seq", compares_to<Comparison::in>},
    {"sameas", "other", is_same},
    {"escaped", "", is_escaped},
    {"filter", "", is_filter},
    {"test", "", is_test},
    {"eq", "other", compares_to<Comparison::equal>},
    {"equalto", "other", compares_to<Comparison::equal>},
    {"==", "other", compares_to<Comparison::equal>},
    {"ne", "other", compares_to<Comparison::unequal>},
    {"!=", "other", compares_to<Comparison::unequal>},
    {"lt", "other", compares_to<Comparison::less>},
    {"lessthan", "other", compares_to<Comparison::less>},
    {"<", "other", compares_to<Comparison::less>},
    {"le", "other", compares_to<Comparison::less_equal>},
    {"<=", "other", compares_to<Comparison::less_equal>},
    {"gt", "other", compares_to<Comparison::greater>},
    {"greaterthan", "other", compares_to<Comparison::greater>},
    {">", "other", compares_to<Comparison::greater>},
    {"ge", "other", compares_to<Comparison::greater_equal>},
    {">=", "other", compares_to<Comparison::greater_equal>},
};

} // namespace

const Function * find_test(std::string_view name) { return find_function(tests, name); }

} // namespace gnv::chat
