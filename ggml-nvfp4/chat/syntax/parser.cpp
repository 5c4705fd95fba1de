#include "chat/syntax/parser.h"

#include "chat/functions/call.h"

namespace gnv::chat {

struct Parser::StatementRule {
    std::string_view name;
    StatementKind kind;
    Status (Parser::*parse)(Statement & out); // from the token after the name to the end of the last tag, without it
};

const Parser::StatementRule Parser::statement_rules[] = {
    {"for", StatementKind::for_loop, &Parser::parse_for},
    {"if", StatementKind::condition, &Parser::parse_if},
    {"set", StatementKind::set, &Parser::parse_set},
    {"macro", StatementKind::macro, &Parser::parse_macro},
    {"call", StatementKind::call_block, &Parser::parse_call_block},
    {"filter", StatementKind::filter_block, &Parser::parse_filter_block},
    {"with", StatementKind::with, &Parser::parse_with},
    {"generation", StatementKind::generation, &Parser::parse_generation},
    {"print", StatementKind::print, &Parser::parse_print},
    {"break", StatementKind::break_loop, &Parser::parse_loop_exit},
    {"continue", StatementKind::continue_loop, &Parser::parse_loop_exit},
};

// Statements that Jinja has and this engine does not.
static constexpr std::string_view unsupported_statements[] = {"extends", "block", "include", "import",
                                                              "from",    "do",    "trans",   "autoescape"};

bool Parser::skip_symbol(std::string_view symbol) {
    const bool found = current().is_symbol(symbol);
    if (found) take();
    return found;
}

bool Parser::skip_name(std::string_view name) {
    const bool found = current().is_name(name);
    if (found) take();
    return found;
}

Status Parser::expect_symbol(std::string_view symbol) {
    if (skip_symbol(symbol)) return {};
    return fail_here("expected '", symbol, "', found ", describe(current()));
}

Status Parser::expect_name(std::string_view name) {
    if (skip_name(name)) return {};
    return fail_here("expected '", name, "', found ", describe(current()));
}

Result<Token> Parser::take_name(const char * what) {
    if (current().kind != TokenKind::name) return fail_here("expected ", what, ", found ", describe(current()));
    return take();
}

static Status expect_end(const Token & token, TokenKind kind) {
    if (token.kind == kind) return {};
    return fail(Code::format, token.line, ": expected the end of the tag, found ", describe(token));
}

Result<Block> Parser::parse_all() {
    Block body;
    GNV_TRY(parse_block({}, body));
    return body;
}

Status Parser::parse_block(Words ends, Block & out) {
    const int begin = current().line;
    for (;;) {
        const Token token = take();
        if (token.kind == TokenKind::end) {
            if (ends.size() == 0) return {};
            return fail_at(begin, "the block that begins here has no {% ", *(ends.end() - 1), " %}");
        }
        if (token.kind == TokenKind::block_begin) {
            for (const std::string_view end : ends)
                if (current().is_name(end)) return {};
            GNV_TRY(parse_statement(out));
            GNV_TRY(std::exchange(unknown_, Status()));
            GNV_TRY(expect_end(take(), TokenKind::block_end));
            continue;
        }
        Statement & statement = *out.emplace_back(std::make_unique<Statement>());
        statement.line = token.line;
        statement.text = token.text;
        if (token.kind == TokenKind::text) continue;
        statement.kind = StatementKind::print;
        GNV_ASSIGN(statement.expression, parse_tuple());
        GNV_TRY(std::exchange(unknown_, Status()));
        GNV_TRY(expect_end(take(), TokenKind::variable_end));
    }
}

Status Parser::parse_body(Words ends, Block & out, bool may_be_skipped) {
    GNV_TRY(std::exchange(unknown_, Status()));
    skip_symbol(":"); // as in Python
    GNV_TRY(expect_end(take(), TokenKind::block_end));
    constexpr uint32_t deepest = 60;
    if (nesting_ >= deepest) return fail_here("statements are nested too deeply");
    nesting_++;
    const bool before = std::exchange(may_be_skipped_, may_be_skipped);
    GNV_TRY(parse_block(ends, out));
    may_be_skipped_ = before;
    nesting_--;
    return {};
}

Status Parser::parse_closed_body(std::string_view end, Block & out) {
    GNV_TRY(parse_body({end}, out));
    return expect_name(end);
}

Status Parser::parse_statement(Block & out) {
    GNV_ASSIGN(const Token name, take_name("the name of a statement"));
    for (const StatementRule & rule : statement_rules) {
        if (rule.name != name.text) continue;
        Statement & statement = *out.emplace_back(std::make_unique<Statement>());
        statement.kind = rule.kind;
        statement.line = name.line;
        statement.text = name.text;
        return (this->*rule.parse)(statement);
    }
    for (const std::string_view unsupported : unsupported_statements)
        if (name.text == unsupported)
            return fail(Code::unsupported, name.line, ": the statement {% ", unsupported, " %} is not supported");
    return fail_at(name.line, "the statement {% ", printable(name.text, 60), " %} is unknown, or has no begin");
}

Status Parser::parse_for(Statement & out) {
    GNV_ASSIGN(out.target, parse_target());
    GNV_TRY(expect_name("in"));
    GNV_ASSIGN(out.expression, parse_tuple(false));
    if (skip_name("if")) {
        GNV_ASSIGN(out.filter, parse_expression());
    }
    if (current().is_name("recursive"))
        return fail(Code::unsupported, current().line, ": a recursive {% for %} is not supported");
    loops_++;
    GNV_TRY(parse_body({"else", "endfor"}, out.body));
    loops_--;
    if (skip_name("else")) return parse_closed_body("endfor", out.otherwise);
    return expect_name("endfor");
}

Status Parser::parse_if(Statement & out) {
    for (;;) {
        Branch & branch = out.branches.emplace_back();
        const bool before = std::exchange(may_be_skipped_, true);
        GNV_ASSIGN(branch.condition, parse_tuple(false));
        may_be_skipped_ = before;
        GNV_TRY(parse_body({"elif", "else", "endif"}, branch.body, true));
        if (skip_name("elif")) continue;
        if (skip_name("else")) {
            GNV_TRY(parse_body({"endif"}, out.branches.emplace_back().body, true));
        }
        return expect_name("endif");
    }
}

Status Parser::parse_set(Statement & out) {
    GNV_ASSIGN(out.target, parse_target());
    if (skip_symbol("=")) {
        GNV_ASSIGN(out.expression, parse_tuple());
        return {};
    }
    out.kind = StatementKind::set_block;
    while (skip_symbol("|")) {
        GNV_ASSIGN(out.expression, parse_filter(std::move(out.expression)));
    }
    return parse_closed_body("endset", out.body);
}

Status Parser::parse_signature(Signature & out) {
    GNV_TRY(expect_symbol("("));
    while (!skip_symbol(")")) {
        if (!out.parameters.empty()) GNV_TRY(expect_symbol(","));
        GNV_ASSIGN(const Token name, take_name("the name of a parameter"));
        const bool needs_default = !out.parameters.empty() && out.parameters.back().otherwise;
        Parameter & parameter = out.parameters.emplace_back();
        parameter.name = name.text;
        if (skip_symbol("=")) {
            GNV_ASSIGN(parameter.otherwise, parse_expression());
        } else if (needs_default) {
            return fail_at(name.line, "the parameter '", printable(name.text, 60),
                           "' needs a default, as the one before");
        }
    }
    return {};
}

// The body of a macro, which loops around it cannot be left from.
Status Parser::parse_scope(Signature & out, std::string_view end, Block & body) {
    const uint32_t loops = std::exchange(loops_, 0);
    const Uses around = std::exchange(uses_, Uses());
    GNV_TRY(parse_closed_body(end, body));
    out.uses_caller = uses_.caller;
    out.uses_varargs = uses_.varargs;
    out.uses_kwargs = uses_.kwargs;
    loops_ = loops;
    uses_ = around;
    return {};
}

Status Parser::parse_macro(Statement & out) {
    GNV_ASSIGN(const Token name, take_name("the name of a macro"));
    out.text = name.text;
    GNV_TRY(parse_signature(out.signature));
    return parse_scope(out.signature, "endmacro", out.body);
}

Status Parser::parse_call_block(Statement & out) {
    if (current().is_symbol("(")) GNV_TRY(parse_signature(out.signature));
    GNV_ASSIGN(out.expression, parse_expression());
    if (out.expression->kind != ExpressionKind::call) return fail_at(out.line, "the statement call needs a call");
    return parse_scope(out.signature, "endcall", out.body);
}

Status Parser::parse_filter_block(Statement & out) {
    do {
        GNV_ASSIGN(out.expression, parse_filter(std::move(out.expression)));
    } while (skip_symbol("|"));
    return parse_closed_body("endfilter", out.body);
}

Status Parser::parse_with(Statement & out) {
    while (current().kind != TokenKind::block_end) {
        if (!out.targets.empty()) GNV_TRY(expect_symbol(","));
        GNV_ASSIGN(ExpressionPointer target, parse_target());
        GNV_TRY(expect_symbol("="));
        GNV_ASSIGN(ExpressionPointer value, parse_expression());
        out.targets.push_back(std::move(target));
        out.values.push_back(std::move(value));
    }
    return parse_closed_body("endwith", out.body);
}

Status Parser::parse_generation(Statement & out) { return parse_scope(out.signature, "endgeneration", out.body); }

Status Parser::unknown(const Token & name, const char * what) {
    if (!may_be_skipped_ && unknown_.ok())
        unknown_ =
            fail(Code::unsupported, name.line, ": the ", what, " '", printable(name.text, 60), "' is not supported");
    return {};
}

// {% print a, b %}
Status Parser::parse_print(Statement & out) {
    out.expression = make(ExpressionKind::concat, out.line);
    while (current().kind != TokenKind::block_end) {
        if (!out.expression->parts.empty()) GNV_TRY(expect_symbol(","));
        GNV_ASSIGN(ExpressionPointer part, parse_expression());
        out.expression->parts.push_back(std::move(part));
    }
    return {};
}

Status Parser::parse_loop_exit(Statement & out) {
    if (loops_ > 0) return {};
    return fail_at(out.line, "the statement ", out.text, " is outside a loop");
}

Result<SyntaxTree> parse_template(std::string_view source) {
    SyntaxTree tree;
    GNV_ASSIGN(std::vector<Token> tokens, cut_tokens(source, tree.strings));
    GNV_ASSIGN(tree.body, Parser(std::move(tokens)).parse_all());
    return tree;
}

} // namespace gnv::chat
