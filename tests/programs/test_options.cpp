// Command lines: numbers with their sign and limits, options that would have no effect, and lists that leave the positional
// argument alone.
#include "programs/program_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

struct NumericOption {
    const char * name;
    Words bad; // besides those that no number is
};

struct NumericOptions {
    Words command;
    std::vector<NumericOption> options;
};

const Words no_number = {"", " ", "x", "1x", "0x", "--5", "1 2", "99999999999999999999"};
const Words no_count = {"-1", "-5", "-0", "1.5", "1e3", "18446744073709551616", "-9223372036854775809"};
const Words no_real = {"nan", "inf", "-inf", "1e999", "-1", "-2.5", "-1e-300", "1,5"};

Words reals(const Words & more) { return Words{"", " ", "x", "1x", "--5", "1 2"} + no_real + more; }

Words counts(const Words & more) { return no_number + no_count + more; }

std::vector<NumericOptions> all_numeric_options() {
    const SmallRun & small = small_run();
    const Words bytes = counts({"0", "0GB", "5XB", "1.5GB", "-5GB", "17EiB", "GB", "18446744073709551615K"});
    const NumericOption threads = {"--threads", counts({"4097", "2147483648"})};
    const std::string most = "2147483649";
    return {
        {{"quantize", small.source, "-o", small.nowhere, "--calib", small.rows},
         {{"--samples", counts({most})},
          {"--seq-len", counts({"0", most})},
          {"--seed", counts({})},
          {"--shard-size", bytes},
          {"--ram", bytes},
          {"--vram", bytes},
          {"--price", reals({"0", "1000001"})},
          threads}},
        {{"verify", small.made, "--source", small.source, "--data", small.rows},
         {{"--documents", counts({most})},
          {"--tokens-per-document", counts({"0", most})},
          {"--ram", bytes},
          {"--vram", bytes},
          {"--max-kl", reals({})},
          {"--min-top1", reals({"1.0000001", "2"})},
          {"--max-ppl-ratio", reals({})},
          {"--max-room", reals({})},
          threads}},
        {{"verify", small.made, "--source", small.source}, {{"--max-canary-growth", reals({})}}},
        {{"run", small.source, "--prompt", "a"},
         {{"--n-predict", counts({"2147483648", "9223372036854775807"})},
          {"--temp", reals({"1e39"})},
          {"--top-k", counts({"2147483648"})},
          {"--top-p", reals({"0", "1.1"})},
          {"--min-p", reals({"1.1"})},
          {"--repetition-penalty", reals({"0", "1e39"})},
          {"--presence-penalty", {"", "x", "nan", "inf", "1e999", "2.1", "-2.0001", "-1e308"}},
          {"--frequency-penalty", {"", "x", "nan", "-inf", "2.1", "-3", "2147483648"}},
          {"--logit-bias", {"5", "=1", "5=", "5=x", "5=nan", "5=101", "5=-1e308", "-5=1", "2147483648=1", "5=1=1"}},
          {"--seed", counts({})},
          {"--ram", bytes},
          {"--vram", bytes},
          threads}},
        {{"dataset", small.source, "--calib", small.rows},
         {{"--samples", counts({most})},
          {"--seq-len", counts({"0", most})},
          {"--seed", counts({})},
          {"--show", counts({})},
          threads}},
        {{"inspect", small.source}, {threads}},
    };
}

} // namespace

TEST_CASE("numbers that make no sense are refused as they were typed") {
    for (const NumericOptions & program : all_numeric_options()) {
        for (const NumericOption & option : program.options) {
            for (const std::string & value : option.bad) {
                const std::string typed = option.name + (" " + value);
                CAPTURE(typed);
                const bool joined = value.empty() || value == "-1"; // an empty value is none at all
                const Words words = joined ? Words{option.name + ("=" + value)} : Words{option.name, value};
                const Ended ended = run_program(program.command + words);
                CAPTURE(ended.errors);
                CHECK(ended.exit_code == 2);
                CHECK((value.empty() || ended.says(typed + ": expected a ")));
                CHECK(ended.errors.size() < 300);
            }
        }
    }
}

