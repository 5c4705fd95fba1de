#include "chat/functions/call.h"
#include "chat/functions/operators.h"
#include "chat/syntax/parser.h"

#include <algorithm>

namespace gnv::chat {

// Counts how deep the rules of the grammar are in each other.
struct Parser::Nesting {
    explicit Nesting(Parser & parser) : depth(parser.nesting_) { depth++; }
    ~Nesting() { depth--; }
    Nesting(const Nesting &) = delete;
    bool too_deep() const { return depth > 120; }
    uint32_t & depth;
};

ExpressionPointer Parser::make(ExpressionKind kind, int line) const {
    auto made = std::make_unique<Expression>();
    made->kind = kind;
    made->line = line;
    return made;
}

Result<ExpressionPointer> Parser::finish(ExpressionPointer expression) const {
    constexpr uint32_t deepest = 300;
    const auto count = [&](const ExpressionPointer & part) {
        if (part) expression->depth = std::max(expression->depth, part->depth + 1);
    };
    for (const ExpressionPointer & part : expression->parts) count(part);
    for (const NamedExpression & part : expression->named) count(part.expression);
    count(expression->star);
    count(expression->double_star);
    if (expression->depth > deepest) return fail_at(expression->line, "the expression is nested too deeply");
    return expression;
}

Result<ExpressionPointer> Parser::parse_expression(bool with_condition) {
    const Nesting nesting(*this);
    if (nesting.too_deep()) return fail_here("the expression is nested too deeply");
    const bool known_before = unknown_.ok();
    GNV_ASSIGN(ExpressionPointer left, parse_or());
    while (with_condition && current().is_name("if")) {
        if (known_before) unknown_ = Status();
        const bool before = std::exchange(may_be_skipped_, true);
        ExpressionPointer condition = make(ExpressionKind::condition, take().line);
        condition->parts.push_back(std::move(left));
        GNV_ASSIGN(ExpressionPointer test, parse_or());
        condition->parts.push_back(std::move(test));
        ExpressionPointer otherwise;
        if (skip_name("else")) {
            GNV_ASSIGN(otherwise, parse_expression());
        }
        condition->parts.push_back(std::move(otherwise));
        may_be_skipped_ = before;
        GNV_ASSIGN(left, finish(std::move(condition)));
    }
    return left;
}

bool Parser::at_tuple_end() const {
    const TokenKind kind = current().kind;
    return kind == TokenKind::variable_end || kind == TokenKind::block_end || current().is_symbol(")");
}

// One expression, or several with commas between them.
Result<ExpressionPointer> Parser::parse_tuple(bool with_condition, bool in_brackets) {
    ExpressionPointer tuple = make(ExpressionKind::tuple, current().line);
    bool has_comma = false;
    while (!at_tuple_end()) {
        GNV_ASSIGN(ExpressionPointer item, parse_expression(with_condition));
        tuple->parts.push_back(std::move(item));
        if (!current().is_symbol(",")) break;
        take();
        has_comma = true;
    }
    if (has_comma || (in_brackets && tuple->parts.empty())) return finish(std::move(tuple));
    if (tuple->parts.empty()) return fail_here("expected an expression, found ", describe(current()));
    return std::move(tuple->parts.front());
}

// --- Operators, the weakest first -----------------------------------------------------------------------------------------

Result<ExpressionPointer> Parser::parse_or() {
    GNV_ASSIGN(ExpressionPointer left, parse_and());
    while (current().is_name("or")) {
        ExpressionPointer either = make(ExpressionKind::either, take().line);
        either->parts.push_back(std::move(left));
        GNV_ASSIGN(ExpressionPointer right, parse_and());
        either->parts.push_back(std::move(right));
        GNV_ASSIGN(left, finish(std::move(either)));
    }
    return left;
}

Result<ExpressionPointer> Parser::parse_and() {
    GNV_ASSIGN(ExpressionPointer left, parse_not());
    while (current().is_name("and")) {
        ExpressionPointer both = make(ExpressionKind::both, take().line);
        both->parts.push_back(std::move(left));
        GNV_ASSIGN(ExpressionPointer right, parse_not());
        both->parts.push_back(std::move(right));
        GNV_ASSIGN(left, finish(std::move(both)));
    }
    return left;
}

Result<ExpressionPointer> Parser::parse_not() {
    if (!current().is_name("not")) return parse_comparison();
    const Nesting nesting(*this);
    if (nesting.too_deep()) return fail_here("the expression is nested too deeply");
    ExpressionPointer invert = make(ExpressionKind::invert, take().line);
    GNV_ASSIGN(ExpressionPointer operand, parse_not());
    invert->parts.push_back(std::move(operand));
    return finish(std::move(invert));
}

bool Parser::compares(Comparison & out) {
    static constexpr std::pair<std::string_view, Comparison> symbols[] = {
        {"==", Comparison::equal},      {"!=", Comparison::unequal}, {"<", Comparison::less},
        {"<=", Comparison::less_equal}, {">", Comparison::greater},  {">=", Comparison::greater_equal},
    };
    for (const auto & [symbol, comparison] : symbols)
        if (skip_symbol(symbol)) return out = comparison, true;
    if (skip_name("in")) return out = Comparison::in, true;
    if (!current().is_name("not") || !next().is_name("in")) return false;
    take();
    take();
    return out = Comparison::not_in, true;
}

Result<ExpressionPointer> Parser::parse_comparison() {
    const int line = current().line;
    GNV_ASSIGN(ExpressionPointer left, parse_sum());
    Comparison comparison = Comparison::equal;
    if (!compares(comparison)) return left;
    ExpressionPointer chain = make(ExpressionKind::comparison, line);
    chain->parts.push_back(std::move(left));
    do {
        chain->comparisons.push_back(comparison);
        GNV_ASSIGN(ExpressionPointer right, parse_sum());
        chain->parts.push_back(std::move(right));
    } while (compares(comparison));
    return finish(std::move(chain));
}

Result<ExpressionPointer> Parser::parse_binary(Parsed (Parser::*operand)(), Words symbols) {
    GNV_ASSIGN(ExpressionPointer left, (this->*operand)());
    for (;;) {
        const Token symbol = current();
        if (symbol.kind != TokenKind::symbol || std::find(symbols.begin(), symbols.end(), symbol.text) == symbols.end())
            return left;
        take();
        ExpressionPointer binary = make(ExpressionKind::binary, symbol.line);
        binary->text = symbol.text;
        binary->binary = find_operator(symbol.text);
        binary->parts.push_back(std::move(left));
        GNV_ASSIGN(ExpressionPointer right, (this->*operand)());
        binary->parts.push_back(std::move(right));
        GNV_ASSIGN(left, finish(std::move(binary)));
    }
}

Result<ExpressionPointer> Parser::parse_sum() { return parse_binary(&Parser::parse_concat, {"+", "-"}); }

Result<ExpressionPointer> Parser::parse_concat() {
    GNV_ASSIGN(ExpressionPointer left, parse_product());
    if (!current().is_symbol("~")) return left;
    ExpressionPointer all = make(ExpressionKind::concat, current().line);
    all->parts.push_back(std::move(left));
    while (skip_symbol("~")) {
        GNV_ASSIGN(ExpressionPointer right, parse_product());
        all->parts.push_back(std::move(right));
    }
    return finish(std::move(all));
}

Result<ExpressionPointer> Parser::parse_product() { return parse_binary(&Parser::parse_power, {"*", "/", "//", "%"}); }

Result<ExpressionPointer> Parser::parse_power() {
    GNV_ASSIGN(ExpressionPointer left, parse_unary());
    while (current().is_symbol("**")) { // from left to right, unlike Python
        ExpressionPointer power = make(ExpressionKind::binary, current().line);
        power->text = take().text;
        power->binary = find_operator(power->text);
        power->parts.push_back(std::move(left));
        GNV_ASSIGN(ExpressionPointer right, parse_unary());
        power->parts.push_back(std::move(right));
        GNV_ASSIGN(left, finish(std::move(power)));
    }
    return left;
}

Result<ExpressionPointer> Parser::parse_unary(bool with_filters) {
    const Nesting nesting(*this);
    if (nesting.too_deep()) return fail_here("the expression is nested too deeply");
    ExpressionPointer expression;
    const bool minus = current().is_symbol("-");
    if (minus || current().is_symbol("+")) {
        ExpressionPointer sign = make(minus ? ExpressionKind::negative : ExpressionKind::positive, take().line);
        GNV_ASSIGN(ExpressionPointer operand, parse_unary(false));
        sign->parts.push_back(std::move(operand));
        GNV_ASSIGN(expression, finish(std::move(sign)));
    } else {
        GNV_ASSIGN(expression, parse_primary());
    }
    GNV_ASSIGN(expression, parse_postfix(std::move(expression)));
    if (!with_filters) return expression;
    return parse_filters(std::move(expression));
}

// --- Primaries ------------------------------------------------------------------------------------------------------------

Result<ExpressionPointer> Parser::parse_primary() {
    const Token token = take();
    ExpressionPointer made = make(ExpressionKind::constant, token.line);
    if (token.kind == TokenKind::string) {
        made->text = token.text;
        made->value = Value::string(token.text);
        if (current().kind != TokenKind::string) return made;
        made->kind = ExpressionKind::concat; // strings side by side are one
        while (current().kind == TokenKind::string) {
            ExpressionPointer part = make(ExpressionKind::constant, token.line);
            part->value = Value::string(made->parts.empty() ? token.text : take().text);
            made->parts.push_back(std::move(part));
        }
        return finish(std::move(made));
    }
    if (token.kind == TokenKind::integer) return made->value = Value::number(token.integer), std::move(made);
    if (token.kind == TokenKind::real) return made->value = Value::number(token.real), std::move(made);
    if (token.is_symbol("[")) return parse_items(ExpressionKind::list, "]");
    if (token.is_symbol("{")) return parse_items(ExpressionKind::dict, "}");
    if (token.is_symbol("(")) {
        GNV_ASSIGN(made, parse_tuple(true, true));
        GNV_TRY(expect_symbol(")"));
        return made;
    }
    if (token.kind != TokenKind::name) return fail_at(token.line, "unexpected ", describe(token));
    if (token.text == "true" || token.text == "True") return made->value = Value::boolean(true), std::move(made);
    if (token.text == "false" || token.text == "False") return made->value = Value::boolean(false), std::move(made);
    if (token.text == "none" || token.text == "None") return made->value = Value::none(), std::move(made);
    made->kind = ExpressionKind::name;
    made->text = token.text;
    uses_.caller = uses_.caller || token.text == "caller";
    uses_.varargs = uses_.varargs || token.text == "varargs";
    uses_.kwargs = uses_.kwargs || token.text == "kwargs";
    return made;
}

Result<ExpressionPointer> Parser::parse_items(ExpressionKind kind, std::string_view close) {
    ExpressionPointer made = make(kind, current().line);
    while (!skip_symbol(close)) {
        if (!made->parts.empty()) {
            GNV_TRY(expect_symbol(","));
            if (skip_symbol(close)) break;
        }
        GNV_ASSIGN(ExpressionPointer item, parse_expression());
        made->parts.push_back(std::move(item));
        if (kind != ExpressionKind::dict) continue;
        GNV_TRY(expect_symbol(":"));
        GNV_ASSIGN(ExpressionPointer value, parse_expression());
        made->parts.push_back(std::move(value));
    }
    return finish(std::move(made));
}

Result<ExpressionPointer> Parser::parse_one_target() {
    const Token name = current();
    GNV_ASSIGN(ExpressionPointer target, parse_primary());
    if (target->kind == ExpressionKind::tuple) {
        for (const ExpressionPointer & part : target->parts)
            if (part->kind != ExpressionKind::name && part->kind != ExpressionKind::tuple)
                return fail_at(name.line, "a value cannot be given to ", describe(name));
        return target;
    }
    if (target->kind != ExpressionKind::name) return fail_at(name.line, "a value cannot be given to ", describe(name));
    if (!skip_symbol(".")) return target;
    GNV_ASSIGN(const Token member, take_name("the name of a member"));
    ExpressionPointer attribute = make(ExpressionKind::attribute, name.line);
    attribute->text = member.text;
    attribute->parts.push_back(std::move(target));
    return finish(std::move(attribute));
}

// What `for` and `set` give values to: names, members of namespaces, and tuples of those.
Result<ExpressionPointer> Parser::parse_target(bool with_tuple) {
    ExpressionPointer tuple = make(ExpressionKind::tuple, current().line);
    GNV_ASSIGN(ExpressionPointer first, parse_one_target());
    if (!with_tuple || !current().is_symbol(",")) return first;
    tuple->parts.push_back(std::move(first));
    while (skip_symbol(",")) {
        if (at_tuple_end()) break;
        GNV_ASSIGN(ExpressionPointer part, parse_one_target());
        tuple->parts.push_back(std::move(part));
    }
    return finish(std::move(tuple));
}

} // namespace gnv::chat
