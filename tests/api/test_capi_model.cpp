// Models through the C API: against recorded numbers, and every way to use them wrongly.
#include "api/capi_fixture.h"
#include "checkpoint_files.h"
#include "golden_file.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>
#include <set>
#include <vector>

using namespace gnv::test;
using nlohmann::json;

namespace {

using Ids = std::vector<int32_t>;
using Model = Handle<gnv_model_t>;

using Dump = Handle<gnv_dump_t>;

Model open_model(gnv_engine_t * engine, uint64_t capacity = 256, gnv_precision precision = GNV_PRECISION_FP32) {
    gnv_model_options options;
    gnv_model_options_init(&options);
    options.capacity = capacity;
    options.precision = precision;
    gnv_model_t * model = nullptr;
    const gnv_status status = gnv_model_open(engine, tiny_folder.c_str(), &options, &model);
    REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine));
    return Model(model);
}

double relative_error(const std::vector<float> & found, const std::vector<float> & expected) {
    REQUIRE(found.size() == expected.size());
    double error = 0, magnitude = 0;
    for (size_t i = 0; i < expected.size(); i++) {
        error = std::max(error, std::abs(double(found[i]) - double(expected[i])));
        magnitude = std::max(magnitude, std::abs(double(expected[i])));
    }
    return error / magnitude;
}

std::vector<float> forward(gnv_engine_t * engine, gnv_model_t * model, const Ids & ids, bool all = true) {
    gnv_forward_options options;
    gnv_forward_options_init(&options);
    options.all_logits = all;
    std::vector<float> logits((all ? ids.size() : 1) * 4096);
    size_t written = 0;
    const gnv_status status =
        gnv_model_forward(model, ids.data(), ids.size(), &options, logits.data(), logits.size(), &written);
    REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine));
    CHECK(written == logits.size());
    return logits;
}

uint64_t positions(gnv_model_t * model) {
    auto info = make_info<gnv_model_info>();
    REQUIRE(gnv_model_get_info(model, &info) == GNV_OK);
    return info.positions;
}

struct Written {
    Ids ids;
    std::string text;
    Ids stops;
    size_t stop_after = 0; // 0: never
};

int keep_token(void * user, const gnv_token * token) {
    auto & written = *static_cast<Written *>(user);
    written.ids.push_back(token->id);
    written.text.append(token->text, token->text_size);
    written.stops.push_back(token->stop);
    return written.ids.size() == written.stop_after;
}

gnv_generate_options generate_options(Written & written, uint64_t max_tokens, float temperature) {
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    options.max_tokens = max_tokens;
    options.temperature = temperature;
    options.callback = keep_token;
    options.user = &written;
    return options;
}

const gnv::test::GoldenFile & golden() {
    static const GoldenFile file("text.safetensors");
    return file;
}

} // namespace

TEST_CASE("a model says what it is") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get(), 0);
    auto info = make_info<gnv_model_info>();
    REQUIRE(gnv_model_get_info(model.get(), &info) == GNV_OK);
    CHECK(std::string(info.description).find("qwen3_5_moe: 8 layers") == 0);
    CHECK(info.hidden == 256);
    CHECK(info.vocabulary == 4096);
    CHECK(info.layers == 8);
    CHECK(info.experts == 32);
    CHECK(info.experts_per_token == 4);
    CHECK(info.capacity == std::min<uint64_t>(4096, info.max_positions));
    CHECK(info.positions == 0);
    CHECK(info.quantized_modules == 0);
    CHECK(info.quantizes_inputs == 0);
    CHECK(info.weights_stay == 1);
    CHECK(info.samples == 1);
    CHECK(info.temperature == 1);
    CHECK(info.top_k == 20);
    CHECK(info.top_p == 0.95f);
    CHECK(Ids(info.stop_ids, info.stop_ids + info.stop_count) == Ids{4074, 4072});
    gnv_model_info unset = {};
    CHECK(gnv_model_get_info(model.get(), &unset) == GNV_INVALID_ARGUMENT);
}

