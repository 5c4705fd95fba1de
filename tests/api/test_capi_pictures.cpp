// Pictures through the C API: from files, memory and pixel values, in prompts and forward passes, and used wrongly.
#include "api/capi_fixture.h"
#include "golden_file.h"

#include <cstring>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

using namespace gnv::test;
using nlohmann::json;

namespace {

using Ids = std::vector<int32_t>;
using Model = Handle<gnv_model_t>;

using Picture = Handle<gnv_picture_t>;

std::string image(const std::string & name) { return GNV_TEST_DATA "/golden/images/" + name; }

const GoldenFile & golden() {
    static const GoldenFile file("vision.safetensors");
    return file;
}

Picture open_picture(gnv_engine_t * engine, const std::string & path) {
    gnv_picture_t * picture = nullptr;
    const gnv_status status = gnv_picture_open(engine, tiny_folder.c_str(), path.c_str(), 0, &picture);
    REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine));
    return Picture(picture);
}

gnv_picture_info info_of(const Picture & picture) {
    auto info = make_info<gnv_picture_info>();
    REQUIRE(gnv_picture_get_info(picture.get(), &info) == GNV_OK);
    return info;
}

Model open_model(gnv_engine_t * engine, const std::string & folder = tiny_folder) {
    gnv_model_t * model = nullptr;
    gnv_model_options options;
    gnv_model_options_init(&options);
    options.capacity = 256;
    const gnv_status status = gnv_model_open(engine, folder.c_str(), &options, &model);
    REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine));
    return Model(model);
}

struct Fixture {
    Handle<gnv_engine_t> engine = make_engine();
    Handle<gnv_tokenizer_t> tokenizer;
    Fixture() {
        gnv_tokenizer_t * handle = nullptr;
        REQUIRE(gnv_tokenizer_load(engine.get(), tiny_folder.c_str(), &handle) == GNV_OK);
        tokenizer.reset(handle);
    }
    std::string text_with(const std::string & text, const std::vector<const gnv_picture_t *> & pictures) {
        gnv_text_t * made = nullptr;
        const gnv_status status =
            gnv_picture_text(tokenizer.get(), text.data(), text.size(), pictures.data(), pictures.size(), &made);
        if (status != GNV_OK) return gnv_last_error(engine.get());
        const Handle<gnv_text_t> owned(made);
        return {gnv_text_data(made), gnv_text_size(made)};
    }
};

gnv_status forward(gnv_model_t * model, const Ids & ids, const std::vector<const gnv_picture_t *> & pictures,
                   std::vector<float> & logits) {
    gnv_forward_options options;
    gnv_forward_options_init(&options);
    options.pictures = pictures.data();
    options.picture_count = pictures.size();
    logits.assign(4096, 0);
    return gnv_model_forward(model, ids.data(), ids.size(), &options, logits.data(), logits.size(), nullptr);
}

} // namespace

TEST_CASE("pictures from a file, from memory and as pixel values are the same") {
    Fixture f;
    const std::string path = image("texture.jpg"), bytes = gnv::read_file(path, 1 << 20).take();
    const Picture from_file = open_picture(f.engine.get(), path);
    const gnv_picture_info info = info_of(from_file);
    CHECK(Ids(info.grid, info.grid + 3) == GoldenFile("pixel_levels.safetensors").ints("texture.jpg.grid_thw"));
    CHECK(info.tokens == 54);
    CHECK(info.patches == 216);
    CHECK(info.columns == 1536);
    CHECK(info.is_video == 0);
    gnv_picture_t *decoded = nullptr, *created = nullptr;
    REQUIRE(gnv_picture_decode(f.engine.get(), tiny_folder.c_str(), bytes.data(), bytes.size(), &decoded) == GNV_OK);
    REQUIRE(gnv_picture_create(f.engine.get(), tiny_folder.c_str(), info.pixel_values, 216 * 1536, info.grid, 0,
                               &created) == GNV_OK);
    for (gnv_picture_t * const other : {decoded, created}) {
        const Picture owned(other);
        CHECK(memcmp(info_of(owned).pixel_values, info.pixel_values, 216 * 1536 * sizeof(float)) == 0);
    }
}

