// --calib self: text that the model writes, its tokens file, and runs that repeat it.
#include "codec/nvfp4.h"
#include "programs/program_fixture.h"

#include <algorithm>
#include <doctest/doctest.h>
#include <ggml-nvfp4.h>
#include <nlohmann/json.hpp>
#include <random>

using namespace gnv;
using namespace gnv::test;
using Json = nlohmann::ordered_json;

TEST_CASE("self-written text: a tokens file that repeats the run, the same for any threads, another for another seed") {
    const SmallRun & small = small_run();
    const auto run = [&](const std::string & name, const Words & more) {
        const Words command = {"quantize", small.source, "-o",  small.scratch / name, "--scheme",
                               "nvfp4",    "--device",   "cpu", "--seq-len",          "24"};
        return run_program(command + more);
    };
    const NewPath one(small.scratch / "self1"), two(small.scratch / "self2"), other(small.scratch / "self3"),
        again(small.scratch / "self4"), mixed(small.scratch / "self5");
    std::vector<std::unique_ptr<NewPath>> files;
    for (const char * name : {"self1", "self2", "self3", "self5"})
        files.push_back(std::make_unique<NewPath>(small.scratch / (name + std::string(".self-tokens.json"))));
    const Ended first = run("self1", {"--calib", "self:5", "--threads", "1"});
    REQUIRE_MESSAGE(first.exit_code == 0, first.errors);
    CHECK(first.says("--tokens repeats this run"));
    const std::string tokens = read_file(*files[0], 1 << 20).take();
    const Json json = Json::parse(tokens);
    CHECK(json["input_ids"].size() == 5);
    for (const Json & ids : json["input_ids"]) CHECK(ids.size() == 24);
    CHECK(json["self_text"]["seed"] == 42);
    CHECK(json["input_ids"][0] != json["input_ids"][2]);
    REQUIRE(run("self2", {"--calib", "self:5", "--threads", "3"}).exit_code == 0);
    CHECK(read_file(*files[1], 1 << 20).value() == tokens);
    REQUIRE(run("self3", {"--calib", "self:5", "--seed", "7"}).exit_code == 0);
    CHECK(Json::parse(read_file(*files[2], 1 << 20).value())["input_ids"] != json["input_ids"]);
    REQUIRE(run_program(
                {"quantize", small.source, "-o", again, "--scheme", "nvfp4", "--device", "cpu", "--tokens", *files[0]})
                .exit_code == 0);
    CHECK((load_tensors(one)[0].data == load_tensors(again)[0].data));
    const auto weights = [](const std::string & folder) {
        return read_file(join_path(folder, "model.safetensors"), 1 << 28).take();
    };
    CHECK(weights(one) == weights(again));
    // Written by the checkpoint that came out: its text, for the same source.
    const NewPath by_copy(small.scratch / "self6"), its_file(small.scratch / "self6.self-tokens.json");
    const Ended copied = run("self6", {"--calib", "self:5", "--writer", one});
    REQUIRE_MESSAGE(copied.exit_code == 0, copied.errors);
    const Json its_text = Json::parse(read_file(its_file, 1 << 20).value());
    CHECK(its_text["self_text"]["model"] == std::string(one));
    CHECK(its_text["input_ids"].size() == 5);
    CHECK(its_text["input_ids"] != json["input_ids"]);
    // Before other data, of which rows are chosen as without it.
    const Ended with_data = run("self5", {"--calib", "self:2", "--calib", small.rows, "--samples", "3"});
    REQUIRE_MESSAGE(with_data.exit_code == 0, with_data.errors);
    CHECK(Json::parse(read_file(*files[3], 1 << 20).value())["input_ids"].size() == 5);
}

TEST_CASE("self-written text: requests that make no sense, and files that are there") {
    const SmallRun & small = small_run();
    const NewPath out(small.scratch / "selfbad"), file(small.scratch / "selfbad.self-tokens.json");
    const Words command = {"quantize", small.source, "-o", out, "--scheme", "nvfp4", "--device", "cpu"};
    for (const char * bad : {"self:", "self:0", "self:x", "self:-1", "self:99999999"})
        CHECK(run_program(command + Words{"--calib", bad}).says("after self:"));
    CHECK(run_program(command + Words{"--calib", "self:2", "--calib", "self:3"}).says("wanted twice"));
    CHECK(run_program(command + Words{"--calib", "self:2", "--tokens", small.tokens}).says("leave --tokens out"));
    CHECK(run_program(command + Words{"--calib", "self:2", "--dry-run"}).says("writes no text"));
    CHECK(run_program(command + Words{"--calib", "self:2", "--seq-len", "8"}).says("16 tokens or more"));
    CHECK(run_program(command + Words{"--calib", small.rows, "--writer", small.source})
              .says("add that, or leave it out"));
    const ScratchFolder stranger;
    stranger.save("tokenizer.json", "{}");
    const Ended strange = run_program(command + Words{"--calib", "self:2", "--writer", stranger.path()});
    CHECK(strange.exit_code == 2);
    CHECK(strange.says("its tokenizer.json is not that of"));
    small.scratch.save("selfbad.self-tokens.json", "mine");
    const Ended ended = run_program(command + Words{"--calib", "self:2"});
    CHECK(ended.exit_code == 2);
    CHECK(ended.says("selfbad.self-tokens.json exists"));
    CHECK_FALSE(path_exists(out));
}

