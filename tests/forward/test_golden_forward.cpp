// The text model against what the Transformers implementation recorded (tests/data/golden/text.safetensors).
#include "forward/forward_fixture.h"
#include "id_list.h"
#include <doctest/doctest.h>

#include <map>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Fixture {
    std::unique_ptr<OpenModel> model = open_model(tiny_folder);
    std::unique_ptr<ThreadPool> threads = ThreadPool::create(2).take();
    std::unique_ptr<Backend> device = open_cpu(*threads);

    std::unique_ptr<TextSession> session(int64_t capacity, Precision precision = Precision::f32) {
        Result<std::unique_ptr<TextSession>> opened =
            TextSession::create(model->variant(precision), *device, *threads, {1, capacity});
        REQUIRE_MESSAGE(opened.ok(), opened.status().message());
        return opened.take();
    }
    std::vector<float> logits(TextSession & session, const std::vector<int32_t> & ids, bool all, OnTap on_tap = {}) {
        TextSequence sequence;
        sequence.ids = ids;
        Result<std::vector<float>> result = session.run(sequence, {all, std::move(on_tap)});
        REQUIRE_MESSAGE(result.ok(), result.status().message());
        return result.take();
    }
};

} // namespace

TEST_CASE("every recorded output of every module, 1e-5 relative") {
    Fixture f;
    const GoldenFile golden("text.safetensors");
    for (const std::string text : {"text1", "text63", "text70"}) {
        std::map<std::string, std::vector<float>> floats;
        std::map<std::string, std::vector<int32_t>> ints;
        const auto keep = [&](const Tap & tap, const Tensor & tensor) -> Status {
            const auto count = size_t(tensor.shape.elements());
            const std::string name = text + "." + tap_name(qwen35::names, tap);
            if (tensor.dtype == DType::f32) {
                floats[name].assign(tensor.as<float>(), tensor.as<float>() + count);
            } else {
                ints[name].assign(tensor.as<int32_t>(), tensor.as<int32_t>() + count);
            }
            return {};
        };
        const std::vector<int32_t> ids = golden.ints(text + ".input_ids");
        const auto session = f.session(128);
        f.logits(*session, ids, true, keep);
        int compared = 0;
        for (const HeaderTensor & tensor : golden.tensors()) {
            if (tensor.name.rfind(text + ".", 0) != 0 || tensor.name == text + ".input_ids") continue;
            if (tensor.name == "text70.layer.3.self_attn.1")
                continue; // probabilities: no output of an op (test_attention)
            CAPTURE(tensor.name);
            if (tensor.dtype == DType::f32) {
                REQUIRE(floats.count(tensor.name) == 1);
                const std::vector<float> expected = golden.floats(tensor.name);
                REQUIRE(floats[tensor.name].size() == expected.size());
                CHECK(relative_error(floats[tensor.name], expected) < 1e-5);
            } else {
                REQUIRE(ints.count(tensor.name) == 1);
                CHECK(ints[tensor.name] == golden.ints(tensor.name));
            }
            compared++;
        }
        CHECK(compared == (text == "text70" ? 49 : 3));
    }
}

TEST_CASE("log-probabilities of 700 positions within 1e-4") {
    Fixture f;
    const GoldenFile golden("text.safetensors");
    const std::vector<int32_t> ids = golden.ints("text700.input_ids");
    const std::vector<float> expected = golden.floats("text700.logprob_next");
    const auto session = f.session(700);
    const std::vector<float> logits = f.logits(*session, ids, true);
    const size_t vocabulary = logits.size() / ids.size();
    double worst = 0;
    int same_argmax = 0;
    const std::vector<int32_t> argmax = golden.ints("text700.argmax");
    for (size_t t = 0; t < ids.size(); t++) {
        const float * const row = logits.data() + t * vocabulary;
        if (t + 1 < ids.size())
            worst = std::max(worst, std::abs(log_softmax(row, vocabulary)[size_t(ids[t + 1])] - double(expected[t])));
        same_argmax += int32_t(std::max_element(row, row + vocabulary) - row) == argmax[t];
    }
    CHECK(worst < 1e-4);
    CHECK(same_argmax == 700);
    const std::vector<float> last(logits.end() - ptrdiff_t(vocabulary), logits.end());
    CHECK(relative_error(last, golden.floats("text700.last_logits")) < 1e-5);
}

TEST_CASE("greedy continuation with caches, token for token") {
    Fixture f;
    const JsonDocument golden = JsonDocument::read(GNV_TEST_DATA "/golden/greedy.json", 1 << 20).take();
    int texts = 0;
    REQUIRE(golden.root()
                .for_each_element([&](size_t, const JsonValue & text) -> Status {
                    std::vector<int32_t> next = read_id_list(text.get("prompt_ids").take());
                    const std::vector<int32_t> expected = read_id_list(text.get("new_ids").take());
                    const auto session = f.session(256);
                    std::vector<int32_t> found;
                    while (found.size() < expected.size()) {
                        const std::vector<float> logits = f.logits(*session, next, false);
                        next = {int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin())};
                        found.push_back(next[0]);
                    }
                    CHECK(found == expected);
                    texts++;
                    return {};
                })
                .ok());
    CHECK(texts >= 2);
}
