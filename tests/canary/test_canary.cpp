// The length canary: what it measures, how it judges, and planted faults that it finds.
#include "canary/canary_fixture.h"
#include "canary/canary_prompts.h"
#include "canary/sign_test.h"
#include "core/utf8.h"
#include "session/texts/repetition.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

using namespace gnv;
using namespace gnv::test;
using namespace gnv::canary;

namespace {

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

std::vector<std::string> gates_of(const Canary & canary) {
    std::vector<std::string> names;
    for (const CanaryGate & gate : canary.gates) names.push_back(gate.gate + (gate.passed ? "" : " failed"));
    return names;
}

// A checkpoint made by llm-compressor, with faults.
struct Damaged {
    Checkpoint checkpoint = Checkpoint::open(untripped_pair().quantized).take();
    FolderFiles files = checkpoint.open_shards().take();
    std::shared_ptr<OverlayFolder> folder =
        std::make_shared<OverlayFolder>(open_folder(untripped_pair().quantized).take());

    void change(const TensorInfo & info, const std::function<void(std::string &)> & change) {
        std::string content(info.bytes, '\0');
        REQUIRE(files[info.shard]->read(content.data(), info.bytes, info.offset).ok());
        change(content);
        REQUIRE(folder->patch(checkpoint.shards()[info.shard].file_name, info.offset, content).ok());
    }
};

// Answers without a model: lengths, of which those of the limit are capped.
LineAnswers line_of(Line line, const std::vector<int64_t> & lengths, int64_t limit, size_t repeating = 0) {
    LineAnswers out;
    out.line = line;
    for (size_t i = 0; i < lengths.size(); i++) {
        Answer answer;
        answer.ids.resize(size_t(lengths[i]));
        std::iota(answer.ids.begin(), answer.ids.end(), int32_t(line));
        answer.capped = lengths[i] == limit;
        answer.repeats = i < repeating;
        out.answers.push_back(answer);
    }
    return out;
}

Canary judged(const LineAnswers & source, const LineAnswers & line, std::optional<double> max_growth = {}) {
    Canary canary;
    canary.max_tokens = 100;
    canary.lines = {source, line};
    judge(max_growth, canary);
    return canary;
}

} // namespace

TEST_CASE("the chance of a sum is that of all signs, one by one") {
    CHECK(chance_of_sum({}) == 1);
    const std::vector<int64_t> nothing = {0, 0}, ones(6, 1), minus(3, -1);
    CHECK(chance_of_sum(nothing) == 1);
    CHECK(chance_of_sum(ones) == 1.0 / 64); // McNemar: six of six
    CHECK(chance_of_sum(minus) == 1);
    uint64_t state = 7;
    for (int round = 0; round < 20; round++) {
        std::vector<int64_t> differences(1 + size_t(round) % 11);
        for (int64_t & difference : differences) {
            state = state * 6364136223846793005u + 1442695040888963407u;
            difference = int64_t(state >> 59) - 16;
        }
        const int64_t sum = std::accumulate(differences.begin(), differences.end(), int64_t(0));
        int64_t reached = 0;
        for (int signs = 0; signs < 1 << differences.size(); signs++) {
            int64_t drawn = 0;
            for (size_t i = 0; i < differences.size(); i++)
                drawn += (signs >> i & 1) ? differences[i] : -differences[i];
            reached += drawn >= sum;
        }
        CHECK(chance_of_sum(differences) == doctest::Approx(double(reached) / double(1 << differences.size())));
    }
    const std::vector<int64_t> large(6, 1'000'000); // beyond the exact distribution
    CHECK(chance_of_sum(large) == doctest::Approx(1.0 / 64));
}

TEST_CASE("a text repeats itself when a piece follows itself long enough, or when it turns in circles") {
    std::vector<int32_t> text(256);
    std::iota(text.begin(), text.end(), 0);
    CHECK_FALSE(tokens_repeat(text));
    CHECK_FALSE(tokens_repeat({}));
    for (const size_t period : {1, 7, 64}) {
        std::vector<int32_t> loop;
        for (size_t i = 0; i < std::max<size_t>(32, 4 * period); i++) loop.push_back(int32_t(i % period));
        CHECK(tokens_repeat(loop));
        loop.pop_back();
        CHECK_FALSE(tokens_repeat(loop));
    }
    text.resize(20);
    text.insert(text.end(), 32, 5);
    text.push_back(8); // a loop that ends
    CHECK(tokens_repeat(text));
    // A few tokens in circles, with another one in between so often that nothing follows itself for long.
    const auto circles = [](int32_t every) {
        std::vector<int32_t> ids;
        for (int32_t i = 0; i < 96; i++) ids.push_back(i % every == every - 1 ? 100 + i : i % every % 5);
        return ids;
    };
    CHECK_FALSE(tokens_repeat(circles(9)));
    CHECK(tokens_repeat(circles(25)));
}

TEST_CASE("the fixed prompts are forty different texts") {
    const std::span<const char * const> prompts = fixed_prompts();
    CHECK(std::set<std::string>(prompts.begin(), prompts.end()).size() == 40);
    for (const char * prompt : prompts) CHECK(utf8_lossy(prompt) == prompt);
}