TEST_CASE("a text goes on with a picture: logits of the reference, positions behind another picture") {
    Fixture f;
    const Model model = open_model(f.engine.get());
    const Picture picture = open_picture(f.engine.get(), image("wide.png"));
    const Ids ids = golden().ints("wide.png.input_ids");
    std::vector<float> logits, again;
    REQUIRE(forward(model.get(), ids, {picture.get()}, logits) == GNV_OK);
    const std::vector<float> expected = golden().floats("wide.png.logits_last");
    for (size_t i = 0; i < expected.size(); i++) REQUIRE(std::abs(logits[i] - expected[i]) < 1e-3f);
    // The text goes on at the position behind the last one, which is not their number.
    const Ids positions = golden().ints("wide.png.position_ids");
    Ids next(3 * ids.size());
    const gnv_picture_t * const list[] = {picture.get()};
    REQUIRE(gnv_model_picture_positions(model.get(), ids.data(), ids.size(), list, 1, next.data()) == GNV_OK);
    CHECK(next.front() == positions.back() + 1);
    CHECK(next.front() < int32_t(ids.size()));
    REQUIRE(forward(model.get(), ids, {picture.get()}, again) == GNV_OK);
    CHECK(again != logits);
    REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
    REQUIRE(forward(model.get(), ids, {picture.get()}, again) == GNV_OK);
    CHECK(again == logits);
}

TEST_CASE("prompts with pictures") {
    Fixture f;
    const Picture small = open_picture(f.engine.get(), image("circle64.png")); // 4 tokens
    const json recorded = json::parse(gnv::read_file(GNV_TEST_DATA "/golden/vision.json", 1 << 20).take());
    const std::string four = "<|vision_start|><|image_pad|><|image_pad|><|image_pad|><|image_pad|><|vision_end|>";
    CHECK(f.text_with("<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What is in the "
                      "picture?<|im_end|>\n<|im_start|>assistant\n",
                      {small.get()}) == recorded["circle64.png"]["prompt"].get<std::string>());
    CHECK(f.text_with("a", {small.get(), small.get()}) == four + four + "a");
    CHECK(f.text_with("a", {}) == "a");
    // A folder of frames: each group of two with its time before it.
    const gnv::test::ScratchFolder folder;
    const std::string frame = gnv::read_file(image("circle64.png"), 1 << 20).take();
    for (int i = 0; i < 4; i++) folder.save("frame" + std::to_string(i) + ".png", frame);
    gnv_picture_t * handle = nullptr;
    const gnv_status status = gnv_picture_open(f.engine.get(), tiny_folder.c_str(), folder.path().c_str(), 2, &handle);
    REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(f.engine.get()));
    const Picture video(handle);
    const gnv_picture_info info = info_of(video);
    CHECK(info.is_video == 1);
    REQUIRE(info.grid[0] == 2);
    std::string pads;
    for (uint64_t i = 0; i < info.tokens / 2; i++) pads += "<|video_pad|>";
    const std::string frames = "<0.2 seconds><|vision_start|>" + pads + "<|vision_end|><1.2 seconds><|vision_start|>" +
                               pads + "<|vision_end|>";
    CHECK(f.text_with("a<|vision_start|><|video_pad|><|vision_end|>b", {video.get()}) == "a" + frames + "b");
    CHECK(f.text_with("a<|video_pad|>b", {video.get()}) == "a" + frames + "b");
    CHECK(f.text_with("c", {video.get()}) == frames + "c");
    CHECK(f.text_with("<|video_pad|><|image_pad|>", {video.get(), small.get()}).find("seconds>") != std::string::npos);
    CHECK(f.text_with("<|image_pad|>", {video.get()}).find("picture 0 is a video") == 0);
    CHECK(f.text_with("<|image_pad|><|image_pad|>", {small.get()}).find("more placeholders than the 1") !=
          std::string::npos);
    CHECK(f.text_with("<|image_pad|>", {small.get(), small.get()}).find("placeholders for 1") != std::string::npos);
    // Its frames are looked at where the placeholders are.
    const Model model = open_model(f.engine.get());
    const std::string text = f.text_with("What?", {video.get()});
    Ids ids(1000);
    size_t count = 0;
    REQUIRE(gnv_tokenizer_encode(f.tokenizer.get(), text.data(), text.size(), 0, ids.data(), ids.size(), &count) ==
            GNV_OK);
    ids.resize(count);
    std::vector<float> logits;
    CHECK(forward(model.get(), ids, {video.get()}, logits) == GNV_OK);
}

