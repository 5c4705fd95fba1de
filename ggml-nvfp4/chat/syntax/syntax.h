// A template after parsing: statements and expressions, as trees.
#pragma once

#include "chat/functions/operators.h"

#include <memory>

namespace gnv::chat {

struct Expression;
struct Statement;
using ExpressionPointer = std::unique_ptr<Expression>;
using Block = std::vector<std::unique_ptr<Statement>>;

enum class ExpressionKind : uint8_t {
    constant,
    name,
    list,
    tuple,
    dict,      // parts: key, value, key, value ...
    attribute, // parts[0].text
    item,      // parts[0][parts[1]]
    slice,     // parts[0][parts[1]:parts[2]:parts[3]], each of the three may be null
    call,      // parts[0](the others, named, *star, **double_star)
    filter,    // parts[0]|text(the others ...); parts[0] is null in a filter block
    test,      // parts[0] is text(the others ...)
    invert,    // not parts[0]
    negative,
    positive,
    binary,     // by `binary`
    comparison, // parts[0] comparisons[0] parts[1] comparisons[1] ...
    concat,     // parts[0] ~ parts[1] ~ ...
    both,       // and
    either,     // or
    condition,  // parts[0] if parts[1] else parts[2], which may be null
    count_
};

struct NamedExpression {
    std::string_view name;
    ExpressionPointer expression;
};

struct Expression {
    ExpressionKind kind = ExpressionKind::constant;
    int line = 0;
    uint32_t depth = 1; // of the tree below
    std::string_view text;
    Value value;
    BinaryOperator binary = nullptr;
    const Function * function = nullptr; // of a filter or test
    std::vector<ExpressionPointer> parts;
    std::vector<Comparison> comparisons;
    std::vector<NamedExpression> named;
    ExpressionPointer star, double_star;
};

enum class StatementKind : uint8_t {
    text,
    print,        // {{ expression }}
    for_loop,     // target in expression if filter
    condition,    // branches
    set,          // target = expression
    set_block,    // target, through the filters of `expression` (may be null)
    macro,        // text(parameters)
    call_block,   // parameters; `expression` is the call
    filter_block, // `expression` is the chain of filters
    with,         // targets = values
    generation,   // a scope that marks what a model is trained on
    break_loop,
    continue_loop,
    count_
};

struct Branch {
    ExpressionPointer condition; // null: else
    Block body;
};

struct Parameter {
    std::string_view name;
    ExpressionPointer otherwise; // may be null
};

// What a macro, or the body of a call block, takes and uses.
struct Signature {
    std::vector<Parameter> parameters;
    bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};

struct Statement {
    StatementKind kind = StatementKind::text;
    int line = 0;
    std::string_view text;
    ExpressionPointer target; // a name, an attribute of a namespace, or a tuple of such
    ExpressionPointer expression, filter;
    std::vector<ExpressionPointer> targets, values;
    std::vector<Branch> branches;
    Signature signature;
    Block body, otherwise;
};

struct SyntaxTree {
    Block body;
    std::deque<std::string> strings; // that the tree refers to, beside the source
};

} // namespace gnv::chat
