#include "images/prepared_picture.h"

#include "images/resize.h"

#include <algorithm>

namespace gnv {

uint64_t PreparedPicture::bytes() const {
    uint64_t sum = 0;
    for (const Image & frame : frames) sum += frame.rgb.size();
    return sum;
}

// A decoder takes about 12 bytes a pixel (images/decode.h), the resize 3 of the source and less between its passes.
uint64_t memory_to_prepare(uint64_t file_bytes, const ImageInfo & info) {
    return file_bytes + 16 * uint64_t(info.width) * uint64_t(info.height);
}

static Result<Image> resize_to(const PatchPlan & plan, Image image, ThreadPool * pool) {
    if (image.width == plan.width && image.height == plan.height) return image;
    return resize_bicubic(image, plan.width, plan.height, pool);
}

Result<PreparedPicture> prepare_image(const ProcessorConfig & config, Image image, const std::string & name,
                                      ThreadPool * pool) {
    PreparedPicture made;
    GNV_TRY(guard_exceptions([&]() -> Status {
        GNV_ASSIGN(made.plan, plan_image(config.images, image.width, image.height, name));
        GNV_ASSIGN(Image resized, resize_to(made.plan, std::move(image), pool));
        made.frames.push_back(std::move(resized));
        return {};
    }));
    return made;
}

Result<PreparedPicture> prepare_video(const VideoPlan & plan, const Folder & folder, const ImageLimits & limits,
                                      ThreadPool * pool) {
    PreparedPicture made;
    made.is_video = true;
    made.plan = plan.patches;
    made.seconds = plan.seconds;
    GNV_TRY(guard_exceptions([&]() -> Status {
        return for_each_frame(plan, folder, limits, [&](size_t, Image & frame) -> Status {
            GNV_ASSIGN(Image resized, resize_to(made.plan, std::move(frame), pool));
            made.frames.push_back(std::move(resized));
            return {};
        });
    }));
    return made;
}

const ImageProcessorConfig & frame_config(const ProcessorConfig & config, const PreparedPicture & picture) {
    return picture.is_video ? config.videos.frames : config.images;
}

void write_pixel_values(const ProcessorConfig & config, const PreparedPicture & picture, int64_t first, int64_t count,
                        float * pixel_values) {
    const ImageProcessorConfig & of_frames = frame_config(config, picture);
    const int64_t patches = picture.plan.grid.h * picture.plan.grid.w, places = of_frames.temporal_patch_size;
    const auto frames = int64_t(picture.frames.size());
    while (count > 0) {
        const int64_t group = first / patches, patch = first % patches, here = std::min(count, patches - patch);
        for (int64_t place = 0; place < places;) { // the last frame fills the places that are left
            const int64_t frame = std::min(group * places + place, frames - 1);
            const int64_t end = frame + 1 == frames ? places : place + 1;
            write_patches(of_frames, picture.frames[size_t(frame)], patch, here, place, end, pixel_values);
            place = end;
        }
        first += here, count -= here;
        pixel_values += here * of_frames.patch_values();
    }
}

} // namespace gnv
