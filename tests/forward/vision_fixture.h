// The recorded pictures, as the model's processor makes them, and what the tower is run with.
#pragma once

#include "forward/forward_fixture.h"
#include "model/pictures.h"
#include "pass/picture_encoder.h"

#include <doctest/doctest.h>
#include <string>
#include <vector>

namespace gnv::test {

inline const std::vector<std::string> picture_names = {"circle64.png", "square64.png", "wide.png", "tall.png",
                                                       "small.png",    "texture.jpg",  "gray.png", "rgba.png"};

inline const GoldenFile & recorded_vision() {
    static const GoldenFile file("vision.safetensors");
    return file;
}

inline const GoldenFile & recorded_processor() { // the image processor's output
    static const GoldenFile file("pixel_levels.safetensors");
    return file;
}

// pixel_values of an image of one patch size and two equal frames, from its levels [patches, channels, side * side].
inline std::vector<float> recorded_pixels(const std::string & name) {
    const std::vector<uint8_t> levels = recorded_processor().bytes(name + ".levels");
    constexpr size_t plane = 256; // 16 x 16
    std::vector<float> pixels;
    for (size_t first = 0; first < levels.size(); first += plane)
        for (int frame = 0; frame < 2; frame++)
            for (size_t i = 0; i < plane; i++) pixels.push_back((float(levels[first + i]) - 127.5f) / 127.5f);
    return pixels;
}

struct RecordedPicture {
    std::string name;
    std::vector<float> pixels;
    Picture picture;

    explicit RecordedPicture(const std::string & of) : name(of), pixels(recorded_pixels(of)) {
        const std::vector<int32_t> grid = recorded_processor().ints(name + ".grid_thw");
        picture.frames = grid[0], picture.rows = grid[1], picture.columns = grid[2];
        picture.pixels = pixels;
    }
    RecordedPicture(RecordedPicture && other) = default; // the memory of the pixels stays where it is
};

struct VisionFixture {
    explicit VisionFixture(int thread_count = 2) : threads(ThreadPool::create(thread_count).take()) {}
    std::unique_ptr<OpenModel> model = open_model(tiny_folder);
    std::unique_ptr<ThreadPool> threads;
    std::unique_ptr<Backend> device = open_cpu(*threads);

    std::vector<float> encode(const std::vector<Picture> & pictures, const PictureOptions & options = {},
                              Precision precision = Precision::f32) {
        Result<std::vector<float>> rows =
            encode_pictures(model->vision, model->vision_variant(precision), *device, *threads, pictures, options);
        REQUIRE_MESSAGE(rows.ok(), rows.status().message());
        return rows.take();
    }
    TextSequence text_with(const std::vector<Picture> & pictures, const std::vector<int32_t> & ids,
                           const std::vector<float> & rows) const {
        TextSequence text;
        text.ids = ids;
        const Status placed = place_pictures(pictures, model->vision, text);
        REQUIRE_MESSAGE(placed.ok(), placed.message());
        text.given = rows;
        return text;
    }
    std::unique_ptr<TextSession> session(int64_t capacity) {
        Result<std::unique_ptr<TextSession>> opened =
            TextSession::create(model->variant(Precision::f32), *device, *threads, {1, capacity});
        REQUIRE_MESSAGE(opened.ok(), opened.status().message());
        return opened.take();
    }
};

} // namespace gnv::test
