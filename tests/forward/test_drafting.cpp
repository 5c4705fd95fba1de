// Drafting changes no text: with a draft head whose guesses come true now and then, and with one whose guesses never do.
#include "forward/deferred_device.h"
#include "forward/drafted_text.h"
#include "run_tool.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;

TEST_CASE("what the draft head guesses is what plain loops find, also after guesses that did not come") {
    const TokenIds ids = text_ids(0, 30);
    DraftedText fixture(tiny_folder);
    const std::vector<float> states = hidden_states(*fixture.model, ids);
    const auto state_at = [&](size_t t) {
        const auto row = states.begin() + ptrdiff_t(t * DraftSizes::hidden);
        return Numbers(row, row + DraftSizes::hidden);
    };
    DraftReference reference(tiny_folder);
    constexpr size_t prompt = 20, depth = 4;
    fixture.run(text_ids(0, prompt), 0);
    for (size_t t = 0; t + 1 < prompt; t++) reference.step(ids[t + 1], state_at(t), t);
    for (size_t t = prompt - 1; t + 1 < ids.size(); t++) { // row t joins the state of position t and the id behind it
        CAPTURE(t);
        fixture.run({ids[t + 1]}, depth);
        Numbers state = reference.step(ids[t + 1], state_at(t), t);
        TokenIds expected = {reference.likeliest(state)};
        while (expected.size() < depth) {
            state = reference.step(expected.back(), state, t + expected.size());
            expected.push_back(reference.likeliest(state));
        }
        reference.cut(t + 1);
        const std::span<const int32_t> found = fixture.session->ahead();
        CHECK(TokenIds(found.begin(), found.end()) == expected);
    }
}

TEST_CASE("the same text with and without drafting") {
    DraftCounts sum;
    const ScratchFolder scratch;
    std::vector<std::string> folders = {fitted_folder(), tiny_folder};
#ifdef GNV_HAS_TOOLS
    folders.push_back(scratch / "nvfp4");
    REQUIRE(run_tool("quantize", fitted_folder() + " -o " + folders.back() + " --scheme nvfp4a16 --quiet").exit_code ==
            0);
    folders.push_back(scratch / "nvfp4-head");
    REQUIRE(run_tool("quantize",
                     fitted_folder() + " -o " + folders.back() + " --scheme nvfp4a16 --draft-head nvfp4a16 --quiet")
                .exit_code == 0);
#endif
    for (const std::string & folder : folders)
        for (const Precision precision : {Precision::f32, Precision::bf16})
            if (precision == Precision::f32 || folder != tiny_folder)
                check_same_texts(folder, {DraftPlace::open_on_cpu, precision}, sum);
    MESSAGE("drafted ", sum.drafted, ", accepted ", sum.accepted);
    CHECK(sum.accepted * 20 > sum.drafted);
    CHECK(sum.accepted < sum.drafted);
}

TEST_CASE("states are those of a text without drafting, whatever comes behind a pass ahead") { check_states({}); }

TEST_CASE("caches in FP8: the same text and states with and without drafting") {
    const DraftPlace place = {DraftPlace::open_on_cpu, Precision::f32, CacheType::fp8};
    DraftCounts sum;
    check_same_texts(fitted_folder(), place, sum);
    CHECK(sum.accepted * 20 > sum.drafted);
    check_states(place);
}

// Nothing is computed before the host waits, and the device's memory is closed to the host: ids go from guess to guess there.
TEST_CASE("drafting on a device: the text and the states are the same, also where passes are recorded") {
    for (const bool records : {false, true}) {
        CAPTURE(records);
        const DraftPlace place = {[&](ThreadPool & threads) -> Result<std::unique_ptr<Backend>> {
            auto device = std::make_unique<DeferredDevice>(threads);
            device->records = records;
            return std::unique_ptr<Backend>(std::move(device));
        }};
        DraftCounts sum;
        check_same_texts(fitted_folder(), place, sum);
        CHECK(sum.accepted * 20 > sum.drafted);
        check_states(place);
    }
}

TEST_CASE("drafting on a device: within its budget, on one, and on none that gives other bits to a pass") {
    const auto model = open_model(tiny_folder);
    const auto threads = ThreadPool::create(1).take();
    DeferredDevice device(*threads), second(*threads, 1);
    SessionOptions options = {1, 64, 0, 1000};
    options.draft = model->draft.get();
    const auto open = [&](std::vector<Backend *> devices) {
        return TextSession::create(model->variant(Precision::f32), std::move(devices), *threads, options);
    };
    const Status small = open({&device}).take_status();
    REQUIRE(small.code() == Code::out_of_memory);
    const std::string least = "and drafting: the smallest sufficient one is ";
    REQUIRE(small.message().find(least) != std::string::npos);
    options.device_bytes = std::stoull(small.message().substr(small.message().find(least) + least.size()));
    options.device_bytes--;
    CHECK(open({&device}).status().code() == Code::out_of_memory);
    options.device_bytes++;
    {
        const auto session = open({&device}).take();
        CHECK(session->weights_stay());
        CHECK(session->draft_bytes() > 1000000);
        CHECK(device.used() <= options.device_bytes);
    }
    CHECK(device.used() == 0);
    CHECK(open({&device, &second}).status().message().find("drafting runs on one device") != std::string::npos);
    device.steps = false;
    const Status other = open({&device}).take_status();
    CHECK(other.code() == Code::unsupported);
    CHECK(other.message().find("deferred device cannot draft") != std::string::npos);
}