TEST_CASE("recorded logits, and the text goes on where it was") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get());
    for (const std::string text : {"text1", "text63", "text70"}) {
        const Ids ids = golden().ints(text + ".input_ids");
        const std::vector<float> expected = golden().floats(text + ".logits");
        CHECK(relative_error(forward(engine.get(), model.get(), ids), expected) < 1e-5);
        CHECK(positions(model.get()) == ids.size());
        REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
        CHECK(positions(model.get()) == 0);
        if (ids.size() < 2) continue;
        const size_t half = ids.size() / 2;
        forward(engine.get(), model.get(), Ids(ids.begin(), ids.begin() + ptrdiff_t(half)), false);
        const std::vector<float> rest =
            forward(engine.get(), model.get(), Ids(ids.begin() + ptrdiff_t(half), ids.end()));
        const std::vector<float> wanted(expected.begin() + ptrdiff_t(half * 4096), expected.end());
        CHECK(relative_error(rest, wanted) < 1e-5);
        REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
    }
    // Logits that nobody wants.
    CHECK(gnv_model_forward(model.get(), Ids{1, 2}.data(), 2, nullptr, nullptr, 0, nullptr) == GNV_OK);
    CHECK(positions(model.get()) == 2);
}

TEST_CASE("taps: all of them, some of them, what they are before anything runs") {
    struct Seen {
        std::map<std::string, std::vector<float>> floats;
        std::map<std::string, std::vector<int64_t>> shapes;
        std::map<std::string, std::string> dtypes;
        std::vector<std::string> order;
        size_t stop_after = 0;
        static int callback(void * user, const gnv_activation * a) {
            auto & seen = *static_cast<Seen *>(user);
            seen.order.push_back(a->name);
            seen.shapes[a->name] = {a->shape, a->shape + a->dimensions};
            seen.dtypes[a->name] = a->dtype;
            if (std::string(a->dtype) == "F32") {
                auto * const data = static_cast<const float *>(a->data);
                seen.floats[a->name] = {data, data + a->bytes / sizeof(float)};
            }
            return seen.order.size() == seen.stop_after;
        }
    };
    const auto engine = make_engine();
    const Model model = open_model(engine.get());
    const Ids ids = golden().ints("text70.input_ids");
    const auto run = [&](Seen & seen, const std::vector<const char *> & names) {
        gnv_forward_options options;
        gnv_forward_options_init(&options);
        options.all_logits = 1;
        options.tap = Seen::callback;
        options.user = &seen;
        options.tap_names = names.data();
        options.tap_count = names.size();
        return gnv_model_forward(model.get(), ids.data(), ids.size(), &options, nullptr, 0, nullptr);
    };
    Seen all;
    REQUIRE(run(all, {}) == GNV_OK);
    CHECK(all.order.size() < gnv_model_tap_count(model.get())); // those of the vision tower come last
    auto last = make_info<gnv_activation>();
    REQUIRE(gnv_model_tap_info(model.get(), gnv_model_tap_count(model.get()) - 1, 216, &last) == GNV_OK);
    CHECK(std::string(last.name) == "merger");
    CHECK(std::vector<int64_t>(last.shape, last.shape + last.dimensions) == std::vector<int64_t>{54, 256});
    for (uint64_t tap = 0; tap < all.order.size(); tap++) {
        auto info = make_info<gnv_activation>();
        REQUIRE(gnv_model_tap_info(model.get(), tap, ids.size(), &info) == GNV_OK);
        const std::string name = info.name;
        CAPTURE(name);
        CHECK(name == all.order[tap]);
        CHECK(all.shapes[name] == std::vector<int64_t>(info.shape, info.shape + info.dimensions));
        CHECK(all.dtypes[name] == info.dtype);
        CHECK(info.data == nullptr);
        uint64_t found = 0;
        CHECK(gnv_model_find_tap(model.get(), name.c_str(), &found) == GNV_OK);
        CHECK(found == tap);
    }
    REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
    Seen some;
    REQUIRE(run(some, {"layer.7", "layer.3.self_attn.q_norm", "layer.3.mlp.gate.2"}) == GNV_OK);
    CHECK(some.order == std::vector<std::string>{"layer.3.self_attn.q_norm", "layer.3.mlp.gate.2", "layer.7"});
    CHECK(some.dtypes["layer.3.mlp.gate.2"] == "I32");
    CHECK(some.floats["layer.7"] == all.floats["layer.7"]);
    CHECK(relative_error(some.floats["layer.3.self_attn.q_norm"], golden().floats("text70.layer.3.self_attn.q_norm")) <
          1e-5);
    REQUIRE(gnv_model_reset(model.get()) == GNV_OK);

    Seen none;
    CHECK(run(none, {"layer.3.nothing"}) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "no output \"layer.3.nothing\""));
    CHECK(error_has(engine.get(), "self_attn.q_norm"));
    CHECK(run(none, {"layer.8"}) == GNV_INVALID_ARGUMENT);
    CHECK(run(none, {"layer.0.self_attn"}) == GNV_NOT_FOUND);
    CHECK(error_has(engine.get(), "layer.0.linear_attn"));
    CHECK(run(none, {nullptr}) == GNV_INVALID_ARGUMENT);
    CHECK(none.order.empty());
    CHECK(positions(model.get()) == 0);

    Seen stopped;
    stopped.stop_after = 5;
    CHECK(run(stopped, {}) == GNV_CANCELLED);
    CHECK(stopped.order.size() == 5);
    CHECK(positions(model.get()) == 0); // half a pass is none: the next text is as the first
    CHECK(relative_error(forward(engine.get(), model.get(), ids), golden().floats("text70.logits")) < 1e-5);
}