TEST_CASE("rows of a tensor: numbers with their limits, too") {
    const SmallRun & small = small_run();
    for (const std::string value : {"x", "-1", "1:", "2:1", "99999999999999999999", "0:99999999999999999999", "1:-1"}) {
        const Ended ended = run_program({"inspect", small.source, "--tensor", "lm_head.weight", "--values=" + value});
        CHECK(ended.exit_code == 2);
        CHECK(ended.says("--values " + value + ":"));
    }
}

TEST_CASE("numbers at their limits are taken") {
    const SmallRun & small = small_run();
    const Words plan = {"quantize", small.source, "--dry-run", "--no-estimate",
                        "--tokens", small.tokens, "--device",  "cpu"};
    for (const char * ram : {"18446744073709551615", "15EiB", "100 MB", "100mib", "200000000b", "100M"})
        CHECK(run_program(plan + Words{"--ram", ram}).exit_code == 0);
    const Words data = {"dataset", small.source, "--calib", small.rows, "--seq-len", "0x10"};
    for (const char * count : {"0", "1", "+5", "007", "0x10"})
        CHECK(run_program(data + Words{"--samples", count}).exit_code == 0);
    CHECK(run_program(data + Words{"--seed", "18446744073709551615", "--show", "18446744073709551615"}).exit_code == 0);
    CHECK(run_program(small.generate() + Words{"--threads", "0"}).exit_code == 2); // given twice
    CHECK(run_program({"run",
                       small.made,
                       "--prompt",
                       "a",
                       "--n-predict",
                       "1",
                       "--temp",
                       "3e38",
                       "--top-k",
                       "2147483647",
                       "--top-p",
                       "1e-30",
                       "--min-p",
                       "1",
                       "--repetition-penalty",
                       "3e38",
                       "--presence-penalty",
                       "-2",
                       "--frequency-penalty",
                       "2",
                       "--logit-bias",
                       "5=-100",
                       "--logit-bias",
                       "6=1e2",
                       "--stop",
                       "x",
                       "--stop",
                       "y",
                       "--device",
                       "cpu"})
              .exit_code == 0);
}

