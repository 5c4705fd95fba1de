// What may follow an expression: members, items, slices, calls, filters and tests.
#include "chat/functions/call.h"
#include "chat/syntax/parser.h"

namespace gnv::chat {

Result<ExpressionPointer> Parser::parse_postfix(ExpressionPointer expression) {
    for (;;) {
        if (current().is_symbol(".") || current().is_symbol("[")) {
            GNV_ASSIGN(expression, parse_subscript(std::move(expression)));
        } else if (current().is_symbol("(")) {
            GNV_ASSIGN(expression, parse_call(std::move(expression)));
        } else {
            return expression;
        }
    }
}

Result<ExpressionPointer> Parser::parse_filters(ExpressionPointer expression) {
    for (;;) {
        if (skip_symbol("|")) {
            GNV_ASSIGN(expression, parse_filter(std::move(expression)));
        } else if (current().is_name("is")) {
            GNV_ASSIGN(expression, parse_test(std::move(expression)));
        } else if (current().is_symbol("(")) {
            GNV_ASSIGN(expression, parse_call(std::move(expression)));
        } else {
            return expression;
        }
    }
}

Result<ExpressionPointer> Parser::parse_subscript(ExpressionPointer object) {
    const Token open = take();
    ExpressionPointer made = make(ExpressionKind::item, open.line);
    made->parts.push_back(std::move(object));
    if (open.is_symbol(".")) {
        const Token member = take();
        if (member.kind == TokenKind::name) {
            made->kind = ExpressionKind::attribute;
            made->text = member.text;
        } else if (member.kind == TokenKind::integer) {
            made->parts.push_back(make(ExpressionKind::constant, member.line));
            made->parts.back()->value = Value::number(member.integer);
        } else {
            return fail_at(member.line, "expected the name of a member after '.', found ", describe(member));
        }
        return finish(std::move(made));
    }
    ExpressionPointer begin;
    if (!current().is_symbol(":")) {
        GNV_ASSIGN(begin, parse_expression());
    }
    if (current().is_symbol(","))
        return fail(Code::unsupported, open.line, ": an index of several parts is not supported");
    made->parts.push_back(std::move(begin));
    if (current().is_symbol(":")) {
        made->kind = ExpressionKind::slice;
        for (int part = 0; part < 2; part++) {
            ExpressionPointer limit;
            if (skip_symbol(":") && !current().is_symbol(":") && !current().is_symbol("]")) {
                GNV_ASSIGN(limit, parse_expression());
            }
            made->parts.push_back(std::move(limit));
        }
    }
    GNV_TRY(expect_symbol("]"));
    return finish(std::move(made));
}

Result<ExpressionPointer> Parser::parse_call(ExpressionPointer callee) {
    ExpressionPointer call = make(ExpressionKind::call, current().line);
    call->parts.push_back(std::move(callee));
    GNV_TRY(parse_arguments(*call));
    return finish(std::move(call));
}

Status Parser::parse_arguments(Expression & call) {
    GNV_TRY(expect_symbol("("));
    for (bool first = true; !skip_symbol(")"); first = false) {
        if (!first) {
            GNV_TRY(expect_symbol(","));
            if (skip_symbol(")")) return {};
        }
        if (call.double_star) return fail_here("an argument follows **");
        if (skip_symbol("**")) {
            GNV_ASSIGN(call.double_star, parse_expression());
        } else if (!call.star && skip_symbol("*")) {
            GNV_ASSIGN(call.star, parse_expression());
        } else if (current().kind == TokenKind::name && next().is_symbol("=")) {
            NamedExpression & named = call.named.emplace_back();
            named.name = take().text;
            take();
            GNV_ASSIGN(named.expression, parse_expression());
        } else {
            if (call.star || !call.named.empty())
                return fail_here("an argument without a name follows one with a name");
            GNV_ASSIGN(ExpressionPointer argument, parse_expression());
            call.parts.push_back(std::move(argument));
        }
    }
    return {};
}

Result<ExpressionPointer> Parser::parse_filter(ExpressionPointer input) {
    GNV_ASSIGN(const Token name, take_name("the name of a filter"));
    ExpressionPointer filter = make(ExpressionKind::filter, name.line);
    filter->text = name.text;
    filter->function = find_filter(name.text);
    if (!filter->function) GNV_TRY(unknown(name, "filter"));
    filter->parts.push_back(std::move(input));
    if (current().is_symbol("(")) GNV_TRY(parse_arguments(*filter));
    return finish(std::move(filter));
}

Result<ExpressionPointer> Parser::parse_test(ExpressionPointer subject) {
    const Token is = take();
    const bool inverted = skip_name("not");
    GNV_ASSIGN(const Token name, take_name("the name of a test"));
    ExpressionPointer test = make(ExpressionKind::test, is.line);
    test->text = name.text;
    test->function = find_test(name.text);
    if (!test->function) GNV_TRY(unknown(name, "test"));
    test->parts.push_back(std::move(subject));
    const TokenKind kind = current().kind;
    const bool is_operand = kind == TokenKind::string || kind == TokenKind::integer || kind == TokenKind::real ||
                            current().is_symbol("[") || current().is_symbol("{") ||
                            (kind == TokenKind::name && !current().is_name("else") && !current().is_name("or") &&
                             !current().is_name("and"));
    if (current().is_symbol("(")) {
        GNV_TRY(parse_arguments(*test));
    } else if (is_operand) {
        if (current().is_name("is")) return fail_here("a test cannot follow a test");
        GNV_ASSIGN(ExpressionPointer operand, parse_primary());
        GNV_ASSIGN(operand, parse_postfix(std::move(operand)));
        test->parts.push_back(std::move(operand));
    }
    GNV_ASSIGN(ExpressionPointer made, finish(std::move(test)));
    if (!inverted) return made;
    ExpressionPointer invert = make(ExpressionKind::invert, is.line);
    invert->parts.push_back(std::move(made));
    return finish(std::move(invert));
}

} // namespace gnv::chat
