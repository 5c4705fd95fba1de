// The program run, as a shell sees it: what it dumps and writes against what the Transformers implementation recorded.
#include "forward/forward_fixture.h"
#include "run_tool.h"
#include "scratch.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;
using nlohmann::json;

namespace {

// On the CPU, whose FP32 is what was recorded. Standard output alone; standard error where a test asks for it.
ToolRun run(const std::string & arguments) { return run_tool("run", "--device cpu " + arguments); }

std::string tokens_file(const ScratchFolder & folder, const std::vector<std::vector<int32_t>> & sequences) {
    return folder.save("tokens.json", json{{"input_ids", sequences}}.dump());
}

json greedy_texts() { return json::parse(read_file(GNV_TEST_DATA "/golden/greedy.json", 1 << 20).take()); }

std::string shell_quote(const std::string & text) { // the recorded prompts hold no quotes of this kind
    return "'" + text + "'";
}

} // namespace

TEST_CASE("greedy continuation of recorded prompts, token for token") {
    for (const json & text : greedy_texts()) {
        const std::string prompt = text["prompt"];
        const size_t count = text["new_ids"].size();
        const std::string common =
            tiny_folder + " --quiet --greedy --prompt " + shell_quote(prompt) + " --n-predict " + std::to_string(count);
        const ToolRun machine = run(common + " --json");
        CHECK(machine.exit_code == 0);
        const json found = json::parse(machine.out);
        CHECK(found["prompt_ids"] == text["prompt_ids"]);
        CHECK(found["ids"] == text["new_ids"]);
        CHECK(found["text"] == text["text"]);
        const ToolRun people = run(common + " --threads 1");
        std::string shown = text["text"];
        const std::string end = "<|im_end|>"; // a stop token is not shown
        if (ends_with(shown, end)) shown.resize(shown.size() - end.size());
        CHECK(people.out == shown + "\n");
    }
}

TEST_CASE("a conversation goes through the chat template, turn by turn") {
    const ScratchFolder folder;
    const auto answer_to = [&](json messages) { // to the ids of the whole conversation, from a fresh start
        const std::string file =
            folder.save("chat.json", json{{"messages", messages}, {"add_generation_prompt", true}}.dump());
        const ToolRun ids = run_tool("tokenize", tiny_folder + " --chat " + file);
        const ToolRun answer = run(tiny_folder + " --quiet --greedy --n-predict 6 --tokens " +
                                   tokens_file(folder, {json::parse(ids.out)["ids"].get<std::vector<int32_t>>()}));
        return answer.out.substr(0, answer.out.size() - 1);
    };
    json messages = {{{"role", "system"}, {"content", "Add."}}, {{"role", "user"}, {"content", "1 + 1"}}};
    const std::string first = answer_to(messages);
    messages.push_back({{"role", "assistant"}, {"content", first}});
    messages.push_back({{"role", "user"}, {"content", "and more"}});
    const std::string second = answer_to(messages);
    const ToolRun chat =
        run_tool("run", "--device cpu " + tiny_folder + " --chat --system Add. --quiet --greedy --n-predict 6",
                 "printf '1 + 1\\n\\nand more\\n' | ");
    CHECK(chat.exit_code == 0);
    CHECK(chat.out == first + "\n" + second + "\n");
    CHECK(run("--chat " + tiny_folder + " --json 2>&1").out.find("--chat goes without") != std::string::npos);
    CHECK(run("--system x --prompt y " + tiny_folder + " 2>&1").exit_code == 2);
}

