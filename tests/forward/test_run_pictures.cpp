// The program run with pictures: dumps and answers against what the Transformers implementation recorded.
#include "forward/forward_fixture.h"
#include "id_list.h"
#include "run_tool.h"
#include "scratch.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>

using namespace gnv;
using namespace gnv::test;
using nlohmann::json;

namespace {

ToolRun run(const std::string & arguments) { return run_tool("run", tiny_folder + " --device cpu " + arguments); }

std::string image(const std::string & name) { return " --image " GNV_TEST_DATA "/golden/images/" + name + " "; }

const GoldenFile & golden() {
    static const GoldenFile file("vision.safetensors");
    return file;
}

std::string tokens_file(const ScratchFolder & folder, const std::vector<std::vector<int32_t>> & sequences) {
    return " --tokens " + folder.save("tokens.json", json{{"input_ids", sequences}}.dump());
}

constexpr const char * question =
    " --prompt '<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What is in the "
    "picture?<|im_end|>\n<|im_start|>assistant\n' ";

} // namespace

TEST_CASE("run: dumps of ids with pictures against the recorded tensors") {
    for (const std::string name : {"wide.png", "rgba.png"}) {
        CAPTURE(name);
        const ScratchFolder folder;
        const std::vector<int32_t> ids = golden().ints(name + ".input_ids");
        const std::string file = folder / "dump.safetensors";
        const ToolRun done =
            run(tokens_file(folder, {ids}) + image(name) + "--tap block.1.norm1 --dump " + file + " 2>&1");
        REQUIRE_MESSAGE(done.exit_code == 0, done.out);
        const GoldenFile dump(file);
        const GoldenFile processor("pixel_levels.safetensors");
        CHECK(dump.ints("grid_thw") == processor.ints(name + ".grid_thw"));
        CHECK(dump.ints("position_ids") == golden().ints(name + ".position_ids"));
        CHECK(dump.tensor("position_ids").shape == std::vector<int64_t>{3, int64_t(ids.size())});
        const std::vector<float> pixels = dump.floats("pixel_values");
        const std::vector<uint8_t> levels = processor.bytes(name + ".levels");
        REQUIRE(pixels.size() == 2 * levels.size());
        CHECK(pixels[700] == (float(levels[700 - 256]) - 127.5f) / 127.5f); // the second channel, its first frame
        CHECK(relative_error(dump.floats("merger"), golden().floats(name + ".merger")) < 1e-5);
        for (const std::string block : {"block.0", "block.1", "block.2"})
            if (name == "wide.png")
                CHECK(relative_error(dump.floats(block), golden().floats(name + "." + block)) < 1e-5);
        CHECK(dump.floats("block.1.norm1").size() == dump.floats("block.1").size());
        const std::vector<float> logits = dump.floats("logits");
        CHECK(relative_error({logits.end() - 4096, logits.end()}, golden().floats(name + ".logits_last")) < 1e-5);
    }
}

TEST_CASE("run: answers about a picture, with its placeholder in the prompt, before it, and two pictures") {
    const json answers = json::parse(read_file(GNV_TEST_DATA "/golden/vision.json", 1 << 20).take());
    for (const std::string name : {"circle64.png", "texture.jpg"}) {
        const json & answer = answers[name];
        const ToolRun done = run(image(name) + question + "--greedy --json --quiet --n-predict " +
                                 std::to_string(answer["new_ids"].size()));
        REQUIRE(done.exit_code == 0);
        const json found = json::parse(done.out);
        CHECK(found["prompt_ids"] == golden().ints(name + ".input_ids"));
        CHECK(found["ids"] == answer["new_ids"]);
    }
    const std::string both = image("circle64.png") + image("square64.png") + "--n-predict 1 --json --quiet ";
    const json before = json::parse(run(both + "--prompt 'What?'").out);
    const json after = json::parse(run(both + "--prompt '<|vision_start|><|image_pad|><|vision_end|><|vision_start|>"
                                              "<|image_pad|><|vision_end|>What?'")
                                       .out);
    CHECK(before == after);
    CHECK(before["prompt_ids"].size() > 2 * 6);
}

TEST_CASE("run: pictures in a conversation") {
    const json answers = json::parse(read_file(GNV_TEST_DATA "/golden/vision.json", 1 << 20).take());
    const auto answer_about = [&](const std::string & name) {
        const std::string text = answers[name]["text"];
        return text.substr(0, text.find("<|im_end|>"));
    };
    const std::string golden_folder = GNV_TEST_DATA "/golden/images/", ask = "What is in the picture?\n";
    const auto chat = [&](const std::string & lines, const std::string & arguments) {
        const ScratchFolder folder;
        return run("--chat --greedy --quiet --n-predict 16 " + arguments + " < " + folder.save("lines", lines) +
                   " 2>&1");
    };
    const std::string first = answer_about("circle64.png");
    const ToolRun by_line = chat("/image " + golden_folder + "circle64.png\n" + ask, "");
    CHECK(by_line.exit_code == 0);
    CHECK(by_line.out == first + "\n");
    CHECK(chat(ask, image("circle64.png")).out == by_line.out);
    // A file that is none is said, and the conversation goes on; the second turn has a picture of its own.
    const ToolRun two = chat("/image /nowhere.png\n/image " + golden_folder + "circle64.png\n" + ask + "/image " +
                                 golden_folder + "square64.png\n" + ask,
                             "");
    CHECK(two.exit_code == 0);
    CHECK(two.out.find("/nowhere.png") != std::string::npos);
    // The same conversation as a prompt.
    const std::string turn = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What is in the picture?"
                             "<|im_end|>\n<|im_start|>assistant\n";
    const ToolRun whole =
        run(image("circle64.png") + image("square64.png") + "--greedy --quiet --n-predict 16 --prompt '" + turn +
            first + "<|im_end|>\n" + turn + "'");
    const size_t at = two.out.find(first + "\n");
    REQUIRE_MESSAGE(at != std::string::npos, two.out);
    CHECK(two.out.substr(at) == first + "\n" + whole.out);
}

TEST_CASE("run: pictures that cannot be looked at end with 2, or 3 for a file that is none, and say why") {
    const ScratchFolder folder;
    const auto refused = [&](const std::string & arguments, const std::string & why, int code = 2) {
        const ToolRun done = run(arguments + " --n-predict 1 2>&1");
        CHECK(done.exit_code == code);
        CHECK_MESSAGE(done.out.find(why) != std::string::npos, done.out);
    };
    const std::vector<int32_t> ids = golden().ints("circle64.png.input_ids");
    refused(" --image /nowhere.png --prompt a", "/nowhere.png");
    refused(" --image " + folder.save("a.png", "no picture") + " --prompt a", "a.png", 3);
    refused(tokens_file(folder, {ids}) + image("wide.png"), "needs 8 placeholders a frame, there are 4");
    refused(tokens_file(folder, {ids}) + image("circle64.png") + image("circle64.png"), "placeholders for 1");
    refused(tokens_file(folder, {{1, 2, 3}}) + image("circle64.png"), "placeholders for 0");
    refused(tokens_file(folder, {ids, ids}) + image("circle64.png"), "it must have one");
    refused(image("circle64.png") + "--prompt '<|image_pad|> and <|image_pad|>'", "more placeholders than the 1");
}
