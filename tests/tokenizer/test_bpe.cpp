#include "fixture.h"
#include "tokenizer/bpe.h"

#include <random>

using namespace gnv;
using namespace gnv::test;

TEST_CASE("the table of merges") {
    MergeTable table;
    for (int i = 0; i < 5000; i++) table.add(i, i * 7 % 1000, 10'000 + i);
    for (int i = 0; i < 5000; i++) {
        REQUIRE(table.rank(i, i * 7 % 1000) == uint32_t(i));
        REQUIRE(table.result(uint32_t(i)) == 10'000 + i);
    }
    CHECK(table.rank(7, 50) == MergeTable::no_rank);
    CHECK(table.rank(49, 7) == MergeTable::no_rank);
    table.add(3, 21, 1); // again
    CHECK(table.rank(3, 21) == 5000);
}

// The definition, word by word.
static std::vector<TokenId> merge_plainly(const MergeTable & merges, std::vector<TokenId> ids) {
    for (;;) {
        uint32_t best = MergeTable::no_rank;
        size_t at = 0;
        for (size_t i = 0; i + 1 < ids.size(); i++) {
            const uint32_t rank = merges.rank(ids[i], ids[i + 1]);
            if (rank < best) best = rank, at = i;
        }
        if (best == MergeTable::no_rank) return ids;
        ids[at] = merges.result(best);
        ids.erase(ids.begin() + std::ptrdiff_t(at) + 1);
    }
}

TEST_CASE("short and long pieces follow the definition") {
    std::array<TokenId, 256> bytes;
    for (int i = 0; i < 256; i++) bytes[size_t(i)] = i;
    std::mt19937 random(1);
    MergeTable merges;
    for (TokenId next = 256; next < 400; next++) { // over "abcd"
        const auto any = [&] {
            return random() % 3 ? TokenId('a' + random() % 4) : TokenId(256 + random() % (next - 255));
        };
        const TokenId left = any(), right = any();
        if (left < next && right < next) merges.add(left, right, next);
    }
    Merger merger(merges, bytes);
    for (size_t size = 1; size < 300; size += size < 70 ? 1 : 23) {
        std::string piece;
        std::vector<TokenId> plain;
        for (size_t i = 0; i < size; i++) {
            piece += char('a' + random() % 4);
            plain.push_back(piece.back());
        }
        std::vector<TokenId> ids = {-7}; // kept
        merger.merge(piece, ids);
        std::vector<TokenId> expected = merge_plainly(merges, plain);
        expected.insert(expected.begin(), -7);
        CAPTURE(piece);
        CHECK(ids == expected);
    }
}

TEST_CASE("a megabyte in one piece") {
    const Tokenizer tiny = load_tiny();
    std::string letters, marks = "a";
    for (int i = 0; i < 1'000'000; i++) letters += char('a' + i % 1009 * (i % 1013) % 23);
    for (int i = 0; i < 250'000; i++) marks += i % 2 ? "\u0301" : "\u0323"; // sorted by normalization
    for (const std::string & text : {letters, std::string(1'000'000, 'a'), std::string(1'000'000, ' '),
                                     std::string(1'000'000, '\n'), std::string(1'000'000, '!'), marks}) {
        const std::vector<TokenId> ids = encode(tiny, text);
        CHECK(ids.size() > 1000);
        if (text != marks) CHECK(tiny.decode(ids).value() == text);
    }
}