TEST_CASE("dumps against recorded activations, several sequences") {
    const GoldenFile golden("text.safetensors");
    const std::vector<std::string> texts = {"text1", "text63", "text70"};
    const ScratchFolder folder;
    std::vector<std::vector<int32_t>> sequences;
    for (const std::string & text : texts) sequences.push_back(golden.ints(text + ".input_ids"));
    std::string taps;
    for (const char * const name : {"embed", "norm", "layer.0.linear_attn.norm", "layer.3.self_attn.q_norm",
                                    "layer.0.mlp.gate.2", "layer.3.mlp.gate.1", "layer.7"})
        taps += std::string(" --tap ") + name;
    const ToolRun done = run(tiny_folder + " --tokens " + tokens_file(folder, sequences) + " --dump " +
                             folder / "dump.safetensors" + taps + " 2>&1");
    REQUIRE_MESSAGE(done.exit_code == 0, done.out);
    CHECK(done.out.find("0 modules in NVFP4") != std::string::npos);
    CHECK(!path_exists(folder / "dump.safetensors.partial"));
    const GoldenFile dump(folder / "dump.safetensors");
    CHECK(dump.tensors().size() == 3 * (1 + 8 + 6));
    int compared = 0;
    for (const HeaderTensor & tensor : dump.tensors()) {
        CAPTURE(tensor.name);
        const std::string recorded = texts[size_t(tensor.name[0] - '0')] + tensor.name.substr(1);
        for (const HeaderTensor & other : golden.tensors()) {
            if (other.name != recorded) continue;
            CHECK(tensor.shape == other.shape);
            CHECK(tensor.dtype == other.dtype);
            if (other.dtype == DType::i32) {
                CHECK(dump.ints(tensor.name) == golden.ints(recorded));
            } else {
                CHECK(relative_error(dump.floats(tensor.name), golden.floats(recorded)) < 1e-5);
            }
            compared++;
        }
    }
    CHECK(compared == 3 + 3 + 15);
}

TEST_CASE("a dump of one sequence has plain names, and long ones come in pieces of the same numbers") {
    const GoldenFile golden("text.safetensors");
    const ScratchFolder folder;
    const std::string arguments = tiny_folder + " --quiet --tokens " +
                                  tokens_file(folder, {golden.ints("text700.input_ids")}) + " --dump " +
                                  folder / "dump.safetensors";
    REQUIRE(run(arguments).exit_code == 0);
    const GoldenFile dump(folder / "dump.safetensors");
    CHECK(dump.tensors().size() == 9);
    const std::vector<float> logits = dump.floats("logits");
    REQUIRE(logits.size() == 700 * 4096);
    const std::vector<float> last(logits.end() - 4096, logits.end());
    CHECK(relative_error(last, golden.floats("text700.last_logits")) < 1e-5);
    const std::vector<int32_t> argmax = golden.ints("text700.argmax");
    int same = 0;
    for (size_t t = 0; t < 700; t++) {
        const float * const row = logits.data() + t * 4096;
        same += int32_t(std::max_element(row, row + 4096) - row) == argmax[t];
    }
    CHECK(same == 700);
    // Other keys do not matter.
    const std::string more =
        folder.save("more.json", R"({"a": [[1], {"input_ids": [2]}], "input_ids": [[3, 4]], "b": 5})");
    CHECK(json::parse(run(tiny_folder + " --quiet --json --n-predict 1 --tokens " + more).out)["prompt_ids"] ==
          json{3, 4});
    // The same bits as in one piece, where the pieces leave a single position over, too.
    const auto model = open_model(tiny_folder);
    const auto threads = ThreadPool::create(2).take();
    const auto device = open_cpu(*threads);
    TextSequence sequence;
    sequence.ids = golden.ints("text700.input_ids");
    sequence.ids.resize(513);
    REQUIRE(run(tiny_folder + " --quiet --tokens " + tokens_file(folder, {sequence.ids}) + " --dump " +
                folder / "dump513.safetensors")
                .exit_code == 0);
    const auto session = TextSession::create(model->variant(Precision::f32), *device, *threads, {1, 513}).take();
    CHECK(GoldenFile(folder / "dump513.safetensors").floats("logits") == session->run(sequence, {true, {}}).take());
    // Nothing is replaced.
    const ToolRun again = run(arguments + " 2>&1"); // the tokens are others by now; the file is what counts
    CHECK(again.exit_code == 2);
    CHECK(again.out.find("exists; remove it or choose another name") != std::string::npos);
}

TEST_CASE("draws: the same seed the same text; sampling is the model's own default") {
    const std::string common = tiny_folder + " --quiet --prompt 'The function' --n-predict 24 ";
    const std::string first = run(common).out;
    CHECK(run(common + "--seed 42 --temp 1 --top-k 20 --top-p 0.95 --threads 3").out == first);
    CHECK(run(common + "--seed 43").out != first);
    CHECK(run(common + "--temp 0").out == run(common + "--greedy").out);
    CHECK(run(common + "--top-k 1").out == run(common + "--greedy").out);
    CHECK(run(common + "--greedy").out != first);
}

