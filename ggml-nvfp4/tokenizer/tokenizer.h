// Byte-level BPE, read from the tokenizer.json (and tokenizer_config.json) of a checkpoint.
//
//   text -> added tokens cut out -> normalizer (NFC) -> split patterns -> bytes -> merges by rank -> ids
//
// The ids are those of the `tokenizers` library for the same file. Normalizer, patterns, merges and added tokens are
// the file's own; an unknown step is Code::unsupported and named, never skipped.
//
// A Tokenizer does not change after loading; any number of threads may use it. Encoding needs working memory (about 4
// MB, most of it a cache of merged pieces): one Encoder per thread, kept for many texts.
#pragma once

#include "core/status.h"
#include "tokenizer/work_limit.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

struct TokenizerModel; // tokenizer/tokenizer_model.h

using TokenId = int32_t; // never negative, except no_token
inline constexpr TokenId no_token = -1;

// The special tokens of tokenizer_config.json; no_token if it names none.
struct TokenRoles {
    TokenId bos = no_token;
    TokenId eos = no_token;
    TokenId pad = no_token;
};

class Tokenizer {
  public:
    // `path`: a tokenizer.json, or its folder. A tokenizer_config.json beside it adds the tokens of its
    // `added_tokens_decoder` and the special tokens. A folder without tokenizer.json may have vocab.json and merges.txt
    // instead: normalizer and pattern are then those of Qwen3.5. Failures name the file and the place in it.
    static Result<Tokenizer> load(const std::string & path);
    // The same from memory; `config` is the text of tokenizer_config.json, or empty.
    static Result<Tokenizer> parse(std::string json, const std::string & name, std::string config = {},
                                   const std::string & config_name = "tokenizer_config.json");
    // The same from the texts of vocab.json and merges.txt in `folder`.
    static Result<Tokenizer> parse_parts(std::string vocab, const std::string & merges, const std::string & folder,
                                         std::string config = {});

    // One more than the largest id. Models pad their embedding to more rows.
    TokenId vocab_size() const;
    // False for ids out of range and for holes in the vocabulary.
    bool is_token(TokenId id) const;
    // Control tokens, which decoding can omit: "<|im_end|>" is one, "<think>" is not.
    bool is_special(TokenId id) const;
    // The id of a token by its content: an added token as written ("<|im_end|>"), any other by its bytes (" the").
    TokenId find(std::string_view content) const; // no_token: none
    const TokenRoles & roles() const;

    // The bytes of the ids; they need not be UTF-8, since a token may hold part of a character. An id that is no token
    // is an error that names its position.
    Result<std::string> decode_bytes(std::span<const TokenId> ids, bool skip_special = false) const;
    // The same as UTF-8: every maximal invalid part becomes U+FFFD.
    Result<std::string> decode(std::span<const TokenId> ids, bool skip_special = false) const;

  private:
    friend class Encoder;
    explicit Tokenizer(std::shared_ptr<const TokenizerModel> model) : model_(std::move(model)) {}
    std::shared_ptr<const TokenizerModel> model_;
};

struct EncodeOptions {
    // False: "<|im_end|>" in the text is six or so ordinary tokens. For text that must not be able to give orders.
    bool parse_added_tokens = true;
    // Stops after this many ids, the first of the whole text, so that the start of a book does not cost the whole book.
    size_t max_ids = size_t(-1);
    StopCheck stop; // true: Code::cancelled
};

// The longest piece that the patterns may leave, and that is merged. It is far longer than any word: the longest of any
// language has some 200 letters. Merging takes fifty times the memory.
inline constexpr size_t longest_piece = 1 << 20;

class Encoder {
  public:
    explicit Encoder(const Tokenizer & tokenizer); // shares the tokenizer's model
    Encoder(Encoder &&) noexcept;
    Encoder & operator=(Encoder &&) noexcept;
    ~Encoder();

    // Appends the ids of `text`, which must be UTF-8 (NUL is a character like any other) and below 1 GiB. Code::format
    // names the first byte that is not UTF-8, Code::invalid_argument a piece above longest_piece, Code::unsupported a
    // text that the file's patterns and added tokens would read more than some dozen times (work_limit.h); `ids` is
    // then unchanged.
    Status encode(std::string_view text, std::vector<TokenId> & ids, const EncodeOptions & options = {});
    Result<std::vector<TokenId>> encode(std::string_view text, const EncodeOptions & options = {});

    // The largest working memory to encode a text of `text_bytes`, without the text and the ids.
    static constexpr uint64_t working_memory(uint64_t text_bytes) {
        constexpr uint64_t always = 6 << 20;      // most of it the cache of pieces
        constexpr uint64_t of_normalization = 16; // a byte: code points while marks are sorted, and the result
        constexpr uint64_t of_merging = 56;       // a byte of a piece: its tokens, and possible merges
        const uint64_t piece = 3 * text_bytes < longest_piece ? 3 * text_bytes : longest_piece; // NFC triples at most
        return always + of_normalization * text_bytes + of_merging * piece;
    }

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace gnv
