// Functions of the language: filters, tests, methods and globals are rows of tables, with their parameters declared.
#pragma once

#include "chat/values/python_text.h"

namespace gnv::chat {

// The interpreter, as functions see it.
class Engine {
  public:
    // `local_time` is what strftime_now() writes, in seconds since 1970.
    Engine(Workspace & work, int64_t local_time) : work_(work), local_time_(local_time) {}
    virtual ~Engine() = default;

    Workspace & work() { return work_; }
    int64_t local_time() const { return local_time_; }
    bool is_located() const { return is_located_; } // whether the failure on its way has its line already
    virtual Result<Value> loop_member(LoopState & loop, std::string_view name) = 0;

  protected:
    Workspace & work_;
    const int64_t local_time_;
    bool is_located_ = false;
};

struct Arguments {
    std::vector<Value> values;
    std::vector<NamedValue> named;
};

inline constexpr size_t most_parameters = 6;

// One call of a Function, with its arguments bound to its parameters.
struct Call {
    Engine & engine;
    Workspace & work;
    Value self; // what a filter or test is applied to, or whose method it is
    Arguments & arguments;
    std::array<const Value *, most_parameters> slots{}; // by parameter; nullptr for those that are not given

    bool has(size_t parameter) const { return slots[parameter] != nullptr; }
    bool has_value(size_t parameter) const { return has(parameter) && !slots[parameter]->is(Kind::none); }
    Value get(size_t parameter) const { return has(parameter) ? *slots[parameter] : Value::none(); }
    bool flag(size_t parameter, bool otherwise = false) const {
        return has(parameter) ? truth(*slots[parameter]) : otherwise;
    }
    Result<int64_t> integer(size_t parameter, int64_t otherwise = 0) const;                 // also where None is given
    Result<std::string_view> text(size_t parameter, std::string_view otherwise = {}) const; // the same
    Result<std::string_view> self_text() const { return text_of(work, self); } // of any value, as Jinja's filters
};

Result<Value> call_function(Engine & engine, const Function & function, const Value & self, Arguments & arguments);

// nullptr when there is none. Methods are those of Python's types.
const Function * find_filter(std::string_view name);
const Function * find_test(std::string_view name);
const Function * find_global(std::string_view name);
const Function * find_method(const Value & self, std::string_view name);

template <size_t n>
const Function * find_function(const Function (&table)[n], std::string_view name) {
    for (const Function & function : table)
        if (name == function.name) return &function;
    return nullptr;
}

} // namespace gnv::chat
