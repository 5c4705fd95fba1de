// Drafting through the C API: equal texts, counts, and every way to ask for it wrongly.
#include "api/capi_fixture.h"
#include "api/fitted_model.h"
#include "checkpoint_files.h"
#include "golden_file.h"

#include <filesystem>
#include <vector>

using namespace gnv::test;

namespace {

using Ids = std::vector<int32_t>;
using Model = Handle<gnv_model_t>;
using Session = Handle<gnv_session_t>;

gnv_status try_open(gnv_engine_t * engine, const std::string & folder, int32_t drafts, Model & out) {
    gnv_model_options options;
    gnv_model_options_init(&options);
    options.capacity = 256;
    options.sessions = 1;
    options.drafts = drafts;
    gnv_model_t * model = nullptr;
    const gnv_status status = gnv_model_open(engine, folder.c_str(), &options, &model);
    out.reset(model);
    return status;
}

struct Written {
    Ids ids;
    gnv_generate_result result = make_info<gnv_generate_result>();
    gnv_status status = GNV_OK;
    size_t stop_after = SIZE_MAX;
};

Written write_on(const Model & model, const Ids & prompt, int32_t draft, uint64_t tokens, float temperature = 0,
                 size_t stop_after = SIZE_MAX) {
    Written out;
    out.stop_after = stop_after;
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    options.temperature = temperature;
    options.max_tokens = tokens;
    options.draft = draft;
    options.callback = [](void * user, const gnv_token * token) {
        auto & written = *static_cast<Written *>(user);
        written.ids.push_back(token->id);
        return int(written.ids.size() >= written.stop_after);
    };
    options.user = &out;
    out.status = gnv_model_generate(model.get(), prompt.data(), prompt.size(), &options, &out.result);
    return out;
}

Ids text_ids(size_t begin, size_t count) {
    static const Ids all = GoldenFile("text.safetensors").ints("text700.input_ids");
    return {all.begin() + ptrdiff_t(begin), all.begin() + ptrdiff_t(begin + count)};
}

} // namespace

TEST_CASE("drafting changes no text, also one that is written in several calls and stopped") {
    const auto engine = make_engine();
    Model plain, drafting;
    REQUIRE(try_open(engine.get(), tiny_folder, 0, plain) == GNV_OK);
    REQUIRE(try_open(engine.get(), tiny_folder, 1, drafting) == GNV_OK);
    gnv_model_info info = make_info<gnv_model_info>();
    REQUIRE(gnv_model_get_info(plain.get(), &info) == GNV_OK);
    CHECK(info.draft_bytes == 0);
    REQUIRE(gnv_model_get_info(drafting.get(), &info) == GNV_OK);
    CHECK(info.draft_bytes > 1000000);
    for (const float temperature : {0.0f, 0.8f}) {
        gnv_model_reset(plain.get());
        gnv_model_reset(drafting.get());
        Ids prompt = text_ids(0, 30);
        for (const int32_t draft : {2, 15, 0, 3, GNV_DRAFT_AUTO}) {
            const size_t stop_after = draft == 15 ? 11 : SIZE_MAX;
            const Written expected = write_on(plain, prompt, 0, 25, temperature, stop_after);
            const Written found = write_on(drafting, prompt, draft, 25, temperature, stop_after);
            CHECK(expected.status == GNV_OK);
            CHECK(found.ids == expected.ids);
            CHECK(found.result.tokens == expected.result.tokens);
            CHECK(found.result.stop == expected.result.stop);
            CHECK(expected.result.drafted == 0);
            CHECK((found.result.drafted > 0) == (draft != 0));
            CHECK(found.result.accepted <= found.result.drafted);
            prompt = {found.ids.back(), 17};
        }
        REQUIRE(gnv_model_get_info(plain.get(), &info) == GNV_OK);
        const uint64_t positions = info.positions;
        REQUIRE(gnv_model_get_info(drafting.get(), &info) == GNV_OK);
        CHECK(info.positions == positions);
    }
}

