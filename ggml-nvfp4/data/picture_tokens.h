// Where the pictures of a text are among its tokens, and where a sequence may end.
#pragma once

#include "data/picture_rule.h"
#include "images/prepared_picture.h"

#include <memory>
#include <vector>

namespace gnv {

// A picture of a sequence. The pixels are shared by copies.
struct TextPicture {
    uint32_t begin = 0, end = 0; // tokens in the text, with the start and the end around the placeholders
    uint32_t tokens = 0;         // placeholders
    std::shared_ptr<const PreparedPicture> picture;
    std::string sha256; // of size, kind and pixels
};

TextPicture make_text_picture(PreparedPicture picture);

// Finds the tokens of the pictures, which are in the order of the text. `ids` may end early: a picture that is not whole in them
// ends behind their end, and those that do not begin in them are removed. False where placeholders and pictures do not belong
// together.
bool locate_pictures(const PictureRule & rule, const std::vector<TokenId> & ids, std::vector<TextPicture> & pictures);

// The end of a sequence of at most `length` tokens from `begin` on, of `size` in all: before a picture that does not fit.
// Equals `begin` where a picture that begins there has more than `length`.
size_t end_of_sequence(const std::vector<TextPicture> & pictures, size_t begin, size_t length, size_t size);

} // namespace gnv