TEST_CASE(
    "text that falls into repetition is written again and told of; where all of it does, the run says what to do") {
    const SmallRun & small = small_run();
    const ScratchFolder scratch;
    // A model whose next token does not depend on the text: what it favours, it goes on writing.
    const auto model_with = [&](const std::string & name, float factor) {
        const std::string folder = scratch / name;
        REQUIRE(make_directory(folder).ok());
        std::vector<MemoryTensor> tensors = load_tensors(small.source);
        for (MemoryTensor & tensor : tensors) {
            auto * const values = reinterpret_cast<uint16_t *>(tensor.data.data());
            if (ends_with(tensor.name, "embed_tokens.weight"))
                for (int64_t row = 1; row < tensor.shape[0]; row++)
                    std::copy_n(values, tensor.shape[1], values + row * tensor.shape[1]);
            if (tensor.name == "lm_head.weight")
                for (size_t i = 0; i < tensor.data.size() / 2; i++)
                    values[i] = nvfp4::bf16_from_float(nvfp4::bf16_to_float(values[i]) * factor);
        }
        save_tensors(folder, tensors, 1);
        for (const char * file : {"config.json", "tokenizer.json", "tokenizer_config.json"})
            REQUIRE(copy_file_synced(join_path(small.source, file), join_path(folder, file)).ok());
        return folder;
    };
    const auto run = [&](const std::string & model, const std::string & name) {
        return run_program({"quantize", model, "-o", scratch / name, "--scheme", "nvfp4", "--device", "cpu",
                            "--threads", "2", "--calib", "self:12", "--seq-len", "48"});
    };
    const Ended all = run(model_with("all", 4096), "none");
    CHECK(all.exit_code != 0);
    CHECK_MESSAGE(all.says("every text that the model wrote falls into repetition: calibrate with data"), all.errors);
    CHECK_FALSE(path_exists(scratch / "none"));
    CHECK_FALSE(path_exists(scratch / "none.self-tokens.json"));

    // The favour grows until the first texts fall into repetition.
    for (float factor = 16; factor < 4096; factor *= 1.5f) {
        const std::string name = "made" + std::to_string(int(factor));
        const Ended some = run(model_with("some" + std::to_string(int(factor)), factor), name);
        REQUIRE_MESSAGE(some.exit_code == 0, some.errors);
        const Json told = Json::parse(read_file(scratch / (name + ".self-tokens.json"), 1 << 20).value());
        for (const Json & ids : told["input_ids"]) {
            const auto list = ids.get<std::vector<int32_t>>();
            CHECK(gnv_tokens_repeat(list.data(), list.size()) == 0);
        }
        const int replaced = told["self_text"]["replaced"], left_out = told["self_text"]["left_out"];
        if (replaced + left_out == 0) continue;
        CHECK(replaced > 0);
        CHECK(told["input_ids"].size() == size_t(12 - left_out));
        CHECK_MESSAGE(some.says(std::to_string(replaced + left_out) + " fell into repetition, " +
                                std::to_string(replaced) + " of them were replaced"),
                      some.errors);
        return;
    }
    FAIL("no text fell into repetition");
}

TEST_CASE("the rule of repetition is the canary's, through the C interface") {
    std::mt19937 random(1);
    std::vector<int32_t> text(512);
    for (int32_t & id : text) id = int32_t(random() % 300);
    const auto repeats = [](const std::vector<int32_t> & ids) { return gnv_tokens_repeat(ids.data(), ids.size()); };
    CHECK(repeats(text) == 0);
    for (const size_t period : {1, 2, 7, 20, 50}) {
        std::vector<int32_t> loop = text;
        for (size_t i = 200 + period; i < 400; i++) loop[i] = loop[i - period];
        CHECK(repeats(loop) == 1);
    }
    std::vector<int32_t> table = text; // lines that begin alike
    for (size_t i = 0; i + 4 < table.size(); i += 10) std::fill_n(table.begin() + ptrdiff_t(i), 5, 3);
    CHECK(repeats(table) == 0);
    CHECK(gnv_tokens_repeat(nullptr, 0) == 0);
}
