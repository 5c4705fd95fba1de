// Pictures in texts: positions and placeholders, and that what comes out of a picture depends on nothing but the picture.
#include "budget_message.h"
#include "forward/deferred_device.h"
#include "forward/vision_fixture.h"
#include "pass/layer_pass.h"

#include <algorithm>
#include <atomic>
#include <map>

using namespace gnv;
using namespace gnv::test;

namespace {

constexpr int32_t image_id = 4078, video_id = 4079; // of the small checkpoint
using Ids = std::vector<int32_t>;

Ids joined(std::initializer_list<Ids> parts) {
    Ids all;
    for (const Ids & part : parts) all.insert(all.end(), part.begin(), part.end());
    return all;
}

Picture grid(int64_t frames, int64_t rows, int64_t columns, bool is_video = false) {
    static const std::vector<float> pixels(size_t(40) * 60 * 1536);
    Picture picture;
    picture.is_video = is_video, picture.frames = frames, picture.rows = rows, picture.columns = columns;
    picture.pixels = std::span(pixels).first(size_t(std::min<int64_t>(picture.patches(), 40 * 60)) * 1536);
    return picture;
}

const VisionModel & tiny_vision() {
    static const std::unique_ptr<OpenModel> model = open_model(tiny_folder);
    return model->vision;
}

// Positions on one axis.
Ids axis_of(const TextSequence & text, size_t axis) {
    const auto from = text.positions.begin() + ptrdiff_t(axis * text.ids.size());
    return {from, from + ptrdiff_t(text.ids.size())};
}

std::string refusal(const Ids & ids, const std::vector<Picture> & pictures) {
    TextSequence text;
    text.ids = ids;
    const Status status = place_pictures(pictures, tiny_vision(), text);
    CHECK(status.code() == Code::invalid_argument);
    return status.message();
}

} // namespace

TEST_CASE("pictures: positions of a large image, and of the text behind it") { // the example of the published model
    TextSequence text;
    text.ids = joined({Ids(6, 1), Ids(300, image_id), Ids(2, 1)});
    const Picture image = grid(1, 30, 40);
    REQUIRE(place_pictures(std::span(&image, 1), tiny_vision(), text).ok());
    for (size_t axis = 0; axis < 3; axis++) {
        const Ids at = axis_of(text, axis);
        CHECK(Ids(at.begin(), at.begin() + 6) == Ids{0, 1, 2, 3, 4, 5});
        CHECK(Ids(at.end() - 2, at.end()) == Ids{26, 27});
    }
    for (size_t t = 6; t < 306; t++) {
        CHECK(axis_of(text, 0)[t] == 6);
        CHECK(axis_of(text, 1)[t] == 6 + int32_t(t - 6) / 20);
        CHECK(axis_of(text, 2)[t] == 6 + int32_t(t - 6) % 20);
    }
    CHECK(text.given_at.size() == 300);
    CHECK(text.given_at.front() == 6);
}

TEST_CASE("pictures: images and videos in any order, each frame on its own, neighbours without text between them") {
    TextSequence text;
    text.ids = joined({Ids(4, video_id), {1, 2}, Ids(4, video_id), Ids(2, image_id), Ids(1, image_id), {3}});
    const std::vector<Picture> pictures = {grid(2, 4, 4, true), grid(1, 2, 4), grid(1, 2, 2)};
    REQUIRE(place_pictures(pictures, tiny_vision(), text).ok());
    CHECK(axis_of(text, 0) == Ids{0, 0, 0, 0, 2, 3, 4, 4, 4, 4, 6, 6, 8, 9});
    CHECK(axis_of(text, 1) == Ids{0, 0, 1, 1, 2, 3, 4, 4, 5, 5, 6, 6, 8, 9});
    CHECK(axis_of(text, 2) == Ids{0, 1, 0, 1, 2, 3, 4, 5, 4, 5, 6, 7, 8, 9});
    CHECK(text.given_at == Ids{0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12});

    const TextSequence patches = patches_of(pictures[0], tiny_vision());
    CHECK(patches.segments == Ids{0, 16});
    CHECK(Ids(patches.positions.begin() + 32, patches.positions.begin() + 48) ==
          Ids{0, 0, 1, 1, 0, 0, 1, 1, 2, 2, 3, 3, 2, 2, 3, 3});
    CHECK(Ids(patches.positions.begin() + 64, patches.positions.begin() + 80) ==
          Ids{0, 1, 0, 1, 2, 3, 2, 3, 0, 1, 0, 1, 2, 3, 2, 3});
}