TEST_CASE("an option that would have no effect is refused") {
    const SmallRun & small = small_run();
    const std::string s = small.source, m = small.made, t = small.tokens, d = small.rows, n = small.scratch / "new";
    struct Useless {
        Words command;
        Words option;
    };
    const Words plan = {"quantize", s, "--dry-run", "--scheme", "nvfp4a16"}, verify = {"verify", m, "--source", s};
    const Words text = {"run", m, "--prompt", "a"}, dump = {"run", m, "--tokens", t, "--dump", n};
    std::vector<Useless> all = {
        {{"verify", m, "--self-test"}, {"--structure"}},
        {{"verify", m, "--self-test"}, {"--strict"}},
        {verify + Words{"--data", d}, {"--vram", "1GB", "--device", "cpu"}},
        {{"verify", m}, {"--device", "cuda"}},
        {{"quantize", s, "--dry-run", "--tokens", t}, {"--vram", "1GB", "--device", "cpu"}},
        {{"quantize", s, "--dry-run", "--calib", d}, {"--seed", "1", "--no-shuffle"}},
        {{"dataset", s, "--calib", d}, {"--seed", "1", "--no-shuffle"}},
        {{"quantize", "--show-stats"}, {"--stats"}},
        {plan, {"--device", "cuda:0"}},
        {text, {"--seed", "1", "--greedy"}},
        {text, {"--seed", "1", "--temp", "0"}},
        {text, {"--top-k", "5", "--temp", "0"}},
        {text, {"--top-p", "0.5", "--temp", "0"}},
        {text, {"--min-p", "0.5", "--temp", "0"}},
        {text, {"--vram", "1GB", "--device", "cpu"}},
        {text, {"--tap", "norm"}},
        {{"tokenize", s, "--jsonl", d, "--decode"}, {"--no-special"}},
        {{"inspect", m, "--tensor", "lm_head.weight"}, {"--tensors"}},
        {{"inspect", m, "--tensor", "lm_head.weight"}, {"--filter", "x"}},
        {{"inspect", m, "--compare", s}, {"--tensors"}},
    };
    all.push_back({{"quantize", s, "-o", n}, {"--no-estimate"}});
    for (const Words & option : std::vector<Words>{{"--estimate"}, {"--assume", "h100"}, {"--price", "2"}})
        all.push_back({{"quantize", s, "--dry-run", "--no-estimate", "--scheme", "nvfp4a16"}, option});
    const std::vector<Words> of_rows = {{"--samples", "1"}, {"--seq-len", "9"}, {"--seed", "1"},       {"--no-shuffle"},
                                        {"--pad"},          {"--pack"},         {"--template", "none"}};
    for (const Words & option : of_rows) {
        all.push_back({plan, option});
        all.push_back({{"quantize", s, "--dry-run", "--tokens", t}, option});
        all.push_back({{"dataset", s, "--tokens", t}, option});
    }
    for (const Words & option : std::vector<Words>{{"--experts", "all"},
                                                   {"--precision", "fp32"},
                                                   {"--vram", "1GB"},
                                                   {"--scratch", "/tmp"},
                                                   {"--measure-limits"},
                                                   {"--save-stats", n}})
        all.push_back({plan, option});
    for (const Words & option :
         std::vector<Words>{{"--template", "none"},  {"--documents", "1"},    {"--tokens-per-document", "9"},
                            {"--lines", "w4a4"},     {"--noise-floor"},       {"--shared-expert-scale"},
                            {"--vram", "1GB"},       {"--precision", "fp32"}, {"--ram", "1GB"},
                            {"--scratch", "/tmp"},   {"--save-logits", n},    {"--logits", n},
                            {"--max-kl", "1"},       {"--min-top1", "1"},     {"--max-ppl-ratio", "1"},
                            {"--max-room", "1"},     {"--baseline", n},       {"--markdown", n},
                            {"--canary-prompts", n}, {"--canary-thinking"},   {"--max-canary-growth", "1"}}) {
        all.push_back({verify, option});
        if (option[0] == "--template" || option[0] == "--documents" || option[0] == "--tokens-per-document")
            all.push_back({verify + Words{"--tokens", t}, option});
    }
    for (const Words & option : std::vector<Words>{{"--temp", "1"},
                                                   {"--top-k", "1"},
                                                   {"--top-p", "1"},
                                                   {"--min-p", "1"},
                                                   {"--repetition-penalty", "1"},
                                                   {"--presence-penalty", "1"},
                                                   {"--frequency-penalty", "1"},
                                                   {"--logit-bias", "1=1"},
                                                   {"--stop", "a"},
                                                   {"--seed", "1"},
                                                   {"--greedy"},
                                                   {"--json"}})
        all.push_back({dump, option});
    for (const Words & option :
         std::vector<Words>{{"--scheme", "nvfp4"}, {"--ram", "1GB"}, {"--overwrite"}, {"-o", n}, {"--calib", d}})
        all.push_back({{"quantize", "--show-stats", "--stats", n}, option});
    for (const Useless & one : all) {
        const Ended ended = run_program(one.command + one.option);
        CAPTURE(one.command[0]);
        CAPTURE(one.option[0]);
        CAPTURE(ended.errors);
        CHECK(ended.exit_code == 2);
        CHECK(ended.says(one.option[0] == "-o" ? "--output" : one.option[0]));
        CHECK_FALSE(path_exists(n));
    }
}

