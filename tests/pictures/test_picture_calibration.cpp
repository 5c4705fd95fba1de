// Calibration with text alone and with pictures: what the quantized model still sees, and how far it is from its source.
#include "api/capi_fixture.h"
#include "formats/file.h"
#include "pictures/drawn_picture.h"
#include "run_tool.h"

#include <cstdio>
#include <nlohmann/json.hpp>

using namespace gnv::test;
using nlohmann::json;

namespace {

json record_of(const DrawnPicture & picture) {
    const json question = {{{"type", "image"}, {"image", "pictures/" + picture.name()}},
                           {{"type", "text"}, {"text", "What is in the picture?"}}};
    return {{"messages",
             {{{"role", "user"}, {"content", question}}, {{"role", "assistant"}, {"content", picture.answer()}}}}};
}

// The drawn pictures, every other one to calibrate with and the others to ask about.
struct PictureData {
    ScratchFolder folder;
    std::vector<DrawnPicture> asked;
    std::string calibration, questions; // files
    std::string text = GNV_TEST_DATA "/calibration.jsonl.zst";

    PictureData() {
        REQUIRE(gnv::make_directory(folder / "pictures").ok());
        std::string lines[2];
        const std::vector<DrawnPicture> all = all_drawn_pictures();
        for (size_t i = 0; i < all.size(); i++) {
            folder.save("pictures/" + all[i].name(), all[i].png());
            const bool is_asked = (i / 4 + i) % 2 == 1; // every value of every property on both sides
            if (is_asked) asked.push_back(all[i]);
            lines[is_asked] += record_of(all[i]).dump() + "\n";
        }
        calibration = folder.save("calibration.jsonl", lines[0]);
        questions = folder.save("questions.jsonl", lines[1]);
    }
    std::string quantize(const std::string & name, const std::string & arguments) const {
        const std::string result = folder / name;
        const ToolRun run = run_tool("quantize", tiny_folder + " -o " + result +
                                                     " --scheme nvfp4 --device cpu --quiet " + arguments + " 2>&1");
        REQUIRE_MESSAGE(run.exit_code == 0, run.out);
        return result;
    }
    json line_of(const std::string & checkpoint) const {
        const ToolRun run = run_tool("verify", checkpoint + " --source " + tiny_folder + " --data " + questions +
                                                   " --device cpu --lines w4a4 --json - 2>/dev/null");
        REQUIRE_MESSAGE(run.exit_code == 0, run.out);
        return json::parse(run.out)["output"]["lines"]["w4a4"];
    }
};

struct Shares {
    size_t colours = 0, shapes = 0, places = 0, pictures = 0;
    double of(size_t right) const { return double(right) / double(pictures); }
};

// What a model says about the pictures, in greedy answers.
Shares ask(const std::string & folder, const std::vector<DrawnPicture> & pictures) {
    const Handle<gnv_engine_t> engine = make_engine();
    gnv_tokenizer_t * tokenizer_handle = nullptr;
    REQUIRE(gnv_tokenizer_load(engine.get(), folder.c_str(), &tokenizer_handle) == GNV_OK);
    const Handle<gnv_tokenizer_t> tokenizer(tokenizer_handle);
    gnv_model_t * model = nullptr;
    REQUIRE(gnv_model_open(engine.get(), folder.c_str(), nullptr, &model) == GNV_OK);
    const std::string prompt = "<|im_start|>user\n<|vision_start|><|image_pad|><|vision_end|>What is in the picture?"
                               "<|im_end|>\n<|im_start|>assistant\n";
    Shares shares;
    for (const DrawnPicture & picture : pictures) {
        const std::string png = picture.png();
        gnv_picture_t * given = nullptr;
        REQUIRE(gnv_picture_decode(engine.get(), folder.c_str(), png.data(), png.size(), &given) == GNV_OK);
        gnv_text_t * text = nullptr;
        REQUIRE(gnv_picture_text(tokenizer.get(), prompt.data(), prompt.size(), &given, 1, &text) == GNV_OK);
        const Handle<gnv_text_t> expanded(text);
        std::vector<int32_t> ids(64);
        size_t count = 0;
        REQUIRE(gnv_tokenizer_encode(tokenizer.get(), gnv_text_data(text), gnv_text_size(text), 0, ids.data(),
                                     ids.size(), &count) == GNV_OK);
        std::vector<int32_t> answer;
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        options.max_tokens = 16;
        options.temperature = 0;
        options.tokenizer = tokenizer.get();
        options.pictures = &given;
        options.picture_count = 1;
        options.user = &answer;
        options.callback = [](void * user, const gnv_token * token) {
            static_cast<std::vector<int32_t> *>(user)->push_back(token->id);
            return 0;
        };
        REQUIRE(gnv_model_reset(model) == GNV_OK);
        REQUIRE(gnv_model_generate(model, ids.data(), count, &options, nullptr) == GNV_OK);
        gnv_picture_destroy(given);
        REQUIRE(gnv_tokenizer_decode(tokenizer.get(), answer.data(), answer.size(), 0, &text) == GNV_OK);
        const Handle<gnv_text_t> said(text);
        const std::string words(gnv_text_data(text), gnv_text_size(text));
        const auto says = [&](const std::string & part) { return words.find(part) != std::string::npos; };
        shares.pictures++;
        shares.colours += says(picture.colour);
        shares.shapes += says(picture.shape);
        shares.places += says(picture.row + " " + picture.column);
    }
    gnv_model_close(model);
    return shares;
}

void print_row(const char * name, const Shares & shares, const json & line) {
    printf("%-34s %6.1f %% %6.1f %% %6.1f %%", name, 100 * shares.of(shares.colours), 100 * shares.of(shares.shapes),
           100 * shares.of(shares.places));
    if (!line.is_null())
        printf("   %8.4f   %8.4f", line["text"]["kl"]["mean"].get<double>(),
               line["pictures"]["kl"]["mean"].get<double>());
    printf("\n");
}

} // namespace