TEST_CASE("a draft head in NVFP4 guesses, and changes no text") {
    const auto engine = make_engine();
    const ScratchFolder scratch;
    const auto plan_of = [&](int32_t head, Handle<gnv_plan_t> & out, const char * recipe = nullptr) {
        gnv_plan_options options;
        gnv_plan_options_init(&options);
        options.scheme = recipe ? GNV_SCHEME_NVFP4 : GNV_SCHEME_NVFP4A16;
        options.draft_head = gnv_draft_head(head);
        options.recipe_file = recipe;
        gnv_plan_t * plan = nullptr;
        const gnv_status status = gnv_plan_create(engine.get(), folder_with_fitted_draft().c_str(), &options, &plan);
        out.reset(plan);
        return status;
    };
    Handle<gnv_plan_t> plan;
    for (const int32_t wrong : {-1, 2}) CHECK(plan_of(wrong, plan) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "gnv_plan_options.draft_head: 2 is not in 0..1"));
    CHECK(plan_of(GNV_DRAFT_HEAD_NVFP4A16, plan, "recipe.yaml") == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "patterns and draft_head"));
    REQUIRE(plan_of(GNV_DRAFT_HEAD_NVFP4A16, plan) == GNV_OK);
    gnv_plan_info planned = make_info<gnv_plan_info>();
    REQUIRE(gnv_plan_get_info(plan.get(), &planned) == GNV_OK);
    CHECK(planned.quantized_modules == 800 + 103);
    gnv_quantize_options options;
    gnv_quantize_options_init(&options);
    const std::string folder = scratch / "nvfp4";
    REQUIRE(gnv_quantize(plan.get(), folder.c_str(), &options, nullptr) == GNV_OK);

    Model plain, drafting;
    REQUIRE(try_open(engine.get(), folder, 0, plain) == GNV_OK);
    REQUIRE(try_open(engine.get(), folder, 1, drafting) == GNV_OK);
    uint64_t drafted = 0, accepted = 0;
    for (const int32_t draft : {1, 3}) {
        gnv_model_reset(plain.get());
        gnv_model_reset(drafting.get());
        const Written expected = write_on(plain, text_ids(0, 30), 0, 100);
        const Written found = write_on(drafting, text_ids(0, 30), draft, 100);
        CHECK(found.ids == expected.ids);
        drafted += found.result.drafted, accepted += found.result.accepted;
    }
    MESSAGE("drafted ", drafted, ", accepted ", accepted);
    CHECK(accepted > 0);
}

TEST_CASE("drafting that is not possible is refused, and says why") {
    const auto engine = make_engine();
    Model plain, drafting, other;
    REQUIRE(try_open(engine.get(), tiny_folder, 0, plain) == GNV_OK);
    REQUIRE(try_open(engine.get(), tiny_folder, 1, drafting) == GNV_OK);
    CHECK(try_open(engine.get(), tiny_folder, 2, other) == GNV_INVALID_ARGUMENT);
    CHECK(try_open(engine.get(), tiny_folder, -1, other) == GNV_INVALID_ARGUMENT);
    const Ids prompt = text_ids(0, 5);
    CHECK(write_on(plain, prompt, 1, 5).status == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "opened without drafting"));
    for (const int32_t wrong : {-2, 16, INT32_MAX, INT32_MIN}) {
        CHECK(write_on(drafting, prompt, wrong, 5).status == GNV_INVALID_ARGUMENT);
        CHECK(error_has(engine.get(), "gnv_generate_options.draft is "));
    }
    CHECK(write_on(drafting, prompt, 2, 5).ids == write_on(plain, prompt, 0, 5).ids); // as if nothing had been asked

    gnv_session_t * session = nullptr;
    REQUIRE(gnv_session_open(drafting.get(), &session) == GNV_OK);
    const Session owned(session);
    REQUIRE(gnv_session_feed(session, prompt.data(), prompt.size(), GNV_WANT_LOGITS) == GNV_OK);
    REQUIRE(gnv_model_step(drafting.get(), nullptr, 0, nullptr, nullptr) == GNV_OK);
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    options.draft = 1;
    int32_t id = 0;
    CHECK(gnv_session_pick(session, &options, &id) == GNV_UNSUPPORTED);
    CHECK(error_has(engine.get(), "for a session call gnv_session_draft"));
    options.draft = 0;
    CHECK(gnv_session_pick(session, &options, &id) == GNV_OK);

    const ScratchFolder scratch;
    std::filesystem::copy(tiny_folder, scratch / "none");
    for (const auto & entry : std::filesystem::directory_iterator(scratch / "none"))
        if (entry.path().filename().string().find("safetensors") != std::string::npos)
            std::filesystem::remove(entry.path());
    std::vector<MemoryTensor> tensors = load_tensors(tiny_folder);
    std::erase_if(tensors, [](const MemoryTensor & tensor) { return gnv::starts_with(tensor.name, "mtp."); });
    save_tensors(scratch / "none", tensors, 1);
    CHECK(try_open(engine.get(), scratch / "none", 1, other) == GNV_UNSUPPORTED);
    CHECK(error_has(engine.get(), "the checkpoint has no draft head (tensors mtp.*)"));
    CHECK(try_open(engine.get(), scratch / "none", 0, other) == GNV_OK);
}
