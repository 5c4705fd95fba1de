#include "api/arguments.h"
#include "api/text/picture_config.h"
#include "api/text/tokenizer_handle.h"
#include "formats/file.h"
#include "images/picture_text.h"
#include "images/preprocess.h"
#include "images/video.h"

#include <algorithm>

using namespace gnv;

Result<std::vector<Picture>> api::take_pictures(const gnv_engine_t * engine, const gnv_picture_t * const * list,
                                                size_t count, const char * what) {
    GNV_TRY(check_list(list, count, what));
    std::vector<Picture> pictures;
    for (size_t i = 0; i < count; i++) {
        if (!list[i]) return fail(Code::invalid_argument, what, "[", i, "] is NULL");
        GNV_TRY(check_engine(engine, list[i], what));
        pictures.push_back(list[i]->picture);
    }
    return pictures;
}

// --- Making -----------------------------------------------------------------------------------------------------------

namespace {

// Makes pictures for a model.
struct Eyes : api::PictureConfig {
    gnv_engine_t * engine = nullptr;

    static Result<Eyes> open(gnv_engine_t * engine, const char * path, bool with_processor) {
        Eyes eyes;
        GNV_ASSIGN(static_cast<api::PictureConfig &>(eyes), api::read_picture_config(path, with_processor));
        eyes.engine = engine;
        return eyes;
    }

    std::unique_ptr<gnv_picture_t> make(const VisionGrid & grid, bool is_video) const {
        std::unique_ptr<gnv_picture_t> made(new gnv_picture_t);
        made->engine = engine;
        made->merge = vision.merge;
        made->tokens = vision.tokens;
        made->picture.is_video = is_video;
        made->picture.frames = grid.t, made->picture.rows = grid.h, made->picture.columns = grid.w;
        return made;
    }
    Status give(std::unique_ptr<gnv_picture_t> made, gnv_picture_t ** out) const {
        made->picture.pixels = made->pixels;
        GNV_TRY(check_picture(made->picture, 0, vision)); // the processor's patches need not be those of the tower
        *out = made.release();
        return {};
    }
    Status give_image(const Image & image, const std::string & name, gnv_picture_t ** out) const {
        GNV_ASSIGN(PixelValues pixels, preprocess_image(processor.images, image, name, engine->threads.get()));
        std::unique_ptr<gnv_picture_t> made = make(pixels.grid, false);
        made->pixels = std::move(pixels.values);
        return give(std::move(made), out).add_context(name);
    }
    Status give_video(const std::string & path, double frame_rate, gnv_picture_t ** out) const {
        GNV_ASSIGN(const std::shared_ptr<const Folder> folder, open_folder(path));
        GNV_ASSIGN(const VideoPlan plan,
                   plan_video(processor.videos, *folder, frame_rate != 0 ? frame_rate : default_frame_rate));
        std::unique_ptr<gnv_picture_t> made = make(plan.patches.grid, true);
        made->pixels.resize(size_t(plan.patches.values(processor.videos.frames)));
        made->times = plan.seconds;
        GNV_TRY(preprocess_video(processor.videos, plan, *folder, made->pixels.data(), {}, engine->threads.get()));
        return give(std::move(made), out).add_context(path);
    }
};

} // namespace

gnv_status gnv_picture_open(gnv_engine_t * engine, const char * model_folder, const char * path, double frame_rate,
                            gnv_picture_t ** out) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({model_folder, path, out}, "gnv_picture_open"));
        GNV_ASSIGN(const Eyes eyes, Eyes::open(engine, model_folder, true));
        if (is_directory(path)) return eyes.give_video(path, frame_rate, out);
        GNV_ASSIGN(const Image image, read_image(path));
        return eyes.give_image(image, path, out);
    });
}

gnv_status gnv_picture_decode(gnv_engine_t * engine, const char * model_folder, const void * bytes, size_t size,
                              gnv_picture_t ** out) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({model_folder, bytes, out}, "gnv_picture_decode"));
        GNV_TRY(api::check_list(bytes, size, "gnv_picture_decode: bytes", api::most_bytes));
        GNV_ASSIGN(const Eyes eyes, Eyes::open(engine, model_folder, true));
        const std::string name = "picture in memory";
        GNV_ASSIGN(const Image image, decode_image({static_cast<const char *>(bytes), size}, name));
        return eyes.give_image(image, name, out);
    });
}