TEST_CASE("greedy: recorded continuations, stop ids, the callback's will") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get());
    const json texts = json::parse(gnv::read_file(golden_folder + "/greedy.json", 1 << 20).take());
    for (const json & text : texts) {
        const Ids prompt = text["prompt_ids"], expected = text["new_ids"];
        Written written;
        const gnv_generate_options options = generate_options(written, expected.size(), 0);
        auto result = make_info<gnv_generate_result>();
        REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
        REQUIRE(gnv_model_generate(model.get(), prompt.data(), prompt.size(), &options, &result) == GNV_OK);
        CHECK(written.ids == expected);
        CHECK(written.text == text["text"].get<std::string>());
        CHECK(result.prompt_tokens == prompt.size());
        CHECK(result.tokens == expected.size());
        const bool stopped = expected.back() == 4074;
        CHECK(result.stop == (stopped ? GNV_STOP_ID : GNV_STOP_LENGTH));
        CHECK(written.stops.back() == int(stopped));
        CHECK(positions(model.get()) == prompt.size() + expected.size() - 1);
    }
    // The second one again, ended by a stop id of the caller, by the callback, and in two parts.
    const Ids prompt = texts[1]["prompt_ids"], expected = texts[1]["new_ids"];
    const auto again = [&](gnv_generate_options options, const Ids & from, bool reset) {
        auto result = make_info<gnv_generate_result>();
        if (reset) REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
        REQUIRE(gnv_model_generate(model.get(), from.data(), from.size(), &options, &result) == GNV_OK);
        return result;
    };
    Written by_id;
    gnv_generate_options options = generate_options(by_id, 0, 0);
    options.stop_ids = &expected[3];
    options.stop_count = 1;
    CHECK(again(options, prompt, true).stop == GNV_STOP_ID);
    CHECK(by_id.ids == Ids(expected.begin(), expected.begin() + 4));
    Written by_callback;
    by_callback.stop_after = 7;
    CHECK(again(generate_options(by_callback, 40, 0), prompt, true).stop == GNV_STOP_CALLBACK);
    CHECK(by_callback.ids == Ids(expected.begin(), expected.begin() + 7));
    Written rest;
    again(generate_options(rest, 9, 0), {by_callback.ids.back()}, false);
    CHECK(rest.ids == Ids(expected.begin() + 7, expected.begin() + 16));
    // First text: past its stop id when there are none.
    const Ids first = texts[0]["prompt_ids"], first_ids = texts[0]["new_ids"];
    Written endless;
    options = generate_options(endless, first_ids.size() + 3, 0);
    options.stop_ids = first.data();
    CHECK(again(options, first, true).stop == GNV_STOP_LENGTH);
    CHECK(Ids(endless.ids.begin(), endless.ids.end() - 3) == first_ids);
}

TEST_CASE("draws: by seed, as the file says, only tokens, to the end of the caches") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get(), 48);
    const Ids prompt = {447, 502, 1409};
    const auto draw = [&](uint64_t seed, float temperature, int32_t top_k, float top_p) {
        Written written;
        gnv_generate_options options = generate_options(written, 30, temperature);
        options.seed = seed;
        options.top_k = top_k;
        options.top_p = top_p;
        REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
        REQUIRE(gnv_model_generate(model.get(), prompt.data(), prompt.size(), &options, nullptr) == GNV_OK);
        return written.ids;
    };
    CHECK(draw(1, -1, -1, -1) == draw(1, 1, 20, 0.95f));
    CHECK(draw(1, -1, -1, -1) == draw(1, -1, -1, -1));
    CHECK(draw(1, -1, -1, -1) != draw(2, -1, -1, -1));
    CHECK(draw(5, 1, 1, 1) == draw(6, 0, 0, 1));
    // So hot that every row of the embedding is as likely as the next: the 16 that are no tokens never come.
    for (uint64_t seed = 0; seed < 20; seed++)
        for (const int32_t id : draw(seed, 1e6f, 0, 1)) CHECK(id < 4080);

    Written written;
    gnv_generate_options options = generate_options(written, 0, 0);
    auto result = make_info<gnv_generate_result>();
    REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
    REQUIRE(gnv_model_generate(model.get(), prompt.data(), prompt.size(), &options, &result) == GNV_OK);
    CHECK(result.stop == GNV_STOP_CAPACITY);
    CHECK(result.tokens == 48 - 3 + 1);
    CHECK(positions(model.get()) == 48);
}