TEST_CASE("pictures: wrong arguments change nothing and say what is wrong") {
    Fixture f;
    const Model model = open_model(f.engine.get());
    const Picture picture = open_picture(f.engine.get(), image("circle64.png"));
    const Ids ids = golden().ints("circle64.png.input_ids");
    std::vector<float> logits;
    const auto refused = [&](gnv_status status, const char * why) {
        CHECK(status == GNV_INVALID_ARGUMENT);
        CHECK_MESSAGE(std::string(gnv_last_error(f.engine.get())).find(why) != std::string::npos,
                      gnv_last_error(f.engine.get()));
    };
    refused(forward(model.get(), ids, {picture.get(), picture.get()}, logits), "placeholders for 1");
    refused(forward(model.get(), {1, 2}, {picture.get()}, logits), "placeholders for 0");
    refused(forward(model.get(), ids, {nullptr}, logits), "pictures[0] is NULL");
    const auto other = make_engine();
    const Picture foreign = open_picture(other.get(), image("circle64.png"));
    refused(forward(model.get(), ids, {foreign.get()}, logits), "is of another engine");
    auto info = make_info<gnv_model_info>();
    REQUIRE(gnv_model_get_info(model.get(), &info) == GNV_OK);
    CHECK(info.positions == 0);

    gnv_picture_t * made = nullptr;
    const float pixel = 0;
    for (const auto & [rows, why] :
         {std::pair<int64_t, const char *>{3, "squares of 2 x 2"}, {4, "1 pixel values are"}}) {
        const int64_t grid[3] = {1, rows, 4};
        refused(gnv_picture_create(f.engine.get(), tiny_folder.c_str(), &pixel, 1, grid, 0, &made), why);
    }
    refused(gnv_picture_open(f.engine.get(), nullptr, "a", 0, &made), "NULL");
    refused(gnv_picture_decode(f.engine.get(), tiny_folder.c_str(), nullptr, 0, &made), "NULL");
    CHECK(gnv_picture_get_info(nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_picture_open(f.engine.get(), tiny_folder.c_str(), "/nowhere", 0, &made) == GNV_NOT_FOUND);
    CHECK(gnv_picture_open(f.engine.get(), "/nowhere", image("circle64.png").c_str(), 0, &made) == GNV_NOT_FOUND);

    // A model that takes text alone.
    const gnv::test::ScratchFolder folder;
    json config = json::parse(gnv::read_file(tiny_folder + "/config.json", 1 << 20).take());
    config.erase("vision_config");
    folder.save("config.json", config.dump());
    CHECK(gnv_picture_open(f.engine.get(), folder.path().c_str(), image("circle64.png").c_str(), 0, &made) ==
          GNV_UNSUPPORTED);
    CHECK(std::string(gnv_last_error(f.engine.get())).find("no vision tower") != std::string::npos);
    CHECK(made == nullptr);
    gnv_picture_destroy(nullptr);
}