TEST_CASE("answers as good as the source's are no suspicion; worse ones are, and a gate counts alone") {
    const std::vector<int64_t> lengths = {10, 20, 30, 40, 50, 60, 70, 80};
    const auto moved = [&](int64_t by) {
        std::vector<int64_t> out = lengths;
        for (int64_t & length : out) length = std::min<int64_t>(100, length + by);
        return out;
    };
    const LineAnswers source = line_of(Line::source, lengths, 100);
    CHECK(gates_of(judged(source, line_of(Line::w4a4, lengths, 100))).empty());
    CHECK(gates_of(judged(source, line_of(Line::w4a4, moved(2), 100))).empty()); // certain, and small
    CHECK(gates_of(judged(source, line_of(Line::w4a4, {80, 70, 60, 50, 50, 30, 40, 10}, 100))).empty());
    CHECK(gates_of(judged(source, line_of(Line::w4a4, moved(-5), 100))).empty()); // shorter ones
    const Canary longer = judged(source, line_of(Line::w4a4, moved(9), 100));
    CHECK(gates_of(longer) == std::vector<std::string>{"canary-length"});
    CHECK(longer.lines[1].growth == doctest::Approx(1.2));
    CHECK(longer.lines[1].chance_of_length == 1.0 / 256);
    CHECK(longer.suspicions() == 1);
    CHECK(longer.failed_gates() == 0);
    CHECK(has(longer.gates[0].text, "54.0 tokens in the mean, those of the source 45.0 (x 1.200)"));
    CHECK(has(longer.gates[0].text, "1 in 256"));
    CHECK(gates_of(judged(source, line_of(Line::w4a4, moved(90), 100))) ==
          std::vector<std::string>{"canary-length", "canary-capped"});
    CHECK(gates_of(judged(source, line_of(Line::w4a4, lengths, 100, 6))) ==
          std::vector<std::string>{"canary-repetition"});
    CHECK(gates_of(judged(source, line_of(Line::w4a4, lengths, 100, 5))).empty()); // 1 in 32
    CHECK(gates_of(judged(source, line_of(Line::w4a4, moved(9), 100), 1.25)) ==
          std::vector<std::string>{"canary-growth"});
    const Canary failed = judged(source, line_of(Line::w4a4, moved(9), 100), 1.1);
    CHECK(gates_of(failed) == std::vector<std::string>{"canary-growth failed"});
    CHECK(failed.suspicions() == 0);
    const Canary from_nothing = judged(line_of(Line::source, {0, 0}, 9), line_of(Line::w4a4, {1, 1}, 9), 5);
    CHECK(gates_of(from_nothing) == std::vector<std::string>{"canary-growth failed"});
    CHECK(std::isinf(from_nothing.lines[1].growth));
}

TEST_CASE("a good checkpoint answers like its source, which answers like the Transformers implementation") {
    const Canary canary = answer(open_folder(untripped_pair().quantized).take(), short_answers());
    CHECK(gates_of(canary).empty());
    REQUIRE(canary.lines.size() == 3);
    const Json recorded = Json::parse(read_file(golden + "/greedy.json", 1 << 20).value())[0];
    CHECK(canary.questions.ids[0] == recorded["prompt_ids"].get<std::vector<int32_t>>());
    std::vector<int32_t> ids = canary.lines[0].answers[0].ids;
    ids.push_back(canary.questions.stop_ids[0]);
    CHECK(ids == recorded["new_ids"].get<std::vector<int32_t>>());
    for (const LineAnswers & line : canary.lines) {
        CHECK(line.capped <= 1);
        CHECK(line.repeating == 0);
        CHECK(line.mean_tokens == doctest::Approx(14).epsilon(0.3));
    }
    CHECK(canary.lines[0].equal == 8);
    CHECK(canary.lines[1].equal < 8);
    const std::string text = canary_text(canary), markdown = canary_markdown(canary);
    CHECK(has(text, "no sign of longer, endless or repeating answers beyond chance"));
    CHECK(has(text, "of at most 40 tokens to 8 prompts, in the chat template, without thinking; fp32 on CPU"));
    CHECK(has(markdown, "| W4A4 | " + fixed_text(canary.lines[1].mean_tokens, 1) + " | x "));
    const Json json = Json::parse(canary_json(canary));
    CHECK(json["schema"] == "ggml-nvfp4.canary.1");
    CHECK(json["answers"][0]["source"]["text"] == "A green circle at the bottom right.");
    CHECK(json["lines"]["w4a16"]["mean_tokens"] == canary.lines[2].mean_tokens);
}

