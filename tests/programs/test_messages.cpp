// Typical mistakes on the command line and in files: each is refused in words of our own that say what to do instead.
#include "programs/program_fixture.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <sstream>
#include <sys/stat.h>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Mistake {
    Words command;
    std::string message; // a part of it
    int exit_code = 2;
};

void check_refused(const std::vector<Mistake> & mistakes) {
    for (const Mistake & mistake : mistakes) {
        const Ended ended = run_program(mistake.command);
        CAPTURE(ended.errors);
        CAPTURE(mistake.message);
        CHECK(ended.exit_code == mistake.exit_code);
        const size_t last = ended.errors.find("error: "); // after warnings, of a driver that is not used, say
        CHECK((last == 0 || (last != std::string::npos && ended.errors[last - 1] == '\n')));
        CHECK(ended.says(mistake.message));
        CHECK(ended.out == "");
        // No insides of the parsers of options and JSON.
        for (const char * const inside : {"FAILED", "->", "ValidationError", "json.exception", "INI was"})
            CHECK_FALSE(ended.says(inside));
    }
}

} // namespace

TEST_CASE("a missing, unknown or misspelt word: the usage, the nearest option, the name that other programs have") {
    const SmallRun & small = small_run();
    const std::string s = small.source, m = small.made, n = small.scratch / "new";
    const Words to = {"quantize", s, "-o", n};
    check_refused({
        {{"quantize"}, "SRC is needed\nusage: quantize SRC -o DST [options]; quantize --help says more"},
        {{"verify"}, "DST is needed\nusage: verify DST"},
        {{"quantize", s}, "-o DST is needed"},
        {{"quantize", s, n},
         n + " is not expected behind SRC, " + s + "; the result stands behind -o: quantize " + s + " -o " + n},
        {{"verify", m, s}, s + " is not expected behind DST, " + m},
        {to + Words{"--shceme", "X"}, "--shceme: no such option; did you mean --scheme?\n"},
        {to + Words{"--dry_run"}, "--dry_run: no such option; did you mean --dry-run?"},
        {to + Words{"--sample", "3"}, "did you mean --samples?"},
        {to + Words{"--dataset", "x"}, "--dataset: no such option; its name here is --calib"},
        {to + Words{"--num-samples", "3"}, "its name here is --samples"},
        {to + Words{"--num_calibration_samples=3"},
         "--num_calibration_samples: no such option; its name here is --samples"},
        {to + Words{"--max-seq-length", "3"}, "its name here is --seq-len"},
        {{"quantize", s, "--output-dir", n}, "--output-dir: no such option; its name here is -o"},
        {{"quantize", s, "-output", n}, "-output: no such option; did you mean --output?"},
        {{"quantize", "--model", s, "-o", n}, "--model: no such option; the folder stands alone: quantize SRC"},
        {{"verify", m, "--dataset", "x"}, "its name here is --data"},
        {{"verify", m, "--calib", "x"}, "its name here is --data"},
        {{"run", s, "--temperature", "1"}, "its name here is --temp"},
        {to + Words{"--qwertyuiop"}, "--qwertyuiop: no such option; quantize --help lists them"},
        {to + Words{"--seq-len"}, "--seq-len needs a value: --seq-len N"},
        {to + Words{"--seq-len", "--pad"}, "--seq-len needs a value: --seq-len N"},
        {to + Words{"-o", n}, "--output is given twice"},
        {{"run", s, "--prompt", "a", "--tokens", "b"}, "--prompt and --tokens exclude each other: leave one out"},
        {{"run", s, "--prompt", "a", "--system", "b"}, "--system needs --chat"},
    });
    // Several, in the order of the command line.
    const Ended several = run_program(to + Words{"--zzz", "--dataset", "a", "--aaa"});
    CHECK(several.errors.find("--zzz") < several.errors.find("--dataset"));
    CHECK(several.errors.find("--dataset") < several.errors.find("--aaa"));
    CHECK_FALSE(several.says("is not expected")); // "a" may belong to --dataset
    CHECK_FALSE(path_exists(n));
}

