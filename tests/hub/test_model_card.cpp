// The card of a result: metadata of the source's card, never its text; hashes as sha256sum gives them; figures of verify.
#include "formats/file.h"
#include "formats/file_list.h"
#include "hub/card/front_matter.h"
#include "hub/card/model_card.h"
#include "run_tool.h"
#include "scratch.h"

#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

const char * const source_card = "---\n"
                                 "license: other\n"
                                 "license_name: \"a: b\"\n"
                                 "license_link: https://x.y/LICENSE\n"
                                 "language: [en, de]\n"
                                 "pipeline_tag: text-generation\n"
                                 "base_model: Other/Base\n"
                                 "tags:\n- gguf\n- mine\n- nvfp4\n"
                                 "model-index:\n- name: x\n  results: []\n"
                                 "---\n"
                                 "# The best model ever\n";

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

struct Place {
    Place() {
        for (const char * folder :
             {"made", "cache", "cache/models--some-org--A.B", "cache/models--some-org--A.B/snapshots"})
            REQUIRE(make_directory(scratch / folder).ok());
        source = scratch / "cache/models--some-org--A.B/snapshots/0123456789abcdef0123456789abcdef01234567";
        REQUIRE(make_directory(source).ok());
        REQUIRE(write_file_synced(source + "/README.md", source_card).ok());
        scratch.save("made/config.json", R"({"quantization_config": {"ignore": ["lm_head", "a|b"]}})");
        scratch.save("made/x.json", "hello\n");
        // A checkpoint of no tensors: the size of its header, and the header.
        scratch.save("made/model.safetensors", std::string("\x02\0\0\0\0\0\0\0{}", 10));
        options.source = source;
    }
    std::string card() {
        const auto threads = ThreadPool::create(2).take();
        const Result<std::string> text = model_card_text(scratch / "made", options, *threads);
        REQUIRE_MESSAGE(text.ok(), text.status().message());
        return text.value();
    }
    const ScratchFolder scratch;
    std::string source;
    CardOptions options;
};

} // namespace

TEST_CASE("a card has the source's licence, languages and tags, and not its text") {
    Place place;
    place.options.command = "quantize some-org/A.B -o RESULT";
    const std::string card = place.card();
    const YamlNode data = parse_front_matter(card, "card").take();
    CHECK(texts_of(data.find("base_model")) == std::vector<std::string>{"some-org/A.B"});
    CHECK(text_at(data, "base_model_relation") == "quantized");
    CHECK(text_at(data, "license") == "other");
    CHECK(text_at(data, "license_name") == "a: b");
    CHECK(text_at(data, "license_link") == "https://x.y/LICENSE");
    CHECK(texts_of(data.find("language")) == std::vector<std::string>{"en", "de"});
    CHECK(texts_of(data.find("tags")) ==
          std::vector<std::string>{"nvfp4", "compressed-tensors", "vllm", "sglang", "mine"});
    CHECK_FALSE(data.find("model-index"));
    CHECK_FALSE(has(card, "best model ever"));
    CHECK(has(card, "# A.B-NVFP4\n"));
    CHECK(has(card, "some-org/A.B, commit 0123456789abcdef0123456789abcdef01234567"));
    CHECK(has(card, "vllm serve ORG/A.B-NVFP4"));
    CHECK_FALSE(has(card, "speculative"));
    CHECK(has(card, "`a\\|b`"));
    // printf 'hello\n' | sha256sum
    CHECK(has(card, "| x.json | 6 | `5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03` |"));
    // As verify finds them.
    const std::vector<ListedFile> listed = find_file_list(card);
    REQUIRE(listed.size() == 3);
    CHECK(listed[2].name == "x.json");
    CHECK(listed[2].size == 6);
    // Without a card of the source, and with a name of its own.
    place.options.source.clear();
    place.options.base_model = "me/mine", place.options.repository = "me/mine-fp4";
    const std::string other = place.card();
    CHECK(has(other, "base_model:\n- me/mine\n"));
    CHECK(has(other, "vllm serve me/mine-fp4"));
    CHECK_FALSE(has(other, "license"));
}

TEST_CASE("a hash that is known already stands for the file that it was made of, and for no other") {
    Place place;
    const std::string path = place.scratch / "made/x.json", hash_of_hello = "5891b5b522d5df086d0ff0b110fbd9d21bb4fc71";
    const auto row = [&](const std::string & hash) { return has(place.card(), "| x.json | 6 | `" + hash); };
    KnownHash & known = place.options.known["x.json"];
    known = {File::open_read(path).take().stamp().take(), std::string(64, 'a')};
    CHECK(row(known.sha256));
    for (const auto & change : std::initializer_list<std::function<void(FileStamp &)>>{
             [](FileStamp & stamp) { stamp.size++; }, [](FileStamp & stamp) { stamp.inode++; },
             [](FileStamp & stamp) { stamp.modified_ns++; }, [](FileStamp & stamp) { stamp.changed_ns++; },
             [](FileStamp & stamp) { stamp.device++; }}) {
        const FileStamp right = known.stamp;
        change(known.stamp);
        CHECK(row(hash_of_hello));
        known.stamp = right;
    }
    place.scratch.save("made/x.json", "hellx\n"); // another file of this name
    CHECK_FALSE(row(known.sha256));
}