TEST_CASE("pictures: a text and pictures that do not belong together") {
    const auto has = [](const std::string & message, const char * part) {
        CHECK_MESSAGE(message.find(part) != std::string::npos, message);
    };
    const Ids four = joined({{1}, Ids(4, image_id), {1}});
    has(refusal({1, 2, 3}, {grid(1, 4, 4)}), "1 pictures are given, the text has placeholders for 0");
    has(refusal(four, {}), "position 1 is a placeholder of an image, and only 0 pictures are given");
    has(refusal(four, {grid(1, 4, 4), grid(1, 2, 2)}), "placeholders for 1");
    has(refusal(four, {grid(1, 4, 6)}), "image 0 (1 x 4 x 6 patches) needs 6 placeholders a frame, there are 4");
    has(refusal(four, {grid(1, 2, 2)}), "position 2 is a placeholder of an image, and only 1 pictures");
    has(refusal(four, {grid(1, 4, 4, true)}), "must be in the order of the text");
    has(refusal(joined({Ids(4, video_id), {1}}), {grid(2, 4, 4, true)}), "the text ends after 1 of its frames");
    has(refusal(joined({Ids(2, image_id), {1}, Ids(2, image_id)}), {grid(1, 4, 4)}), "there are 2 from position 0 on");
    has(refusal(four, {grid(1, 3, 4)}), "squares of 2 x 2 patches");
    has(refusal(four, {grid(2, 4, 4)}), "an image has one frame");
    has(refusal(four, {grid(1, 0, 4)}), "a grid must have 1 to");
    has(refusal(four, {grid(1, 1 << 20, 1 << 20)}), "less than 2^31");
    Picture short_one = grid(1, 4, 4);
    short_one.pixels = short_one.pixels.in_memory().first(100);
    has(refusal(four, {short_one}), "100 pixel values are given, [16, 1536] are needed");

    const VisionModel none;
    const Picture image = grid(1, 4, 4);
    TextSequence text;
    text.ids = four;
    const Status blind = place_pictures(std::span(&image, 1), none, text);
    CHECK(blind.code() == Code::unsupported);
    has(blind.message(), "no vision tower");
}

TEST_CASE("pictures: a batch of all gives the bits of each, with any threads and instructions, on any device") {
    std::vector<RecordedPicture> recorded;
    std::vector<Picture> pictures;
    for (const std::string & name : picture_names) recorded.emplace_back(name);
    for (const RecordedPicture & one : recorded) pictures.push_back(one.picture);
    VisionFixture f;
    std::vector<float> expected;
    for (const Picture & picture : pictures) {
        const std::vector<float> rows = f.encode({picture});
        expected.insert(expected.end(), rows.begin(), rows.end());
    }
    CHECK(f.encode(pictures) == expected);
    const std::vector<float> rounded = f.encode(pictures, {}, Precision::bf16);
    CHECK(relative_error(rounded, expected) < 0.05);
    for (const int threads : {1, 3}) CHECK(VisionFixture(threads).encode(pictures) == expected);
    for (int set = 0; set <= int(best_instruction_set()); set++) {
        VisionFixture other;
        other.threads = ThreadPool::create(2, InstructionSet(set)).take();
        other.device = open_cpu(*other.threads);
        CHECK(other.encode(pictures) == expected);
        CHECK(other.encode(pictures, {}, Precision::bf16) == rounded);
    }
    DeferredDevice device(*f.threads);
    const Result<std::vector<float>> remote =
        encode_pictures(f.model->vision, f.model->vision_variant(Precision::f32), device, *f.threads, pictures, {});
    REQUIRE_MESSAGE(remote.ok(), remote.status().message());
    CHECK(remote.value() == expected);
}