TEST_CASE("a value that an option does not have: all that it has, and the name here") {
    const SmallRun & small = small_run();
    const std::string s = small.source, m = small.made, n = small.scratch / "new";
    const Words to = {"quantize", s, "-o", n};
    check_refused({
        {to + Words{"--scheme", "w4a16"}, "--scheme w4a16: expected nvfp4 or nvfp4a16; w4a16 is nvfp4a16 here"},
        {to + Words{"--scheme", "W4A4"}, "--scheme W4A4: expected nvfp4 or nvfp4a16; W4A4 is nvfp4 here"},
        {to + Words{"--scheme", "nvpf4"}, "did you mean nvfp4?"},
        {to + Words{"--scheme", "0"}, "--scheme 0: expected nvfp4 or nvfp4a16"},
        {to + Words{"--method", "awq"}, "--method awq: expected rtn, mse, hessian or gptq"},
        {to + Words{"--preset", "all"}, "--preset all: expected recipe or experts-only"},
        {to + Words{"--experts", "some"}, "--experts some: expected all or routed"},
        {to + Words{"--template", "llama"}, "--template llama: expected model, alpaca, chatml or none"},
        {to + Words{"--precision", "fp16"}, "--precision fp16: expected fp32 or bf16"},
        {to + Words{"--assume", "a100"}, "--assume a100: expected h100 or h200"},
        {to + Words{"--create", "secret"}, "--create secret: expected public or private"},
        {to + Words{"--headroom", "0.5"}, "--headroom 0.5: expected a number not below 1 and at most 1024"},
        {{"verify", m, "--lines", "w8a8"}, "--lines w8a8: expected w4a4, w4a16 or activations"},
        {{"verify", m, "--lines", "w4a4,nvfp4a16"}, "nvfp4a16 is w4a16 here"},
        {to + Words{"--samples", "-5"}, "--samples -5: expected a whole number from 0"},
        {to + Words{"--ram", "lots"}, "--ram lots: expected a number of bytes, for example 16GB"},
        {to + Words{"--min-expert-tokens", "0"}, "--min-expert-tokens 0: expected a whole number from 1"},
        {to + Words{"--scheme", "nvfp4a16", "--min-expert-tokens", "4"}, "--min-expert-tokens needs calibration data"},
    });
}