TEST_CASE("sampling: the same ids for any threads and division, penalties count the whole text") {
    const Ids prompt = {447, 502, 1409, 17, 900};
    const std::vector<gnv_logit_bias> bias = {{5, 3.0f}, {447, -100.0f}};
    const auto draw = [&](int32_t threads, size_t first_call) {
        gnv_engine_options engine_options;
        gnv_engine_options_init(&engine_options);
        engine_options.threads = threads;
        gnv_engine_t * engine = nullptr;
        REQUIRE(gnv_engine_create(&engine_options, &engine) == GNV_OK);
        gnv_model_options model_options;
        gnv_model_options_init(&model_options);
        gnv_model_t * model = nullptr;
        REQUIRE(gnv_model_open(engine, tiny_folder.c_str(), &model_options, &model) == GNV_OK);
        if (first_call > 0)
            REQUIRE(gnv_model_forward(model, prompt.data(), first_call, nullptr, nullptr, 0, nullptr) == GNV_OK);
        Written written;
        gnv_generate_options options = generate_options(written, 24, 0.9f);
        options.seed = 7;
        options.min_p = 0.001f;
        options.repetition_penalty = 1e6f; // ids of the text do not come again
        options.presence_penalty = 1.5f;
        options.frequency_penalty = 0.5f;
        options.logit_bias = bias.data();
        options.logit_bias_count = bias.size();
        REQUIRE(gnv_model_generate(model, prompt.data() + first_call, prompt.size() - first_call, &options, nullptr) ==
                GNV_OK);
        gnv_model_close(model);
        gnv_engine_destroy(engine);
        return written.ids;
    };
    const Ids ids = draw(1, 0);
    CHECK(draw(2, 0) == ids);
    std::set<int32_t> different(ids.begin(), ids.end());
    CHECK(different.size() == ids.size());
    for (const size_t first_call : {size_t(0), size_t(2), size_t(4)})
        for (const int32_t id : draw(1, first_call)) CHECK(std::find(prompt.begin(), prompt.end(), id) == prompt.end());
}

TEST_CASE("a callback changes logits: what it leaves is chosen, what makes no sense is refused") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get());
    struct Forced {
        Ids wanted;
        size_t calls = 0, stop_after = 99;
        float others = -INFINITY;
    };
    const auto force = [](void * user, const gnv_logits * logits) {
        auto & forced = *static_cast<Forced *>(user);
        CHECK(logits->vocabulary == 4096);
        CHECK(Ids(logits->ids, logits->ids + logits->id_count) ==
              Ids(forced.wanted.begin(), forced.wanted.begin() + ptrdiff_t(forced.calls)));
        for (uint64_t id = 0; id < logits->vocabulary; id++)
            if (int32_t(id) != forced.wanted[forced.calls]) logits->values[id] = forced.others;
        return int(++forced.calls > forced.stop_after);
    };
    const Ids prompt = {447, 502, 1409};
    Forced forced{{7, 1000, 7, 4000}};
    const auto generate = [&](Written & written, gnv_generate_result & result, float temperature) {
        gnv_generate_options options = generate_options(written, 4, temperature);
        options.on_logits = force;
        options.logits_user = &forced;
        REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
        forced.calls = 0;
        return gnv_model_generate(model.get(), prompt.data(), prompt.size(), &options, &result);
    };
    auto result = make_info<gnv_generate_result>();
    for (const float temperature : {0.0f, 1.0f}) {
        Written written;
        REQUIRE(generate(written, result, temperature) == GNV_OK);
        CHECK(written.ids == forced.wanted);
        CHECK(result.stop == GNV_STOP_LENGTH);
    }
    forced.stop_after = 2;
    Written stopped;
    REQUIRE(generate(stopped, result, 0) == GNV_OK);
    CHECK(stopped.ids == Ids{7, 1000});
    CHECK(result.stop == GNV_STOP_CALLBACK);
    CHECK(result.tokens == 2);
    CHECK(positions(model.get()) == 5);
    for (const float others : {float(NAN), INFINITY}) {
        forced.others = others;
        Written none;
        CHECK(generate(none, result, 1) == GNV_BAD_VALUE);
        CHECK(positions(model.get()) == 0);
    }
}