TEST_CASE("pictures: pixels that a function writes give the bits of those in memory, over any batches") {
    VisionFixture f;
    std::vector<RecordedPicture> recorded;
    std::vector<Picture> in_memory, written;
    std::atomic<int64_t> asked = 0; // rows
    int64_t fails_at = INT64_MAX;   // of the last picture
    for (const std::string & name : picture_names) recorded.emplace_back(name);
    for (const RecordedPicture & one : recorded) {
        in_memory.push_back(one.picture);
        written.push_back(one.picture);
        const bool is_last = &one == &recorded.back();
        written.back().pixels =
            GivenRows(one.picture.patches(), 1536, [&, is_last](int64_t first, int64_t count, float * rows) -> Status {
                if (is_last && first + count > fails_at) return Status(Code::io, "the picture cannot be read");
                asked += count;
                std::copy_n(one.pixels.begin() + first * 1536, count * 1536, rows);
                return {};
            });
    }
    const std::vector<float> expected = f.encode(in_memory);
    int64_t patches = 0;
    for (const Picture & picture : in_memory) patches += picture.patches();
    CHECK(f.encode(written) == expected);
    CHECK(asked == patches); // each once
    PictureOptions tight;    // batches of a picture
    tight.host = Budget(4 << 20);
    CHECK(f.encode(written, tight) == expected);
    CHECK(f.encode({written[2], in_memory[3]}) == f.encode({in_memory[2], written[3]}));
    DeferredDevice remote(*f.threads);
    const auto encode = [&](Backend & device) {
        return encode_pictures(f.model->vision, f.model->vision_variant(Precision::f32), device, *f.threads, written,
                               {});
    };
    CHECK(encode(remote).value() == expected);
    // A writer that fails ends the pass with its status, in the first batch or later.
    for (const int64_t row : {int64_t(0), recorded.back().picture.patches() - 1}) {
        fails_at = row;
        for (Backend * const device : {f.device.get(), static_cast<Backend *>(&remote)}) {
            const Status failed = encode(*device).take_status();
            CHECK(failed.code() == Code::io);
            CHECK_MESSAGE(failed.message().find("the picture cannot be read") != std::string::npos, failed.message());
        }
    }
}

TEST_CASE("pictures: pixels of a batch are written while the device computes the batch before") {
    VisionFixture f;
    DeferredDevice device(*f.threads);
    std::vector<RecordedPicture> recorded;
    std::vector<Picture> in_memory, written;
    std::atomic<size_t> beside = 0; // pieces that were written with work in the device's queue
    for (const std::string & name : picture_names) recorded.emplace_back(name);
    for (const RecordedPicture & one : recorded) {
        in_memory.push_back(one.picture);
        written.push_back(one.picture);
        written.back().pixels =
            GivenRows(one.picture.patches(), 1536, [&](int64_t first, int64_t count, float * rows) -> Status {
                beside += device.waiting(Queue::compute) > 0;
                std::copy_n(one.pixels.begin() + first * 1536, count * 1536, rows);
                return {};
            });
    }
    const auto encode = [&](const PictureOptions & options) {
        return encode_pictures(f.model->vision, f.model->vision_variant(Precision::f32), device, *f.threads, written,
                               options);
    };
    PictureOptions least; // a batch for each picture
    least.device = Budget(1);
    least.device = Budget(smallest_budget(encode(least).take_status().message()));
    for (const bool eager : {false, true}) {
        device.eager_copies = eager;
        beside = 0;
        CHECK(encode(least).value() == f.encode(in_memory));
        CHECK(beside > recorded.size() / 2);
    }
}

TEST_CASE("pictures: frames of a video do not see each other") {
    VisionFixture f;
    const RecordedPicture a("circle64.png"), b("square64.png");
    std::vector<float> pixels = a.pixels;
    pixels.insert(pixels.end(), b.pixels.begin(), b.pixels.end());
    Picture video = a.picture;
    video.is_video = true, video.frames = 2, video.pixels = pixels;
    CHECK(f.encode({video}) == f.encode({a.picture, b.picture}));
}