TEST_CASE("folders, files and patterns that are others than was meant") {
    const SmallRun & small = small_run();
    const ScratchFolder scratch;
    const std::string s = small.source, m = small.made, n = small.scratch / "new";
    const std::string shard = s + "/model.safetensors",
                      shard_name = path_exists(shard) ? shard : s + "/model-00001-of-00001.safetensors";
    const Words to = {"quantize", s, "-o", n}, weights = to + Words{"--scheme", "nvfp4a16"};
    const std::string empty = scratch.save("empty.jsonl", ""), text = scratch.save("text.txt", "plain text\n"),
                      gguf = scratch.save("model.gguf", "GGUF");
    const std::string cut = scratch / "cut";
    copy_folder(s, cut);
    const std::string cut_shard = join_path(cut, base_name(shard_name));
    struct stat info;
    REQUIRE(stat(cut_shard.c_str(), &info) == 0);
    REQUIRE(truncate(cut_shard.c_str(), info.st_size - 5000) == 0);
    REQUIRE(make_directory(scratch / "dumps").ok());
    const std::string alone = scratch / "dumps/dump.safetensors";
    REQUIRE(copy_file_synced(shard_name, alone).ok());
    const std::string incomplete = scratch / "incomplete", missing = "model-00002-of-00002.safetensors";
    copy_folder(small.two_files, incomplete);
    REQUIRE(remove_file(join_path(incomplete, missing)).ok());
    for (const Words & command : {Words{"quantize", incomplete, "-o", n, "--scheme", "nvfp4a16"},
                                  Words{"run", incomplete, "--prompt", "a"}, Words{"inspect", incomplete}})
        check_refused({{command, "names a shard that is missing; download it again: " + missing, 3}});
    check_refused({
        {{"quantize", small.nowhere, "-o", n}, small.nowhere + " is not a folder; expected one with safetensors files"},
        {{"quantize", shard_name, "-o", n}, shard_name + " is one file of a checkpoint: give its folder, " + s},
        {{"verify", shard_name}, "is one file of a checkpoint: give its folder, " + s},
        {{"inspect", s + "/config.json"}, "is one file of a checkpoint: give its folder, " + s},
        {{"verify", alone}, alone + " is a file of tensors, and no checkpoint with a config.json is around it"},
        {{"quantize", gguf, "-o", n}, "GGUF files are not read: give the folder of the BF16 checkpoint"},
        {to, "scheme nvfp4 (W4A4) needs input scales: give calibration data (--calib"},
        {{"quantize", s, "-o", m, "--scheme", "nvfp4a16"},
         "output folder " + m + " already exists; choose another or ask to overwrite it (--overwrite)"},
        {{"quantize", s, "-o", n + "/b/c", "--scheme", "nvfp4a16"},
         "cannot create " + n + "/b/c: its parent folder " + n + "/b does not exist; make it first"},
        {{"quantize", s, "-o", s, "--scheme", "nvfp4a16"}, "source"},
        {{"quantize", m, "-o", n, "--scheme", "nvfp4a16"}, "quantized"},
        {{"quantize", cut, "-o", n, "--scheme", "nvfp4a16"}, " bytes short: copy or download it again", 3},
        {weights + Words{"--keep", "self_attn"},
         "A pattern is a regular expression that holds from the start of a module's name"},
        {weights + Words{"--keep", "*.self_attn"}, "it is a regular expression, in which .* stands for any text"},
        {to + Words{"--calib", "open-platypus"}, "open-platypus is the name of a form of data, not of a file: give "
                                                 "open-platypus@PATH with a copy of garage-bAInd/Open-Platypus"},
        {to + Words{"--calib", "absent.jsonl"}, "absent.jsonl: no such file or folder"},
        {to + Words{"--calib", small.rows + ":body"}, "there is no field body; the fields are text"},
        {to + Words{"--calib", empty}, empty + " is empty: it has no rows"},
        {to + Words{"--calib", small.rows, "--ram", "1MB"}, " bytes (", 4},
        {{"verify", m, "--source", s, "--data", "absent.jsonl"}, "absent.jsonl: no such file or folder"},
        {{"verify", m, "--markdown", n}, "--markdown needs --data PATH, --tokens FILE or --canary"},
        {{"tokenize", s, "--jsonl", text},
         text + ":1: the line is not JSON from byte 1 on (invalid literal); expected an object such as {\"text\"",
         3},
        {{"run", text, "--prompt", "a"}, text + " is a file; a model is a folder with config.json"},
        {{"run", s, "--bench", "--n-prompt", "0", "--n-gen", "0"}, "--bench measures nothing with --n-prompt 0"},
        {{"inspect", s, "--tensor", "lm_head.weight", "--values", "5:3"}, "--values 5:3: expected a number of values"},
        {{"inspect", s, "--compare", s, "--filter", "zzz"}, "--filter zzz matches no tensor of either checkpoint"},
        {to + Words{"--stats", s + "/config.json"},
         s + "/config.json: names no schema: this is no file that --save-stats wrote", 3},
        {to + Words{"--tokens", s + "/config.json"},
         s + "/config.json: has no \"input_ids\"; expected {\"input_ids\": [[ID, ..], ..]}", 3},
        {{"verify", m, "--source", s, "--tokens", small.tokens, "--baseline", s + "/config.json"},
         s + "/config.json: names no schema; give a report that verify --data --json wrote",
         3},
    });
    CHECK_FALSE(path_exists(n));
    // More samples than rows: a warning, and the run goes on.
    const Ended more =
        run_program({"quantize", s, "--dry-run", "--no-estimate", "--calib", small.rows, "--samples", "99"});
    CHECK(more.exit_code == 0);
    CHECK(more.says("warning: "));
    const Ended plan = run_program({"quantize", s, "--dry-run", "--no-estimate"});
    CHECK(plan.exit_code == 0);
    CHECK(plan.says("warning: a run with scheme nvfp4 also needs calibration data"));
    // A hub's name without a network or a cache: what to download, and how a folder is named.
    setenv("HF_HUB_OFFLINE", "1", 1);
    setenv("HF_HUB_CACHE", scratch.path().c_str(), 1);
    const Ended named = run_program({"quantize", "org/model", "-o", n, "--scheme", "nvfp4a16"});
    unsetenv("HF_HUB_OFFLINE");
    unsetenv("HF_HUB_CACHE");
    CHECK(named.exit_code == 2);
    CHECK_MESSAGE(named.says("download it first: hf download org/model"), named.errors);
}

