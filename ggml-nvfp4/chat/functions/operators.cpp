#include "chat/functions/operators.h"

#include "chat/functions/method_tables.h"
#include "chat/values/python_text.h"
#include "chat/values/unicode_text.h"

#include <cmath>

namespace gnv::chat {

namespace {

Status fail_overflow() { return Status(Code::unsupported, "a whole number beyond 64 bits is not supported"); }
Status fail_zero() { return Status(Code::invalid_argument, "division by zero"); }

Result<Value> checked(bool overflows, int64_t number) {
    if (overflows) return fail_overflow();
    return Value::number(number);
}

bool are_whole(const Value & a, const Value & b) { return a.is_whole() && b.is_whole(); }
bool are_numbers(const Value & a, const Value & b) { return a.is_number() && b.is_number(); }

Result<Value> add(Workspace & work, const Value & a, const Value & b) {
    if (are_whole(a, b)) {
        int64_t sum = 0;
        const bool overflows = __builtin_add_overflow(a.as_integer(), b.as_integer(), &sum);
        return checked(overflows, sum);
    }
    if (are_numbers(a, b)) return Value::number(a.as_real() + b.as_real());
    if (a.is_string() && b.is_string()) {
        GNV_TRY(work.step_bytes(b.text.size()));
        if (a.is_markup == b.is_markup) return Value::string(work.joined(a.text, b.text)).marked(a.is_markup);
        const std::string_view plain = work.keep(escaped_text(a.is_markup ? b.text : a.text)); // the other one
        return Value::markup(a.is_markup ? work.joined(a.text, plain) : work.joined(plain, b.text));
    }
    if (a.kind != b.kind || !(a.is(Kind::list) || a.is(Kind::tuple))) return fail_operands("+", a, b);
    GNV_TRY(work.step(1 + (a.sequence->items.size() + b.sequence->items.size()) / 16));
    std::vector<Value> items = a.sequence->items;
    items.insert(items.end(), b.sequence->items.begin(), b.sequence->items.end());
    return work.list(std::move(items), a.kind);
}

Result<Value> subtract(Workspace &, const Value & a, const Value & b) {
    if (are_whole(a, b)) {
        int64_t difference = 0;
        const bool overflows = __builtin_sub_overflow(a.as_integer(), b.as_integer(), &difference);
        return checked(overflows, difference);
    }
    if (are_numbers(a, b)) return Value::number(a.as_real() - b.as_real());
    return fail_operands("-", a, b);
}

Result<Value> repeat(Workspace & work, const Value & value, int64_t count) {
    const uint64_t times = count < 0 ? 0 : uint64_t(count);
    const uint64_t size = value.is_string() ? value.text.size() : value.sequence->items.size() * sizeof(Value);
    uint64_t bytes = 0;
    if (__builtin_mul_overflow(size, times, &bytes)) bytes = UINT64_MAX;
    GNV_TRY(work.room(bytes));
    GNV_TRY(work.step_bytes(bytes));
    if (value.is_string()) {
        std::string text;
        text.reserve(bytes);
        for (uint64_t i = 0; i < times && size; i++) text += value.text;
        return work.keep_text(std::move(text)).marked(value.is_markup);
    }
    std::vector<Value> items;
    items.reserve(bytes / sizeof(Value));
    for (uint64_t i = 0; i < times && size; i++)
        items.insert(items.end(), value.sequence->items.begin(), value.sequence->items.end());
    return work.list(std::move(items), value.kind);
}

Result<Value> multiply(Workspace & work, const Value & a, const Value & b) {
    if (are_whole(a, b)) {
        int64_t product = 0;
        const bool overflows = __builtin_mul_overflow(a.as_integer(), b.as_integer(), &product);
        return checked(overflows, product);
    }
    if (are_numbers(a, b)) return Value::number(a.as_real() * b.as_real());
    const auto repeats = [](const Value & value) {
        return value.is_string() || value.is(Kind::list) || value.is(Kind::tuple);
    };
    if (repeats(a) && b.is_whole()) return repeat(work, a, b.as_integer());
    if (repeats(b) && a.is_whole()) return repeat(work, b, a.as_integer());
    return fail_operands("*", a, b);
}

Result<Value> divide(Workspace &, const Value & a, const Value & b) {
    if (!are_numbers(a, b)) return fail_operands("/", a, b);
    if (b.as_real() == 0) return fail_zero();
    return Value::number(a.as_real() / b.as_real());
}

// The remainder has the sign of the divisor.
double floor_remainder(double a, double b) {
    double remainder = std::fmod(a, b);
    if (remainder != 0 && (b < 0) != (remainder < 0)) remainder += b;
    return remainder == 0 ? std::copysign(0.0, b) : remainder;
}

Result<Value> floor_divide(Workspace &, const Value & a, const Value & b) {
    if (!are_numbers(a, b)) return fail_operands("//", a, b);
    if (b.as_real() == 0) return fail_zero();
    if (!are_whole(a, b)) {
        const double x = a.as_real(), y = b.as_real();
        const double quotient = (x - floor_remainder(x, y)) / y;
        if (quotient == 0) return Value::number(std::copysign(0.0, x / y));
        const double whole = std::floor(quotient);
        return Value::number(quotient - whole > 0.5 ? whole + 1 : whole);
    }
    const int64_t x = a.as_integer(), y = b.as_integer();
    if (y == -1) return checked(x == INT64_MIN, x == INT64_MIN ? 0 : -x);
    return Value::number(x / y - ((x % y != 0) && ((x < 0) != (y < 0))));
}

Result<Value> remainder(Workspace & work, const Value & a, const Value & b) {
    if (a.is_string()) return percent_format(work, a.text, b);
    if (!are_numbers(a, b)) return fail_operands("%", a, b);
    if (b.as_real() == 0) return fail_zero();
    if (!are_whole(a, b)) return Value::number(floor_remainder(a.as_real(), b.as_real()));
    const int64_t x = a.as_integer(), y = b.as_integer();
    if (y == -1) return Value::number(int64_t(0));
    const int64_t rest = x % y;
    return Value::number(rest != 0 && (rest < 0) != (y < 0) ? rest + y : rest);
}

Result<Value> power(Workspace & work, const Value & a, const Value & b) {
    if (!are_numbers(a, b)) return fail_operands("**", a, b);
    if (!are_whole(a, b) || b.as_integer() < 0) {
        const double base = a.as_real(), exponent = b.as_real();
        if (base == 0 && exponent < 0) return fail_zero();
        const double result = std::pow(base, exponent);
        if (std::isnan(result) && !std::isnan(base) && !std::isnan(exponent))
            return Status(Code::unsupported, "complex numbers are not supported");
        if (std::isinf(result) && std::isfinite(base) && std::isfinite(exponent))
            return Status(Code::invalid_argument, "the result is too large for a float");
        return Value::number(result);
    }
    const int64_t base = a.as_integer();
    int64_t exponent = b.as_integer(), result = 1;
    if (base == 0 || base == 1) return Value::number(exponent == 0 ? 1 : base);
    if (base == -1) return Value::number(exponent % 2 ? int64_t(-1) : int64_t(1));
    for (; exponent > 0; exponent--) {
        GNV_TRY(work.step());
        if (__builtin_mul_overflow(result, base, &result)) return fail_overflow();
    }
    return Value::number(result);
}

} // namespace

BinaryOperator find_operator(std::string_view symbol) {
    static constexpr std::pair<std::string_view, BinaryOperator> table[] = {
        {"+", add},           {"-", subtract},  {"*", multiply}, {"/", divide},
        {"//", floor_divide}, {"%", remainder}, {"**", power},
    };
    for (const auto & [name, function] : table)
        if (name == symbol) return function;
    return nullptr;
}

Result<bool> holds(Workspace & work, Comparison comparison, const Value & a, const Value & b) {
    switch (comparison) {
    case Comparison::equal: return equal(work, a, b);
    case Comparison::in: return contains(work, b, a);
    case Comparison::unequal: {
        GNV_ASSIGN(const bool same, equal(work, a, b));
        return !same;
    }
    case Comparison::not_in: {
        GNV_ASSIGN(const bool found, contains(work, b, a));
        return !found;
    }
    default: break;
    }
    const bool is_nan = (a.is(Kind::real) && std::isnan(a.real)) || (b.is(Kind::real) && std::isnan(b.real));
    GNV_ASSIGN(const int order, compare(work, a, b));
    if (is_nan) return false;
    switch (comparison) {
    case Comparison::less: return order < 0;
    case Comparison::less_equal: return order <= 0;
    case Comparison::greater: return order > 0;
    default: return order >= 0;
    }
}

Result<Value> negative(const Value & value) {
    if (value.is_whole()) return checked(value.as_integer() == INT64_MIN, int64_t(0 - uint64_t(value.as_integer())));
    if (value.is(Kind::real)) return Value::number(-value.real);
    if (value.is_undefined()) return fail_undefined(value);
    return fail(Code::invalid_argument, "bad operand type for unary -: '", type_name(value.kind), "'");
}

Result<Value> positive(const Value & value) {
    if (value.is_whole()) return Value::number(value.as_integer());
    if (value.is(Kind::real)) return value;
    if (value.is_undefined()) return fail_undefined(value);
    return fail(Code::invalid_argument, "bad operand type for unary +: '", type_name(value.kind), "'");
}

} // namespace gnv::chat