TEST_CASE("stop texts end an answer across tokens, and are never shown") {
    const auto engine = make_engine();
    const Model model = open_model(engine.get());
    const json texts = json::parse(gnv::read_file(golden_folder + "/greedy.json", 1 << 20).take());
    const Ids prompt = texts[2]["prompt_ids"];
    const std::string whole = texts[2]["text"].get<std::string>();
    struct Shown {
        std::string answer;
        size_t tokens = 0;
    };
    const auto show = [](void * user, const gnv_token * token) {
        auto & shown = *static_cast<Shown *>(user);
        shown.answer.append(token->text, token->answer_size);
        shown.tokens++;
        return 0;
    };
    const auto generate = [&](const std::vector<const char *> & stops, Shown & shown) {
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        options.temperature = 0;
        options.max_tokens = texts[2]["new_ids"].size();
        options.callback = show;
        options.user = &shown;
        options.stop_texts = stops.data();
        options.stop_text_count = stops.size();
        auto result = make_info<gnv_generate_result>();
        REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
        CHECK(gnv_model_generate(model.get(), prompt.data(), prompt.size(), &options, &result) == GNV_OK);
        return result;
    };
    for (size_t at = 3; at + 7 < whole.size(); at += 29) {
        const std::string stop = whole.substr(at, 7);
        const size_t expected = whole.find(stop);
        CAPTURE(stop);
        Shown shown;
        const gnv_generate_result result = generate({"never written at all", stop.c_str()}, shown);
        CHECK(result.stop == GNV_STOP_TEXT);
        CHECK(result.stop_text == 1);
        CHECK(shown.answer == whole.substr(0, expected));
        CHECK(shown.tokens == result.tokens);
    }
    // A text that only begins is shown in the end.
    Shown shown;
    const std::string longer = whole.substr(whole.size() - 5) + "\x01";
    CHECK(generate({longer.c_str()}, shown).stop == GNV_STOP_LENGTH);
    CHECK(shown.answer == whole);
}

