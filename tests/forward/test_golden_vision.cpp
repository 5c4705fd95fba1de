// The vision tower against what the Transformers implementation recorded (tests/data/golden/vision.safetensors).
#include "forward/vision_fixture.h"
#include "run/layer_pass.h"

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
        EncodeOptions options;
        options.on_tap = [&](const Tap & tap, const Tensor & tensor) -> Status {
            taps[tap_name(qwen35::names, tap)].assign(tensor.as<float>(),
                                                      tensor.as<float>() + tensor.shape.elements());
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
