#include "model/pictures.h"

#include <algorithm>

namespace gnv {

static std::string describe(const Picture & picture, size_t number) {
    return concat(picture.is_video ? "video " : "image ", number, " (", picture.frames, " x ", picture.rows, " x ",
                  picture.columns, " patches)");
}

static Status check_grid(const Picture & picture, size_t number, const VisionModel & vision) {
    constexpr int64_t most = 1 << 20; // of each extent; together no more than positions have numbers
    if (!vision.tower) return Status(Code::unsupported, "this model has no vision tower: it takes text, no pictures");
    const std::string name = describe(picture, number);
    for (const int64_t extent : {picture.frames, picture.rows, picture.columns})
        if (extent < 1 || extent > most || picture.rows * picture.columns > INT32_MAX / picture.frames)
            return fail(Code::invalid_argument, name, ": a grid must have 1 to ", most,
                        " patches in each direction and less than 2^31 in all");
    if (picture.rows % vision.merge != 0 || picture.columns % vision.merge != 0)
        return fail(Code::invalid_argument, name, ": the model joins squares of ", vision.merge, " x ", vision.merge,
                    " patches; resize the picture to a multiple of them");
    if (!picture.is_video && picture.frames != 1) return fail(Code::invalid_argument, name, ": an image has one frame");
    return {};
}

Status check_picture(const Picture & picture, size_t number, const VisionModel & vision) {
    GNV_TRY(check_grid(picture, number, vision));
    const int64_t columns = vision.tower->sizes().given;
    if (int64_t(picture.pixels.size()) != picture.patches() * columns)
        return fail(Code::invalid_argument, describe(picture, number), ": ", picture.pixels.size(),
                    " pixel values are given, [", picture.patches(), ", ", columns, "] are needed");
    return {};
}

int64_t placeholders_of(const Picture & picture, const VisionModel & vision) {
    return picture.patches() / (vision.merge * vision.merge);
}

TextSequence patches_of(const Picture & picture, const VisionModel & vision) {
    const int64_t count = picture.patches(), merge = vision.merge;
    TextSequence sequence;
    sequence.given = picture.pixels;
    sequence.positions.resize(size_t(3 * count));
    sequence.extents.assign(size_t(count), int32_t(picture.rows));
    sequence.extents.resize(size_t(2 * count), int32_t(picture.columns));
    int64_t patch = 0;
    for (int64_t frame = 0; frame < picture.frames; frame++) {
        sequence.segments.push_back(int32_t(patch));
        for (int64_t top = 0; top < picture.rows; top += merge)
            for (int64_t left = 0; left < picture.columns; left += merge)
                for (int64_t inside = 0; inside < merge * merge; inside++, patch++) {
                    sequence.positions[size_t(patch)] = int32_t(frame);
                    sequence.positions[size_t(count + patch)] = int32_t(top + inside / merge);
                    sequence.positions[size_t(2 * count + patch)] = int32_t(left + inside % merge);
                }
    }
    return sequence;
}

namespace {

// Goes through the ids of a text.
class Placer {
  public:
    Placer(std::span<const Picture> pictures, const VisionModel & vision, TextSequence & text, int32_t first)
        : pictures_(pictures), vision_(vision), text_(text), length_(text.length()), next_(first) {
        text_.positions.resize(size_t(3 * length_));
        text_.given_at.clear();
    }

    Status place() {
        while (at_ < length_) {
            if (is_placeholder(at_)) {
                GNV_TRY(place_frame());
                continue;
            }
            for (size_t axis = 0; axis < 3; axis++) set(axis, at_, next_);
            at_++, next_++;
        }
        if (picture_ == pictures_.size()) return {};
        if (frame_ > 0)
            return fail(Code::invalid_argument, describe(pictures_[picture_], picture_), ": the text ends after ",
                        frame_, " of its frames; each needs placeholders of its own");
        return fail(Code::invalid_argument, pictures_.size(), " pictures are given, the text has placeholders for ",
                    picture_, "; each needs some");
    }

  private:
    bool is_placeholder(int64_t position) const {
        const int32_t id = text_.ids[size_t(position)];
        return id >= 0 && (id == vision_.tokens.image || id == vision_.tokens.video);
    }
    void set(size_t axis, int64_t position, int64_t value) {
        text_.positions[axis * size_t(length_) + size_t(position)] = int32_t(value);
    }

    // The next frame of the pictures takes the placeholders that come.
    Status place_frame() {
        const int32_t id = text_.ids[size_t(at_)];
        const char * const kind = id == vision_.tokens.video ? "video" : "image";
        if (picture_ == pictures_.size())
            return fail(Code::invalid_argument, "position ", at_, " is a placeholder of an ", kind, ", and only ",
                        pictures_.size(), " pictures are given");
        const Picture & picture = pictures_[picture_];
        const std::string name = describe(picture, picture_);
        if ((id == vision_.tokens.video) != picture.is_video)
            return fail(Code::invalid_argument, "position ", at_, " is a placeholder of an ", kind,
                        ", what is given is ", name, "; pictures must be in the order of the text");
        const int64_t rows = picture.rows / vision_.merge, columns = picture.columns / vision_.merge;
        int64_t run = 0;
        while (at_ + run < length_ && run < rows * columns && text_.ids[size_t(at_ + run)] == id) run++;
        if (run < rows * columns)
            return fail(Code::invalid_argument, name, " needs ", rows * columns, " placeholders a frame, there are ",
                        run, " from position ", at_, " on");
        for (int64_t i = 0; i < run; i++, at_++) {
            set(0, at_, next_);
            set(1, at_, next_ + i / columns);
            set(2, at_, next_ + i % columns);
            text_.given_at.push_back(int32_t(at_));
        }
        next_ += std::max(rows, columns);
        if (++frame_ == picture.frames) frame_ = 0, picture_++;
        return {};
    }

    const std::span<const Picture> pictures_;
    const VisionModel & vision_;
    TextSequence & text_;
    const int64_t length_;
    int64_t at_ = 0;     // in the text
    int64_t next_;       // position
    size_t picture_ = 0; // in pictures_
    int64_t frame_ = 0;  // of it
};

} // namespace

Status place_pictures(std::span<const Picture> pictures, const VisionModel & vision, TextSequence & text,
                      int32_t first) {
    for (size_t i = 0; i < pictures.size(); i++)
        GNV_TRY(pictures[i].pixels.empty() ? check_grid(pictures[i], i, vision)
                                           : check_picture(pictures[i], i, vision));
    return Placer(pictures, vision, text, first).place();
}

} // namespace gnv
