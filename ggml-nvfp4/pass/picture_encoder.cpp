#include "pass/picture_encoder.h"

#include "pass/layer_pass.h"
#include "run/tap_list.h"

#include <algorithm>

namespace gnv {

// `sequences` must outlive the pass.
static Result<std::unique_ptr<LayerPass>> create_pass(const TextVariant & tower, Backend & device, ThreadPool & threads,
                                                      const std::vector<TextSequence> & sequences,
                                                      const PictureOptions & options) {
    PassOptions pass_options;
    pass_options.host = options.host;
    pass_options.device = options.device;
    pass_options.head = true;
    Result<std::unique_ptr<LayerPass>> pass = LayerPass::create({tower}, {&device}, threads, sequences, pass_options);
    if (!pass.ok()) return pass.take_status().add_context("the vision tower");
    return pass;
}

Status plan_encoding(const VisionModel & vision, const TextVariant & tower, Backend & device, ThreadPool & threads,
                     std::span<const Picture> pictures, const PictureOptions & options) {
    return guard_exceptions([&]() -> Status {
        std::vector<TextSequence> sequences;
        for (Picture picture : pictures) {
            picture.pixels =
                GivenRows(picture.patches(), vision.tower->sizes().given, {}); // a plan looks at sizes alone
            sequences.push_back(patches_of(picture, vision));
        }
        return create_pass(tower, device, threads, sequences, options).take_status();
    });
}

Status encode_pictures(const VisionModel & vision, const TextVariant & tower, Backend & device, ThreadPool & threads,
                       std::span<const Picture> pictures, const PictureOptions & options, std::span<float> rows) {
    std::vector<TextSequence> sequences;
    for (size_t i = 0; i < pictures.size(); i++) {
        GNV_TRY(check_picture(pictures[i], i, vision));
        sequences.push_back(patches_of(pictures[i], vision));
    }
    if (sequences.empty()) return {};
    GNV_ASSIGN(const std::unique_ptr<LayerPass> pass, create_pass(tower, device, threads, sequences, options));
    PassHooks hooks;
    hooks.logits_to = rows;
    const auto wants = [&](const Tap & tap) {
        return options.taps.empty() || std::find(options.taps.begin(), options.taps.end(), tap) != options.taps.end();
    };
    if (options.on_tap) {
        hooks.on_tap = [&](size_t, const PassBatch &, const Tap & tap, const Tensor & tensor) {
            return options.on_tap(tap, tensor);
        };
        hooks.wants_tap = wants;
    }
    if (options.on_progress)
        hooks.progress = [&](const PassProgress & now) {
            return options.on_progress(now.positions, now.positions_total);
        };
    GNV_TRY(pass->run(hooks).add_context("the vision tower"));
    if (!options.on_tap) return {};
    const int64_t columns = vision.tower->sizes().vocabulary;
    GNV_ASSIGN(const std::vector<TapInfo> taps, list_taps(tower, vision.tower->sizes().head_rows));
    const Tap merged = taps.back().tap; // a pass shows what the head makes as a whole only
    if (!wants(merged)) return {};
    return options.on_tap(merged, {DType::f32, {int64_t(rows.size()) / columns, columns}, rows.data()});
}

Result<std::vector<float>> encode_pictures(const VisionModel & vision, const TextVariant & tower, Backend & device,
                                           ThreadPool & threads, std::span<const Picture> pictures,
                                           const PictureOptions & options) {
    int64_t placeholders = 0;
    for (size_t i = 0; i < pictures.size(); i++) {
        GNV_TRY(check_picture(pictures[i], i, vision));
        placeholders += placeholders_of(pictures[i], vision);
    }
    std::vector<float> rows;
    GNV_TRY(guard_exceptions([&]() -> Status {
        if (placeholders > 0) rows.resize(size_t(placeholders * vision.tower->sizes().vocabulary));
        return {};
    }));
    GNV_TRY(encode_pictures(vision, tower, device, threads, pictures, options, rows));
    return rows;
}

} // namespace gnv