TEST_CASE("quiet runs keep errors, the verdict and doubts") {
    const SmallRun & small = small_run();
    const ScratchFolder scratch;
    const std::string broken = scratch / "broken", n = scratch / "new";
    copy_folder(small.made, broken);
    REQUIRE(remove_file(join_path(broken, "tokenizer.json")).ok());
    const Ended failed = run_program({"verify", broken, "--structure", "--quiet"});
    CHECK(failed.exit_code == 1);
    CHECK(failed.out == "");
    CHECK_MESSAGE(failed.says("error: " + broken + ": Failed: "), failed.errors);
    CHECK_MESSAGE(failed.says("tokenizer.json"), failed.errors);
    // One token does not reach all experts.
    const Words command = {"quantize", small.source, "-o"},
                few = {"--tokens", scratch.save("few.json", "{\"input_ids\": [[5]]}"), "--device", "cpu", "--quiet"};
    const Ended made = run_program(command + Words{n} + few);
    CHECK(made.exit_code == 0);
    CHECK_MESSAGE(made.errors.find("warning: ") == 0, made.errors);
    CHECK_MESSAGE(made.says(" saw no token of the calibration data"), made.errors);
    const Ended gated = run_program(command + Words{n + "2"} + few + Words{"--min-expert-tokens", "1"});
    CHECK(gated.exit_code == 3);
    CHECK_MESSAGE(gated.says("saw fewer than 1 token of the calibration data"), gated.errors);
    CHECK_FALSE(path_exists(n + "2"));
}

TEST_CASE("a run begins with devices, data and destination, and ends with what it made and the next command") {
    const SmallRun & small = small_run();
    const ScratchFolder scratch;
    const std::string n = scratch / "new";
    const Ended ended = run_program(small.quantize(n, "nvfp4"));
    REQUIRE_MESSAGE(ended.exit_code == 0, ended.errors);
    CHECK_MESSAGE(ended.errors.rfind("calibrating with 2 sequences, 10 tokens, on CPU (", 0) == 0, ended.errors);
    for (const std::string & part :
         Words{"quantizing ", " modules to nvfp4 by rtn on CPU (", " to write to " + n, "\nmodules ", "\nbytes ",
               "\ndata ", " 2 sequences, 10 tokens\n", "\nexperts ", "\ntime ", "\nmemory ",
               "\nwrote " + n + "\nnext: verify " + n + " --source " + small.source + "\n"})
        CHECK_MESSAGE(ended.says(part), part, ended.errors);
    CHECK_FALSE(ended.says("silu_mul")); // behind --profile
    const Ended profile = run_program(small.quantize(n + "2", "nvfp4") + Words{"--profile", "--quiet"});
    CHECK(profile.says("\nwhole run"));
    CHECK(profile.says("silu_mul"));
    // Its parts add up to the whole, but for their rounding.
    double whole = 0, sum = 0;
    const size_t from = profile.errors.find("\nwhole run"), to = profile.errors.find("\n\n", from);
    std::string table = profile.errors.substr(from + 1, to - from - 1);
    for (size_t at = 0; at < table.size();) {
        const size_t end = std::min(table.find('\n', at), table.size());
        const std::string row = table.substr(at, end - at);
        (at == 0 ? whole : sum) += std::stod(row.substr(row.rfind(' ')));
        at = end + 1;
    }
    CHECK(whole > 0);
    CHECK(std::abs(whole - sum) < 0.04);
}