gnv_status gnv_picture_create(gnv_engine_t * engine, const char * model_folder, const float * pixel_values,
                              size_t count, const int64_t * grid, int32_t is_video, gnv_picture_t ** out) {
    if (out) *out = nullptr;
    return api::run(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({model_folder, grid, out}, "gnv_picture_create"));
        GNV_TRY(api::check_list(pixel_values, count, "gnv_picture_create: pixel_values",
                                api::most_bytes / sizeof *pixel_values));
        GNV_ASSIGN(const Eyes eyes, Eyes::open(engine, model_folder, false));
        std::unique_ptr<gnv_picture_t> made = eyes.make({grid[0], grid[1], grid[2]}, is_video != 0);
        made->picture.pixels = std::span(pixel_values, count); // looked at before they are copied
        GNV_TRY(check_picture(made->picture, 0, eyes.vision));
        made->pixels.assign(pixel_values, pixel_values + count);
        return eyes.give(std::move(made), out);
    });
}

void gnv_picture_destroy(gnv_picture_t * picture) { api::destroy(picture); }

gnv_status gnv_picture_get_info(gnv_picture_t * picture, gnv_picture_info * out) {
    return api::call(api::engine_of(picture), [&]() -> Status {
        const Picture & made = picture->picture;
        gnv_picture_info info = {};
        info.grid[0] = made.frames, info.grid[1] = made.rows, info.grid[2] = made.columns;
        info.patches = uint64_t(made.patches());
        info.tokens = uint64_t(made.patches() / (picture->merge * picture->merge));
        info.is_video = made.is_video;
        info.pixel_values = picture->pixels.data();
        info.columns = uint64_t(picture->pixels.size()) / info.patches;
        return api::give_struct(info, out, "gnv_picture_info");
    });
}

// --- In a text --------------------------------------------------------------------------------------------------------

gnv_status gnv_picture_text(gnv_tokenizer_t * tokenizer, const char * text, size_t size,
                            const gnv_picture_t * const * pictures, size_t count, gnv_text_t ** out) {
    if (out) *out = nullptr;
    return api::call(api::engine_of(tokenizer), [&]() -> Status {
        GNV_TRY(api::check_pointers({out}, "gnv_picture_text"));
        GNV_TRY(api::check_list(text, size, "gnv_picture_text: text", api::most_bytes));
        GNV_TRY(api::take_pictures(tokenizer->engine, pictures, count, "gnv_picture_text: pictures").take_status());
        if (count == 0) {
            *out = api::make_text({text, size});
            return {};
        }
        GNV_ASSIGN(const PictureWords words, api::picture_words(tokenizer->tokenizer, pictures[0]->tokens));
        std::vector<PictureInText> in_text;
        for (size_t i = 0; i < count; i++) {
            const gnv_picture_t & from = *pictures[i];
            in_text.push_back(
                {from.picture.is_video, from.picture.rows * from.picture.columns / (from.merge * from.merge), {}});
            for (size_t frame = 0; from.picture.is_video && frame < size_t(from.picture.frames); frame++)
                in_text.back().times.push_back(from.times.empty() ? "" : seconds_text(from.times[frame]));
        }
        GNV_ASSIGN(std::string expanded, expand_placeholders({text, size}, in_text, words));
        *out = api::make_text(std::move(expanded));
        return {};
    });
}

gnv_status gnv_model_picture_positions(gnv_model_t * model, const int32_t * ids, size_t count,
                                       const gnv_picture_t * const * pictures, size_t picture_count,
                                       int32_t * positions) {
    return api::run(api::engine_of(model), [&]() -> Status {
        GNV_TRY(api::check_pointers({positions}, "gnv_model_picture_positions"));
        GNV_TRY(api::check_list(ids, count, "gnv_model_picture_positions: ids", api::most_bytes / sizeof *ids));
        GNV_ASSIGN(const std::vector<Picture> taken,
                   api::take_pictures(model->engine, pictures, picture_count, "gnv_model_picture_positions: pictures"));
        TextSequence sequence;
        sequence.ids.assign(ids, ids + count);
        GNV_TRY(place_pictures(taken, model->open->vision, sequence, model->session->next_position()));
        std::copy(sequence.positions.begin(), sequence.positions.end(), positions);
        return {};
    });
}
