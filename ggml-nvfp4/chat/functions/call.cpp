#include "chat/functions/call.h"

namespace gnv::chat {

Result<int64_t> Call::integer(size_t parameter, int64_t otherwise) const {
    if (!has_value(parameter)) return otherwise;
    const Value & value = *slots[parameter];
    if (value.is_whole()) return value.as_integer();
    if (value.is_undefined()) return fail_undefined(value);
    return fail(Code::invalid_argument, "an int is needed, not ", type_name(value.kind));
}

Result<std::string_view> Call::text(size_t parameter, std::string_view otherwise) const {
    if (!has_value(parameter)) return otherwise;
    const Value & value = *slots[parameter];
    if (value.is_string()) return value.text;
    if (value.is_undefined()) return fail_undefined(value);
    return fail(Code::invalid_argument, "a str is needed, not ", type_name(value.kind));
}

namespace {

struct Parameter {
    std::string_view name;
    bool optional;
};

// The parameters that "old new count?" declares.
size_t read_parameters(std::string_view text, std::array<Parameter, most_parameters> & out) {
    size_t count = 0;
    while (!text.empty()) {
        std::string_view word = text.substr(0, text.find(' '));
        text.remove_prefix(std::min(word.size() + 1, text.size()));
        const bool optional = word.back() == '?';
        if (optional) word.remove_suffix(1);
        GNV_CHECK(count < most_parameters);
        out[count++] = {word, optional};
    }
    return count;
}

Status bind(Call & call, const Function & function) {
    std::array<Parameter, most_parameters> parameters;
    const size_t count = read_parameters(function.parameters, parameters);
    if (call.arguments.values.size() > count)
        return fail(Code::invalid_argument, "at most ", count, " arguments are possible, not ",
                    call.arguments.values.size());
    for (size_t i = 0; i < call.arguments.values.size(); i++) call.slots[i] = &call.arguments.values[i];
    for (const NamedValue & named : call.arguments.named) {
        size_t i = 0;
        while (i < count && parameters[i].name != named.first) i++;
        if (i == count || call.slots[i])
            return fail(Code::invalid_argument, "the argument '", printable(named.first, 60), "' is ",
                        i == count ? "unknown" : "given twice");
        call.slots[i] = &named.second;
    }
    for (size_t i = 0; i < count; i++)
        if (!call.slots[i] && !parameters[i].optional)
            return fail(Code::invalid_argument, "the argument '", parameters[i].name, "' is missing");
    return {};
}

} // namespace

Result<Value> call_function(Engine & engine, const Function & function, const Value & self, Arguments & arguments) {
    Call call{engine, engine.work(), self, arguments};
    const auto run = [&]() -> Result<Value> {
        GNV_TRY(call.work.step());
        if (std::string_view(function.parameters) != "*") GNV_TRY(bind(call, function));
        return function.run(call);
    };
    Result<Value> result = run();
    if (!result.ok() && !engine.is_located()) return result.take_status().add_context(function.name);
    return result;
}

} // namespace gnv::chat