TEST_CASE("NVFP4: weights only, and with inputs quantized where there are scales for them") {
    const auto engine = make_engine();
    const ScratchFolder folder;
    const auto plan = make_plan(engine.get());
    const std::string weights = folder / "w4a16", both = folder / "w4a4";
    REQUIRE(gnv_quantize(plan.get(), weights.c_str(), nullptr, nullptr) == GNV_OK);
    // The same with an input scale for every module, as calibration would add them: inputs up to 20.
    std::vector<MemoryTensor> tensors = load_tensors(weights);
    for (size_t i = 0, count = tensors.size(); i < count; i++) {
        const std::string suffix = ".weight_global_scale";
        if (!gnv::ends_with(tensors[i].name, suffix)) continue;
        const float scale = 2688.0f / 20;
        std::string bytes(sizeof scale, '\0');
        memcpy(bytes.data(), &scale, sizeof scale);
        const std::string module = tensors[i].name.substr(0, tensors[i].name.size() - suffix.size());
        tensors.push_back({module + ".input_global_scale", gnv::DType::f32, {1}, bytes});
    }
    REQUIRE(gnv::make_directory(both).ok());
    save_tensors(both, tensors, 1);
    copy_other_files(weights, both);

    const Ids ids = golden().ints("text63.input_ids");
    const auto logits = [&](const std::string & path, bool weights_only, bool quantizes_inputs) {
        gnv_model_options options;
        gnv_model_options_init(&options);
        options.capacity = 64;
        options.weights_only = weights_only;
        gnv_model_t * handle = nullptr;
        const gnv_status status = gnv_model_open(engine.get(), path.c_str(), &options, &handle);
        REQUIRE_MESSAGE(status == GNV_OK, gnv_last_error(engine.get()));
        const Model model(handle);
        auto info = make_info<gnv_model_info>();
        REQUIRE(gnv_model_get_info(handle, &info) == GNV_OK);
        CHECK(info.quantized_modules == 800);
        CHECK(info.quantizes_inputs == int(quantizes_inputs));
        return forward(engine.get(), handle, ids);
    };
    const std::vector<float> w4a16 = logits(weights, false, false), source = golden().floats("text63.logits");
    CHECK(logits(weights, true, false) == w4a16);
    CHECK(logits(both, true, false) == w4a16);
    const std::vector<float> w4a4 = logits(both, false, true);
    const auto distance = [&](const std::vector<float> & found) {
        double error = 0, squares = 0;
        for (size_t i = 0; i < source.size(); i++) {
            error += std::pow(double(found[i]) - double(source[i]), 2);
            squares += std::pow(double(source[i]), 2);
        }
        return std::sqrt(error / squares);
    };
    CAPTURE(distance(w4a16));
    CAPTURE(distance(w4a4));
    CHECK(distance(w4a16) > 0.01);
    CHECK(distance(w4a16) < 0.2);
    CHECK(distance(w4a4) > distance(w4a16));
    CHECK(distance(w4a4) < 0.5);

    // Without the files that only generating needs: the likeliest token, and a tokenizer from elsewhere.
    REQUIRE(gnv::remove_file(both + "/tokenizer.json").ok());
    REQUIRE(gnv::remove_file(both + "/generation_config.json").ok());
    gnv_model_t * handle = nullptr;
    REQUIRE(gnv_model_open(engine.get(), both.c_str(), nullptr, &handle) == GNV_OK);
    const Model model(handle);
    auto info = make_info<gnv_model_info>();
    REQUIRE(gnv_model_get_info(handle, &info) == GNV_OK);
    CHECK(info.samples == 0);
    CHECK(info.stop_count == 0);
    CHECK(gnv_model_generate(handle, ids.data(), 3, nullptr, nullptr) == GNV_NOT_FOUND);
    CHECK(error_has(engine.get(), "tokenizer.json"));
    CHECK(positions(handle) == 0);
    gnv_tokenizer_t * tokenizer = nullptr;
    REQUIRE(gnv_tokenizer_load(engine.get(), tiny_folder.c_str(), &tokenizer) == GNV_OK);
    Written first, second;
    for (Written * const written : {&first, &second}) {
        gnv_generate_options options = generate_options(*written, 5, -1);
        options.tokenizer = tokenizer;
        options.seed = uint64_t(written == &first);
        REQUIRE(gnv_model_reset(handle) == GNV_OK);
        CHECK(gnv_model_generate(handle, ids.data(), 3, &options, nullptr) == GNV_OK);
    }
    gnv_tokenizer_destroy(tokenizer);
    CHECK(first.ids.size() == 5);
    CHECK(first.ids == second.ids);
}

TEST_CASE("models that cannot be opened") {
    const auto engine = make_engine();
    const ScratchFolder folder;
    gnv_model_t * model = reinterpret_cast<gnv_model_t *>(1);
    CHECK(gnv_model_open(engine.get(), (folder / "none").c_str(), nullptr, &model) == GNV_NOT_FOUND);
    CHECK(model == nullptr);
    CHECK(error_has(engine.get(), "does not exist"));
    CHECK(gnv_model_open(engine.get(), folder.path().c_str(), nullptr, &model) == GNV_NOT_FOUND);
    CHECK(error_has(engine.get(), "has no config.json; a model is a folder with"));
    folder.save("config.json", "{}");
    CHECK(gnv_model_open(engine.get(), folder.path().c_str(), nullptr, &model) != GNV_OK);
    CHECK(gnv_model_open(engine.get(), nullptr, nullptr, &model) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_model_open(engine.get(), tiny_folder.c_str(), nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_model_open(nullptr, tiny_folder.c_str(), nullptr, &model) == GNV_INVALID_ARGUMENT);

    gnv_model_options options = {};
    CHECK(gnv_model_open(engine.get(), tiny_folder.c_str(), &options, &model) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "struct_size"));
    gnv_model_options_init(&options);
    options.ram_bytes = 1000;
    CHECK(gnv_model_open(engine.get(), tiny_folder.c_str(), &options, &model) == GNV_OUT_OF_MEMORY);
    CHECK(error_has(engine.get(), "the smallest sufficient one"));
    gnv_model_options_init(&options);
    options.capacity = uint64_t(1) << 60;
    CHECK(gnv_model_open(engine.get(), tiny_folder.c_str(), &options, &model) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "exceeds the model's"));
    gnv_model_options_init(&options);
    const int unknown = 7;
    memcpy(&options.precision, &unknown, sizeof unknown);
    CHECK(gnv_model_open(engine.get(), tiny_folder.c_str(), &options, &model) == GNV_INVALID_ARGUMENT);
    CHECK(model == nullptr);
}