TEST_CASE("a stop text ends what is written, penalties and biases change it") {
    const json text = greedy_texts()[2];
    const std::string whole = text["text"], stop = "value is the number";
    const std::string common = tiny_folder + " --quiet --greedy --prompt " + shell_quote(text["prompt"]) +
                               " --n-predict " + std::to_string(text["new_ids"].size()) + " ";
    CHECK(run(common + "--stop never --stop " + shell_quote(stop)).out == whole.substr(0, whole.find(stop)) + "\n");
    CHECK(json::parse(run(common + "--json --stop " + shell_quote(stop)).out)["text"] ==
          whole.substr(0, whole.find(stop)));
    const int32_t first = text["new_ids"][0];
    const auto ids = [&](const std::string & options) {
        return json::parse(run(common + "--json " + options).out)["ids"].get<std::vector<int32_t>>();
    };
    CHECK(ids("--logit-bias " + std::to_string(first) + "=-100")[0] != first);
    CHECK(ids("--logit-bias 4000=100")[0] == 4000);
    CHECK(ids("--frequency-penalty 2") != text["new_ids"].get<std::vector<int32_t>>());
}

TEST_CASE("an NVFP4 result runs: close to its source, and not equal") {
    const ScratchFolder folder;
    REQUIRE(run_tool("quantize", tiny_folder + " -o " + folder / "nvfp4" + " --scheme nvfp4a16 --quiet").exit_code ==
            0);
    const GoldenFile golden("text.safetensors");
    const ToolRun done = run(folder / "nvfp4" + " --tokens " + tokens_file(folder, {golden.ints("text70.input_ids")}) +
                             " --dump " + folder / "dump.safetensors" + " --n-predict 8 2>&1");
    REQUIRE_MESSAGE(done.exit_code == 0, done.out);
    CHECK(done.out.find("800 modules in NVFP4\n") != std::string::npos); // no input scales: weights only
    const GoldenFile dump(folder / "dump.safetensors");
    const std::vector<float> logits = dump.floats("logits"), expected = golden.floats("text70.logits");
    REQUIRE(logits.size() == expected.size());
    double error = 0, squares = 0;
    for (size_t i = 0; i < logits.size(); i++) {
        error += std::pow(double(logits[i]) - double(expected[i]), 2);
        squares += std::pow(double(expected[i]), 2);
    }
    const double relative = std::sqrt(error / squares); // about 0.1: what 4 bits cost
    CAPTURE(relative);
    CHECK(relative < 0.2);
    CHECK(relative > 0.01);
}

TEST_CASE("weights that do not fit the budget: the same text") {
    const std::string common = tiny_folder + " --prompt 'The function' --n-predict 12 --greedy ";
    const ToolRun poor = run(common + "--ram 8MiB 2>&1 >/dev/null");
    CHECK(poor.out.find("weights do not fit") != std::string::npos);
    CHECK(run(common + "--ram 8MiB 2>/dev/null").out == run(common + "2>/dev/null").out);
    const ToolRun refused = run(common + "--ram 1KiB 2>&1");
    CHECK(refused.exit_code == 4);
    CHECK(refused.out.find("a memory budget of") != std::string::npos);
}

