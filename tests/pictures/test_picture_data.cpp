// Records with pictures: which become which text, what does not fit, and what is refused.
#include "pictures/drawn_picture.h"
#include "run_tool.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <unistd.h>

using namespace gnv::test;
using nlohmann::json;

namespace {

const std::string tiny = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";
const std::string golden = GNV_TEST_DATA "/golden/images/";

ToolRun dataset(const std::string & arguments, const std::string & model = tiny) {
    return run_tool("dataset", model + " --samples 0 --no-shuffle " + arguments + " 2>&1");
}

// The texts of all sequences, each followed by "|", with N for N placeholders in a row; or the message.
std::string texts_of(const std::string & arguments, const std::string & model = tiny) {
    const ToolRun run = dataset("--show 100 " + arguments, model);
    if (run.exit_code != 0) return run.out;
    std::string out;
    const std::string mark = "--- sequence ";
    for (size_t at = run.out.find(mark); at != std::string::npos;) {
        const size_t begin = run.out.find('\n', at) + 1, next = run.out.find(mark, begin);
        out += run.out.substr(begin, next == std::string::npos ? next : next - begin);
        out.back() = '|'; // in place of a line end
        at = next;
    }
    for (const std::string word : {"<|image_pad|>", "<|video_pad|>"})
        for (size_t at = out.find(word); at != std::string::npos; at = out.find(word)) {
            size_t count = 0;
            while (out.compare(at + count * word.size(), word.size(), word) == 0) count++;
            out.replace(at, count * word.size(), (word[2] == 'v' ? "v" : "") + std::to_string(count));
        }
    return out;
}

std::string base64(const std::string & bytes) {
    const char * const digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (size_t at = 0; at < bytes.size(); at += 3) {
        uint32_t bits = 0;
        for (size_t i = 0; i < 3; i++) bits = bits << 8 | (at + i < bytes.size() ? uint8_t(bytes[at + i]) : 0);
        for (size_t i = 0; i < 4; i++) out += at + i > bytes.size() ? '=' : digits[bits >> (18 - 6 * i) & 63];
    }
    return out;
}

json user(const std::string & content) { return {{"role", "user"}, {"content", content}}; }
json asks(const std::vector<json> & parts) { return {{"role", "user"}, {"content", parts}}; }
json image(const std::string & source) { return {{"type", "image"}, {"image", source}}; }
json text(const std::string & words) { return {{"type", "text"}, {"text", words}}; }
json chat(const json & message) { return {{"messages", json::array({message})}}; }

struct Folder : ScratchFolder {
    Folder() {
        save("a.png", DrawnPicture{"circle", "red", "top", "left"}.png());
        save("wide.png", gnv::read_file(golden + "wide.png", 1 << 20).take()); // 8 tokens
    }
    std::string records(const std::vector<json> & list) const {
        std::string lines;
        for (const json & record : list) lines += record.dump() + "\n";
        return "--calib " + save("data.jsonl", lines) + " ";
    }
    // A model without weights, with another template.
    std::string model(const std::string & chat_template, const char * leave_out = "") const {
        const std::string folder = *this / "model";
        REQUIRE(gnv::make_directory(folder).ok());
        for (const char * const name : {"tokenizer.json", "tokenizer_config.json", "preprocessor_config.json"})
            REQUIRE(symlink((tiny + "/" + name).c_str(), (folder + "/" + name).c_str()) == 0);
        json config = json::parse(gnv::read_file(tiny + "/config.json", 1 << 20).take());
        config.erase(leave_out);
        save("model/config.json", config.dump());
        save("model/chat_template.jinja", chat_template);
        return folder;
    }
};

const std::string turn = "<|im_start|>user\n", end = "<|im_end|>\n", four = "<|vision_start|>4<|vision_end|>",
                  eight = "<|vision_start|>8<|vision_end|>";

} // namespace

