#include "chat/interpreter.h"

namespace gnv::chat {

const Interpreter::Execute Interpreter::executes[] = {
    &Interpreter::write_text,
    &Interpreter::print,
    &Interpreter::run_loop,
    &Interpreter::run_condition,
    &Interpreter::set,
    &Interpreter::set_block,
    &Interpreter::define_macro,
    &Interpreter::run_call_block,
    &Interpreter::run_filter_block,
    &Interpreter::run_with,
    &Interpreter::run_generation,
    &Interpreter::exit_loop,
    &Interpreter::exit_loop,
};

Value * Frame::find(std::string_view name) {
    for (NamedValue & entry : names)
        if (entry.first == name) return &entry.second;
    return nullptr;
}

void Frame::set(std::string_view name, const Value & value) {
    if (Value * const found = find(name)) {
        *found = value;
    } else {
        names.emplace_back(name, value);
    }
}

Interpreter::Interpreter(Workspace & work, const Dict & variables, int64_t local_time)
    : Engine(work, local_time), variables_(variables) {
    frame_ = work.make<Frame>();
}

Status Interpreter::render(const Block & body, std::string & out) {
    out_ = &out;
    return run(body);
}

Status Interpreter::locate(Status status, int line) {
    if (!status.ok() && !is_located_) {
        is_located_ = true;
        status.add_context(std::to_string(line));
    }
    return status;
}

Status Interpreter::run(const Block & body) {
    static_assert(std::size(executes) == size_t(StatementKind::count_));
    if (depth_ >= work_.limits().depth)
        return Status(Code::unsupported, "the template calls itself too deeply: macros without end");
    depth_++;
    for (const std::unique_ptr<Statement> & statement : body) {
        Status status = work_.step();
        if (status.ok()) status = (this->*executes[size_t(statement->kind)])(*statement);
        GNV_TRY(locate(std::move(status), statement->line));
        if (exit_ != Exit::none) break;
    }
    depth_--;
    return {};
}

// Runs `body` with an output and a frame of its own.
Status Interpreter::run_captured(const Block & body, Frame & frame, std::string & out) {
    std::string * const out_before = std::exchange(out_, &out);
    Frame * const frame_before = std::exchange(frame_, &frame);
    GNV_TRY(run(body));
    out_ = out_before;
    frame_ = frame_before;
    return {};
}

Frame & Interpreter::push_frame(Frame * parent) {
    Frame * const frame = work_.make<Frame>();
    frame->parent = parent;
    return *frame;
}

// --- Output ---------------------------------------------------------------------------------------------------------------

Status Interpreter::write(std::string_view text) {
    out_bytes_ += text.size();
    if (out_bytes_ > work_.limits().output_bytes)
        return fail(Code::unsupported, "the template writes more than ", bytes_text(work_.limits().output_bytes));
    GNV_TRY(work_.step_bytes(text.size()));
    *out_ += text;
    return {};
}

Status Interpreter::write_text(const Statement & statement) { return write(statement.text); }

Status Interpreter::print(const Statement & statement) {
    GNV_ASSIGN(const Value value, value_of(*statement.expression));
    GNV_ASSIGN(const std::string_view text, text_of(work_, value));
    return write(text);
}

// --- Loops and conditions -------------------------------------------------------------------------------------------------

// The next element of the source that the filter lets pass; false at the end.
Result<bool> Interpreter::next_element(LoopState & loop, Value & out) {
    const bool once = loop.source.is(Kind::generator);
    Sequence & source = *loop.source.sequence;
    size_t & at = once ? source.taken : loop.at;
    while (at < source.items.size()) {
        GNV_TRY(work_.step());
        out = source.items[at++];
        if (!loop.statement->filter) return true;
        loop.frame->names.clear();
        GNV_TRY(assign(*loop.statement->target, out, *loop.frame));
        Frame * const before = std::exchange(frame_, loop.frame);
        GNV_ASSIGN(const Value passes, value_of(*loop.statement->filter));
        frame_ = before;
        if (truth(passes)) return true;
    }
    return false;
}

// Takes elements before their turn, until `count` are there; false when there are fewer.
Result<bool> Interpreter::look_ahead(LoopState & loop, size_t count) {
    while (loop.ahead.size() < count) {
        Value element;
        GNV_ASSIGN(const bool found, next_element(loop, element));
        if (!found) return false;
        loop.ahead.push_back(element);
    }
    return true;
}

Status Interpreter::run_loop(const Statement & statement) {
    LoopState & loop = *work_.make<LoopState>();
    loop.statement = &statement;
    GNV_ASSIGN(loop.source, value_of(*statement.expression));
    if (!loop.source.is_sequence()) {
        GNV_ASSIGN(std::vector<Value> elements, elements_of(work_, loop.source));
        loop.source = work_.list(std::move(elements));
    }
    if (statement.filter) loop.frame = &push_frame(frame_);
    Frame * const around = frame_;
    Frame & frame = push_frame(around);
    bool finished = false; // a body, to its end: what Jinja asks for, before it leaves out the else
    for (bool goes_on = true; goes_on;) {
        GNV_ASSIGN(const bool found, look_ahead(loop, 1));
        if (!found) break;
        loop.previous = loop.current;
        loop.current = loop.ahead.front();
        loop.ahead.pop_front();
        loop.index++;
        frame.names.clear();
        GNV_TRY(assign(*statement.target, loop.current, frame));
        frame.set("loop", Value::of(&loop));
        frame_ = &frame;
        GNV_TRY(run(statement.body));
        frame_ = around;
        const Exit exit = std::exchange(exit_, Exit::none);
        finished = finished || exit == Exit::none;
        goes_on = exit != Exit::break_loop;
    }
    if (finished || statement.otherwise.empty()) return {};
    frame_ = &push_frame(around);
    GNV_TRY(run(statement.otherwise));
    frame_ = around;
    return {};
}

Status Interpreter::exit_loop(const Statement & statement) {
    exit_ = statement.kind == StatementKind::break_loop ? Exit::break_loop : Exit::continue_loop;
    return {};
}

Status Interpreter::run_condition(const Statement & statement) {
    for (const Branch & branch : statement.branches) {
        if (branch.condition) {
            GNV_ASSIGN(const Value value, value_of(*branch.condition));
            if (!truth(value)) continue;
        }
        return run(branch.body);
    }
    return {};
}

// --- Names ----------------------------------------------------------------------------------------------------------------

Status Interpreter::assign(const Expression & target, const Value & value, Frame & frame) {
    if (target.kind == ExpressionKind::name) {
        frame.set(target.text, value);
        return {};
    }
    if (target.kind == ExpressionKind::attribute) {
        GNV_ASSIGN(const Value object, value_of(*target.parts[0]));
        if (!object.is(Kind::name_space))
            return fail(Code::invalid_argument, "a member can be set of a namespace() only, not of ",
                        printable(target.parts[0]->text, 60));
        work_.took(sizeof(Dict::Entry));
        object.dict->set(target.text, value);
        return {};
    }
    GNV_ASSIGN(const std::vector<Value> values, elements_of(work_, value));
    if (values.size() != target.parts.size())
        return fail(Code::invalid_argument, values.size(), " values for ", target.parts.size(), " names");
    for (size_t i = 0; i < values.size(); i++) GNV_TRY(assign(*target.parts[i], values[i], frame));
    return {};
}

Status Interpreter::set(const Statement & statement) {
    GNV_ASSIGN(const Value value, value_of(*statement.expression));
    return assign(*statement.target, value, *frame_);
}

Status Interpreter::set_block(const Statement & statement) {
    std::string text;
    GNV_TRY(run_captured(statement.body, push_frame(frame_), text));
    Value value = work_.keep_text(std::move(text));
    if (statement.expression) {
        GNV_ASSIGN(value, apply_chain(*statement.expression, value));
    }
    return assign(*statement.target, value, *frame_);
}

Status Interpreter::run_with(const Statement & statement) {
    Frame & frame = push_frame(frame_);
    for (size_t i = 0; i < statement.targets.size(); i++) {
        GNV_ASSIGN(const Value value, value_of(*statement.values[i]));
        GNV_TRY(assign(*statement.targets[i], value, frame));
    }
    Frame * const around = std::exchange(frame_, &frame);
    GNV_TRY(run(statement.body));
    frame_ = around;
    return {};
}

// --- Macros and captured blocks -------------------------------------------------------------------------------------------

Value Interpreter::make_macro(std::string_view name, const Signature & signature, const Block & body) {
    TemplateMacro * const macro = work_.make<TemplateMacro>();
    macro->name = name;
    macro->signature = &signature;
    macro->body = &body;
    macro->scope = frame_;
    return Value::of(macro);
}

Status Interpreter::define_macro(const Statement & statement) {
    frame_->set(statement.text, make_macro(statement.text, statement.signature, statement.body));
    return {};
}

Status Interpreter::run_call_block(const Statement & statement) {
    const Expression & call_of = *statement.expression;
    GNV_ASSIGN(const Value callee, value_of(*call_of.parts[0]));
    GNV_ASSIGN(Arguments arguments, arguments_of(call_of));
    arguments.named.emplace_back("caller", make_macro("caller", statement.signature, statement.body));
    GNV_ASSIGN(const Value value, call(callee, arguments));
    GNV_ASSIGN(const std::string_view text, text_of(work_, value));
    return write(text);
}

Status Interpreter::run_filter_block(const Statement & statement) {
    std::string text;
    GNV_TRY(run_captured(statement.body, push_frame(frame_), text));
    GNV_ASSIGN(const Value value, apply_chain(*statement.expression, work_.keep_text(std::move(text))));
    GNV_ASSIGN(const std::string_view written, text_of(work_, value));
    return write(written);
}

Status Interpreter::run_generation(const Statement & statement) {
    std::string text;
    GNV_TRY(run_captured(statement.body, push_frame(frame_), text));
    return write(text);
}

} // namespace gnv::chat
