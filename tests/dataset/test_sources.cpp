// Which rows of which files become which text.
#include "dataset/dataset_fixture.h"

#include <zstd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

std::string text_of(const std::string & record, TextForm form = TextForm::automatic, const TextRule & rule = {},
                    std::vector<UnwrittenField> * unwritten = nullptr) {
    const ScratchFolder folder;
    const auto reader = open_records(folder.save("a.jsonl", record), {}).take();
    REQUIRE(reader->next().value());
    Record parsed;
    const auto fault = reader->read(parsed);
    if (!fault.ok()) return fault.status().message();
    TextRule with_form = rule;
    if (form != TextForm::automatic) with_form.form = form;
    std::string text;
    Result<RowFault> result = fault.value();
    if (fault.value() == RowFault::none) result = render_record(parsed, with_form, text, unwritten);
    if (!result.ok()) return result.status().message();
    const RowFault rendered = result.value();
    if (rendered == RowFault::refused) return text;
    return rendered == RowFault::none ? text : std::string("fault: ") + fault_text(rendered);
}

} // namespace

TEST_CASE("the texts of records") {
    const std::string task = R"({"instruction": "Add.", "input": "1, 2", "output": "3"})";
    CHECK(text_of(task) ==
          "Below is an instruction that describes a task, paired with an input that provides further context. "
          "Write a response that appropriately completes the request.\n\n### Instruction:\nAdd.\n\n### Input:"
          "\n1, 2\n\n### Response:\n3");
    CHECK(
        text_of(R"({"instruction": "Hi", "output": "Ho", "input": null})") ==
        "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n"
        "### Instruction:\nHi\n\n### Response:\nHo");
    CHECK(text_of(task, TextForm::chatml) ==
          "<|im_start|>user\nAdd.\n\n1, 2<|im_end|>\n<|im_start|>assistant\n3<|im_end|>\n");
    CHECK(text_of(task, TextForm::none) == "Add.\n1, 2\n3");
    const std::string question = R"({"question": "Why?", "answer": "So."})";
    CHECK(text_of(question) == "Question: Why?\nAnswer: So.");
    CHECK(text_of(question, TextForm::chatml) ==
          "<|im_start|>user\nWhy?<|im_end|>\n<|im_start|>assistant\nSo.<|im_end|>\n");
    CHECK(text_of(R"({"text": " as is\n", "n": 1})") == " as is\n");
    CHECK(text_of(R"({"text": "x"})", TextForm::chatml) == "<|im_start|>user\nx<|im_end|>\n");
    const std::string chat = R"({"messages": [{"role": "system", "content": "s"}, {"role": "user", "content":
        [{"type": "text", "text": "a"}, "b"]}, {"role": "assistant", "content": null, "tool_calls": [1]}]})";
    CHECK(text_of(std::string(chat).erase(chat.find('\n'), 1)) ==
          "<|im_start|>system\ns<|im_end|>\n<|im_start|>user\nab<|im_end|>\n<|im_start|>assistant\n"
          "<tool_call>\n1\n</tool_call><|im_end|>\n");
    CHECK(text_of(R"({"role": "prompter", "text": "t"})", TextForm::chatml, {TextForm::chatml, "text", "role"}) ==
          "<|im_start|>user\nt<|im_end|>\n");
    CHECK(text_of(R"({"content": "c", "text": "t"})", TextForm::none, {TextForm::none, "content", ""}) == "c");
}