TEST_CASE("pictures of records: parts of messages, markers and fields") {
    const Folder folder;
    const std::string a = turn + four + "What?" + end + "|", png = gnv::read_file(folder / "a.png", 1 << 20).take();
    const auto one = [&](const json & record) { return texts_of(folder.records({record})); };
    CHECK(one(chat(asks({image("a.png"), text("What?")}))) == a);
    CHECK(one(chat(asks({image(folder / "a.png"), text("What?")}))) == a);
    CHECK(one(chat(asks({image("file://" + folder / "a.png"), text("What?")}))) == a);
    CHECK(one(chat(asks({image("data:image/png;base64," + base64(png)), text("What?")}))) == a);
    CHECK(one(chat(asks({{{"type", "image_url"}, {"image_url", {{"url", "a.png"}}}}, text("What?")}))) == a);
    CHECK(one(chat(asks({{{"image", {{"bytes", base64(png)}, {"path", nullptr}}}}, text("What?")}))) == a);
    // Placeholders for the pictures of a field.
    json record = chat(asks({{{"type", "image"}}, text("What?")}));
    record["images"] = {"a.png"};
    CHECK(one(record) == a);
    CHECK(one({{"images", {{{"path", "a.png"}}}}, {"messages", {user("<image>What?")}}}) == a);
    CHECK(one({{"image", "a.png"}, {"messages", {user("What?")}}}) == a);
    CHECK(one({{"image", "a.png"}, {"conversations", {{{"from", "human"}, {"value", "What?"}}}}}) == a);
    CHECK(one({{"image", "a.png"}, {"question", "What?"}}) == a);
    CHECK(one({{"image", "a.png"}, {"text", "See <image>."}}) == "See " + four + ".|");
    CHECK(one({{"image", "a.png"}, {"text", "See."}}) == four + "See.|");
    CHECK(one({{"images", {"a.png", "wide.png"}}, {"messages", {user("One <image> two <image>")}}}) ==
          turn + "One " + four + " two " + eight + end + "|");
    // Other members of messages go to the template; other templates pass pictures over.
    CHECK(texts_of(folder.records({chat(asks({image("a.png"), text("What?")}))}) + "--template chatml") ==
          turn + "What?" + end + "|");
    json call = chat(asks({image("a.png")}));
    call["messages"][0]["name"] = "n";
    call["tools"] = {1, 2};
    CHECK(texts_of(folder.records({call}),
                   folder.model("{{ tools|length }}{{ messages[0].name }}{% for c in messages[0].content %}{{ c.type }}"
                                "<|image_pad|>{% endfor %}")) == "2nimage4|");
}

TEST_CASE("pictures in Parquet files: bytes and paths, alone and in lists") {
    const std::string folder = GNV_TEST_DATA "/dataset/";
    const std::string answer = "<|im_start|>assistant\n";
    CHECK(texts_of("--calib " + folder + "image.parquet") ==
          turn + four + "\nWhat is it?" + end + answer + "A circle." + end + "|" + turn + eight + "What is it?" + end +
              answer + "A square." + end + "|" + turn + "Hello." + end + answer + "Good day." + end + "|");
    CHECK(texts_of("--calib " + folder + "images.parquet") ==
          turn + four + eight + "Compare." + end + answer + "Two." + end + turn + "So?" + end + answer + "Yes." + end +
              "|" + turn + four + "One?" + end + answer + "One." + end + "|");
}

