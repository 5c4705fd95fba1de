#include "verify/tokenizer_probe.h"

#include "core/strings.h"
#include "core/utf8.h"
#include "tokenizer/tokenizer.h"
#include "verify/subject.h"

namespace gnv::verify {

namespace {

// Marks, digits, cases, scripts, emoji and blanks, and what patterns of tokenizers tell apart.
constexpr const char * texts[] = {
    "",
    "The quick brown fox, it's said, WON'T jump: \"why?\" -- I'll see; they've 3 dogs (or 4).",
    "0 1 12 123 1234 12345 123456 1234567 3.14159 -1e-10 0x7f 1,234,567.89 2026-11-28 ½ ² ٣ ३",
    "def f(x):\n\treturn x**2  # two  blanks\r\n\r\n    if a!=b and c<=d: print(f'{a:>10}')\n",
    "  leading,  inner   and trailing   ",
    "\t\ttabs\t \n\n\nlines\n \n\r\ncarriage\r\rfeeds\v\f",
    "中文字符，標點。日本語のテキスト、カタカナ。한국어 텍스트입니다.",
    "Ünïcödé: naïve café, e\u0301 decomposed, \u00e9 composed, \u212b \ufb01 \u1e9b\u0323 \u0344",
    "Привет мир! Ελληνικά γράμματα. שלום עולם. مرحبا بالعالم. हिन्दी पाठ। ภาษาไทย Tiếng Việt",
    "😀 👍🏽 👨‍👩‍👧‍👦 🇩🇪 ❤️ 🏳️‍🌈 1️⃣ ☺",
    "\u00a0\u2003\u3000\u200b\u200d\u2028\u2029\ufeff\u00ad no-break, em, ideographic, zero width",
    "{\"key\": [1, 2.5, null, true], \"s\": \"a\\\\b\\n\"} <a href='x'>&amp;</a> $\\frac{a}{b}$ `code` **bold**",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa================================~~~~~~~~",
    "don't DON'T Don't can’t y'all'd've 's 'S 'Re",
    "<|im_start|>user\nhello<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n<|endoftext|><tool_call>",
};

class Probe {
  public:
    Probe(const Tokenizer & ours, const Tokenizer & theirs)
        : our_tokenizer_(ours), their_tokenizer_(theirs), ours_(ours), theirs_(theirs) {}

    Status run(TokenizerVerdict & verdict) {
        GNV_TRY(compare_tokens(verdict));
        std::string all_bytes;
        for (int byte = 0; byte < 0x80; byte++) all_bytes += char(byte);
        for (uint32_t point = 0x80; point < 0x800; point++) utf8_append(all_bytes, point);
        for (uint32_t point = 0x800; point < 0x110000; point += 0x3ff) // every lead byte
            if (point < 0xd800 || point > 0xdfff) utf8_append(all_bytes, point);
        GNV_TRY(compare(all_bytes, verdict));
        for (const char * const text : texts) GNV_TRY(compare(text, verdict));
        return {};
    }

  private:
    // Every token has the same bytes on both sides; texts of tokens are probes too: alone, after a blank, before a word.
    Status compare_tokens(TokenizerVerdict & verdict) {
        const TokenId size = std::max(our_tokenizer_.vocab_size(), their_tokenizer_.vocab_size());
        for (TokenId id = 0; id < size && verdict.difference.empty(); id++) {
            const bool ours = our_tokenizer_.is_token(id), theirs = their_tokenizer_.is_token(id);
            if (!ours && !theirs) continue;
            const TokenId one[] = {id};
            const Result<std::string> a = our_tokenizer_.decode_bytes(one), b = their_tokenizer_.decode_bytes(one);
            if (ours != theirs || !a.ok() || !b.ok() || a.value() != b.value() ||
                our_tokenizer_.is_special(id) != their_tokenizer_.is_special(id)) {
                verdict.difference = concat("token ", id);
                return {};
            }
            if (utf8_valid_prefix(a.value()) != a.value().size()) continue;
            GNV_TRY(compare(a.value(), verdict));
            if (our_tokenizer_.is_special(id)) GNV_TRY(compare(concat(" x ", a.value(), "y ", a.value()), verdict));
        }
        return {};
    }

    Status compare(const std::string & text, TokenizerVerdict & verdict) {
        if (!verdict.difference.empty()) return {};
        const Result<std::vector<TokenId>> a = ours_.encode(text), b = theirs_.encode(text);
        for (const auto * ids : {&a, &b})
            if (!ids->ok() && is_machine_failure(ids->status())) return copy_of(ids->status());
        verdict.probes++;
        if (a.ok() != b.ok() || (a.ok() && a.value() != b.value()))
            verdict.difference = concat("the text \"", printable(text, 60), "\"");
        return {};
    }

    const Tokenizer & our_tokenizer_;
    const Tokenizer & their_tokenizer_;
    Encoder ours_, theirs_;
};

} // namespace

Result<TokenizerVerdict> compare_tokenizers(std::string ours, std::string our_config, std::string theirs,
                                            std::string their_config) {
    TokenizerVerdict verdict;
    const Result<Tokenizer> a = Tokenizer::parse(std::move(ours), "tokenizer.json", std::move(our_config));
    const Result<Tokenizer> b = Tokenizer::parse(std::move(theirs), "tokenizer.json", std::move(their_config));
    for (const auto * tokenizer : {&a, &b})
        if (!tokenizer->ok() && is_machine_failure(tokenizer->status())) return copy_of(tokenizer->status());
    if (!a.ok() || !b.ok()) return verdict;
    verdict.judged = true;
    GNV_TRY(Probe(a.value(), b.value()).run(verdict));
    return verdict;
}

} // namespace gnv::verify
