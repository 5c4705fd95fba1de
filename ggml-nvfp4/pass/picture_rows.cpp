#include "pass/picture_rows.h"

#include <algorithm>

namespace gnv {

static constexpr uint64_t most_pixel_bytes = uint64_t(1) << 30; // larger portions are not faster
static constexpr uint64_t share_of_pixels = 4;                  // of what is left of the budget

Status check_same_tower(const VisionModel & made_for, const VisionModel & used_in) {
    if (!used_in.tower)
        return Status(Code::model, "the data have pictures, and this model has no vision tower: leave them out");
    const PictureTokens &a = made_for.tokens, &b = used_in.tokens;
    if (made_for.merge == used_in.merge && made_for.tower->sizes().given == used_in.tower->sizes().given &&
        a.image == b.image && a.video == b.video)
        return {};
    return Status(Code::model, "the pictures were made for a model with other patches or placeholders: open the data "
                               "with this model's tokenizer");
}

Result<PictureRows> PictureRows::create(const PassPictures & pictures, std::vector<TextSequence> & texts) {
    PictureRows made(pictures);
    int64_t rows = 0;
    size_t wanted = 0;
    for (const Picture & picture : pictures.list) rows += placeholders_of(picture, made.vision());
    for (const TextSequence & text : texts) wanted += text.given_at.size();
    GNV_CHECK(size_t(rows) == wanted);
    const auto hidden = size_t(made.vision().tower->sizes().vocabulary); // what the merger makes
    GNV_TRY(guard_exceptions([&]() -> Status {
        made.rows_.resize(wanted * hidden);
        return {};
    }));
    size_t at = 0;
    for (TextSequence & text : texts) {
        text.given = std::span<const float>(made.rows_).subspan(at, text.given_at.size() * hidden);
        at += text.given.size();
    }
    return made;
}

std::vector<PictureRows::Portion> PictureRows::divide(const Budget & host) const {
    const uint64_t most = std::min(most_pixel_bytes, host.left() / share_of_pixels) / sizeof(float);
    std::vector<Portion> portions;
    for (size_t i = 0; i < pictures_->list.size(); i++) {
        const uint64_t values = uint64_t(pictures_->list[i].patches()) * uint64_t(vision().tower->sizes().given);
        if (portions.empty() || portions.back().values + values > most) portions.push_back({i});
        Portion & portion = portions.back();
        portion.count++;
        portion.values += values;
        portion.rows += placeholders_of(pictures_->list[i], vision());
    }
    return portions;
}

static Budget decided(Budget host) {
    if (!host.is_decided()) host.limit(Budget::of_host(0).total());
    return host;
}

PictureOptions PictureRows::options_for(const Portion & portion, const Budget & host, uint64_t device_bytes) const {
    PictureOptions options;
    options.host = host;
    const uint64_t made = uint64_t(portion.rows) * uint64_t(vision().tower->sizes().vocabulary);
    options.host.reserve("pictures", bytes() + (portion.values + made) * sizeof(float));
    options.device = device_bytes;
    return options;
}

Status PictureRows::check_budget(const TextVariant & tower, Backend & device, ThreadPool & threads,
                                 const Limits & limits) const {
    const Budget host = decided(limits.host);
    Budget rest = host;
    rest.reserve("pictures", bytes());
    Portion largest;
    for (const Portion & portion : divide(rest))
        if (portion.values > largest.values) largest = portion;
    std::vector<Picture> pictures(pictures_->list.begin() + ptrdiff_t(largest.first),
                                  pictures_->list.begin() + ptrdiff_t(largest.first + largest.count));
    return plan_encoding(vision(), tower, device, threads, pictures, options_for(largest, host, limits.device_bytes));
}

Status PictureRows::encode(const TextVariant & tower, Backend & device, ThreadPool & threads, const Limits & limits) {
    const Budget host = decided(limits.host);
    Budget rest = host;
    rest.reserve("pictures", bytes());
    float * to = rows_.data();
    for (const Portion & portion : divide(rest)) {
        std::vector<float> pixels;
        GNV_TRY(guard_exceptions([&]() -> Status {
            pixels.resize(size_t(portion.values));
            return {};
        }));
        std::vector<Picture> pictures;
        float * from = pixels.data();
        for (size_t i = portion.first; i < portion.first + portion.count; i++) {
            if (limits.go_on && !limits.go_on()) return Status(Code::cancelled, "stopped on request");
            Picture picture = pictures_->list[i];
            const auto values = size_t(picture.patches() * vision().tower->sizes().given);
            GNV_TRY(pictures_->read(i, from));
            picture.pixels = {from, values};
            pictures.push_back(picture);
            from += values;
        }
        PictureOptions options = options_for(portion, host, limits.device_bytes);
        if (limits.go_on) options.on_progress = [&](int64_t, int64_t) { return limits.go_on(); };
        GNV_ASSIGN(const std::vector<float> made, encode_pictures(vision(), tower, device, threads, pictures, options));
        to = std::copy(made.begin(), made.end(), to);
    }
    return {};
}

} // namespace gnv
