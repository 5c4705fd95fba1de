// Tokenizers and texts made to take time and memory. Nothing here measures time: looks at bytes and memory are counted.
#include "memory_growth.h"
#include "tokenizer/fixture.h"
#include "tokenizer/split_pattern.h"

using namespace gnv;
using namespace gnv::test;

namespace {

const StopCheck no_stop;

json with_pattern(const std::string & pattern) {
    json file = small_tokenizer();
    file["pre_tokenizer"]["pretokenizers"][0]["pattern"]["Regex"] = pattern;
    return file;
}

std::string repeated(const std::string & part, size_t bytes) {
    std::string text;
    while (text.size() < bytes) text += part;
    return text;
}

Result<std::vector<TokenId>> encode_with(const std::string & pattern, const std::string & text) {
    return Encoder(take(parse(with_pattern(pattern)))).encode(text);
}

// Looks at the text for all of its pieces, or UINT64_MAX.
uint64_t looks(const std::string & pattern, const std::string & text) {
    const SplitPattern compiled = SplitPattern::compile(pattern).take();
    MatchMemory memory;
    WorkLimit work;
    work.start(text.size(), 1, no_stop);
    for (size_t from = 0; from < text.size();) {
        const Result<Match> match = compiled.find(text, from, memory, work);
        if (!match.ok()) return UINT64_MAX;
        if (!match.value().found) break;
        from = std::max(from + 1, match.value().end);
    }
    return work.used();
}

const char * const published[] = {
    // Qwen 3.5, GPT-2, Llama 3, o200k
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)",
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
    R"([^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
};

} // namespace