TEST_CASE("messages through a chat template") {
    TextRule rule;
    rule.chat.chat =
        ChatTemplate::parse("{% for m in messages %}[{{ m.role }}|{{ m.content }}{% for c in m.tool_calls %}"
                            "({{ c|tojson }}){% endfor %}|{{ m.reasoning_content }}]{% endfor %}{{ tools|length }}"
                            "{% if messages[0].role == 'bad' %}{{ raise_exception('no bad') }}{% endif %}",
                            "t.jinja")
            .take();
    const auto automatic = TextForm::automatic;
    const std::string calls = R"({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls":
        [{"b": 1, "a": true}], "reasoning_content": "r"}], "tools": [1, 2], "text": "t"})";
    CHECK(text_of(std::string(calls).erase(calls.find('\n'), 1), automatic, rule) ==
          "[user|a|][assistant|({\"b\": 1, \"a\": true})|r]2");
    const std::string user = R"({"messages": [{"role": "user", "content": "a"}]})";
    CHECK(text_of(user, automatic, rule) == "[user|a|]0");
    CHECK(text_of(user, TextForm::model, rule) == "[user|a|]0");
    CHECK(text_of(user, TextForm::chatml, rule) == "<|im_start|>user\na<|im_end|>\n");
    CHECK(text_of(user, TextForm::none, rule) == "a");
    CHECK(text_of(R"({"question": "Q", "answer": "A"})", TextForm::model, rule) == "[user|Q|][assistant|A|]0");
    CHECK(text_of(R"({"question": "Q", "answer": "A"})", automatic, rule) == "Question: Q\nAnswer: A");
    CHECK(text_of(R"({"text": "x"})", TextForm::model, rule) == "[user|x|]0");
    CHECK(text_of(R"({"text": "x"})", automatic, rule) == "x");
    CHECK(text_of(R"({"messages": [{"role": "bad", "content": "a"}]})", automatic, rule) ==
          "t.jinja:1: raise_exception: the template refuses the conversation: no bad");
    CHECK(text_of(user, TextForm::model).find("the checkpoint has none; choose another form") != std::string::npos);
    rule.chat = {std::nullopt, "t.jinja:5: the filter 'x' is not supported"};
    CHECK(text_of(user, automatic, rule).find("t.jinja:5: the filter 'x' is not supported; choose") !=
          std::string::npos);
    CHECK(text_of(R"({"text": "x"})", automatic, rule) == "x");
}

// An oracle that is not this code: the template of the family, whose texts Jinja2 recorded (tests/data/templates.json).
TEST_CASE("ChatML writes calls of tools, answers and reasoning as the template of the family does") {
    TextRule family;
    family.chat.chat = ChatTemplate::read(data_folder + "/templates/qwen36-style.jinja", "").take();
    const std::string call = R"({"type": "function", "function": {"name": "f", "arguments": )";
    const std::string messages =
        R"({"messages": [{"role": "system", "content": "S"}, {"role": "user", "content": "Q"},)"
        R"( {"role": "assistant", "reasoning_content": "R", "content": "", "tool_calls": [)" +
        call + R"({"a": "x\ny", "b": [1, null, {"c": true}], "d": 1.5}}}, )" + call +
        R"({}}}]}, {"role": "tool", "content": "one"}, {"role": "tool", "content": "two"},)"
        R"( {"role": "assistant", "reasoning_content": "more", "content": "So.", "tool_calls": [)" +
        call +
        R"({"é": "ü"}}}]}, {"role": "tool", "content": "three"},)"
        R"( {"role": "assistant", "reasoning_content": "done", "content": "It is."}])";
    const std::string tools = R"(, "tools": [{"type": "function", "function": {"name": "f", "x": [1, "é"]}}]})";
    const std::string expected = text_of(messages + "}", TextForm::model, family);
    REQUIRE(expected.find("<parameter=b>\n[1, null, {\"c\": true}]\n</parameter>") != std::string::npos);
    CHECK(text_of(messages + "}", TextForm::chatml) == expected);
    CHECK(text_of(messages + "}") == expected); // automatic, of a checkpoint without a template
    // The templates of the family say more about tools, each in words of its own.
    std::string with_tools = text_of(messages + tools, TextForm::model, family);
    const std::string how = "\n\nCall <function=name> in <tool_call>.";
    REQUIRE(with_tools.find(how) != std::string::npos);
    with_tools.erase(with_tools.find(how), how.size());
    with_tools.insert(with_tools.find("<tools>"), "You have access to the following functions:\n\n");
    CHECK(text_of(messages + tools, TextForm::chatml) == with_tools);
    // Arguments as a text, as logs of the OpenAI API have them: for both.
    std::string as_text = messages + "}";
    const std::string object = R"({"a": "x\ny", "b": [1, null, {"c": true}], "d": 1.5})";
    as_text.replace(as_text.find(object), object.size(),
                    R"("{\"a\": \"x\\ny\", \"b\": [1, null, {\"c\": true}], \"d\": 1.5}")");
    CHECK(text_of(as_text, TextForm::chatml) == expected);
    CHECK(text_of(as_text, TextForm::model, family) == expected);
}

TEST_CASE("ChatML of other forms of calls and reasoning: nothing vanishes") {
    const auto chatml = [](const std::string & messages) {
        return text_of("{\"messages\": [" + messages + "]}", TextForm::chatml);
    };
    const std::string begin = "<|im_start|>assistant\n", end = "<|im_end|>\n";
    CHECK(chatml(
              R"({"role": "assistant", "content": null, "function_call": {"name": "g", "arguments": "{\"k\": 2}"}})") ==
          begin + "<tool_call>\n<function=g>\n<parameter=k>\n2\n</parameter>\n</function>\n</tool_call>" + end);
    CHECK(chatml(R"({"role": "assistant", "content": "c", "tool_calls": [{"name": "g", "arguments": "no JSON"}]})") ==
          begin + "c\n\n<tool_call>\n<function=g>\nno JSON\n</function>\n</tool_call>" + end);
    CHECK(chatml(R"({"role": "assistant", "tool_calls": [{"name": "g"}, {"odd": 1}]})") ==
          begin + "<tool_call>\n<function=g>\n</function>\n</tool_call>\n<tool_call>\n{\"odd\": 1}\n</tool_call>" +
              end);
    for (const char * const name : {"reasoning_content", "reasoning", "thinking"})
        CHECK(chatml(concat(R"({"role": "assistant", ")", name, R"(": "r", "content": ""})")) ==
              begin + "<think>\nr\n</think>\n\n" + end);
    CHECK(chatml(R"({"role": "assistant", "reasoning_content": " \n", "tool_calls": [], "content": ""})") ==
          "fault: empty texts");
    CHECK(chatml(R"({"role": "user", "content": "say \"tool_calls\""})") ==
          "<|im_start|>user\nsay \"tool_calls\"" + end);
    // Under the other names of conversations, and in two fields.
    const std::string turn = R"({"role": "assistant", "content": "", "tool_calls": [{"name": "g"}]})";
    const std::string written = begin + "<tool_call>\n<function=g>\n</function>\n</tool_call>" + end;
    const ScratchFolder folder;
    for (const std::string & row :
         {"{\"conversations\": [" + turn + "]}", "{\"chosen\": [" + turn + "], \"rejected\": []}",
          "{\"prompt\": [], \"completion\": [" + turn + "]}"})
        CHECK_MESSAGE(texts_of(build(from(folder.save("a.jsonl", row)))) == written + "|", row);
}

