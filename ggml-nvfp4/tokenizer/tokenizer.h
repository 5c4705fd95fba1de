// Byte-level BPE, read from the tokenizer.json (and tokenizer_config.json) that a checkpoint carries.
//
//   text -> added tokens cut out -> normalizer (NFC) -> split patterns -> bytes -> merges by rank -> ids
//
// The ids are those of the `tokenizers` library for the same file. Normalizer, patterns, merges and added tokens are the
// file's own; a step that this reader does not know is Code::unsupported and named, never skipped.
//
// A Tokenizer does not change after loading and may be used from any number of threads. Encoding needs working memory
// (about 4 MB, most of it a cache of pieces already merged): one Encoder per thread, kept for many texts.
#pragma once

#include "core/status.h"

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

// Tokens that tokenizer_config.json gives a part to play; no_token where it names none.
struct TokenRoles {
    TokenId bos = no_token;
    TokenId eos = no_token;
    TokenId pad = no_token;
};

class Tokenizer {
  public:
    // `path`: a tokenizer.json, or a folder that holds one. The tokenizer_config.json beside it, if there is one, adds
    // the tokens of its `added_tokens_decoder` and the roles. Failures name the file and the place in it.
    static Result<Tokenizer> load(const std::string & path);
    // The same from memory; `config` is the text of tokenizer_config.json, or empty.
    static Result<Tokenizer> parse(std::string json, const std::string & name, std::string config = {},
                                   const std::string & config_name = "tokenizer_config.json");

    // One more than the largest id. Smaller than the rows of the embedding, which models pad.
    TokenId vocab_size() const;
    // False for ids out of range and for holes in the vocabulary.
    bool is_token(TokenId id) const;
    // Control tokens, which decoding can leave out: "<|im_end|>" is one, "<think>" is not.
    bool is_special(TokenId id) const;
    // The id of a token by its content: an added token as written ("<|im_end|>"), any other by its bytes (" the").
    TokenId find(std::string_view content) const; // no_token when there is none
    const TokenRoles & roles() const;

    // The bytes that the ids stand for; they need not be UTF-8, since a token may hold part of a character.
    // An id that is no token is an error that names its position.
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
    // Stops after this many ids, exactly the first ones of the whole text: the start of a book costs no whole book.
    size_t max_ids = size_t(-1);
};

class Encoder {
  public:
    explicit Encoder(const Tokenizer & tokenizer); // keeps what it needs of the tokenizer alive
    Encoder(Encoder &&) noexcept;
    Encoder & operator=(Encoder &&) noexcept;
    ~Encoder();

    // Appends the ids of `text`, which must be UTF-8 (NUL is a character like any other) and below 1 GiB.
    // Code::format names the byte at which the text stops being UTF-8, Code::unsupported a text on which the file's
    // pattern needs more backtracking than is reasonable; `ids` is then as it was.
    Status encode(std::string_view text, std::vector<TokenId> & ids, const EncodeOptions & options = {});
    Result<std::vector<TokenId>> encode(std::string_view text, const EncodeOptions & options = {});

  private:
    struct State;
    std::unique_ptr<State> state_;
};

} // namespace gnv
