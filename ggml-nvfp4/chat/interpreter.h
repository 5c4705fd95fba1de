// Runs a parsed template: statements write to an output, expressions give values.
#pragma once

#include "chat/functions/call.h"
#include "chat/syntax/syntax.h"

#include <deque>

namespace gnv::chat {

// Names and their values, of a loop, a macro or another block with names of its own.
struct Frame final : Object {
    Frame * parent = nullptr; // where the block stands in the template
    std::vector<NamedValue> names;

    Value * find(std::string_view name);
    void set(std::string_view name, const Value & value);
};

struct TemplateMacro final : MacroObject {
    const Signature * signature = nullptr;
    const Block * body = nullptr;
    Frame * scope = nullptr; // where it was defined
};

// The elements of a loop, taken one by one: a filter sees what the body did before.
struct LoopState final : Object {
    Value source; // the whole of it, which may grow meanwhile; a list of the elements where that is something else
    size_t at = 0;
    const Statement * statement = nullptr;
    Frame * frame = nullptr; // of the names that the filter sees
    std::deque<Value> ahead; // elements that were taken before their turn
    int64_t index = -1;
    Value previous, current;
    bool was_asked = false; // by changed()
    std::vector<Value> asked;
};

class Interpreter final : public Engine {
  public:
    // `variables` hide the globals.
    Interpreter(Workspace & work, const Dict & variables, int64_t local_time);

    // A failure begins with "LINE: ".
    Status render(const Block & body, std::string & out);

    Result<Value> call(const Value & callee, Arguments & arguments);
    Result<Value> loop_member(LoopState & loop, std::string_view name) override; // loop_members.cpp

  private:
    // Statements: interpreter.cpp.
    using Execute = Status (Interpreter::*)(const Statement & statement);
    static const Execute executes[];
    Status run(const Block & body);
    Status run_captured(const Block & body, Frame & frame, std::string & out);
    Status write(std::string_view text);
    Status write_text(const Statement & statement);
    Status print(const Statement & statement);
    Status run_loop(const Statement & statement);
    Status run_condition(const Statement & statement);
    Status set(const Statement & statement);
    Status set_block(const Statement & statement);
    Status define_macro(const Statement & statement);
    Status run_call_block(const Statement & statement);
    Status run_filter_block(const Statement & statement);
    Status run_with(const Statement & statement);
    Status run_generation(const Statement & statement);
    Status exit_loop(const Statement & statement);
    Status assign(const Expression & target, const Value & value, Frame & frame);
    Frame & push_frame(Frame * parent);
    Value make_macro(std::string_view name, const Signature & signature, const Block & body);
    Result<bool> next_element(LoopState & loop, Value & out);
    Result<bool> look_ahead(LoopState & loop, size_t count);

    // Expressions: evaluate.cpp.
    using Evaluate = Result<Value> (Interpreter::*)(const Expression & expression);
    static const Evaluate evaluates[];
    Result<Value> value_of(const Expression & expression);
    Result<Value> constant(const Expression & expression);
    Result<Value> name(const Expression & expression);
    Result<Value> items(const Expression & expression); // a list or a tuple
    Result<Value> dict(const Expression & expression);
    Result<Value> attribute(const Expression & expression);
    Result<Value> item(const Expression & expression);
    Result<Value> slice(const Expression & expression);
    Result<Value> call_expression(const Expression & expression);
    Result<Value> apply(const Expression & expression); // a filter or a test
    Result<Value> invert(const Expression & expression);
    Result<Value> sign(const Expression & expression);
    Result<Value> binary(const Expression & expression);
    Result<Value> comparison(const Expression & expression);
    Result<Value> concat_parts(const Expression & expression);
    Result<Value> choose(const Expression & expression); // and, or
    Result<Value> condition(const Expression & expression);
    Result<Arguments> arguments_of(const Expression & expression);
    Result<Value> apply_chain(const Expression & expression, const Value & input);
    Result<Value> call_macro(const TemplateMacro & macro, Arguments & arguments);
    Status locate(Status status, int line);

    enum class Exit : uint8_t { none, break_loop, continue_loop };

    const Dict & variables_;
    Frame * frame_ = nullptr;
    std::string * out_ = nullptr;
    uint64_t out_bytes_ = 0; // of all outputs
    Exit exit_ = Exit::none;
    uint32_t depth_ = 0;
};

} // namespace gnv::chat