TEST_CASE("messages with parts, calls of tools and reasoning in Parquet and Arrow: all of it, as JSON lines give it") {
    const Folder folder;
    const std::string stored = GNV_TEST_DATA "/dataset/";
    const std::string png = gnv::read_file(golden + "circle64.png", 1 << 20).take();
    const json circle = {{"type", "image"}, {"image", {{"bytes", base64(png)}}}};
    const json calls = {{{"id", "1"}, {"function", {{"name", "look"}, {"arguments", "{}"}}}},
                        {{"id", "2"}, {"function", {{"name", "ask"}}}}};
    const std::vector<json> chats = {
        {{"messages",
          {asks({circle, text("What?")}),
           {{"role", "assistant"}, {"content", {text("A "), text("circle.")}}, {"reasoning_content", "round"}}}}},
        {{"messages",
          {asks({text("Hot?")}),
           {{"role", "assistant"}, {"content", ""}, {"tool_calls", calls}},
           {{"role", "tool"}, {"content", {text("21")}}}}}},
    };
    // Another template shows every member.
    const std::string verbose = folder.model(
        "{% for m in messages %}[{{ m.role }}|{% if m.content is string %}{{ m.content }}{% else %}"
        "{% for c in m.content %}{% if 'image' in c %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c.text }}"
        "{% endif %}{% endfor %}{% endif %}|{{ m.reasoning_content }}|{% for t in m.tool_calls or [] %}{{ t.id }}"
        "{{ t.function.name }}{{ t.function.arguments is defined }}{% endfor %}]{% endfor %}");
    for (const std::string & model : {tiny, verbose}) {
        const std::string expected = texts_of(folder.records(chats), model);
        CHECK(expected.find(four + "What?") != std::string::npos);
        CHECK((expected.find("|round|]") != std::string::npos) == (model == verbose));
        CHECK((expected.find("1lookTrue2askFalse") != std::string::npos) == (model == verbose));
        for (const char * const name : {"parts.parquet", "parts-groups.parquet", "parts.arrow"})
            CHECK_MESSAGE(texts_of("--calib " + stored + name, model) == expected, name);
    }
    const struct {
        const char *file, *message;
    } refused[] = {
        {"chat-lists.parquet", "chat-lists.parquet: column messages.list.element.list.element.role holds BYTE_ARRAY in "
                               "lists inside lists, and no other column holds texts"},
        {"chat-numbers.parquet",
         "column messages.list.element.tool_calls.list.element.count holds INT64 in lists inside "
         "lists; of tool_calls this reader takes strings"},
        {"images-deep.parquet", "column images.list.element.list.element.list.element holds BYTE_ARRAY in lists inside "
                                "lists inside lists; pictures are taken of"},
    };
    for (const auto & row : refused) {
        const ToolRun run = dataset(std::string("--calib ") + stored + row.file);
        CHECK(run.exit_code == 2);
        CHECK_MESSAGE(run.out.find(row.message) != std::string::npos, run.out);
    }
}

TEST_CASE("pictures in prompts and answers") {
    const Folder folder;
    const std::string answer = "<|im_start|>assistant\n";
    const json question = asks({image("a.png"), text("What?")}), said = {{"role", "assistant"}, {"content", "A"}};
    const std::string all = turn + four + "What?" + end + answer;
    const auto one = [&](const json & record) { return texts_of(folder.records({record})); };
    CHECK(one({{"prompt", {question}}, {"completion", {said}}}) == all + "A" + end + "|");
    CHECK(one({{"prompt", {question}}, {"response", "A"}}) == all + "A" + end + "|");
    json shown = asks({image("wide.png")}); // and no text
    shown["role"] = "assistant";
    CHECK(one({{"prompt", {user("What?")}}, {"completion", {shown}}}) ==
          turn + "What?" + end + answer + eight + end + "|");
    CHECK(texts_of(folder.records({{{"prompt", {user("What?")}}, {"completion", {shown}}}}) + "--template chatml")
              .find("1 rows whose field holds no text") != std::string::npos);
    CHECK(one({{"prompt", {question}}, {"chosen", {said}}, {"rejected", {said}}}) == all + "A" + end + "|");
    const json by_field = {
        {"images", {"a.png"}}, {"prompt", {asks({{{"type", "image"}}, text("What?")})}}, {"completion", {said}}};
    CHECK(one(by_field) == all + "A" + end + "|");
}