TEST_CASE("the exit status tells the request, the input and the machine apart") {
    const SmallRun & small = small_run();
    const ScratchFolder scratch;
    const std::string n = scratch / "new", cut = scratch / "cut";
    copy_folder(small.source, cut);
    REQUIRE(truncate((cut + "/model.safetensors").c_str(), 100'000) == 0);
    const Words plain = {"--scheme", "nvfp4a16", "--quiet"};
    CHECK(run_program(Words{"quantize", small.source, "-o", small.made} + plain).exit_code == 2); // is there
    CHECK(run_program(Words{"quantize", scratch / "absent", "-o", n} + plain).exit_code == 2);
    CHECK(run_program(Words{"quantize", cut, "-o", n} + plain).exit_code == 3);
    CHECK(run_program(small.verify(small.made) + Words{"--tokens", small.tokens, "--ram", "1MB"}).exit_code == 4);
    Surroundings small_files;
    small_files.largest_file = 50'000;
    small_files.ignored = {SIGXFSZ};
    CHECK(run_program(Words{"quantize", small.source, "-o", n} + plain, small_files).exit_code == 4);
    CHECK(run_program({"verify", cut}).exit_code == 1); // what verify is for
    CHECK(run_program({"verify", small.made, "--source", cut, "--quiet"}).exit_code == 3);
}

TEST_CASE("--events: JSON lines of phases, layers, messages, findings and the end") {
    const SmallRun & small = small_run();
    const ScratchFolder scratch;
    const std::string n = scratch / "new", file = scratch / "events";
    const auto events_of = [&](const std::string & path) {
        std::vector<nlohmann::json> out;
        std::istringstream lines(read_file(path, 1 << 20).take());
        for (std::string line; std::getline(lines, line);) out.push_back(nlohmann::json::parse(line));
        return out;
    };
    const auto count = [](const std::vector<nlohmann::json> & events, const char * key, const nlohmann::json & value) {
        return std::count_if(events.begin(), events.end(),
                             [&](const nlohmann::json & event) { return event.contains(key) && event[key] == value; });
    };
    Ended ended = run_program(small.quantize(n, "nvfp4") + Words{"--events", file, "--quiet"});
    REQUIRE_MESSAGE(ended.exit_code == 0, ended.errors);
    std::vector<nlohmann::json> events = events_of(file);
    REQUIRE(events.size() > 3);
    CHECK(events.front()["event"] == "begin");
    CHECK(events.front()["destination"] == n);
    CHECK(events.back()["event"] == "end");
    CHECK(events.back()["exit_status"] == 0);
    CHECK(count(events, "phase", "calibration") >= 1);
    CHECK(count(events, "layers", 2) >= 1);
    const nlohmann::json & last = events[events.size() - 2];
    CHECK(last["phase"] == "weights");
    CHECK(last["complete"] == 1);
    CHECK(last["tensors"] == last["tensors_total"]);
    // Findings, with a name that is no UTF-8; a failure; a file that is there.
    const std::string broken = scratch / "br\xff\"oken", other = scratch / "other";
    copy_folder(small.made, broken);
    REQUIRE(remove_file(join_path(broken, "tokenizer.json")).ok());
    ended = run_program({"verify", broken, "--events", other});
    CHECK(ended.exit_code == 1);
    events = events_of(other);
    CHECK(events.front()["checkpoint"].get<std::string>().find("br\xef\xbf\xbd\"oken") != std::string::npos);
    CHECK(count(events, "event", "finding") >= 1);
    CHECK(count(events, "event", "verdict") == 1);
    CHECK(events.back()["exit_status"] == 1);
    ended = run_program({"verify", small.made, "--source", scratch / "absent", "--events", scratch / "third"});
    events = events_of(scratch / "third");
    CHECK(count(events, "event", "error") == 1);
    CHECK(events.back()["exit_status"] == 2);
    ended = run_program({"verify", small.made, "--events", other});
    CHECK(ended.exit_code == 2);
    CHECK(ended.says("exists; remove it or choose another name"));
    ended = run_program({"verify", small.made, "--structure", "--events", "/dev/full"});
    CHECK(ended.exit_code == 0);
    CHECK(ended.says("warning: --events: "));
    CHECK(ended.says("no more events are written"));
    // A reader that goes away: the status is that of the run all the same.
    Surroundings around;
    around.no_reader = true;
    ended = run_program({"verify", small.made, "--source", scratch / "absent", "--events", "-"}, around);
    CHECK(ended.exit_code == 2);
    CHECK(ended.says("warning: --events: Broken pipe; no more events are written"));
    // Standard output holds events alone.
    ended = run_program(small.verify(small.made) + Words{"--events", "-"});
    CHECK(ended.exit_code == 0);
    std::istringstream lines(ended.out);
    for (std::string line; std::getline(lines, line);) CHECK(nlohmann::json::parse(line).contains("event"));
}
