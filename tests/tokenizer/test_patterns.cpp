#include "tokenizer/split_pattern.h"

#include <doctest/doctest.h>

using namespace gnv;

static const StopCheck no_stop;

static std::string translated(std::string_view pattern) {
    Result<std::string> text = translate_pattern(pattern);
    REQUIRE_MESSAGE(text.ok(), text.status().message());
    return text.take();
}

TEST_CASE("what both engines read alike stays as it is") {
    for (const char * pattern :
         {"(?i:'s|'t|'re)|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}{1,3}", "a{2,}?(?=b)(?!c)(?<=d)(?<!e)(?>f)",
          "(?i)a|b", "[]a]", "[^]a]", "a++b?+", "[\\p{L}-]", "\\.\\[\\-\xc3\xa9", "\\p{^L}\\P{Lu}\\p{Any}"}) {
        CAPTURE(pattern);
        CHECK(translated(pattern) == pattern);
        CHECK(SplitPattern::compile(pattern).ok());
    }
}

TEST_CASE("what they spell differently is rewritten") {
    CHECK(translated("\\u4e00") == "\\x{4e00}");
    CHECK(translated("\\p{Han}|\\P{^Cyrillic}") == "\\p{sc:Han}|\\P{^sc:Cyrillic}");
    CHECK(translated("\\h[\\h]") == "[0-9A-Fa-f][0-9A-Fa-f]");
    CHECK(translated("\\s").find("180e") == std::string::npos);
    for (const char * pattern : {"\\s\\S\\w\\W\\h\\H\\v", "[\\s\\S\\w]", "\\p{Han}", "[\\u4e00-\\u9fff]"}) {
        CAPTURE(pattern);
        CHECK(SplitPattern::compile(pattern).ok());
    }
}

TEST_CASE("what they would understand differently is refused, with the place") {
    for (const char * pattern : {"a&&b|[a-z&&[^b]]",
                                 "[a[bc]]",
                                 "[[:space:]]",
                                 "\\bx",
                                 "\\K",
                                 "\\Q.\\E",
                                 "\\R",
                                 "\\X",
                                 "[\\W]",
                                 "[\\H]",
                                 "[\\s-x]",
                                 "[a-\\d]",
                                 "a{1,2}+",
                                 "a{2}?",
                                 "a{,2}",
                                 "a{1001}",
                                 "a{2,99999999999999999999}",
                                 "(a)\\1",
                                 "{",
                                 "(?s:.)",
                                 "(?m)a",
                                 "a(?i)b|c",
                                 "(?<n>a)",
                                 "(?1)",
                                 "(?R)",
                                 "(?(1)a)",
                                 "(*UTF)a",
                                 "\\",
                                 "\\u12",
                                 "\\pL",
                                 "\\p{L",
                                 "[a",
                                 "\\0",
                                 "\\\xc3\xa9"}) {
        CAPTURE(pattern);
        const bool literal = std::string_view(pattern) == "\\0"; // an octal escape to both
        const Result<SplitPattern> compiled = SplitPattern::compile(pattern);
        CHECK(compiled.status().code() == Code::unsupported);
        if (!literal) CHECK(translate_pattern(pattern).status().message().find(" at byte ") != std::string::npos);
    }
    for (const char * pattern : {"(", "a)", "*", "\\p{Klingon}", "[z-a]", "\\2", "(?<=a+)b"}) {
        CAPTURE(pattern); // PCRE2 says what is wrong
        CHECK(SplitPattern::compile(pattern).status().code() == Code::unsupported);
    }
    CHECK(SplitPattern::compile(std::string(70'000, 'a')).status().code() == Code::unsupported);
    CHECK_FALSE(SplitPattern::compile(std::string(1000, '(') + std::string(1000, ')')).ok());
    CHECK_FALSE(SplitPattern::compile("((((a{1000}){1000}){1000}){1000})").ok());
}

TEST_CASE("matches") {
    MatchMemory memory;
    REQUIRE(memory.ok());
    WorkLimit work;
    work.start(1000, 1, no_stop);
    const SplitPattern pattern = SplitPattern::compile("(?<=x)b+|(?i:'s)|^c").take();
    const auto find = [&](std::string_view text, size_t from) { return pattern.find(text, from, memory, work).take(); };
    Match match = find("axbbc", 0);
    CHECK((match.found && match.begin == 2 && match.end == 4));
    match = find("axbbc", 3);
    CHECK_FALSE(match.found);
    match = find("xb", 1); // sees what stands before
    CHECK((match.found && match.begin == 1));
    match = find("a'\u017f", 0); // the long s, to which "S" folds
    CHECK((match.found && match.begin == 1 && match.end == 4));
    match = find("a\nc", 0); // lines
    CHECK((match.found && match.begin == 2));
}

TEST_CASE("a pattern that would run for ever gives up") {
    MatchMemory memory;
    WorkLimit work;
    work.start(60, 1, no_stop);
    const SplitPattern pattern = SplitPattern::compile("(x+x+)+y").take();
    const Result<Match> match = pattern.find(std::string(58, 'x') + " y", 0, memory, work);
    CHECK(match.status().code() == Code::unsupported);
    CHECK(match.status().message().find("gives up at byte 0 of a stretch of 60 bytes") != std::string::npos);
    const SplitPattern deep = SplitPattern::compile("(?:a|b|(?:cd)+)*z").take(); // needs more stack than there is
    work.start(5'000'000, 1, no_stop);
    (void)deep.find(std::string(5'000'000, 'a'), 0, memory, work).ok();
}