TEST_CASE("a video in a record: a folder of frames with a frame rate") {
    const Folder folder;
    REQUIRE(gnv::make_directory(folder / "video").ok());
    for (int frame = 0; frame < 6; frame++)
        folder.save("video/f" + std::to_string(frame) + ".png",
                    DrawnPicture{"circle", "red", frame % 2 ? "top" : "bottom", "left"}.png());
    const std::string model =
        folder.model("{% for c in messages[0].content %}{% if c.type == 'video' %}<|vision_start|>"
                     "<|video_pad|><|vision_end|>{% else %}{{ c.text }}{% endif %}{% endfor %}");
    const json video = {{"type", "video"}, {"video", "video"}, {"fps", 2}};
    const std::string data = folder.records({chat(asks({video, text("What?")}))});
    const std::string frame = "<|vision_start|>v4<|vision_end|>";
    CHECK(texts_of(data, model) ==
          "<0.2 seconds>" + frame + "<1.2 seconds>" + frame + "<2.2 seconds>" + frame + "What?|");
    // It is never cut: the text ends before it.
    const ToolRun none = dataset(data + "--seq-len 20", model);
    CHECK_MESSAGE(none.exit_code == 0, none.out);
    CHECK_MESSAGE(none.out.find("1 pictures did not fit into sequences of 20 tokens") != std::string::npos, none.out);
}

TEST_CASE("no sequence ends inside of a picture") {
    const Folder folder;
    const json both = chat(asks({image("a.png"), text("Hello"), image("wide.png"), text("Hello")}));
    const std::string data = folder.records({both});
    const auto cut = [&](const std::string & how) { return texts_of(data + how); };
    const std::string whole = cut("--seq-len 100");
    CHECK(whole == turn + four + "Hello" + eight + "Hello" + end + "|");
    const json counts = json::parse(run_tool("dataset", tiny + " --samples 0 --json " + data + "2>/dev/null").out);
    const auto length = counts["tokens"].get<uint64_t>();
    CHECK(counts["pictures"] ==
          json({{"images", 2}, {"videos", 0}, {"tokens", 12}, {"least_tokens", 4}, {"most_tokens", 8}, {"cut", 0}}));
    bool seen[3] = {};
    for (uint64_t limit = 1; limit <= length; limit++) {
        CAPTURE(limit);
        const std::string found = cut("--seq-len " + std::to_string(limit));
        const bool has_first = found.find(four) != std::string::npos,
                   has_second = found.find(eight) != std::string::npos;
        seen[has_first + has_second] = true;
        // Nothing of a picture is there without all of it.
        std::string rest = found;
        for (const std::string & picture : {four, eight})
            if (const size_t at = rest.find(picture); at != std::string::npos) rest.erase(at, picture.size());
        CHECK(rest.find("vision") == std::string::npos);
        CHECK(rest.find_first_of("0123456789") == std::string::npos);
        for (const std::string how : {" --pack", " --chunk"}) {
            CAPTURE(how);
            const ToolRun run = run_tool("dataset", tiny + " --samples 0 --json " + data + "--seq-len " +
                                                        std::to_string(limit) + how + " 2>/dev/null");
            REQUIRE(run.exit_code == 0);
            const json summary = json::parse(run.out);
            const uint64_t pictures = summary["pictures"]["images"], lost = summary["pictures"]["cut"];
            CHECK(pictures + lost == 2);
            if (how == " --chunk" && limit >= 10) CHECK(lost == 0); // the larger one has 10 tokens with start and end
        }
    }
    CHECK(seen[0]);
    CHECK(seen[1]);
    CHECK(seen[2]);
    const ToolRun first =
        dataset(folder.records({{{"image", "wide.png"}, {"text", "a"}}, {{"text", "b"}}}) + "--seq-len 5");
    CHECK_MESSAGE(first.out.find("1 records whose first picture does not fit into a sequence, first at ") !=
                      std::string::npos,
                  first.out);
}