TEST_CASE("what a template passes over is a warning with message and member") {
    const ScratchFolder folder;
    const std::string call = R"({"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]})";
    const std::string path = folder.save("a.jsonl", "{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}\n"
                                                    "{\"messages\": [{\"role\": \"user\", \"content\": \"b\"}, " +
                                                        call +
                                                        "], \"tools\": [{\"name\": \"f\"}]}\n"
                                                        "{\"messages\": [{\"role\": \"assistant\", \"content\": \"c\","
                                                        " \"reasoning_content\": \"why\"}, " +
                                                        call + "]}\n");
    CalibrationOptions options = from(path, 3);
    options.shuffle = false;
    const auto warnings = [&](const char * source) {
        options.chat.chat.reset();
        if (*source) options.chat.chat = ChatTemplate::parse(source, "t").take();
        const Result<CalibrationSet> set = build(options);
        if (!set.ok()) return set.status().message();
        std::string out;
        for (const std::string & warning : set.value().warnings) out += warning.substr(path.size()) + "|";
        return out;
    };
    const std::string passes = ", since the chat template passes over them; --template chatml writes them|";
    CHECK(warnings("{% for m in messages %}{{ m.role }}{{ m.content }}{% endfor %}") ==
          ": 1 row has tools that their texts lack (first: a.jsonl:2: tools)" + passes +
              ": 2 rows have tool_calls that their texts lack (first: a.jsonl:2: messages[1].tool_calls)" + passes +
              ": 1 row has reasoning_content that their texts lack (first: a.jsonl:3: messages[0].reasoning_content)" +
              passes);
    // All of a message at once; one that a template names and leaves out is left out on purpose.
    CHECK(warnings("{% for m in messages %}{{ m|tojson }}{% endfor %}{{ tools }}") == "");
    CHECK(warnings("{% for m in messages %}{{ m.content }}{% if 0 %}{{ m.tool_calls }}{{ m.reasoning_content }}"
                   "{{ tools }}{% endif %}{% endfor %}") == "");
    CHECK(warnings("") == ""); // ChatML
    options.form = TextForm::none;
    CHECK(warnings("").find("a.jsonl:2: messages[1].tool_calls), since the template none writes contents alone; ") !=
          std::string::npos);
    options.form = TextForm::chatml;
    CHECK(warnings("{{ messages[0].content }}") == "");
}