TEST_CASE("figures of verify come into the card once, and replace earlier ones") {
    Place place;
    const auto threads = ThreadPool::create(1).take();
    const std::string made = place.scratch / "made";
    const auto report = [](const char * mean) {
        return std::string(
                   R"({"errors": 0, "output": {"positions": 1000, "windows": 4, "data_sha256": "ab", "precision": )"
                   R"("bf16", "device": "CPU", "lines": {"w4a4": {"all": {"kl": {"mean": )") +
               mean + R"(, "error": 0.01}, "kl_percentiles": {"99": 1.5}, "same_top": {"mean": 0.9, "error": 0.01}, )" +
               R"("perplexity_ratio": {"mean": 1.02, "error": null}}}}}})";
    };
    CHECK(add_measurements(made, report("0.1")).code() == Code::not_found);
    REQUIRE(write_model_card(made, place.options, *threads).ok());
    CHECK(has(read_file(made + "/README.md", 1 << 20).value(), "Not measured yet"));
    for (const char * mean : {"0.5", "0.1"}) REQUIRE(add_measurements(made, report(mean)).ok());
    const std::string card = read_file(made + "/README.md", 1 << 20).value();
    CHECK(has(card, "| W4A4, as Blackwell | 0.1000 (0.0804 to 0.1196) | 1.500 | 90.00 (88.04 to 91.96) % | "
                    "1.0200 (1.0200 to 1.0200) |"));
    CHECK_FALSE(has(card, "0.5000"));
    CHECK_FALSE(has(card, "Not measured yet"));
    CHECK(has(card, "1,000 positions of 4 texts"));
    CHECK(has(add_measurements(made, "{}").message(), "no predictions"));
    // A canary alone, and beside predictions.
    const std::string answers =
        R"("canary": {"prompts": 40, "prompts_sha256": "cd", "max_tokens": 256, "thinking": false, )"
        R"("precision": "bf16", "device": "CPU", "lines": {"source": {"mean_tokens": 60, "capped": 0.025, )"
        R"("repeating": 0}, "w4a4": {"mean_tokens": 75, "capped": 0.05, "repeating": 0.1, "growth": 1.25}}, )"
        R"("gates": [{"flagged": true, "passed": true, "text": "answers of W4A4 | are longer"}]})";
    REQUIRE(add_measurements(made, "{\"errors\": 0, " + answers + "}").ok());
    const std::string alone = read_file(made + "/README.md", 1 << 20).value();
    CHECK(has(alone,
              "Greedy answers to 40 prompts (SHA-256 cd), of at most 256 tokens, without thinking, in bf16 on CPU."));
    CHECK(has(alone, "| source | 60.0 |  | 2.5 % | 0.0 % |\n| W4A4 | 75.0 | 1.250 | 5.0 % | 10.0 % |\n"));
    CHECK(has(alone, "\nSuspicious: answers of W4A4 | are longer.\n"));
    CHECK_FALSE(has(alone, "Predictions beside"));
    const std::string both = report("0.1");
    REQUIRE(add_measurements(made, both.substr(0, both.size() - 1) + ", " + answers + "}").ok());
    CHECK(has(read_file(made + "/README.md", 1 << 20).value(), "1,000 positions of 4 texts"));
    CHECK(has(read_file(made + "/README.md", 1 << 20).value(), "| W4A4 | 75.0 |"));
    place.scratch.save("made/README.md", "# mine\n");
    CHECK(has(add_measurements(made, report("0.1")).message(), "is no card of quantize"));
    CHECK(read_file(made + "/README.md", 100).value() == "# mine\n");
}

#ifdef GNV_TEST_HUB_TOOLS
TEST_CASE(
    "quantize writes the card in place of the source's, without folders of this machine; --no-card leaves it out") {
    const ScratchFolder scratch;
    REQUIRE(system(("cp -rL " GNV_TEST_BINARY_DIR "/data/qwen36-tiny " + (scratch / "source") + " && chmod -R u+w " +
                    (scratch / "source"))
                       .c_str()) == 0);
    scratch.save("source/README.md", source_card);
    const std::string arguments = (scratch / "source") + " --scheme nvfp4a16 --quiet --keep '.*self_attn.*' ";
    ToolRun run = run_tool("quantize", arguments + "--threads 1 --base-model me/Model -o " + (scratch / "a") + " 2>&1");
    CHECK_MESSAGE(run.exit_code == 0, run.out);
    run = run_tool("quantize", arguments + "--threads 2 --base-model me/Model -o " + (scratch / "b") + " 2>&1");
    const std::string card = read_file(scratch / "a/README.md", 1 << 20).value();
    CHECK(card == read_file(scratch / "b/README.md", 1 << 20).value());
    CHECK(has(card, "base_model:\n- me/Model\n"));
    CHECK(has(card, "ggml-nvfp4 quantize source --scheme nvfp4a16 --keep '.*self_attn.*' -o RESULT"));
    CHECK(has(card, "\"method\": \"mtp\""));
    CHECK(has(card, "The draft head (MTP) is part of the checkpoint, in the source's precision."));
    CHECK_FALSE(has(card, scratch.path()));
    CHECK_FALSE(has(card, "best model ever"));
    CHECK(run_tool("quantize", arguments + "--no-card -o " + (scratch / "c") + " 2>&1").exit_code == 0);
    CHECK_FALSE(path_exists(scratch / "c/README.md"));
    CHECK(run_tool("quantize", arguments + "--draft-head nvfp4a16 -o " + (scratch / "d") + " 2>&1").exit_code == 0);
    CHECK(has(read_file(scratch / "d/README.md", 1 << 20).value(),
              "The draft head (MTP) is part of the checkpoint, its attention and experts in NVFP4 (W4A16)."));
}
#endif