TEST_CASE("what cannot be run ends with 2 and says why") {
    const ScratchFolder folder;
    const auto refused = [&](const std::string & arguments, const std::string & message) {
        const ToolRun result = run(arguments + " 2>&1");
        CAPTURE(arguments);
        CHECK(result.exit_code == 2);
        CHECK_MESSAGE(result.out.find(message) != std::string::npos, result.out);
    };
    refused("", "MODEL is needed");
    refused(tiny_folder, "--prompt TEXT, --tokens FILE, --chat or --bench is needed");
    refused(tiny_folder + " --prompt ''", "--prompt is empty");
    refused(tiny_folder + " --bench --prompt a", "goes without --bench");
    refused(tiny_folder + " --prompt a --n-depth 1", "is for --bench");
    refused(tiny_folder + " --bench --n-depth 1,,2", "expected whole numbers with commas");
    refused(tiny_folder + " --prompt a --tokens b", "exclude each other");
    refused(tiny_folder + " --prompt a --tap norm", "--tap needs --dump");
    refused(tiny_folder + " --prompt a --greedy --temp 1", "--greedy draws nothing");
    refused(tiny_folder + " --prompt a --top-p 0", "--top-p 0: expected a number above 0 and at most 1");
    refused(tiny_folder + " --prompt a --temp=-1", "--temp -1: expected a number not below 0");
    refused(tiny_folder + " --prompt a --precision int8", "--precision");
    refused(tiny_folder + " --prompt a --n-predict 9999999", "positions exceeds the model's");
    refused(folder / "none" + " --prompt a", "none");
    refused(folder.path() + " --tokens " + tokens_file(folder, {{1}}) + " --dump " + folder / "d", "no config.json");
    refused(tiny_folder + " --prompt a --dump " + folder / "no/such/folder", "no/such/folder");
    refused(tiny_folder + " --prompt a --dump " + folder / "d" + " --tap layer.3.linear_attn", "there are layer.3.");
    refused(tiny_folder + " --prompt a --dump " + folder / "d" + " --tap layer.9", "no output");
    const auto refused_tokens = [&](const std::string & text, const std::string & message) {
        refused(tiny_folder + " --tokens " + folder.save("tokens.json", text), message);
    };
    refused_tokens("{", "the file is not JSON from byte ");
    refused_tokens("[1]", "expected {\"input_ids\"");
    refused_tokens("5", "expected {\"input_ids\"");
    refused_tokens(R"({"ids": [[1]]})", "expected {\"input_ids\"");
    refused_tokens(R"({"input_ids": 7})", "expected {\"input_ids\"");
    refused_tokens(R"({"input_ids": []})", "with at least one sequence");
    refused_tokens(R"({"input_ids": [[1]]} x)", "the file is not JSON from byte ");
    refused_tokens(R"({"input_ids": [[1, [2]]]})", "input_ids[0] has an element that is not an id: [..]");
    refused_tokens(R"({"input_ids": [[1], {}]})", "input_ids[1] is no list");
    refused_tokens(R"({"input_ids": [[1, 99999999999]]})", "not an id: 99999999999");
    refused_tokens(R"({"input_ids": [1]})", "input_ids[0] is no list");
    refused_tokens(R"({"input_ids": [[1], []]})", "input_ids[1] is no list");
    refused_tokens(R"({"input_ids": [[1, 2.5]]})", "not an id: 2.5");
    refused_tokens(R"({"input_ids": [[1, 4096]]})", "ids[1] is 4096, the model's vocabulary has 4096");
    refused_tokens(R"({"input_ids": [[-1]]})", "ids[0] is -1");
    refused(tiny_folder + " --tokens " + folder / "absent", "cannot be read");
    CHECK(!path_exists(folder / "d"));
    CHECK(!path_exists(folder / "d.partial"));
    // A run that fails half-way leaves nothing that looks finished.
    const std::string ids = folder.save("tokens.json", R"({"input_ids": [[1, 2], [3, 5000]]})");
    refused(tiny_folder + " --tokens " + ids + " --dump " + folder / "d", "5000");
    CHECK(!path_exists(folder / "d"));
    CHECK(!path_exists(folder / "d.partial"));
}

TEST_CASE("usage of run") {
    CHECK(run("--help").exit_code == 0);
    CHECK(run("--version").out.find("run (ggml-nvfp4)") == 0);
    const auto refused_device = [](const std::string & name, const std::string & message) {
        const ToolRun found = run_tool("run", tiny_folder + " --prompt a --device " + name + " 2>&1");
        CAPTURE(found.out);
        CHECK(found.exit_code == 2);
        CHECK(found.out.find(message) != std::string::npos);
    };
    const ToolRun in_fp8 = run_tool("run", tiny_folder + " --prompt a --n-predict 3 --kv-cache-dtype fp8 2>&1");
    CHECK(in_fp8.exit_code == 0);
    CHECK(in_fp8.out.find("caches of 4 positions take ") != std::string::npos);
    CHECK(run("--prompt a --kv-cache-dtype fp4").exit_code == 2);
    refused_device("gpu", "--device gpu is not a device: use auto, cpu, cuda or cuda:N");
    refused_device("cuda:1000", "--device cuda:1000: this machine has ");
    refused_device("cuda:99999999999999999999", "--device cuda:99999999999999999999: this machine has ");
    for (const char * name : {"cuda:", "cuda:-1", "cuda:+0", "cuda:0x", "CPU"})
        refused_device(name, "use auto, cpu, cuda or cuda:N");
}