// Its predictions are hardly further from the source's: no mean of a divergence shows it.
TEST_CASE("a row of the head that no answer ends with any more") {
    Damaged damaged;
    const TensorInfo & head = damaged.checkpoint.tensors()[size_t(damaged.checkpoint.find("lm_head.weight"))];
    const size_t row = size_t(head.shape[1]) * 2;
    damaged.change(head, [&](std::string & bytes) {
        for (const size_t id : {4072, 4074}) bytes.replace(id * row, row, row, '\0'); // <|endoftext|>, <|im_end|>
    });
    const Canary bad = answer(damaged.folder, short_answers());
    CHECK(gates_of(bad) == std::vector<std::string>{"canary-length", "canary-capped"});
    CHECK(bad.lines[1].capped == 8);
    CHECK(has(canary_text(bad), "suspicious  canary-capped: 8 of 8 answers of W4A4 do not end within 40 tokens"));
    CHECK(has(canary_markdown(bad), "Suspicious: "));
}

TEST_CASE("attention outputs five times too large: answers repeat themselves") {
    Damaged damaged;
    for (const TensorInfo & info : damaged.checkpoint.tensors())
        if (ends_with(info.name, "self_attn.o_proj.weight_global_scale"))
            damaged.change(info, [](std::string & bytes) {
                float value;
                memcpy(&value, bytes.data(), sizeof value);
                value /= 5; // a divisor
                memcpy(bytes.data(), &value, sizeof value);
            });
    const Canary bad = answer(damaged.folder, short_answers(64));
    const std::vector<std::string> gates = gates_of(bad);
    CHECK(std::count(gates.begin(), gates.end(), "canary-repetition") == 1);
    CHECK(bad.lines[0].repeating == 0);
    CHECK(bad.lines[1].repeating >= 6);
    CHECK(bad.lines[2].repeating >= 6);
}

TEST_CASE("the same bytes for any threads, texts at once and memory") {
    CanaryOptions options = short_answers(12);
    options.lines[size_t(Line::w4a16)] = false;
    const auto run = [&](int threads, int64_t together, uint64_t ram) {
        const auto pool = ThreadPool::create(threads).take();
        CanaryOptions other = options;
        other.texts_at_once = together, other.ram_bytes = ram;
        std::vector<std::string> notes;
        other.note = [&](const std::string & note) { notes.push_back(note); };
        const std::string json = canary_json(answer(open_folder(untripped_pair().quantized).take(), other, *pool));
        CHECK(notes.size() == (ram > 0 ? 2 : 0));
        for (const std::string & note : notes) CHECK(has(note, "the weights do not fit into memory"));
        return json;
    };
    const std::string expected = run(1, 0, 0);
    CHECK(run(3, 3, 0) == expected);
    CHECK(run(2, 1, 14'000'000) == expected); // weights are read for each token
}

TEST_CASE("a folder without chat template and stop ids is told of, and prompts that cannot be used are refused") {
    const ScratchFolder scratch;
    REQUIRE(write_file_synced(scratch / "tokenizer.json", read_file(join_path(tiny, "tokenizer.json"), 1 << 26).value())
                .ok());
    const Result<QuestionSet> plain = make_questions(scratch.path(), {"a b", "c"}, false);
    REQUIRE(plain.ok());
    CHECK_FALSE(plain.value().has_template);
    CHECK(plain.value().stop_ids.empty());
    CHECK(plain.value().tokenizer->decode(plain.value().ids[0]).value() == "a b");
    CHECK(has(make_questions(scratch.path(), {"a", ""}, false).status().message(), "prompt 2 is empty"));
    CHECK(has(make_questions(scratch.path(), {"a\xff"}, false).status().message(), "prompt 1"));
    scratch.save("chat_template.jinja",
                 "{% if enable_thinking is defined %}quiet {% endif %}{{ messages[0].content }}");
    CHECK(make_questions(scratch.path(), {"a"}, false).value().sha256 !=
          make_questions(scratch.path(), {"a"}, true).value().sha256);
    scratch.save("chat_template.jinja", "{{ raise_exception('no') }}");
    CHECK(has(make_questions(scratch.path(), {"a"}, true).status().message(), "prompt 1"));
    CanaryOptions options = short_answers();
    options.max_tokens = 0;
    CHECK(check_questions(tiny, options).code() == Code::invalid_argument);
    options.max_tokens = 1 << 16; // more than the model has positions
    const Status refused =
        run_canary(open_folder(untripped_pair().quantized).take(), tiny, two_threads(), options).take_status();
    CHECK(has(refused.message(), "positions"));
}

TEST_CASE("too little memory is refused with the least that is enough, and a stop is heard") {
    CanaryOptions options = short_answers(8);
    options.ram_bytes = 100'000;
    const std::shared_ptr<const Folder> folder = open_folder(untripped_pair().quantized).take();
    const Status refused = run_canary(folder, tiny, two_threads(), options).take_status();
    CHECK(refused.code() == Code::out_of_memory);
    CHECK(has(refused.message(), "canary, source"));
    options.ram_bytes = 0;
    for (const int64_t at : {0, 5, 100}) {
        int64_t last = -1;
        options.progress = [&](int64_t done, int64_t total) {
            CHECK(done >= last);
            CHECK(total == 3 * 8 * 8);
            last = done;
            return done < at;
        };
        CHECK(run_canary(folder, tiny, two_threads(), options).status().code() == Code::cancelled);
    }
}