TEST_CASE("pictures: a text in pieces, between calls and on a device with memory of its own, gives the same") {
    VisionFixture f;
    const RecordedPicture image("texture.jpg"); // 54 placeholders
    const std::vector<float> rows = f.encode({image.picture});
    Ids ids(40, 7);
    const Ids recorded = recorded_vision().ints("texture.jpg.input_ids");
    ids.insert(ids.end(), recorded.begin(), recorded.end());
    ids.resize(128 + 5, 9); // text behind
    const TextSequence text = f.text_with({image.picture}, ids, rows);
    const auto run = [&](TextSession & session, const std::vector<int64_t> & counts) {
        std::vector<float> all;
        TextSession::Request request;
        request.all_logits = true;
        session.reset();
        int64_t begin = 0;
        for (const int64_t count : counts) {
            Result<std::vector<float>> logits = session.run(part_of(text, begin, count), request);
            REQUIRE_MESSAGE(logits.ok(), logits.status().message());
            all.insert(all.end(), logits.value().begin(), logits.value().end());
            begin += count;
        }
        TextSequence next; // without positions: the session knows where the text goes on
        next.ids = {5, 6};
        const std::vector<float> last = session.run(next, {}).take();
        all.insert(all.end(), last.begin(), last.end());
        return all;
    };
    const auto session = f.session(200);
    const std::vector<float> whole = run(*session, {133});
    CHECK(run(*session, {64, 69}) == whole); // the cut is inside of the picture
    DeferredDevice device(*f.threads);
    const auto remote = TextSession::create(f.model->variant(Precision::f32), device, *f.threads, {1, 200}).take();
    CHECK(run(*remote, {64, 69}) == whole);

    // Positions that are written out are those that it takes on its own.
    TextSequence plain, explicit_one;
    plain.ids = Ids(70, 11);
    explicit_one = plain;
    for (int axis = 0; axis < 3; axis++)
        for (int32_t t = 0; t < 70; t++) explicit_one.positions.push_back(t);
    session->reset();
    const std::vector<float> expected = session->run(plain, {}).take();
    session->reset();
    CHECK(session->run(explicit_one, {}).value() == expected);
    // What is given has to fit.
    TextSequence bad = text;
    bad.given = bad.given.in_memory().first(256);
    CHECK(session->run(bad, {}).status().message().find("rows of 256 are needed") != std::string::npos);
}

TEST_CASE("pictures: inputs of the tower's Linears are observed as those of the text are") {
    VisionFixture f;
    const RecordedPicture a("circle64.png"), b("wide.png");
    const std::vector<TextSequence> sequences = {patches_of(a.picture, f.model->vision),
                                                 patches_of(b.picture, f.model->vision)};
    PassOptions options;
    options.statistics = {{&Statistic::maximum, Part::vision}};
    auto pass =
        LayerPass::create({f.model->vision_variant(Precision::f32)}, {f.device.get()}, *f.threads, sequences, options)
            .take();
    float norm1 = 0, norm2 = 0; // block 1: what qkv and fc1 read
    PassHooks hooks;
    hooks.on_tap = [&](size_t, const PassBatch &, const Tap & tap, const Tensor & tensor) -> Status {
        const std::string name = tap_name(qwen35::names, tap);
        for (int64_t i = 0; i < tensor.shape.elements(); i++) {
            if (name == "block.1.norm1") norm1 = std::max(norm1, std::fabs(tensor.as<float>()[i]));
            if (name == "block.1.norm2") norm2 = std::max(norm2, std::fabs(tensor.as<float>()[i]));
        }
        return {};
    };
    REQUIRE(pass->run(hooks).ok());
    const StatisticSet & set = pass->statistics(0);
    CHECK(norm1 > 0);
    CHECK(set.totals().at({Part::vision, 1, qwen35::vision_qkv_input, &Statistic::maximum}).as<float>()[0] == norm1);
    CHECK(set.totals().at({Part::vision, 1, qwen35::vision_fc1_input, &Statistic::maximum}).as<float>()[0] == norm2);
    CHECK(set.totals().size() == 3 * 4);
}
