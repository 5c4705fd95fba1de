#include "data/picture_tokens.h"

#include "core/sha256.h"

#include <algorithm>

namespace gnv {

TextPicture make_text_picture(PreparedPicture picture) {
    Sha256 hash;
    const int64_t head[] = {picture.is_video, picture.plan.grid.t, picture.plan.width, picture.plan.height};
    for (int64_t number : head)
        for (int shift = 0; shift < 64; shift += 8) {
            const auto byte = uint8_t(number >> shift & 0xff);
            hash.update(&byte, 1);
        }
    for (const Image & frame : picture.frames) hash.update(frame.rgb.data(), frame.rgb.size());
    TextPicture made;
    made.sha256 = hash.finish();
    made.picture = std::make_shared<const PreparedPicture>(std::move(picture));
    return made;
}

bool locate_pictures(const PictureRule & rule, const std::vector<TokenId> & ids, std::vector<TextPicture> & pictures) {
    size_t at = 0;
    const auto is_placeholder = [&](size_t i) { return ids[i] == rule.image || ids[i] == rule.video; };
    for (size_t p = 0; p < pictures.size(); p++) {
        TextPicture & here = pictures[p];
        const PreparedPicture & picture = *here.picture;
        const VisionGrid & grid = picture.plan.grid;
        const TokenId wanted = picture.is_video ? rule.video : rule.image;
        const auto each = size_t(grid.h * grid.w / (rule.merge * rule.merge));
        here.tokens = 0;
        for (int64_t frame = 0; frame < (picture.is_video ? grid.t : 1); frame++) {
            while (at < ids.size() && !is_placeholder(at)) at++;
            if (frame == 0)
                here.begin = uint32_t(at > 0 && at <= ids.size() && ids[at - 1] == rule.start ? at - 1 : at);
            const size_t end = std::min(at + each, ids.size());
            for (; at < end; at++)
                if (ids[at] != wanted) return false;
            here.tokens += uint32_t(each);
            if (at < ids.size()) continue;
            // The ids end inside of this picture or right behind it.
            const size_t found =
                size_t(std::count_if(ids.begin() + here.begin, ids.end(), [&](TokenId id) { return id == wanted; }));
            const auto all = size_t(picture.is_video ? grid.t : 1) * each;
            if (found == all) break;
            here.end = uint32_t(ids.size() + 1);
            pictures.resize(here.begin < ids.size() ? p + 1 : p);
            return true;
        }
        here.end = uint32_t(at < ids.size() && ids[at] == rule.end ? at + 1 : at);
    }
    while (at < ids.size() && !is_placeholder(at)) at++;
    return at == ids.size();
}

size_t end_of_sequence(const std::vector<TextPicture> & pictures, size_t begin, size_t length, size_t size) {
    const size_t end = std::min(begin + length, size);
    for (const TextPicture & picture : pictures)
        if (picture.begin >= begin && picture.begin < end && picture.end > end) return picture.begin;
    return end;
}

} // namespace gnv
