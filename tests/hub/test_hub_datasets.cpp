// Which files of a data set are taken, and the metadata that say so.
#include "formats/file.h"
#include "hub/dataset_files.h"
#include "hub_server.h"
#include "run_tool.h"

using namespace gnv;
using namespace gnv::test;

namespace {

RemoteListing listing_of(std::initializer_list<const char *> names, uint64_t size = 10) {
    RemoteListing out;
    for (const char * name : names) out.files.push_back({name, size, std::string(40, 'a')});
    std::sort(out.files.begin(), out.files.end(), [](const auto & a, const auto & b) { return a.name < b.name; });
    return out;
}

// "config/split: file file", or the message.
std::string chosen(const RemoteListing & listing, const std::string & readme, const std::string & wanted) {
    const YamlNode metadata = parse_front_matter(readme, "README.md").take();
    const Result<DatasetChoice> choice = choose_dataset_files(listing, metadata, parse_dataset_name(wanted).take());
    if (!choice.ok()) return choice.status().message();
    std::string out = choice.value().config + "/" + choice.value().split + ":";
    for (const RemoteFile & file : choice.value().files) out += " " + file.name;
    return out;
}

const char * const ultrachat = "---\n"
                               "language: [en]\n"
                               "license: mit # a comment\n"
                               "dataset_info:\n"
                               "  features:\n"
                               "  - name: messages\n"
                               "    list:\n"
                               "    - name: content\n"
                               "      dtype: string\n"
                               "configs:\n"
                               "- config_name: default\n"
                               "  data_files:\n"
                               "  - split: train_sft\n"
                               "    path: data/train_sft-*\n"
                               "  - split: test_sft\n"
                               "    path:\n"
                               "    - data/test_sft-*\n"
                               "- config_name: 'other one'\n"
                               "  data_dir: more/\n"
                               "- config_name: list\n"
                               "  default: true\n"
                               "  data_files: \"**/x-?.jsonl\"\n"
                               "---\n"
                               "# A data set\n";

} // namespace

