// Drafting changes no text: with a draft head whose guesses come true now and then, and with one whose guesses never do.
#include "forward/draft_fixture.h"
#include "run_tool.h"
#include "session/generate.h"
#include "session/shared_texts.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;

namespace {

using Ids = std::vector<int32_t>;

Ids text_ids(size_t begin, size_t count) {
    static const Ids all = GoldenFile("text.safetensors").ints("text700.input_ids");
    return {all.begin() + ptrdiff_t(begin), all.begin() + ptrdiff_t(begin + count)};
}

struct Fixture {
    std::unique_ptr<OpenModel> model;
    std::unique_ptr<ThreadPool> threads;
    std::unique_ptr<Backend> device;
    std::unique_ptr<TextSession> session;

    explicit Fixture(const std::string & folder, bool drafts = true, Precision precision = Precision::f32,
                     int64_t capacity = 600)
        : model(open_model(folder)), threads(ThreadPool::create(2).take()), device(open_cpu(*threads)) {
        SessionOptions options = {1, capacity, 0};
        options.pool_texts = 2;
        options.pool_positions = 800;
        options.draft = drafts ? model->draft.get() : nullptr;
        Result<std::unique_ptr<TextSession>> made =
            TextSession::create(model->variant(precision), *device, *threads, options);
        REQUIRE_MESSAGE(made.ok(), made.status().message());
        session = made.take();
        REQUIRE(session->allow(std::vector<uint8_t>(4096, 1)).ok());
        REQUIRE(session->allow_in_pool(std::vector<uint8_t>(4096, 1)).ok());
    }
    std::vector<float> run(const Ids & ids, int64_t drafts = -1) {
        TextSequence sequence;
        sequence.ids = ids;
        TextSession::Request request;
        request.drafts = drafts;
        return run_in_pieces(*session, sequence, request).take();
    }
};

const Tokenizer & tokenizer() {
    static const Tokenizer loaded = Tokenizer::load(tiny_folder).take();
    return loaded;
}

GenerateOptions options_of(int64_t drafts, double temperature, int64_t tokens = 70) {
    GenerateOptions options;
    options.max_tokens = tokens;
    options.sampling.temperature = temperature;
    options.sampling.seed = 7;
    options.draft.tokens = drafts;
    return options;
}

Ids write_on(Fixture & fixture, const Ids & prompt, const GenerateOptions & options, DraftCounts * counts = nullptr) {
    TextSequence sequence;
    sequence.ids = prompt;
    Ids chosen;
    const Result<GenerateResult> result = generate(*fixture.session, 600, tokenizer(), sequence, options, {}, chosen);
    REQUIRE_MESSAGE(result.ok(), result.status().message());
    if (counts) *counts = result.value().draft;
    return chosen;
}

// Its draft head is fitted to texts that the model writes.
const std::string & fitted_folder() {
    static const ScratchFolder scratch;
    static const std::string folder = scratch / "fitted";
    static bool is_made = false;
    if (is_made) return folder;
    Fixture plain(tiny_folder, false);
    std::vector<Ids> texts;
    for (const size_t begin : {0, 200, 400}) {
        plain.session->reset();
        Ids text = text_ids(begin, 40);
        for (const int32_t id : write_on(plain, text, options_of(0, begin == 400 ? 0.8 : 0, 150))) text.push_back(id);
        texts.push_back(text);
    }
    texts.push_back(text_ids(0, 600));
    save_fitted(folder, *plain.model, texts);
    is_made = true;
    return folder;
}

} // namespace

TEST_CASE("what the draft head guesses is what plain loops find, also after guesses that did not come") {
    const Ids ids = text_ids(0, 30);
    Fixture fixture(tiny_folder);
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
        Ids expected = {reference.likeliest(state)};
        while (expected.size() < depth) {
            state = reference.step(expected.back(), state, t + expected.size());
            expected.push_back(reference.likeliest(state));
        }
        reference.cut(t + 1);
        const std::span<const int32_t> found = fixture.session->ahead();
        CHECK(Ids(found.begin(), found.end()) == expected);
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
#endif
    for (const std::string & folder : folders)
        for (const Precision precision : {Precision::f32, Precision::bf16}) {
            if (precision == Precision::bf16 && folder == tiny_folder) continue;
            Fixture plain(folder, false, precision), drafting(folder, true, precision);
            for (const double temperature : {0.0, 0.7}) {
                plain.session->reset();
                const Ids expected = write_on(plain, text_ids(200, 40), options_of(0, temperature));
                for (const int64_t depth : {1, 2, 3, 4, 15}) {
                    CAPTURE(folder);
                    CAPTURE(temperature);
                    CAPTURE(depth);
                    drafting.session->reset();
                    DraftCounts counts;
                    GenerateOptions options = options_of(depth, temperature);
                    if (depth == 3) options.on_logits = [](std::span<float>, std::span<const int32_t>) { return true; };
                    CHECK(write_on(drafting, text_ids(200, 40), options, &counts) == expected);
                    CHECK(drafting.session->past() == 40 + 69);
                    CHECK(counts.passes > 0);
                    CHECK(counts.gain() > 0);
                    if (folder == tiny_folder) CHECK(counts.accepted == 0);
                    sum.drafted += counts.drafted, sum.accepted += counts.accepted;
                }
                // Both go on from the same states: chunks of another kind of pass, then steps.
                CHECK(drafting.run(text_ids(0, 70)) == plain.run(text_ids(0, 70)));
                CHECK(drafting.run({5}) == plain.run({5}));
            }
        }
    MESSAGE("drafted ", sum.drafted, ", accepted ", sum.accepted);
    CHECK(sum.accepted * 20 > sum.drafted);
    CHECK(sum.accepted < sum.drafted);
}