TEST_CASE("calls that are refused change nothing") {
    const auto engine = make_engine();
    const Model owner = open_model(engine.get(), 8);
    gnv_model_t * const model = owner.get();
    const Ids ids = {1, 2, 3};
    REQUIRE(gnv_model_forward(model, ids.data(), 3, nullptr, nullptr, 0, nullptr) == GNV_OK);
    std::vector<float> logits(3 * 4096);
    size_t written = 7;
    const auto refused = [&](const Ids & wrong, size_t capacity, const char * message) {
        gnv_forward_options options;
        gnv_forward_options_init(&options);
        options.all_logits = 1;
        CHECK(gnv_model_forward(model, wrong.data(), wrong.size(), &options, logits.data(), capacity, &written) ==
              GNV_INVALID_ARGUMENT);
        CHECK_MESSAGE(error_has(engine.get(), message), gnv_last_error(engine.get()));
        CHECK(written == 0);
        CHECK(gnv_model_generate(model, wrong.data(), wrong.size(), nullptr, nullptr) ==
              (capacity == logits.size() ? GNV_INVALID_ARGUMENT : GNV_OK));
    };
    refused({}, logits.size(), "the list of ids is empty");
    refused({1, 4096}, logits.size(), "ids[1] is 4096, the model's vocabulary has 4096; was another tokenizer used?");
    refused({-1}, logits.size(), "ids[0] is -1");
    refused(Ids(6, 1), logits.size(),
            "the text would have 3 + 6 positions, the model was opened for 8; open it with a larger");
    CHECK(positions(model) == 3);
    CHECK(gnv_model_forward(model, ids.data(), 1, nullptr, logits.data(), 4095, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "capacity is 4095 logits, the call returns 4096"));
    CHECK(gnv_model_forward(model, ids.data(), 1, nullptr, nullptr, 4096, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_model_forward(model, nullptr, 1, nullptr, nullptr, 0, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_model_forward(nullptr, ids.data(), 1, nullptr, nullptr, 0, nullptr) == GNV_INVALID_ARGUMENT);

    const auto wrong_option = [&](auto change) {
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        change(options);
        CHECK(gnv_model_generate(model, ids.data(), 1, &options, nullptr) == GNV_INVALID_ARGUMENT);
    };
    wrong_option([](gnv_generate_options & o) { o.struct_size = 0; });
    wrong_option([](gnv_generate_options & o) { o.temperature = NAN; });
    wrong_option([](gnv_generate_options & o) { o.temperature = INFINITY; });
    wrong_option([](gnv_generate_options & o) { o.top_p = 0; });
    wrong_option([](gnv_generate_options & o) { o.top_p = 1.5f; });
    wrong_option([](gnv_generate_options & o) { o.stop_count = 1; });
    for (const float number : {float(NAN), INFINITY, 3.5f}) {
        wrong_option([=](gnv_generate_options & o) { o.min_p = number; });
        wrong_option([=](gnv_generate_options & o) { o.presence_penalty = number; });
        wrong_option([=](gnv_generate_options & o) { o.frequency_penalty = -number; });
    }
    wrong_option([](gnv_generate_options & o) { o.repetition_penalty = 0; });
    wrong_option([](gnv_generate_options & o) { o.repetition_penalty = NAN; });
    wrong_option([](gnv_generate_options & o) { o.logit_bias_count = 1; });
    const gnv_logit_bias bad_bias = {4096, 1};
    wrong_option([&](gnv_generate_options & o) { o.logit_bias = &bad_bias, o.logit_bias_count = 1; });
    CHECK(error_has(engine.get(), "4096 is no id of the vocabulary"));
    const char * const bad_stop = "";
    wrong_option([&](gnv_generate_options & o) { o.stop_texts = &bad_stop, o.stop_text_count = 1; });
    CHECK(error_has(engine.get(), "stop[0] has 0 bytes"));
    wrong_option([](gnv_generate_options & o) { o.stop_text_count = 2; });
    gnv_generate_result unset = {};
    CHECK(gnv_model_generate(model, ids.data(), 1, nullptr, &unset) == GNV_INVALID_ARGUMENT);
    auto info = make_info<gnv_activation>();
    CHECK(gnv_model_tap_info(model, 0, 0, &info) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_model_tap_info(model, 0, 9, &info) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_model_tap_info(model, gnv_model_tap_count(model), 1, &info) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_model_find_tap(model, nullptr, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(positions(model) == 3);
    CHECK(gnv_model_tap_count(nullptr) == 0);
    CHECK(gnv_model_reset(nullptr) == GNV_INVALID_ARGUMENT);
    gnv_model_close(nullptr);
    gnv_dump_destroy(nullptr);
}

TEST_CASE("tensor files: complete or not there") {
    const auto engine = make_engine();
    const ScratchFolder folder;
    const std::string path = folder / "a.safetensors";
    const int64_t square[] = {2, 2}, row[] = {3}, wrong[] = {-1}, huge[] = {int64_t(1) << 62, 16};
    const float values[] = {1, 2, 3, 4};
    const int32_t numbers[] = {5, 6, 7};
    const std::vector<gnv_dump_tensor> tensors = {
        {"a", "F32", 2, square}, {"b", "I32", 1, row}, {"c", "F32", 0, nullptr}};
    const auto create = [&](const std::vector<gnv_dump_tensor> & list, gnv_status expected = GNV_OK) {
        gnv_dump_t * dump = reinterpret_cast<gnv_dump_t *>(1);
        const gnv_status status = gnv_dump_create(engine.get(), path.c_str(), list.data(), list.size(), &dump);
        CHECK_MESSAGE(status == expected, gnv_last_error(engine.get()));
        CHECK((dump == nullptr) == (status != GNV_OK));
        return Dump(dump);
    };
    {
        const Dump dump = create(tensors);
        CHECK(gnv_dump_append(dump.get(), 0, values, 8) == GNV_OK);
        CHECK(gnv_dump_append(dump.get(), 1, numbers, 12) == GNV_OK);
        CHECK(gnv_dump_append(dump.get(), 0, values + 2, 12) == GNV_INVALID_ARGUMENT);
        CHECK(error_has(engine.get(), "tensor a has 16 bytes, 20 were given"));
        CHECK(gnv_dump_append(dump.get(), 3, values, 4) == GNV_INVALID_ARGUMENT);
        CHECK(gnv_dump_append(dump.get(), 0, nullptr, 4) == GNV_INVALID_ARGUMENT);
        CHECK(gnv_dump_finish(dump.get()) == GNV_INVALID_ARGUMENT);
        CHECK(error_has(engine.get(), "tensor a has 16 bytes, only 8 were written"));
        CHECK(gnv::path_exists(path + ".partial"));
        CHECK(!gnv::path_exists(path));
        create(tensors, GNV_ALREADY_EXISTS);
    }
    CHECK(!gnv::path_exists(path + ".partial")); // given up
    {
        const Dump dump = create(tensors);
        CHECK(gnv_dump_append(dump.get(), 0, values, 8) == GNV_OK);
        CHECK(gnv_dump_append(dump.get(), 1, numbers, 12) == GNV_OK);
        CHECK(gnv_dump_append(dump.get(), 2, values, 4) == GNV_OK);
        CHECK(gnv_dump_append(dump.get(), 0, values + 2, 8) == GNV_OK);
        CHECK(gnv_dump_finish(dump.get()) == GNV_OK);
        CHECK(gnv_dump_finish(dump.get()) == GNV_INVALID_ARGUMENT);
        CHECK(gnv_dump_append(dump.get(), 0, values, 0) == GNV_INVALID_ARGUMENT);
    }
    CHECK(!gnv::path_exists(path + ".partial"));
    const GoldenFile file(path);
    CHECK(file.floats("a") == std::vector<float>{1, 2, 3, 4});
    CHECK(file.ints("b") == Ids{5, 6, 7});
    CHECK(file.floats("c") == std::vector<float>{1});
    CHECK(file.tensor("a").shape == std::vector<int64_t>{2, 2});
    create(tensors, GNV_ALREADY_EXISTS);
    REQUIRE(gnv::remove_file(path).ok());
    create({tensors[0], tensors[0]}, GNV_INVALID_ARGUMENT);
    create({{"a", "F33", 1, row}}, GNV_INVALID_ARGUMENT);
    create({{"a", "F4", 1, row}}, GNV_INVALID_ARGUMENT);
    create({{"a", "F32", 1, wrong}}, GNV_INVALID_ARGUMENT);
    create({{"a", "F32", 2, huge}}, GNV_INVALID_ARGUMENT);
    create({{nullptr, "F32", 1, row}}, GNV_INVALID_ARGUMENT);
    create({{"a", "F32", 1, nullptr}}, GNV_INVALID_ARGUMENT);
    const Dump empty = create({});
    CHECK(gnv_dump_finish(empty.get()) == GNV_OK);
    CHECK(gnv_dump_finish(nullptr) == GNV_INVALID_ARGUMENT);
}