TEST_CASE("metadata of a README.md: lists, maps, quotes, block texts, comments") {
    const YamlNode data = parse_front_matter("\xEF\xBB\xBF---\r\n"
                                             "a: 1\r\n"
                                             "\"b c\": 'it''s: # x' # comment\r\n"
                                             "tags:\r\n"
                                             "- one\r\n"
                                             "- \"t\\\"wo\"\r\n"
                                             "-   - deep\r\n"
                                             "    - er\r\n"
                                             "flow: [a, 'b, c',\r\n"
                                             "  d]\r\n"
                                             "long: >\r\n"
                                             "  two\r\n"
                                             "  lines\r\n"
                                             "kept: |\r\n"
                                             "  two\r\n"
                                             "  lines\r\n"
                                             "empty:\r\n"
                                             "url: https://x.y/z#part\r\n"
                                             "---\r\n"
                                             "text: no metadata\r\n",
                                             "README.md")
                              .take();
    CHECK(text_at(data, "a") == "1");
    CHECK(text_at(data, "b c") == "it's: # x");
    REQUIRE(data.find("tags"));
    CHECK(texts_of(data.find("tags")) == std::vector<std::string>{"one", "t\"wo"});
    CHECK(texts_of(&data.find("tags")->items[2]) == std::vector<std::string>{"deep", "er"});
    CHECK(texts_of(data.find("flow")) == std::vector<std::string>{"a", "b, c", "d"});
    CHECK(text_at(data, "long") == "two lines\n");
    CHECK(text_at(data, "kept") == "two\nlines\n");
    CHECK(data.find("empty")->is_null());
    CHECK(text_at(data, "url") == "https://x.y/z#part");
    CHECK_FALSE(data.find("text"));
    for (const char * text : {"", "# x", "---\na: 1\n", "--- \nnever closed", "----\na: b\n---\n"})
        CHECK(parse_front_matter(text, "x").value().items.empty());
    CHECK(parse_front_matter("---\na: 1\nb: 2\nc\n---\n", "README.md")
              .status()
              .message()
              .find("README.md:5: this is not YAML: ") == 0);
    CHECK(parse_front_matter("---\n- a\n---\n", "x").status().message().find("x:2: its metadata are no map") == 0);
    std::string deep = "---\n";
    for (int i = 0; i < 50'000; i++) deep += "- ";
    CHECK(parse_front_matter(deep + "x\n---\n", "x").status().message().find("nested too deep") != std::string::npos);
    for (const char * word : {"yes", "1.5", "a: b", "", "-x", "a b", "x", "apache-2.0"}) {
        const std::string text = std::string("---\nk: ") + yaml_quote(word) + "\n---\n";
        CHECK_MESSAGE(text_at(parse_front_matter(text, "x").value(), "k") == word, text);
    }
    CHECK(yaml_quote("apache-2.0") == "apache-2.0");
    CHECK(yaml_quote("no") == "\"no\"");
}

TEST_CASE("files of a configuration and a split by the metadata") {
    const RemoteListing listing =
        listing_of({"README.md", "data/train_sft-00000-of-00002.parquet", "data/train_sft-00001-of-00002.parquet",
                    "data/test_sft-00000-of-00001.parquet", "more/train.csv", "more/test.csv", "a/b/x-1.jsonl",
                    "x-2.jsonl", "a/x-12.jsonl", "loader.py"});
    CHECK(chosen(listing, ultrachat, "o/n") == "list/train: a/b/x-1.jsonl x-2.jsonl");
    CHECK(chosen(listing, ultrachat, "o/n:default") ==
          "default/train_sft: data/train_sft-00000-of-00002.parquet data/train_sft-00001-of-00002.parquet");
    CHECK(chosen(listing, ultrachat, "o/n:default:test_sft") ==
          "default/test_sft: data/test_sft-00000-of-00001.parquet");
    CHECK(chosen(listing, ultrachat, "o/n:other one:test") == "other one/test: more/test.csv");
    CHECK(chosen(listing, ultrachat, "o/n:none") ==
          "o/n: has no configuration \"none\"; it has list, default, other one");
    CHECK(chosen(listing, ultrachat, "o/n:default:none") == "o/n: has no split \"none\"; it has train_sft, test_sft");
}

TEST_CASE("files by the names of folders and files where no metadata say more") {
    CHECK(chosen(listing_of({"train.jsonl", "test.jsonl", "README.md", "LICENSE.txt"}), "", "o/n") ==
          "/train: train.jsonl");
    CHECK(chosen(listing_of({"a.jsonl", "b.jsonl"}), "", "o/n") == "/train: a.jsonl b.jsonl");
    CHECK(chosen(listing_of({"data/train-0.parquet", "data/validation-0.parquet", "train.csv"}), "", "o/n:x") ==
          "o/n: has no configuration \"x\"; it has ");
    CHECK(chosen(listing_of({"data/train-0.parquet", "data/validation-0.parquet", "train.csv"}), "",
                 "o/n::validation") == "/validation: data/validation-0.parquet");
    const RemoteListing converted =
        listing_of({"main/train/0000.parquet", "main/test/0000.parquet", "all/train/0000.parquet"});
    CHECK(chosen(converted, "", "o/n") == "main/train: main/train/0000.parquet");
    CHECK(chosen(converted, "", "o/n:all") == "all/train: all/train/0000.parquet");
    CHECK(chosen(listing_of({"loader.py", "README.md"}), "", "o/n").find("hub:o/n@refs/convert/parquet") !=
          std::string::npos);
    // No more than a calibration reads.
    const RemoteListing large = listing_of({"a.parquet", "b.parquet", "c.parquet"}, uint64_t(2) << 30);
    CHECK(chosen(large, "", "o/n") == "/train: a.parquet b.parquet");
    for (const char * text : {"o", "o/n:a/b", "o/n:a:b:c", "o/../n"}) CHECK_FALSE(parse_dataset_name(text).ok());
}

TEST_CASE("a data set becomes a folder of links to its files, also offline the second time") {
    if (!has_program("python3")) return;
    const HubServer server;
    server.add("datasets/org/data/README.md", ultrachat);
    server.add("datasets/org/data/data/train_sft-0.jsonl", "{\"text\": \"one\"}\n");
    server.add("datasets/org/data/data/train_sft-1.jsonl", made_up_bytes(9000, 1));
    const ScratchFolder scratch;
    HubOptions hub;
    hub.http = server.http();
    hub.cache = scratch / "cache";
    std::string said;
    hub.say = [&](const std::string & line) { said += line + "\n"; };
    const DatasetName name = parse_dataset_name("org/data:default").take();
    CHECK(fetch_dataset(hub, name, true).status().code() == Code::not_found);
    const Result<std::string> folder = fetch_dataset(hub, name, false);
    REQUIRE_MESSAGE(folder.ok(), folder.status().message());
    CHECK(said.find("configuration default, split train_sft: 2 files, 9.02 kB: data/train_sft-1.jsonl, ") !=
          std::string::npos);
    CHECK(read_file(folder.value() + "/000000-train_sft-0.jsonl", 100).value() == "{\"text\": \"one\"}\n");
    CHECK(list_directory(folder.value()).value().size() == 2);
    CHECK(fetch_dataset(hub, name, true).value() == folder.value());
    hub.http.endpoint = "http://127.0.0.1:9";
    CHECK(fetch_dataset(hub, name, false).value() == folder.value());
}

#ifdef GNV_TEST_HUB_TOOLS
TEST_CASE("--calib hub: downloads, with the field and weight of other sources") {
    if (!has_program("python3")) return;
    const HubServer server;
    std::string rows;
    for (int i = 0; i < 5; i++) rows += "{\"words\": \"the function returns " + std::to_string(i) + "\"}\n";
    server.add("datasets/org/data/train.jsonl", rows);
    const ScratchFolder scratch;
    const std::string base = "export HF_HUB_CACHE=" + scratch.path() + " HF_ENDPOINT=" + server.url() + "; ";
    const std::string model = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";
    ToolRun run = run_tool("dataset", model + " --calib hub:org/data:::words=2 --samples 0 2>&1", base);
    CHECK_MESSAGE(run.exit_code == 0, run.out);
    CHECK_MESSAGE(run.out.find("split train: 1 file, ") != std::string::npos, run.out);
    run = run_tool("dataset", model + " --calib hub:org/none 2>&1", base);
    CHECK(run.exit_code == 2);
    CHECK_MESSAGE(run.out.find("error: org/none: the hub has no such repository") != std::string::npos, run.out);
}
#endif
