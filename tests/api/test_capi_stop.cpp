// Long calls on models tell how far they are and stop when they are asked to: opening, prompts, tokens.
#include "api/capi_fixture.h"

#include <vector>

using namespace gnv::test;

namespace {

using Model = Handle<gnv_model_t>;

// Keeps what it is told and stops at call `stop_at`.
struct Watched {
    int stop_at = -1;
    std::vector<gnv_progress> told;

    static int callback(void * user, const gnv_progress * now) {
        Watched & self = *static_cast<Watched *>(user);
        CHECK(now->struct_size == sizeof *now);
        if (!self.told.empty()) {
            CHECK(now->bytes >= self.told.back().bytes);
            CHECK(now->positions >= self.told.back().positions);
            CHECK(now->seconds >= self.told.back().seconds);
        }
        self.told.push_back(*now);
        return int(self.told.size()) - 1 == self.stop_at;
    }
};

Model open_with(gnv_engine_t * engine, Watched * watched, gnv_status expected = GNV_OK, uint64_t ram_bytes = 0) {
    gnv_model_options options;
    gnv_model_options_init(&options);
    options.capacity = 2048;
    options.ram_bytes = ram_bytes;
    if (watched) options.progress = Watched::callback, options.user = watched;
    gnv_model_t * model = nullptr;
    const gnv_status status = gnv_model_open(engine, tiny_folder.c_str(), &options, &model);
    CHECK_MESSAGE(status == expected, gnv_last_error(engine));
    CHECK((model != nullptr) == (status == GNV_OK));
    return Model(model);
}

uint64_t positions(gnv_model_t * model) {
    auto info = make_info<gnv_model_info>();
    REQUIRE(gnv_model_get_info(model, &info) == GNV_OK);
    return info.positions;
}

std::vector<int32_t> long_text(size_t count) {
    std::vector<int32_t> ids;
    for (size_t i = 0; i < count; i++) ids.push_back(int32_t(i * 37 % 4000));
    return ids;
}

} // namespace

TEST_CASE("opening a model: bytes from nothing to all, and a stop") {
    const auto engine = make_engine();
    Watched watched;
    const Model model = open_with(engine.get(), &watched);
    REQUIRE(watched.told.size() >= 2); // the first and the last, whatever the time between them
    CHECK(watched.told.front().bytes == 0);
    CHECK(watched.told.front().tensors == 0);
    CHECK(watched.told.back().bytes == watched.told.back().bytes_total);
    CHECK(watched.told.back().bytes > 10'000'000);
    CHECK(watched.told.back().tensors == 10); // 8 blocks between embedding and head
    Watched stops;
    stops.stop_at = 0;
    open_with(engine.get(), &stops, GNV_CANCELLED);
    CHECK(stops.told.size() == 1); // not asked again
    CHECK(error_has(engine.get(), "stopped on request"));
    stops = {};
    stops.stop_at = 1;
    open_with(engine.get(), &stops, GNV_CANCELLED);
    Watched streams;
    const Model small = open_with(engine.get(), &streams, GNV_OK, 14'000'000); // reads nothing yet
    CHECK(streams.told.empty());
}

TEST_CASE("a forward pass that is stopped leaves the model at the start of a text") {
    const auto engine = make_engine();
    const Model model = open_with(engine.get(), nullptr);
    const std::vector<int32_t> ids = long_text(600);
    std::vector<float> expected(4096), logits(4096);
    Watched watched;
    gnv_forward_options options;
    gnv_forward_options_init(&options);
    options.progress = Watched::callback;
    options.progress_user = &watched;
    REQUIRE(gnv_model_forward(model.get(), ids.data(), ids.size(), &options, expected.data(), expected.size(),
                              nullptr) == GNV_OK);
    REQUIRE(watched.told.size() >= 2);
    CHECK(watched.told.front().positions == 0);
    CHECK(watched.told.back().positions == watched.told.back().positions_total);
    CHECK(watched.told.back().positions_total == 600 * 10);
    const int calls = int(watched.told.size());
    for (const int stop_at : {0, calls - 1}) { // before anything is done, and as late as can be
        REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
        REQUIRE(gnv_model_forward(model.get(), ids.data(), 5, nullptr, nullptr, 0, nullptr) == GNV_OK);
        watched = {};
        watched.stop_at = stop_at;
        size_t written = 7;
        const gnv_status status =
            gnv_model_forward(model.get(), ids.data(), ids.size(), &options, logits.data(), logits.size(), &written);
        if (stop_at > 0 && status == GNV_OK) continue; // this time there were fewer calls
        CHECK(status == GNV_CANCELLED);
        CHECK(written == 0);
        CHECK(error_has(engine.get(), "the model is at the start of a text again"));
        CHECK(positions(model.get()) == 0);
    }
    REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
    CHECK(gnv_model_forward(model.get(), ids.data(), ids.size(), nullptr, logits.data(), logits.size(), nullptr) ==
          GNV_OK);
    CHECK(logits == expected);
}

TEST_CASE("generate: a prompt in pieces is counted as a whole; a stop in it, and between tokens") {
    const auto engine = make_engine();
    for (const uint64_t ram_bytes : {uint64_t(0), uint64_t(14'000'000)}) { // weights stay, or stream
        const Model model = open_with(engine.get(), nullptr, GNV_OK, ram_bytes);
        const std::vector<int32_t> ids = long_text(700); // pieces of 256 and 444
        Watched watched;
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        options.max_tokens = 3;
        options.progress = Watched::callback;
        options.progress_user = &watched;
        REQUIRE(gnv_model_generate(model.get(), ids.data(), ids.size(), &options, nullptr) == GNV_OK);
        REQUIRE(watched.told.size() >= 2);
        for (const gnv_progress & now : watched.told) CHECK(now.positions_total == 700 * 10);
        CHECK(watched.told.back().positions == 700 * 10);
        watched = {};
        watched.stop_at = 0;
        REQUIRE(gnv_model_reset(model.get()) == GNV_OK);
        CHECK(gnv_model_generate(model.get(), ids.data(), ids.size(), &options, nullptr) == GNV_CANCELLED);
        CHECK(watched.told.size() == 1);
        CHECK(positions(model.get()) == 0);
    }
}
