#include "tokenizer/vocabulary.h"

#include "core/utf8.h"
#include "tokenizer/byte_level.h"

namespace gnv {

Status Vocabulary::add(int64_t id, std::string_view written) {
    if (id < 0 || id > largest_token_id)
        return fail(Code::format, "the id ", id, " of the token \"", printable(written, 60), "\" is outside 0..",
                    largest_token_id);
    const auto [known, is_new] = by_written_.try_emplace(std::string(written), TokenId(id));
    if (!is_new && known->second != id)
        return fail(Code::format, "the token \"", printable(written, 60), "\" has two ids, ", known->second, " and ",
                    id);
    if (!is_new) return {};
    if (id >= size()) tokens_.resize(size_t(id) + 1);
    std::string bytes;
    byte_level_decode(written, bytes);
    Token & token = tokens_[size_t(id)];
    if (token.present)
        return fail(Code::format, "two tokens have the id ", id, ": \"", printable(token.bytes, 60), "\" and \"",
                    printable(bytes, 60), "\"");
    token.present = true;
    token.bytes = std::move(bytes);
    return {};
}

void Vocabulary::set_written(TokenId id, std::string_view written) {
    std::string & bytes = tokens_[size_t(id)].bytes;
    bytes.clear();
    byte_level_decode(written, bytes);
}

TokenId Vocabulary::find_written(std::string_view written) const {
    const auto found = by_written_.find(written);
    return found == by_written_.end() ? no_token : found->second;
}

TokenId Vocabulary::find_bytes(std::string_view bytes) const {
    std::string written;
    for (const char byte : bytes) utf8_append(written, byte_level_character(static_cast<uint8_t>(byte)));
    return find_written(written);
}

} // namespace gnv
