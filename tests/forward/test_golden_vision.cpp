// The vision tower against what the Transformers implementation recorded (tests/data/golden/vision.safetensors).
#include "forward/vision_fixture.h"
#include "id_list.h"
#include "session/texts/generate.h"

#include <map>

using namespace gnv;
using namespace gnv::test;

TEST_CASE("vision: every recorded block and merger, 1e-5 relative") {
    VisionFixture f;
    const GoldenFile & golden = recorded_vision();
    int compared = 0;
    for (const std::string & name : picture_names) {
        CAPTURE(name);
        const RecordedPicture recorded(name);
        std::map<std::string, std::vector<float>> taps;
        PictureOptions options;
        options.on_tap = [&](const Tap & tap, const Tensor & tensor) -> Status {
            taps[tap_name(qwen35::names, tap)].assign(tensor.as<float>(), tensor.as<float>() + tensor.shape.elements());
            return {};
        };
        taps["merger"] = f.encode({recorded.picture}, options);
        for (const HeaderTensor & tensor : golden.tensors()) {
            if (!starts_with(tensor.name, name + ".") || tensor.dtype != DType::f32) continue;
            const std::string site = tensor.name.substr(name.size() + 1);
            if (site == "logits_last") continue;
            CAPTURE(site);
            const std::vector<float> expected = golden.floats(tensor.name);
            REQUIRE(taps[site].size() == expected.size());
            CHECK(relative_error(taps[site], expected) < 1e-5);
            compared++;
        }
    }
    CHECK(compared == 8 + 2 * 4); // mergers; patches and blocks of two
}

TEST_CASE("vision: positions and the last logits of a text with a picture, 1e-5 relative") {
    VisionFixture f;
    const GoldenFile & golden = recorded_vision();
    for (const std::string & name : picture_names) {
        CAPTURE(name);
        const RecordedPicture recorded(name);
        const std::vector<float> rows = f.encode({recorded.picture});
        TextSequence text = f.text_with({recorded.picture}, golden.ints(name + ".input_ids"), rows);
        CHECK(text.positions == golden.ints(name + ".position_ids"));
        const auto session = f.session(128);
        const std::vector<float> logits = session->run(text, {}).take();
        CHECK(relative_error(logits, golden.floats(name + ".logits_last")) < 1e-5);
    }
}

TEST_CASE("vision: greedy answers about every picture, token for token") {
    VisionFixture f;
    const JsonDocument golden = JsonDocument::read(GNV_TEST_DATA "/golden/vision.json", 1 << 20).take();
    const Tokenizer tokenizer = Tokenizer::load(tiny_folder).take();
    for (const std::string & name : picture_names) {
        CAPTURE(name);
        const RecordedPicture recorded(name);
        const std::vector<float> rows = f.encode({recorded.picture});
        const JsonValue expected = golden.root().get(name).take();
        const std::vector<int32_t> ids = recorded_vision().ints(name + ".input_ids");
        Encoder encoder(tokenizer);
        CHECK(encoder.encode(expected.get("prompt").take().as_string().take()).take() == ids);
        const std::vector<int32_t> answer = read_id_list(expected.get("new_ids").take());
        const auto session = f.session(128);
        std::vector<int32_t> found;
        GenerateOptions options;
        options.max_tokens = int64_t(answer.size());
        REQUIRE(
            generate(*session, 128, tokenizer, f.text_with({recorded.picture}, ids, rows), options, {}, found).ok());
        CHECK(found == answer);
    }
}