TEST_CASE("a content of null is an empty text where the template loops over it") {
    TextRule rule;
    rule.chat.chat = ChatTemplate::parse("{% for m in messages %}[{% if m.content is string %}{{ m.content }}{% else %}"
                                         "{% for c in m.content %}{{ c.text }}{% endfor %}{% endif %}"
                                         "{{ m.tool_calls|tojson }}]{% endfor %}",
                                         "t.jinja")
                         .take();
    CHECK(text_of(R"({"messages": [{"role": "user", "content": "\"content\":null", "tool_calls": 1},)"
                  R"( {"role": "assistant", "content": null, "tool_calls": 2}]})",
                  TextForm::automatic, rule) == "[\"content\":null1][2]");
}

TEST_CASE("a conversation that the chat template refuses is counted") {
    const ScratchFolder folder;
    CalibrationOptions options =
        from(folder.save("a.jsonl", "{\"messages\": [{\"role\": \"system\", \"content\": \"a\"}]}\n"
                                    "{\"messages\": [{\"role\": \"user\", \"content\": \"b\"}]}\n"),
             1);
    options.chat.chat =
        ChatTemplate::parse("{{ raise_exception('no') if messages[0].role == 'system' else 'fine' }}", "t").take();
    const CalibrationSet set = build(options).take();
    const FaultCount & fault = set.sources[0].faults[size_t(RowFault::refused)];
    CHECK(texts_of(set) == "fine|");
    CHECK(fault.rows == 1);
    CHECK(fault.first == folder / "a.jsonl:1: t:1: raise_exception: the template refuses the conversation: no");
    options.chat.chat =
        ChatTemplate::parse("{% for i in range(99999) %}{% for i in range(99999) %}{% endfor %}{% endfor %}", "t")
            .take();
    const std::string endless = texts_of(build(options));
    CHECK(starts_with(endless, folder / "a.jsonl:"));
    CHECK(endless.find("t:1: ") != std::string::npos);
    CHECK(endless.find("it may loop without end") != std::string::npos);
}

TEST_CASE("rows that cannot be used") {
    CHECK(text_of(R"({"title": "t"})") == "fault: rows without the fields of the others");
    CHECK(text_of(R"({"text": "t"})", TextForm::alpaca) == "fault: rows without the fields of the others");
    CHECK(text_of(R"({"text": 3})") == "fault: rows whose field holds no text");
    CHECK(text_of(R"({"messages": [{"role": "user", "content": [{"type": "image", "image": "x"}]}]})") ==
          "fault: rows whose field holds no text");
    CHECK(text_of(R"({"text": " \n\t"})") == "fault: empty texts");
    CHECK(text_of(R"({"text": null})") == "fault: empty texts");
    CHECK(text_of(R"({"instruction": "", "output": ""})") == "fault: empty texts");
    CHECK(text_of(R"({"messages": []})") == "fault: empty texts");
    CHECK(text_of("{\"text\": \"a\xff\"}") == "fault: invalid UTF-8");
    CHECK(text_of(R"({"text": "\ud83d"})") == "fault: lone surrogates in JSON escapes");
    CHECK(text_of(R"({"text": "\ud83dx"})") == "fault: lone surrogates in JSON escapes");
    CHECK(text_of(R"({"text": "\udc22\ud83d"})") == "fault: lone surrogates in JSON escapes");
    CHECK(text_of(R"({"text": "\\ud83d \ud83d\udc22"})") == "\\ud83d 🐢");
    CHECK(text_of(R"({"text": "a\u0000b"})") == "fault: NUL bytes");
}