TEST_CASE("options that take several values leave the positional argument alone, wherever it stands") {
    const SmallRun & small = small_run();
    const std::string s = small.source, m = small.made, d = small.rows, t = small.tokens;
    const std::string more = small.scratch.save("more.jsonl", "{\"text\": \"more of it\"}\n");
    const NewPath statistics(small.scratch / "stats.json"), out(small.scratch / "arranged");
    REQUIRE(run_program(small.quantize(out, "nvfp4") + Words{"--save-stats", statistics}).exit_code == 0);
    const Words plan = {"--dry-run", "--no-estimate", "--device", "cpu", "--ram", "1GB"},
                weights = {"--dry-run", "--no-estimate", "--scheme", "nvfp4a16"};
    struct Arrangement {
        Words usual, other;
    };
    const std::string k = ".*self_attn.*", k2 = ".*linear_attn.*", k3 = ".*linear_attn[.]out_proj";
    const Arrangement all[] = {
        {Words{"quantize", s, "--calib", d} + plan, Words{"quantize", "--calib", d, s} + plan},
        {Words{"quantize", s, "--calib", d} + plan, Words{"quantize", "--calib=" + d, s} + plan},
        {Words{"quantize", s, "--calib", d} + plan, Words{"quantize"} + plan + Words{"--calib", d, s}},
        {Words{"quantize", s, "--calib", d, "--calib", more} + plan, Words{"quantize", "--calib", d, more, s} + plan},
        {Words{"quantize", s, "--calib", d, "--calib", more} + plan, Words{"quantize", s, "--calib", d, more} + plan},
        {Words{"quantize", s, "--calib", d, "--calib", more} + plan,
         Words{"quantize", "--calib", d, more} + plan + Words{s}},
        {Words{"quantize", s, "--stats", statistics, "--dry-run", "--no-estimate"},
         {"quantize", "--stats", statistics, s, "--dry-run", "--no-estimate"}},
        {Words{"quantize", s, "--keep", k, "--ignore", k2} + weights,
         Words{"quantize", "--ignore", k2, "--keep", k, s} + weights},
        {Words{"quantize", s, "--keep", k, "--ignore", k2} + weights,
         Words{"quantize", "--ignore", k2, s, "--keep", k} + weights},
        {Words{"quantize", s, "--keep", k, "--keep", k2} + weights, Words{"quantize", s, "--keep", k, k2} + weights},
        {Words{"quantize", s, "--include", k3} + weights, Words{"quantize", "--include", k3, s} + weights},
        {Words{"quantize", s, "--include", k3} + weights,
         Words{"quantize", "--include", k3} + weights + Words{"--", s}},
        {{"quantize", "--show-stats", "--stats", statistics, "--stats", statistics},
         {"quantize", "--stats", statistics, statistics, "--show-stats"}},
        {small.verify(m) + Words{"--data", d, "--data", more, "--quiet", "--json", "-"},
         {"verify", "--data", d, more, m, "--source", s, "--threads", "2", "--device", "cpu", "--quiet", "--json",
          "-"}},
        {small.verify(m) + Words{"--data", d, "--lines", "w4a4,w4a16", "--markdown", "-"},
         {"verify", "--lines", "w4a4", "w4a16", m, "--source", s, "--data", d, "--device", "cpu", "--markdown", "-"}},
        {small.verify(m) + Words{"--data", d, "--lines", "w4a4", "--markdown", "-"},
         {"verify", "--lines=w4a4", m, "--source", s, "--data", d, "--device", "cpu", "--markdown", "-"}},
        {{"dataset", s, "--calib", d, "--json"}, {"dataset", "--calib", d, s, "--json"}},
        {{"dataset", s, "--calib", d, "--calib", more}, {"dataset", "--calib", d, more, s}},
        {{"inspect", s, "--tensor", "lm_head.weight", "--values"},
         {"inspect", "--tensor", "lm_head.weight", "--values", s}},
        {{"inspect", s, "--tensor", "lm_head.weight", "--values=3"},
         {"inspect", "--tensor", "lm_head.weight", "--values", "3", s}},
        {{"inspect", s, "--tensor", "lm_head.weight", "--values=3"},
         {"inspect", s, "--tensor", "lm_head.weight", "--values", "3"}},
    };
    for (const Arrangement & one : all) {
        const Ended usual = run_program(one.usual), other = run_program(one.other);
        CAPTURE(usual.errors);
        CAPTURE(other.errors);
        CAPTURE(one.other.back());
        CHECK(usual.exit_code == 0);
        CHECK(other.exit_code == 0);
        const bool equal = without_seconds(other.out) == without_seconds(usual.out);
        CHECK(equal);
    }
    const NewPath dump(small.scratch / "taps.safetensors"), same(small.scratch / "same.safetensors");
    CHECK(run_program({"run", s, "--tokens", t, "--dump", dump, "--tap", "norm", "--device", "cpu"}).exit_code == 0);
    CHECK(run_program({"run", "--tap", "norm", s, "--tokens", t, "--dump", same, "--device", "cpu"}).exit_code == 0);
    CHECK(read_file(dump, 1 << 26).value() == read_file(same, 1 << 26).value());
    CHECK(run_program({"quantize", s, s, "--dry-run"}).says("not expected"));
}

TEST_CASE("too few resources for threads: the message says what to do") {
    CHECK(run_program({"inspect", small_run().made, "--threads", "4097"})
              .says("--threads 4097: expected a whole number"));
}
