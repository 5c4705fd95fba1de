#include "chat/functions/operators.h"
#include "chat/interpreter.h"

namespace gnv::chat {

const Interpreter::Evaluate Interpreter::evaluates[] = {
    &Interpreter::constant,   &Interpreter::name,         &Interpreter::items,
    &Interpreter::items,      &Interpreter::dict,         &Interpreter::attribute,
    &Interpreter::item,       &Interpreter::slice,        &Interpreter::call_expression,
    &Interpreter::apply,      &Interpreter::apply,        &Interpreter::invert,
    &Interpreter::sign,       &Interpreter::sign,         &Interpreter::binary,
    &Interpreter::comparison, &Interpreter::concat_parts, &Interpreter::choose,
    &Interpreter::choose,     &Interpreter::condition,
};

Result<Value> Interpreter::value_of(const Expression & expression) {
    static_assert(std::size(evaluates) == size_t(ExpressionKind::count_));
    const auto evaluate = [&]() -> Result<Value> {
        GNV_TRY(work_.step());
        if (depth_ >= work_.limits().depth)
            return Status(Code::unsupported, "the template calls itself too deeply: macros without end");
        depth_++;
        Result<Value> value = (this->*evaluates[size_t(expression.kind)])(expression);
        depth_--;
        return value;
    };
    Result<Value> value = evaluate();
    if (!value.ok()) return locate(value.take_status(), expression.line);
    return value;
}

Result<Value> Interpreter::constant(const Expression & expression) { return expression.value; }

Result<Value> Interpreter::name(const Expression & expression) {
    for (Frame * frame = frame_; frame; frame = frame->parent)
        if (const Value * const found = frame->find(expression.text)) return *found;
    if (const Value * const variable = variables_.find(expression.text)) return *variable;
    const Function * const global = find_global(expression.text);
    if (!global) return Value::undefined(expression.text);
    BoundFunction * const bound = work_.make<BoundFunction>();
    bound->function = global;
    return Value::of(bound);
}

Result<Value> Interpreter::items(const Expression & expression) {
    std::vector<Value> values;
    values.reserve(expression.parts.size());
    for (const ExpressionPointer & part : expression.parts) {
        GNV_ASSIGN(const Value value, value_of(*part));
        values.push_back(value);
    }
    return work_.list(std::move(values), expression.kind == ExpressionKind::list ? Kind::list : Kind::tuple);
}

Result<Value> Interpreter::dict(const Expression & expression) {
    Dict * const made = work_.make<Dict>();
    for (size_t i = 0; i < expression.parts.size(); i += 2) {
        GNV_ASSIGN(const Value key, value_of(*expression.parts[i]));
        GNV_ASSIGN(const Value value, value_of(*expression.parts[i + 1]));
        GNV_ASSIGN(const uint64_t hash, hash_of(key));
        made->set(key, hash, value);
        work_.took(sizeof(Dict::Entry));
    }
    return Value::of(Kind::dict, made);
}

Result<Value> Interpreter::attribute(const Expression & expression) {
    GNV_ASSIGN(const Value object, value_of(*expression.parts[0]));
    return attribute_of(*this, object, expression.text);
}

Result<Value> Interpreter::item(const Expression & expression) {
    GNV_ASSIGN(const Value object, value_of(*expression.parts[0]));
    GNV_ASSIGN(const Value key, value_of(*expression.parts[1]));
    return item_of(*this, object, key);
}

Result<Value> Interpreter::slice(const Expression & expression) {
    GNV_ASSIGN(const Value object, value_of(*expression.parts[0]));
    Value limits[3] = {Value::none(), Value::none(), Value::none()};
    for (size_t i = 0; i < 3; i++) {
        if (!expression.parts[i + 1]) continue;
        GNV_ASSIGN(limits[i], value_of(*expression.parts[i + 1]));
    }
    return slice_of(work_, object, limits[0], limits[1], limits[2]);
}

// --- Operators ------------------------------------------------------------------------------------------------------------

Result<Value> Interpreter::invert(const Expression & expression) {
    GNV_ASSIGN(const Value value, value_of(*expression.parts[0]));
    return Value::boolean(!truth(value));
}

Result<Value> Interpreter::sign(const Expression & expression) {
    GNV_ASSIGN(const Value value, value_of(*expression.parts[0]));
    return expression.kind == ExpressionKind::negative ? negative(value) : positive(value);
}

Result<Value> Interpreter::binary(const Expression & expression) {
    GNV_ASSIGN(const Value left, value_of(*expression.parts[0]));
    GNV_ASSIGN(const Value right, value_of(*expression.parts[1]));
    return expression.binary(work_, left, right);
}

Result<Value> Interpreter::comparison(const Expression & expression) {
    GNV_ASSIGN(Value left, value_of(*expression.parts[0]));
    for (size_t i = 0; i < expression.comparisons.size(); i++) {
        GNV_ASSIGN(const Value right, value_of(*expression.parts[i + 1]));
        GNV_ASSIGN(const bool true_so_far, holds(work_, expression.comparisons[i], left, right));
        if (!true_so_far) return Value::boolean(false);
        left = right;
    }
    return Value::boolean(true);
}

Result<Value> Interpreter::concat_parts(const Expression & expression) {
    std::string_view all;
    for (const ExpressionPointer & part : expression.parts) {
        GNV_ASSIGN(const Value value, value_of(*part));
        GNV_ASSIGN(const std::string_view text, text_of(work_, value));
        GNV_TRY(work_.step_bytes(text.size()));
        all = all.empty() ? text : text.empty() ? all : work_.joined(all, text);
    }
    return Value::string(all);
}

Result<Value> Interpreter::choose(const Expression & expression) {
    GNV_ASSIGN(const Value left, value_of(*expression.parts[0]));
    if (truth(left) == (expression.kind == ExpressionKind::either)) return left;
    return value_of(*expression.parts[1]);
}

Result<Value> Interpreter::condition(const Expression & expression) {
    GNV_ASSIGN(const Value holds, value_of(*expression.parts[1]));
    if (truth(holds)) return value_of(*expression.parts[0]);
    if (expression.parts[2]) return value_of(*expression.parts[2]);
    return Value::undefined("else");
}

// --- Calls ----------------------------------------------------------------------------------------------------------------

Result<Arguments> Interpreter::arguments_of(const Expression & expression) {
    Arguments arguments;
    for (size_t i = 1; i < expression.parts.size(); i++) {
        GNV_ASSIGN(const Value value, value_of(*expression.parts[i]));
        arguments.values.push_back(value);
    }
    for (const NamedExpression & named : expression.named) {
        GNV_ASSIGN(const Value value, value_of(*named.expression));
        arguments.named.emplace_back(named.name, value);
    }
    if (expression.star) {
        GNV_ASSIGN(const Value all, value_of(*expression.star));
        GNV_ASSIGN(const std::vector<Value> values, elements_of(work_, all));
        arguments.values.insert(arguments.values.end(), values.begin(), values.end());
    }
    if (expression.double_star) {
        GNV_ASSIGN(const Value all, value_of(*expression.double_star));
        if (!all.is(Kind::dict)) return fail(Code::invalid_argument, "** needs a dict, not ", type_name(all.kind));
        for (const Dict::Entry & entry : all.dict->entries) {
            if (!entry.key.is_string()) return Status(Code::invalid_argument, "keywords must be strings");
            arguments.named.emplace_back(entry.key.text, entry.value);
        }
    }
    return arguments;
}

Result<Value> Interpreter::call_expression(const Expression & expression) {
    GNV_ASSIGN(const Value callee, value_of(*expression.parts[0]));
    GNV_ASSIGN(Arguments arguments, arguments_of(expression));
    return call(callee, arguments);
}

Result<Value> Interpreter::call(const Value & callee, Arguments & arguments) {
    if (callee.is(Kind::function))
        return call_function(*this, *callee.function->function, callee.function->self, arguments);
    if (callee.is(Kind::macro)) return call_macro(static_cast<const TemplateMacro &>(*callee.macro), arguments);
    if (callee.is(Kind::joiner)) {
        const bool first = !std::exchange(callee.joiner->used, true);
        return Value::string(first ? std::string_view() : callee.joiner->separator);
    }
    if (callee.is_undefined()) return fail_undefined(callee);
    if (callee.is(Kind::loop)) return Status(Code::unsupported, "a recursive loop is not supported");
    return fail(Code::invalid_argument, "'", type_name(callee.kind), "' object is not callable");
}

static Status fail_unknown(const Expression & expression) {
    const char * const what = expression.kind == ExpressionKind::filter ? "filter" : "test";
    return fail(Code::unsupported, "the ", what, " '", printable(expression.text, 60), "' is not supported");
}

// A filter or a test on the value of its first part.
Result<Value> Interpreter::apply(const Expression & expression) {
    if (!expression.function) return fail_unknown(expression);
    GNV_ASSIGN(const Value input, value_of(*expression.parts[0]));
    GNV_ASSIGN(Arguments arguments, arguments_of(expression));
    return call_function(*this, *expression.function, input, arguments);
}

// The filters of a block, the innermost first.
Result<Value> Interpreter::apply_chain(const Expression & expression, const Value & input) {
    Value value = input;
    if (expression.parts[0]) {
        GNV_ASSIGN(value, apply_chain(*expression.parts[0], input));
    }
    if (!expression.function) return fail_unknown(expression);
    GNV_ASSIGN(Arguments arguments, arguments_of(expression));
    return call_function(*this, *expression.function, value, arguments);
}

Result<Value> Interpreter::call_macro(const TemplateMacro & macro, Arguments & arguments) {
    const Signature & signature = *macro.signature;
    const auto failed = [&](const auto &... parts) {
        return fail(Code::invalid_argument, "the macro '", macro.name, "' ", parts...);
    };
    Frame & frame = push_frame(macro.scope);
    work_.took(signature.parameters.size() * sizeof(NamedValue));
    std::vector<bool> used(arguments.named.size());
    const auto take_named = [&](std::string_view name) -> const Value * {
        for (size_t i = 0; i < used.size(); i++)
            if (!used[i] && arguments.named[i].first == name) return used[i] = true, &arguments.named[i].second;
        return nullptr;
    };
    std::vector<const Parameter *> missing;
    for (size_t i = 0; i < signature.parameters.size(); i++) {
        const Parameter & parameter = signature.parameters[i];
        const Value * const given = i < arguments.values.size() ? &arguments.values[i] : take_named(parameter.name);
        if (!given) missing.push_back(&parameter);
        frame.set(parameter.name, given ? *given : Value::undefined(parameter.name));
    }
    const Value * const caller = signature.uses_caller ? take_named("caller") : nullptr;
    if (signature.uses_caller && !frame.find("caller"))
        frame.set("caller", caller ? *caller : Value::undefined("caller"));
    Dict * const rest = work_.make<Dict>();
    for (size_t i = 0; i < used.size(); i++) {
        if (used[i]) continue;
        const std::string_view name = arguments.named[i].first;
        if (!signature.uses_kwargs || name == "caller") return failed("takes no argument '", printable(name, 60), "'");
        rest->set(name, arguments.named[i].second);
    }
    if (signature.uses_kwargs) frame.set("kwargs", Value::of(Kind::dict, rest));
    const size_t taken = std::min(signature.parameters.size(), arguments.values.size());
    if (taken < arguments.values.size() && !signature.uses_varargs)
        return failed("takes not more than ", signature.parameters.size(), " arguments");
    if (signature.uses_varargs)
        frame.set("varargs",
                  work_.list({arguments.values.begin() + ptrdiff_t(taken), arguments.values.end()}, Kind::tuple));
    Frame * const around = std::exchange(frame_, &frame);
    for (const Parameter * const parameter : missing) {
        if (!parameter->otherwise) continue;
        GNV_ASSIGN(const Value value, value_of(*parameter->otherwise));
        frame.set(parameter->name, value);
    }
    frame_ = around;
    std::string text;
    GNV_TRY(run_captured(*macro.body, frame, text));
    return work_.keep_text(std::move(text));
}

} // namespace gnv::chat