TEST_CASE("damage stops the reading, with file and line") {
    const ScratchFolder folder;
    const auto failure = [&](const std::string & name, const std::string & content) {
        return texts_of(build(from(folder.save(name, content))));
    };
    const std::string good = "{\"text\": \"a\"}\n";
    CHECK(starts_with(failure("a.json", "[{\"text\": \"a\"},\n{\"text\": }]"), folder / "a.json:2: not valid JSON"));
    CHECK(failure("a.jsonl", "{\"title\": \"a\", \"n\": 1}\n") ==
          folder /
              "a.jsonl:1: the fields are title, n; expected messages, conversations, instruction (input, output), "
              "question "
              "(answer), prompt (completion), chosen, or text. Name the field that holds the text with PATH:FIELD");
    CHECK(
        failure("a.jsonl", "{\"blob_id\": \"a\", \"path\": \"/x.c\"}\n") ==
        folder /
            "a.jsonl:1: the fields are blob_id, path; the rows hold ids of files (blob_id), as the-stack-v2 does, and "
            "not their text: download the contents first, or take bigcode/the-stack-smol, which holds them");
    CHECK(failure("a.jsonl", "") == folder / "a.jsonl is empty: it has no rows; give data");
    CHECK(failure("a.jsonl", "{\"text\": \"\"}\n") ==
          folder / "a.jsonl: no usable row among 1: 1 empty texts, first at " +
              folder / "a.jsonl:1; give other data, or name the field that holds the text with PATH:FIELD");
    CHECK(failure("a.docx", "") == folder / "a.docx: no data file by its name; known are .jsonl, .json, .csv, .tsv, "
                                            ".txt (each also as .gz or .zst), "
                                            ".parquet, .arrow and .feather");
    CHECK(texts_of(build(from(folder / "absent.txt"))) == folder / "absent.txt: no such file or folder");
    std::string frame(100, '\0');
    frame.resize(ZSTD_compress(frame.data(), frame.size(), good.data(), good.size(), 3));
    frame.pop_back();
    CHECK(failure("a.jsonl.zst", frame).find("ends inside a frame") != std::string::npos);
}

TEST_CASE("rows with faults are counted and others take their place") {
    const ScratchFolder folder;
    std::string lines;
    for (int i = 0; i < 30; i++)
        lines += i % 3 == 0   ? "{\"text\": \"\"}\n"
                 : i % 3 == 1 ? "{\"text\": \"\\udc00\"}\n"
                              : concat("{\"text\": \"", i, "\"}\n");
    const std::string path = folder.save("a.jsonl", lines);
    const CalibrationSet set = build(from(path, 10)).take();
    CHECK(set.sequences.size() == 10);
    CHECK(set.warnings.empty());
    const CalibrationSourceReport & report = set.sources[0];
    CHECK(report.faults[size_t(RowFault::empty)].rows == 10);
    CHECK(report.faults[size_t(RowFault::empty)].first == path + ":1");
    CHECK(report.faults[size_t(RowFault::lone_surrogate)].rows == 10);
    CHECK(report.faults[size_t(RowFault::lone_surrogate)].first == path + ":2");
    const CalibrationSet few = build(from(path, 11)).take();
    REQUIRE(few.warnings.size() == 1);
    CHECK(few.warnings[0] == path + ": 10 usable rows, fewer than the 11 asked for");
}

TEST_CASE("a bad row is a counted row") {
    const ScratchFolder folder;
    const std::string good = "{\"text\": \"a\"}\n";
    const std::string lines = good +
                              "\n{\"text\": \n{\"text\": \"a\x01\"}\n[1]\n7\n{\"text\": \"b\", \"text\": \"c\"}\n" +
                              "{\"text\": \"d\", \"n\": 123456789012345678901234567890}\n\"e\"\n{\"text\": \"cut";
    CalibrationOptions options = from(folder.save("a.jsonl", lines));
    options.shuffle = false;
    const CalibrationSet set = build(options).take();
    CHECK(texts_of(build(options)) == "a|d|e|");
    const auto & faults = set.sources[0].faults;
    CHECK(faults[size_t(RowFault::no_object)].rows == 5);
    CHECK(faults[size_t(RowFault::no_object)].first == folder / "a.jsonl:3");
    CHECK(faults[size_t(RowFault::twice)].rows == 1);
    options.sources = {folder.save("b.json", R"(["one", "two", 3, {"text": "four"}])")};
    CHECK(texts_of(build(options)) == "one|two|four|");
}

