// Parses the tokens of a template by Jinja's grammar. What this engine does not do is refused here, with name and line.
#pragma once

#include "chat/syntax/lexer.h"
#include "chat/syntax/syntax.h"

#include <initializer_list>

namespace gnv::chat {

// `source` (normal, valid UTF-8) must outlive the tree. A failure begins with "LINE: ".
Result<SyntaxTree> parse_template(std::string_view source);

class Parser {
  public:
    explicit Parser(std::vector<Token> tokens) : tokens_(std::move(tokens)) {}
    Result<Block> parse_all();

  private:
    using Words = std::initializer_list<std::string_view>;
    using Parsed = Result<ExpressionPointer>;
    struct StatementRule;
    struct Nesting; // of the grammar's rules inside each other

    // Tokens.
    const Token & current() const { return tokens_[at_]; }
    const Token & next() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
    Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
    bool skip_symbol(std::string_view symbol);
    bool skip_name(std::string_view name);
    Status expect_symbol(std::string_view symbol);
    Status expect_name(std::string_view name);
    Result<Token> take_name(const char * what);
    template <class... Parts>
    Status fail_here(const Parts &... parts) const {
        return fail_at(current().line, parts...);
    }
    template <class... Parts>
    static Status fail_at(int line, const Parts &... parts) {
        return fail(Code::format, line, ": ", parts...);
    }

    // Statements: parser.cpp.
    Status parse_block(Words ends, Block & out); // the word that ends it is the current token then
    // The same, from the end of the tag that opens it. `may_be_skipped`: the body of an if.
    Status parse_body(Words ends, Block & out, bool may_be_skipped = false);
    Status parse_closed_body(std::string_view end, Block & out); // takes the word, too
    Status parse_statement(Block & out);
    Status parse_for(Statement & out);
    Status parse_if(Statement & out);
    Status parse_set(Statement & out);
    Status parse_macro(Statement & out);
    Status parse_call_block(Statement & out);
    Status parse_filter_block(Statement & out);
    Status parse_with(Statement & out);
    Status parse_generation(Statement & out);
    Status parse_print(Statement & out);
    Status parse_loop_exit(Statement & out);
    Status parse_signature(Signature & out);
    Status parse_scope(Signature & out, std::string_view end, Block & body);
    static const StatementRule statement_rules[];

    // Expressions: parse_expression.cpp.
    Parsed parse_expression(bool with_condition = true);
    Parsed parse_tuple(bool with_condition = true, bool in_brackets = false);
    Parsed parse_or();
    Parsed parse_and();
    Parsed parse_not();
    Parsed parse_comparison();
    Parsed parse_sum();
    Parsed parse_concat();
    Parsed parse_product();
    Parsed parse_power();
    Parsed parse_unary(bool with_filters = true);
    Parsed parse_primary();
    Parsed parse_items(ExpressionKind kind, std::string_view close);
    Parsed parse_postfix(ExpressionPointer expression);
    Parsed parse_filters(ExpressionPointer expression);
    Parsed parse_filter(ExpressionPointer input);
    Parsed parse_test(ExpressionPointer subject);
    Parsed parse_subscript(ExpressionPointer object);
    Parsed parse_call(ExpressionPointer callee);
    Status parse_arguments(Expression & call);
    Parsed parse_binary(Parsed (Parser::*operand)(), Words symbols);
    Parsed parse_target(bool with_tuple = true);
    Parsed parse_one_target();
    bool at_tuple_end() const;
    bool compares(Comparison & out);
    ExpressionPointer make(ExpressionKind kind, int line) const;
    Result<ExpressionPointer> finish(ExpressionPointer expression) const; // checks the depth of the tree

    std::vector<Token> tokens_;
    size_t at_ = 0;
    uint32_t nesting_ = 0;
    // Filters and tests that are unknown fail where they are parsed, but, as in Jinja, where an if may pass them by: there when
    // they are reached.
    Status unknown(const Token & name, const char * what);
    bool may_be_skipped_ = false;
    Status unknown_;     // the first in the current statement that no if was seen for
    uint32_t loops_ = 0; // around the current statement, within a macro
    // Names that the macro around the current statement asks for.
    struct Uses {
        bool caller = false, varargs = false, kwargs = false;
    };
    Uses uses_;
};

} // namespace gnv::chat
