#include "images/picture_text.h"

#include "core/strings.h"

#include <algorithm>

namespace gnv {

static void append_placeholders(const std::string & word, int64_t count, std::string & out) {
    for (int64_t i = 0; i < count; i++) out += word;
}

static void append_frames(const PictureInText & video, const PictureWords & words, std::string & out) {
    for (const std::string & time : video.times) {
        out += time + words.start;
        append_placeholders(words.video, video.placeholders, out);
        out += words.end;
    }
}

Result<std::string> expand_placeholders(std::string_view text, std::span<const PictureInText> pictures,
                                        const PictureWords & words) {
    std::string all(text);
    const auto has = [&](const std::string & word) { return all.find(word) != std::string::npos; };
    if (!has(words.image) && !has(words.video)) {
        std::string before;
        for (const PictureInText & picture : pictures)
            before += words.start + (picture.is_video ? words.video : words.image) + words.end;
        all.insert(0, before);
    }
    std::string out;
    size_t at = 0, number = 0;
    for (;; number++) {
        const size_t image = all.find(words.image, at), video = all.find(words.video, at);
        const size_t found = std::min(image, video);
        if (found == std::string::npos) break;
        if (number == pictures.size())
            return fail(Code::invalid_argument, "the text has more placeholders than the ", pictures.size(),
                        " pictures that are given; byte ", found, " begins one");
        const PictureInText & picture = pictures[number];
        if (picture.is_video != (video < image))
            return fail(Code::invalid_argument, "picture ", number, " is ", picture.is_video ? "a video" : "an image",
                        ", the placeholder for it is that of ", picture.is_video ? "an image" : "a video",
                        "; pictures must be in the order of the text");
        out.append(all, at, found - at);
        at = found + (picture.is_video ? words.video : words.image).size();
        if (!picture.is_video) {
            append_placeholders(words.image, picture.placeholders, out);
            continue;
        }
        if (ends_with(out, words.start) &&
            all.compare(at, words.end.size(), words.end) == 0) { // each frame has its own
            out.resize(out.size() - words.start.size());
            at += words.end.size();
        }
        append_frames(picture, words, out);
    }
    if (number < pictures.size())
        return fail(Code::invalid_argument, pictures.size(), " pictures are given, the text has placeholders for ",
                    number, "; give one for each, or none at all");
    return out + all.substr(at);
}

} // namespace gnv