TEST_CASE("W4A4 calibrated with pictures still answers colour, shape and place") {
    const PictureData data;
    const std::string text_only = data.quantize("text", "--calib " + data.text + " --samples 32 --seq-len 256");
    const std::string mixed = data.quantize("mixed", "--calib " + data.text + "=2 --calib " + data.calibration +
                                                         "=1 --samples 48 --seq-len 256");
    const json of_text = data.line_of(text_only), of_mixed = data.line_of(mixed);
    const Shares source = ask(tiny_folder, data.asked), before = ask(text_only, data.asked),
                 after = ask(mixed, data.asked);
    printf("%zu pictures that calibration did not see\n%-34s %8s %8s %8s   %8s   %8s\n", data.asked.size(), "",
           "colour", "shape", "place", "KL text", "pictures");
    print_row("source", source, {});
    print_row("W4A4, 32 texts", before, of_text);
    print_row("W4A4, 32 texts and 16 pictures", after, of_mixed);
    CHECK(source.of(source.colours) > 0.9);
    CHECK(source.of(source.places) > 0.9);
    CHECK(source.of(source.shapes) > 0.7);
    for (const auto part : {&Shares::colours, &Shares::shapes, &Shares::places})
        CHECK(after.*part + 2 >= source.*part); // two pictures of 48
    const double kl_text = of_text["pictures"]["kl"]["mean"], kl_mixed = of_mixed["pictures"]["kl"]["mean"];
    CHECK(kl_mixed < 0.02);
    CHECK(kl_mixed < kl_text / 10);
    CHECK(of_mixed["pictures"]["positions"] == 4 * data.asked.size());
    CHECK(of_mixed["text"]["positions"].get<uint64_t>() + 4 * data.asked.size() == of_mixed["all"]["positions"]);
    const ToolRun shown = run_tool("verify", mixed + " --source " + tiny_folder + " --data " + data.questions +
                                                 " --documents 4 --device cpu --lines w4a4 2>/dev/null");
    for (const char * const part : {"Positions of text (", "Positions of pictures (16)"})
        CHECK_MESSAGE(shown.out.find(part) != std::string::npos, shown.out);
}

TEST_CASE("calibration with pictures: the same bytes for any threads and budget, and a report of the pictures") {
    const PictureData data;
    const std::string sources =
        "--calib " + data.text + " --calib " + data.calibration + " --samples 12 --seq-len 128 ";
    const std::string expected = data.quantize("a", sources);
    size_t number = 0;
    for (const std::string how : {"--threads 1", "--threads 3 --ram 24MB", "--threads 2 --ram 20MB"}) {
        CAPTURE(how);
        const std::string found = data.quantize("b" + std::to_string(number++), sources + how);
        for (const gnv::DirectoryEntry & entry : gnv::list_directory(expected).take())
            CHECK_MESSAGE(gnv::read_file(expected + "/" + entry.name, 1 << 28).take() ==
                              gnv::read_file(found + "/" + entry.name, 1 << 28).take(),
                          entry.name);
    }
    const json report = json::parse(gnv::read_file(expected + "/quantization_report.json", 1 << 26).take());
    const json & pictures = report["calibration"]["data"][0]["pictures"];
    CHECK(pictures["images"] == 6);
    CHECK(pictures["tokens"] == 24);
    CHECK(pictures["most_tokens"] == 4);
    const ToolRun small = run_tool("quantize", tiny_folder + " -o " + data.folder / "small" + " --device cpu --quiet " +
                                                   sources + "--ram 10MB 2>&1");
    CHECK(small.exit_code == 4);
    CHECK_MESSAGE(small.out.find("the smallest sufficient one is") != std::string::npos, small.out);
    const ToolRun plan =
        run_tool("quantize", tiny_folder + " --dry-run --no-estimate --json - --device cpu --quiet " + sources);
    REQUIRE(plan.exit_code == 0);
    // The rows of 6 x 4 tokens in F32, and the pixels that the data set holds.
    CHECK(json::parse(plan.out)["calibration"]["host"]["pictures"] == 24 * 256 * 4 + 6 * 64 * 64 * 3);
}