TEST_CASE("drafting at the end of the caches, and switched off where it is slower") {
    DraftedText plain(tiny_folder, false, {}, 60), drafting(tiny_folder, true, {}, 60);
    const auto fill = [&](DraftedText & fixture, int64_t drafts) {
        TextSequence sequence;
        sequence.ids = text_ids(0, 40);
        TokenIds chosen;
        GenerateOptions options = options_of(drafts, 0, 0);
        const Result<GenerateResult> result =
            generate(*fixture.session, 60, tokenizer(), sequence, options, {}, chosen);
        REQUIRE_MESSAGE(result.ok(), result.status().message());
        CHECK(result.value().stop == GenerateStop::capacity);
        return chosen;
    };
    CHECK(fill(drafting, 4) == fill(plain, 0));
    // No guess of this head comes true, so each pass takes longer than a token without.
    DraftedText longer(tiny_folder);
    GenerateOptions options = options_of(8, 0, 200);
    options.draft.automatic = true;
    TextSequence sequence;
    sequence.ids = text_ids(0, 40);
    TokenIds chosen;
    const GenerateResult result = generate(*longer.session, 600, tokenizer(), sequence, options, {}, chosen).take();
    CHECK(result.draft_end > 0);
    CHECK(result.draft.accepted == 0);
    CHECK(result.draft.passes < 100);
}

TEST_CASE("checkpoints and budgets without room for drafting are refused") {
    const ScratchFolder scratch;
    std::vector<MemoryTensor> tensors = load_tensors(tiny_folder);
    const auto save = [&](const std::string & name, const std::vector<MemoryTensor> & list) {
        copy_folder(tiny_folder, scratch / name);
        for (const auto & entry : std::filesystem::directory_iterator(scratch / name))
            if (entry.path().string().find("safetensors") != std::string::npos) std::filesystem::remove(entry.path());
        save_tensors(scratch / name, list, 1);
        return scratch / name;
    };
    std::vector<MemoryTensor> without = tensors;
    std::erase_if(without, [](const MemoryTensor & tensor) { return starts_with(tensor.name, "mtp."); });
    const auto model = open_model(save("none", without));
    CHECK(model->draft == nullptr);
    CHECK(model->why_no_draft.message().find("the checkpoint has no draft head (tensors mtp.*)") != std::string::npos);

    for (MemoryTensor & tensor : tensors)
        if (tensor.name == "mtp.fc.weight") tensor.shape = {512, 256};
    const Status refused = OpenModel::open(save("turned", tensors)).take_status();
    CHECK(refused.message().find("mtp.fc.weight") != std::string::npos);

    const auto tiny = open_model(tiny_folder);
    const auto threads = ThreadPool::create(1).take();
    const auto device = open_cpu(*threads);
    SessionOptions options = {1, 64, 8 << 20};
    CHECK(TextSession::create(tiny->variant(Precision::f32), *device, *threads, options).ok()); // weights stream
    options.draft = tiny->draft.get();
    const Status small = TextSession::create(tiny->variant(Precision::f32), *device, *threads, options).take_status();
    CHECK(small.code() == Code::out_of_memory);
    CHECK(small.message().find("and drafting: the smallest sufficient one is ") != std::string::npos);
}

#ifdef GNV_HAS_TOOLS
TEST_CASE("run --draft: the same text, with counts") {
    const std::string common = fitted_folder() + " --device cpu --greedy --n-predict 60 --prompt 'The river' ";
    const auto written = [&](const std::string & more) {
        return nlohmann::json::parse(run_tool("run", common + more + " --json --quiet").out);
    };
    const nlohmann::json plain = written(""), drafted = written("--draft 2");
    CHECK(plain["ids"] == drafted["ids"]);
    CHECK(!plain.contains("draft"));
    CHECK(drafted["draft"]["drafted"] > 0);
    CHECK(written("--draft auto")["ids"] == plain["ids"]);
    const std::string said = run_tool("run", common + "--draft 3 2>&1").out;
    CHECK(said.find("drafting takes ") != std::string::npos);
    CHECK(said.find(" accepted (") != std::string::npos);
    for (const std::string wrong : {"16", "-1", "some", "99999999999999999999", ""})
        CHECK(run_tool("run", common + "--draft '" + wrong + "' 2>&1").exit_code == 2);
    CHECK(run_tool("run", fitted_folder() + " --bench --draft 2 2>&1").out.find("--draft") != std::string::npos);
}
#endif