TEST_CASE("patterns that look at the rest of the text from every place give up, or look at each byte a few times") {
    for (const char * pattern :
         {R"(.(?=[\s\S]*z)|.)", "a(?!a*b)", "(x+x+)+y|.", "(?:a|b)*(?:c|d)|.", "a*a*b|.", "a*?z|.", "(?=[\\s\\S]*+)a",
          "(?:\\w+\\s?)+!|.", "(?:.(?=[^z]{0,900}z))|.", "(?:(?:a?){40}){20}b|.", "(?<=a)(?=a*z)|."}) {
        CAPTURE(pattern);
        for (const std::string & part :
             std::vector<std::string>{"a", "ab", "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa ", "x", " "}) {
            CAPTURE(part);
            const std::string text = repeated(part, 100'000);
            const auto ids = encode_with(pattern, text);
            if (!ids.ok()) {
                CHECK(ids.status().code() == Code::unsupported);
                CHECK(ids.status().message().find("t.json: the split pattern gives up at byte ") == 0);
            }
            const uint64_t used = looks(pattern, text);
            CHECK((used == UINT64_MAX || used < 200 * text.size()));
        }
    }
    const auto ids = encode_with("a(?!a*b)", std::string(200'000, 'a'));
    CHECK(ids.status().code() == Code::unsupported);
    CHECK(ids.status().message().find("looked 25731072 times at the bytes of the text") != std::string::npos);
    CHECK(encode_with("a(?!a*b)", std::string(300, 'a')).ok());
}

TEST_CASE("work on many stretches adds up") {
    // Every line is a stretch of its own for the second pattern.
    json file = with_pattern("[^!]+");
    json second = file["pre_tokenizer"]["pretokenizers"][0];
    second["pattern"]["Regex"] = "(x+x+)+y";
    file["pre_tokenizer"]["pretokenizers"].insert(file["pre_tokenizer"]["pretokenizers"].begin() + 1, second);
    const Result<std::vector<TokenId>> ids =
        Encoder(take(parse(file))).encode(repeated(std::string(20, 'x') + " y!", 200'000));
    CHECK(ids.status().code() == Code::unsupported);
}

TEST_CASE("published patterns look at a byte four times at most") {
    for (const char * pattern : published)
        for (const std::string & part : std::vector<std::string>{
                 "a", "A", " ", "\n ", "1", "!", "\u4e2d", "e\u0301", std::string(3000, ' ') + "x",
                 std::string(3000, ' ') + "\n", std::string(500, 'A') + "b", "It's the 3rd time, I'LL go! "}) {
            CAPTURE(pattern);
            CAPTURE(part);
            const std::string text = repeated(part, 200'000);
            CHECK(looks(pattern, text) < 5 * text.size());
        }
}

TEST_CASE("the longest piece") {
    const Tokenizer tokenizer = take(parse(small_tokenizer()));
    const std::string longest(longest_piece, 'a');
    CHECK(Encoder(tokenizer).encode(longest + " b").value() == std::vector<TokenId>([&] {
              std::vector<TokenId> ids(longest_piece, 'a');
              for (const char c : {' ', 'b'}) ids.push_back(TokenId(uint8_t(c)));
              return ids;
          }()));
    const auto ids = Encoder(tokenizer).encode("x " + longest + "a");
    CHECK(ids.status().code() == Code::invalid_argument);
    CHECK(ids.status().message().find("a single piece of 1048577 bytes") != std::string::npos);
    EncodeOptions first;
    first.max_ids = 2;
    CHECK(Encoder(tokenizer).encode("x " + longest + "a", first).value() == std::vector<TokenId>{'x', ' '});
    // Alternating merges keep the table of pairs busy.
    check_memory_growth(Encoder::working_memory(longest_piece) + 4 * 2 * longest_piece,
                        [&] { return Encoder(tokenizer).encode(repeated("abc", longest_piece - 3)).ok(); });
}

TEST_CASE("sixteen steps") {
    for (const size_t steps : {16, 17}) {
        json file = small_tokenizer();
        json & list = file["pre_tokenizer"]["pretokenizers"];
        const json split = list[0];
        while (list.size() < steps) list.insert(list.begin(), split);
        const Result<Tokenizer> tokenizer = parse(file);
        CHECK(tokenizer.ok() == (steps == 16));
        if (!tokenizer.ok()) CHECK(tokenizer.status().message().find("more than 16 steps") != std::string::npos);
        file = small_tokenizer();
        file["normalizer"] = {{"type", "Sequence"}, {"normalizers", json::array()}};
        for (size_t i = 0; i < steps; i++) file["normalizer"]["normalizers"].push_back({{"type", "NFC"}});
        CHECK(parse(file).ok() == (steps == 16));
    }
}

TEST_CASE("added tokens that the text begins everywhere") {
    json file = small_tokenizer();
    for (int i = 0; i < 300; i++)
        file["added_tokens"].push_back({{"id", 260 + i}, {"content", std::string(3000 + size_t(i), 'a') + "b"}});
    const Tokenizer tokenizer = take(parse(file));
    const auto ids = Encoder(tokenizer).encode(std::string(200'000, 'a'));
    CHECK(ids.status().code() == Code::unsupported);
    CHECK(ids.status().message().find("the search for added tokens gives up at byte ") != std::string::npos);
    CHECK(encode(tokenizer, std::string(3000, 'a') + "b") == std::vector<TokenId>{260});
    // Tokens side by side take no memory but that of their ids.
    const std::string many = repeated("<end>", 4'000'000);
    check_memory_growth(Encoder::working_memory(0) + 4 * 2 * many.size() / 5 + (4 << 20),
                        [&] { return Encoder(tokenizer).encode(many).ok(); });
}

TEST_CASE("encoding stops when it is asked to") {
    EncodeOptions options;
    int calls = 0;
    options.stop = [&] { return ++calls == 3; };
    const auto stopped = [&](const std::string & pattern, const std::string & text) {
        calls = 0;
        const auto ids = Encoder(take(parse(with_pattern(pattern)))).encode(text, options);
        CHECK(ids.status().code() == Code::cancelled);
        CHECK(calls == 3);
    };
    stopped("\\p{L}+", repeated("ab ", 20'000'000));                                    // many pieces
    stopped("\\p{L}+", repeated(std::string(longest_piece - 1, 'a') + " ", 5'000'000)); // long ones
    stopped("a(?!a*b)", std::string(200'000, 'a'));                                     // inside of matches
}