TEST_CASE("names of fields and files with colons") {
    const ScratchFolder folder;
    const std::string row = R"({"meta:text": "a", "text": "b"})";
    folder.save("a.jsonl", row);
    folder.save("c:d.jsonl", row);
    CHECK(texts_of(build(from(folder / "a.jsonl:meta:text"))) == "a|");
    CHECK(texts_of(build(from(folder / "c:d.jsonl:meta:text=2"))) == "a|");
    CHECK(texts_of(build(from(folder / "c:d.jsonl"))) == "b|");
    CHECK(texts_of(build(from(folder / "none.jsonl:text"))) == folder / "none.jsonl: no such file or folder");
}

TEST_CASE("folders are read in the order of their paths, hidden files left out") {
    const ScratchFolder folder;
    REQUIRE(make_directory(folder / "d").ok());
    REQUIRE(make_directory(folder / "d/b").ok());
    folder.save("d/c.txt", "see");
    folder.save("d/b/one.txt", "bee");
    folder.save("d/a.jsonl", "{\"text\": \"ay\"}\n{\"text\": \"ay ay\"}\n");
    folder.save("d/.hidden.txt", "no");
    folder.save("d/README.md", "no");
    CalibrationOptions options = from(folder / "d");
    options.shuffle = false;
    const CalibrationSet set = build(options).take();
    CHECK(texts_of(build(options)) == "ay|ay ay|bee|see|");
    CHECK(rows_of(set) == std::vector<uint64_t>{0, 1, 2, 3});
    REQUIRE(set.sources[0].files.size() == 3);
    CHECK(set.sources[0].files[1].path == folder / "d/b/one.txt");
    CHECK(set.sources[0].files[1].first_row == 2);
    REQUIRE(make_directory(folder / "empty").ok());
    CHECK(texts_of(build(from(folder / "empty"))).find("no data files in this folder") != std::string::npos);
}

TEST_CASE("sources as the command line writes them") {
    const auto parse = [](const std::string & spec, TextForm form = TextForm::automatic) {
        const auto source = parse_calib_source(spec, form);
        if (!source.ok()) return source.status().message();
        const CalibSource & s = source.value();
        return concat(s.path, " ", s.weight, " ", text_form_name(s.rule.form), " <", s.rule.text_field, "> <",
                      s.rule.role_field, ">");
    };
    CHECK(parse("a.jsonl") == "a.jsonl 1 automatic <> <>");
    CHECK(parse("a.jsonl=3") == "a.jsonl 3 automatic <> <>");
    CHECK(parse("a.jsonl:body=0.5") == "a.jsonl 0.5 none <body> <>");
    CHECK(parse("d/a:b", TextForm::chatml) == "d/a 1 chatml <b> <>");
    CHECK(parse("open-platypus@x.parquet") == "x.parquet 1 alpaca <> <>");
    CHECK(parse("open-platypus@x.parquet", TextForm::chatml) == "x.parquet 1 chatml <> <>");
    CHECK(parse("gsm8k@x") == "x 1 automatic <> <>");
    CHECK(parse("oasst1@x=2") == "x 2 chatml <text> <role>");
    CHECK(parse("the-stack@x") == "x 1 none <content> <>");
    CHECK(parse("pg19@x") == "x 1 none <text> <>");
    CHECK(parse("nope@x") ==
          "unknown data set \"nope\" before the @; known are open-platypus, gsm8k, oasst1, the-stack, pg19");
    CHECK(parse("d/user@host.txt") == "d/user@host.txt 1 automatic <> <>");
    CHECK(parse("a=b.txt:f") == "a=b.txt 1 none <f> <>");
    for (const char * bad : {"a=0", "a=-1", "a=nan", "a:", "", "=2", "a:f=1e12"}) {
        CAPTURE(bad);
        const std::string text = parse(bad);
        CHECK(starts_with(text, "\""));
    }
    CHECK(parse("a:f", TextForm::alpaca).find("needs more than one field") != std::string::npos);
    const ScratchFolder folder;
    const std::string path = folder.save("odd=2:x@y.txt", "t");
    CHECK(parse(path) == path + " 1 automatic <> <>");
    CHECK(parse(path + "=4") == path + " 4 automatic <> <>");
    CHECK_FALSE(parse_text_form("vicuna").ok());
}