// A text that goes on by other tokens than those that were drafted, at every place of a pass ahead; by a piece; from its start;
// while texts of the pool run, are copied, saved and restored.
TEST_CASE("states are those of a text without drafting, whatever comes behind a pass ahead") {
    const std::string & folder = fitted_folder();
    Fixture plain(folder, false), drafting(folder);
    SharedTexts texts(*drafting.session);
    for (const int64_t taken : {0, 1, 2, 3}) {
        CAPTURE(taken);
        plain.session->reset();
        drafting.session->reset();
        CHECK(drafting.run(text_ids(200, 40), 0) == plain.run(text_ids(200, 40)));
        for (int round = 0; round < 5; round++) {
            CAPTURE(round);
            int32_t known = text_ids(300, 5)[size_t(round)];
            if (!drafting.session->ahead().empty() && known == drafting.session->ahead().front()) known++;
            CHECK(drafting.run({known}, 4) == plain.run({known}));
            const Ids ahead(drafting.session->ahead().begin(), drafting.session->ahead().end());
            if (round == 4) CHECK(ahead.empty()); // the draft head did not see the last piece
            if (round == 4) continue;
            if (round == 2) { // the pool took the stream
                CHECK(ahead.empty());
                CHECK(drafting.run(text_ids(0, 65), 0) == plain.run(text_ids(0, 65)));
                continue;
            }
            REQUIRE(ahead.size() == 4);
            for (int64_t i = 0; i < taken; i++)
                CHECK(drafting.run({ahead[size_t(i)]}, 4) == plain.run({ahead[size_t(i)]}));
            CHECK(drafting.session->ahead().size() == size_t(4 - taken));
            if (round == 1) { // a text of the pool, in the same memory of activations
                const auto text = texts.open().take();
                SharedText * const list[] = {text.get()};
                REQUIRE(texts.feed(*text, text_ids(0, 20), TextWant::logits).ok());
                REQUIRE(texts.step(list, {}).ok());
                const auto copy = texts.copy(*text).take();
                const std::string saved = texts.save(*copy, "model").take();
                texts.close(*copy);
                const auto back =
                    texts.restore({reinterpret_cast<const uint8_t *>(saved.data()), saved.size()}, "model").take();
                CHECK(texts.save(*back, "model").take() == saved);
                texts.close(*back), texts.close(*text);
            }
            if (round == 3) CHECK(drafting.run(text_ids(0, 3)) == plain.run(text_ids(0, 3)));
        }
        CHECK(drafting.session->past() == plain.session->past());
        CHECK(drafting.run(text_ids(100, 128)) == plain.run(text_ids(100, 128)));
    }
}

TEST_CASE("drafting at the end of the caches, and switched off where it is slower") {
    Fixture plain(tiny_folder, false, Precision::f32, 60), drafting(tiny_folder, true, Precision::f32, 60);
    const auto fill = [&](Fixture & fixture, int64_t drafts) {
        TextSequence sequence;
        sequence.ids = text_ids(0, 40);
        Ids chosen;
        GenerateOptions options = options_of(drafts, 0, 0);
        const Result<GenerateResult> result =
            generate(*fixture.session, 60, tokenizer(), sequence, options, {}, chosen);
        REQUIRE_MESSAGE(result.ok(), result.status().message());
        CHECK(result.value().stop == GenerateStop::capacity);
        return chosen;
    };
    CHECK(fill(drafting, 4) == fill(plain, 0));
    // No guess of this head comes true, so each pass takes longer than a token without.
    Fixture longer(tiny_folder);
    GenerateOptions options = options_of(8, 0, 200);
    options.draft.automatic = true;
    TextSequence sequence;
    sequence.ids = text_ids(0, 40);
    Ids chosen;
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
