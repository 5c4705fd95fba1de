#include "pass/picture_rows.h"

#include <algorithm>

namespace gnv {

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
    made.size_ = wanted * hidden;
    GNV_ASSIGN(made.rows_, allocate_large_block(made.size_ * sizeof(float), "rows of pictures"));
    const float * at = reinterpret_cast<const float *>(made.rows_.get());
    for (TextSequence & text : texts) {
        text.given = std::span(at, text.given_at.size() * hidden);
        at += text.given.size();
    }
    return made;
}

PictureOptions PictureRows::options_for(const Limits & limits) const {
    PictureOptions options;
    options.host = limits.host;
    if (!options.host.is_decided()) options.host.limit(Budget::of_host(0).total());
    options.host.reserve("pictures", bytes());
    options.device = limits.device_bytes;
    if (limits.go_on) options.on_progress = [go_on = limits.go_on](int64_t, int64_t) { return go_on(); };
    return options;
}

// Consecutive pictures of up to `most` patches together, or one.
std::vector<PictureRows::Portion> PictureRows::cut(int64_t most) const {
    std::vector<Portion> portions;
    for (size_t i = 0; i < pictures_->list.size(); i++) {
        const int64_t patches = pictures_->list[i].patches();
        if (portions.empty() || portions.back().patches + patches > most) portions.push_back({i});
        Portion & portion = portions.back();
        portion.count++;
        portion.patches += patches;
        portion.largest = std::max(portion.largest, patches);
    }
    return portions;
}

// The largest portions whose passes fit into the budget. More patches need more memory for hidden states, a larger picture for a
// batch: if the portions with the most of either fit, all do.
Result<std::vector<PictureRows::Portion>> PictureRows::divide(const TextVariant & tower, Backend & device,
                                                              ThreadPool & threads,
                                                              const PictureOptions & options) const {
    int64_t most = 0;
    for (const Picture & picture : pictures_->list) most += picture.patches();
    for (;; most = (most + 1) / 2) {
        std::vector<Portion> portions = cut(most);
        const auto with_most = [&](int64_t Portion::*of) {
            return std::max_element(portions.begin(), portions.end(),
                                    [&](const Portion & a, const Portion & b) { return a.*of < b.*of; });
        };
        Status fits;
        for (const auto portion : {with_most(&Portion::largest), with_most(&Portion::patches)})
            if (fits.ok())
                fits = plan_encoding(vision(), tower, device, threads,
                                     std::span(pictures_->list).subspan(portion->first, portion->count), options);
        if (fits.ok()) return portions;
        const bool one_each = portions.size() == pictures_->list.size();
        if (fits.code() != Code::out_of_memory || one_each) return fits;
    }
}

Status PictureRows::check_budget(const TextVariant & tower, Backend & device, ThreadPool & threads,
                                 const Limits & limits) const {
    return divide(tower, device, threads, options_for(limits)).take_status();
}

Status PictureRows::encode(const TextVariant & tower, Backend & device, ThreadPool & threads, const Limits & limits) {
    const PictureOptions options = options_for(limits);
    GNV_ASSIGN(const std::vector<Portion> portions, divide(tower, device, threads, options));
    std::span<float> rows(reinterpret_cast<float *>(rows_.get()), size_);
    for (const Portion & portion : portions) {
        std::vector<Picture> pictures;
        int64_t placeholders = 0;
        for (size_t i = portion.first; i < portion.first + portion.count; i++) {
            Picture picture = pictures_->list[i];
            picture.pixels = GivenRows(
                picture.patches(), vision().tower->sizes().given,
                [this, i](int64_t first, int64_t count, float * to) { return pictures_->read(i, first, count, to); });
            placeholders += placeholders_of(picture, vision());
            pictures.push_back(std::move(picture));
        }
        const auto made = size_t(placeholders * vision().tower->sizes().vocabulary);
        GNV_TRY(encode_pictures(vision(), tower, device, threads, pictures, options, rows.first(made)));
        rows = rows.subspan(made);
    }
    return {};
}

} // namespace gnv
