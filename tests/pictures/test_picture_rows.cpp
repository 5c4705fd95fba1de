// From records with pictures to logits of a pass, against what the Transformers implementation recorded.
#include "api/parts/dataset_handle.h"
#include "forward/vision_fixture.h"
#include "pass/layer_pass.h"
#include "scratch.h"

#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;
using nlohmann::json;

namespace {

// The prompts of the recorded pictures as a data set, and a text between them.
struct RecordedData {
    ScratchFolder folder;
    gnv_engine_t * engine = nullptr;
    gnv_tokenizer_t * tokenizer = nullptr;
    gnv_dataset_t * dataset = nullptr;
    std::vector<std::string> names; // of the sequences; "": the text

    ~RecordedData() {
        gnv_dataset_destroy(dataset);
        gnv_tokenizer_destroy(tokenizer);
        gnv_engine_destroy(engine);
    }
    RecordedData(const RecordedData &) = delete;
    RecordedData & operator=(const RecordedData &) = delete;

    explicit RecordedData(bool pack) {
        std::string lines;
        for (const std::string & name : picture_names) {
            const json prompt = {
                {"text", "<|im_start|>user\n<image>What is in the picture?<|im_end|>\n<|im_start|>assistant\n"},
                {"image", GNV_TEST_DATA "/golden/images/" + name}};
            lines += prompt.dump() + "\n";
            names.push_back(name);
            if (names.size() != 3) continue;
            lines += json{{"text", "No picture is here."}}.dump() + "\n";
            names.emplace_back();
        }
        const std::string path = folder.save("data.jsonl", lines);
        REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
        REQUIRE(gnv_tokenizer_load(engine, tiny_folder.c_str(), &tokenizer) == GNV_OK);
        gnv_dataset_options options;
        gnv_dataset_options_init(&options);
        const char * const source = path.c_str();
        options.sources = &source;
        options.source_count = 1;
        options.samples = 0;
        options.no_shuffle = 1;
        options.pack = pack;
        options.sequence_length = pack ? 100 : 2048;
        REQUIRE_MESSAGE(gnv_dataset_open(engine, tokenizer, &options, &dataset) == GNV_OK, gnv_last_error(engine));
    }
};

// The rows of the pictures, and the logits of all positions, one sequence after another.
struct Computed {
    std::vector<float> rows, logits;
};
Computed compute(const CalibrationData & data, const PictureRows::Limits & limits = {}) {
    VisionFixture f;
    Computed out;
    std::vector<TextSequence> texts = data.sequences;
    PictureRows rows = PictureRows::create(data.pictures, texts).take();
    const TextVariant tower = f.model->vision_variant(Precision::f32);
    const Status encoded = rows.encode(tower, *f.device, *f.threads, limits);
    REQUIRE_MESSAGE(encoded.ok(), encoded.message());
    for (const TextSequence & text : texts)
        out.rows.insert(out.rows.end(), text.given.in_memory().begin(), text.given.in_memory().end());
    PassOptions options;
    options.head = true;
    const auto pass =
        LayerPass::create({f.model->variant(Precision::f32)}, {f.device.get()}, *f.threads, texts, options).take();
    PassHooks hooks;
    hooks.on_logits = [&](int64_t, const std::vector<Tensor> & made) -> Status {
        const auto * const from = made.front().as<const float>();
        out.logits.insert(out.logits.end(), from, from + made.front().shape.elements());
        return {};
    };
    REQUIRE(pass->run(hooks).ok());
    return out;
}

} // namespace

TEST_CASE("records with pictures give the recorded ids, positions and logits, in one pass") {
    for (const bool pack : {false, true}) {
        CAPTURE(pack);
        const RecordedData recorded(pack);
        const CalibrationData data = recorded.dataset->calibration_data().take();
        const Computed found = compute(data);
        constexpr size_t vocabulary = 4096;
        size_t row = 0, pieces = 0, whole = 0; // of the pass; of documents with a picture
        for (size_t at = 0; at < data.sequences.size(); at++) {
            const TextSequence & sequence = data.sequences[at];
            for (size_t s = 0; s < sequence.segments.size(); s++) {
                const auto begin = size_t(sequence.segments[s]);
                const size_t end =
                    s + 1 < sequence.segments.size() ? size_t(sequence.segments[s + 1]) : sequence.ids.size();
                const std::string & name = recorded.names.at(recorded.dataset->set.sequences[at].documents[s].row);
                CAPTURE(name);
                row += end - begin;
                if (name.empty()) continue;
                const std::vector<int32_t> expected = recorded_vision().ints(name + ".input_ids");
                pieces++;
                if (end - begin != expected.size()) continue; // the end of one sequence, and the begin of the next
                whole++;
                const std::vector<int32_t> ids(sequence.ids.begin() + ptrdiff_t(begin),
                                               sequence.ids.begin() + ptrdiff_t(end));
                CHECK(ids == expected);
                std::vector<int32_t> positions;
                for (size_t axis = 0; axis < 3; axis++)
                    for (size_t i = begin; i < end; i++)
                        positions.push_back(sequence.positions[axis * sequence.ids.size() + i]);
                CHECK(positions == recorded_vision().ints(name + ".position_ids"));
                const auto last = found.logits.begin() + ptrdiff_t(row * vocabulary);
                CHECK(relative_error({last - ptrdiff_t(vocabulary), last},
                                     recorded_vision().floats(name + ".logits_last")) < 1e-5);
            }
        }
        CHECK(whole == (pack ? 6u : 8u));
        CHECK((pieces > 8) == pack);
        CHECK(row * vocabulary == found.logits.size());
    }
}

TEST_CASE("rows of pictures do not depend on the budget, and a stop is heard") {
    const RecordedData recorded(false);
    const CalibrationData data = recorded.dataset->calibration_data().take();
    size_t asked = 0;
    const auto count = [&] { return ++asked > 0; };
    const Computed wide = compute(data, {{}, 0, count});
    const size_t of_wide = asked;
    VisionFixture f;
    std::vector<TextSequence> texts = data.sequences;
    PictureRows rows = PictureRows::create(data.pictures, texts).take();
    const TextVariant tower = f.model->vision_variant(Precision::f32);
    const Status stopped = rows.encode(tower, *f.device, *f.threads, {{}, 0, [] { return false; }});
    CHECK(stopped.code() == Code::cancelled);
    const PictureRows::Limits small = {Budget(1 << 20), 0, {}};
    uint64_t least = 0;
    for (const Status & refused :
         {rows.encode(tower, *f.device, *f.threads, small), rows.check_budget(tower, *f.device, *f.threads, small)}) {
        CHECK(refused.code() == Code::out_of_memory);
        const std::string sentence = "the smallest sufficient one is ";
        const size_t at = refused.message().find(sentence);
        REQUIRE_MESSAGE(at != std::string::npos, refused.message());
        least = std::stoull(refused.message().substr(at + sentence.size()));
    }
    CHECK(!rows.check_budget(tower, *f.device, *f.threads, {Budget(least - 1), 0, {}}).ok());
    REQUIRE(rows.check_budget(tower, *f.device, *f.threads, {Budget(least), 0, {}}).ok());
    asked = 0;
    const Computed tight = compute(data, {Budget(least), 0, count}); // a pass for each portion
    CHECK(asked > of_wide);
    CHECK(tight.rows == wide.rows);
    CHECK(tight.logits == wide.logits);
}