TEST_CASE("pictures that cannot be used: an error with file and line, or left out and counted") {
    const Folder folder;
    folder.save("text.png", "no picture");
    folder.save("cut.png", gnv::read_file(golden + "wide.png", 1 << 20).take().substr(0, 100));
    folder.save("empty.png", "");
    const json good = chat(asks({image("a.png"), text("What?")}));
    json more = good, fewer = chat(asks({{{"type", "image"}}, text("What?")}));
    more["images"] = {"a.png"};
    const struct {
        json record;
        std::string message, reason;
    } cases[] = {
        {chat(asks({image("nowhere.png")})), "image 0: cannot open " + folder / "nowhere.png", "that cannot be read"},
        {chat(asks({image("a.png"), image("cut.png")})), "image 1: " + folder / "cut.png", "that cannot be read"},
        {chat(asks({image("text.png")})), "begins with no signature of PNG, JPEG or WebP", "that cannot be read"},
        {chat(asks({image("empty.png")})), "the file is empty", "that cannot be read"},
        {chat(asks({image("https://example.org/a.png")})), "nothing is fetched", "that cannot be read"},
        {chat(asks({image("data:image/png;base64,%%%")})), "byte 0 of the Base64 text", "that cannot be read"},
        {chat(asks({image("data:image/png,abc")})), "a data: URI that does not begin with", "that cannot be read"},
        {chat(asks({image("data:image/png;base64,AAAA")})), "the picture in the record", "that cannot be read"},
        {chat(asks({{{"type", "video"}, {"video", "a.png"}}})), "has no placeholder", "do not belong together"},
        {more, "the record has 1 images, and its text asks for 0", "do not belong together"},
        {fewer, "the record has 0 images, and its text asks for 1", "do not belong together"},
        {chat(asks({image("a.png"), text("<|image_pad|>")})), "more placeholders than the 1", "do not belong together"},
    };
    for (const auto & bad : cases) {
        CAPTURE(bad.record.dump());
        const std::string data = folder.records({good, bad.record, good});
        const ToolRun refused = dataset(data);
        CHECK(refused.exit_code == 3);
        CHECK_MESSAGE(refused.out.find(folder / "data.jsonl:2: ") != std::string::npos, refused.out);
        CHECK_MESSAGE(refused.out.find(bad.message) != std::string::npos, refused.out);
        const ToolRun skipped = dataset(data + "--skip-bad");
        CHECK(skipped.exit_code == 0);
        CHECK_MESSAGE(skipped.out.find("2 of 3 rows") != std::string::npos, skipped.out);
        CHECK_MESSAGE(skipped.out.find(bad.reason) != std::string::npos, skipped.out);
        CHECK(skipped.out.find(bad.message) != std::string::npos);
    }
    const std::string blind = folder.model("{{ messages }}", "vision_config");
    const ToolRun refused = dataset(folder.records({good}), blind);
    CHECK(refused.exit_code == 2);
    CHECK_MESSAGE(refused.out.find("data.jsonl:1: the record has pictures: " + blind + " has no vision tower") !=
                      std::string::npos,
                  refused.out);
    const ToolRun skipped = dataset(folder.records({good, {{"text", "a"}}}) + "--skip-bad", blind);
    CHECK_MESSAGE(skipped.out.find("1 records with pictures, of which this model takes none") != std::string::npos,
                  skipped.out);
    // Ids alone cannot stand for pictures.
    const ToolRun saved = dataset(folder.records({good}) + "--tokens-out " + folder / "tokens.json");
    CHECK(saved.exit_code == 2);
    CHECK(saved.out.find("a file of tokens holds no pictures") != std::string::npos);
}

TEST_CASE("reading pictures within a budget of memory: the least is named, and the same rows come of it") {
    const Folder folder;
    std::vector<json> list;
    for (int i = 0; i < 40; i++) list.push_back(chat(asks({image("wide.png"), text("What? " + std::to_string(i))})));
    const std::string data = folder.records(list);
    const ToolRun small = dataset(data + "--json --ram 6MB");
    CHECK(small.exit_code == 4);
    CHECK_MESSAGE(small.out.find("the smallest sufficient one is") != std::string::npos, small.out);
    const auto sha = [&](const std::string & how) {
        const ToolRun run = dataset(data + "--json " + how);
        REQUIRE_MESSAGE(run.exit_code == 0, run.out);
        return json::parse(run.out)["sha256"].get<std::string>();
    };
    CHECK(sha("--ram 24MB --threads 1") == sha("--threads 3"));
}
