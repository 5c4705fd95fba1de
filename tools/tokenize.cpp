// tokenize MODEL --jsonl FILE: texts to token ids and back, one JSON record a line.
// tokenize MODEL --chat FILE: a conversation to its text or its ids, with the chat template.
#include "common/args.h"
#include "common/chat.h"

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

namespace {

using nlohmann::json;
using tools::Tokenizer;

struct Args {
    std::string model, jsonl, chat, template_file;
    bool decode = false, no_special = false, text = false;
    tools::EngineArgs engine = {1, GNV_INSTRUCTIONS_BEST};
};

void declare(CLI::App & app, Args & args) {
    app.add_option("MODEL", args.model, "folder of a checkpoint, or a tokenizer.json")->required();
    auto * const jsonl =
        app.add_option("--jsonl", args.jsonl, "records to read, one a line; - is standard input")->type_name("FILE");
    auto * const chat = app.add_option("--chat", args.chat, "a conversation: {\"messages\": [..], \"tools\": [..], ..}")
                            ->type_name("FILE")
                            ->excludes(jsonl);
    app.add_option("--template-file", args.template_file, "a chat template instead of the checkpoint's own")
        ->type_name("FILE")
        ->needs(chat);
    app.add_flag("--text", args.text, "the conversation's text instead of its ids")->needs(chat);
    app.add_flag("--decode", args.decode, "{\"ids\": [...]} in, {\"text\": ...} out, instead of the other way round");
    app.add_flag("--no-special", args.no_special, "treat control strings such as <|im_end|> as text");
    tools::add_instructions(app, args.engine);
}

// Extracts the member `key` of a record while it is parsed: a text, or a list of ids. It makes no tree of values, whose
// destructor would need memory when none is left.
class RecordReader final : public nlohmann::json_sax<json> {
  public:
    explicit RecordReader(const char * key) : key_(key) {}

    // Throws the problem of the record. Of a key that occurs twice the last value counts.
    void read(const std::string & line) {
        if (!json::sax_parse(line, this)) throw std::runtime_error(problem_);
        if (!is_object_) throw std::runtime_error("the line is not a JSON object");
        if (kind_ == Kind::absent) throw std::runtime_error("the record has no \"" + key_ + "\", only: " + names_);
    }
    const std::string & text() const {
        if (kind_ != Kind::text) throw std::runtime_error("\"" + key_ + "\" is not a string");
        return text_;
    }
    const std::vector<int32_t> & ids() const {
        if (kind_ != Kind::list) throw std::runtime_error("\"" + key_ + "\" is not an array");
        if (!no_id_.empty()) throw std::runtime_error("\"" + key_ + "\" has an element that is not an id: " + no_id_);
        return ids_;
    }

    bool null() override { return other("null"); }
    bool boolean(bool value) override { return other(value ? "true" : "false"); }
    bool number_float(number_float_t, const string_t & text) override { return other(text); }
    bool number_integer(number_integer_t value) override {
        if (!in_list_ || depth_ != 2 || value < INT32_MIN || value > INT32_MAX) return other(std::to_string(value));
        ids_.push_back(int32_t(value));
        return true;
    }
    bool number_unsigned(number_unsigned_t value) override {
        return value > INT32_MAX ? other(std::to_string(value)) : number_integer(number_integer_t(value));
    }
    bool string(string_t & value) override {
        if (!wanted_ || depth_ != 1) return other("a string");
        kind_ = Kind::text;
        text_ = std::move(value);
        return true;
    }
    bool binary(binary_t &) override { return other("bytes"); }
    bool start_object(size_t) override {
        is_object_ = is_object_ || depth_ == 0;
        other("an object");
        depth_++;
        return true;
    }
    bool start_array(size_t) override {
        if (wanted_ && depth_ == 1) {
            kind_ = Kind::list;
            in_list_ = true;
        } else {
            other("an array");
        }
        depth_++;
        return true;
    }
    bool end_object() override { return depth_-- > 0; }
    bool end_array() override {
        depth_--;
        in_list_ = in_list_ && depth_ > 1;
        return true;
    }
    bool key(string_t & name) override {
        if (depth_ != 1) return true;
        wanted_ = name == key_;
        if (wanted_) kind_ = Kind::other, ids_.clear(), no_id_.clear();
        names_ += (names_.empty() ? "\"" : ", \"") + name + "\"";
        return true;
    }
    bool parse_error(size_t position, const std::string &, const json::exception & error) override {
        // "... syntax error while parsing value - invalid string: surrogate ...; last read: ..."
        std::string reason = error.what();
        if (const size_t dash = reason.find(" - "); dash != std::string::npos) reason.erase(0, dash + 3);
        problem_ = "the line is not JSON from byte " + std::to_string(position) + " on (" +
                   reason.substr(0, reason.find("; last read")) + "); expected an object such as " +
                   (key_ == "ids" ? "{\"ids\": [1, 2]}" : "{\"text\": \"...\"}");
        return false;
    }

  private:
    enum class Kind { absent, text, list, other };

    // A value that is no id.
    bool other(const std::string & description) {
        if (in_list_ && no_id_.empty()) no_id_ = description;
        return true;
    }

    const std::string key_;
    Kind kind_ = Kind::absent;
    bool is_object_ = false, wanted_ = false, in_list_ = false;
    int depth_ = 0; // of arrays and objects around the current value
    std::string text_, names_, no_id_, problem_;
    std::vector<int32_t> ids_;
};

// {"ids": [..]} of a text.
std::string encode(gnv_engine_t * engine, gnv_tokenizer_t * tokenizer, const Args & args, std::string_view text) {
    const uint32_t flags = args.no_special ? GNV_TOKENIZER_NO_SPECIAL : 0;
    std::vector<int32_t> ids(text.size());
    size_t count = 0;
    const auto fill = [&] {
        if (gnv_tokenizer_encode(tokenizer, text.data(), text.size(), flags, ids.data(), ids.size(), &count) != GNV_OK)
            throw std::runtime_error(gnv_last_error(engine));
    };
    fill();
    const bool complete = count <= ids.size(); // normalization can make a text longer
    ids.resize(count);
    if (!complete) fill();
    std::string out = "{\"ids\": [";
    for (size_t i = 0; i < ids.size(); i++) out += (i ? ", " : "") + std::to_string(ids[i]);
    return out + "]}";
}

std::string encode_line(gnv_engine_t * engine, gnv_tokenizer_t * tokenizer, const Args & args,
                        const std::string & line) {
    RecordReader record("text");
    record.read(line);
    return encode(engine, tokenizer, args, record.text());
}

std::string decode_line(gnv_engine_t * engine, gnv_tokenizer_t * tokenizer, const std::string & line) {
    RecordReader record("ids");
    record.read(line);
    const std::vector<int32_t> & ids = record.ids();
    gnv_text_t * text = nullptr;
    if (gnv_tokenizer_decode(tokenizer, ids.data(), ids.size(), 0, &text) != GNV_OK)
        throw std::runtime_error(gnv_last_error(engine));
    const tools::Text owner(text);
    return "{\"text\": " + json(std::string(gnv_text_data(text), gnv_text_size(text))).dump() + "}";
}

// The text of the conversation as it is, or a line with its ids.
int run_chat(const Args & args, gnv_engine_t * engine, gnv_tokenizer_t * tokenizer, std::istream & input) {
    const std::string conversation((std::istreambuf_iterator<char>(input)), {});
    gnv_text_t * rendered = nullptr;
    const char * const file = args.template_file.empty() ? nullptr : args.template_file.c_str();
    const bool made = gnv_tokenizer_render_chat(tokenizer, conversation.data(), conversation.size(), file,
                                                tools::local_time(), &rendered) == GNV_OK;
    const tools::Text owner(rendered);
    try {
        if (!made) throw std::runtime_error(gnv_last_error(engine));
        const std::string_view text(gnv_text_data(rendered), gnv_text_size(rendered));
        std::cout << (args.text ? std::string(text) : encode(engine, tokenizer, args, text) + "\n");
    } catch (const std::bad_alloc &) {
        throw;
    } catch (const std::exception & error) {
        tools::failure_kind = std::max(tools::exit_code_of(gnv_last_status(engine)), int(tools::exit_input));
        tools::say_error("%s: %s\n", args.chat.c_str(), error.what());
        return tools::exit_failure;
    }
    std::cout.flush();
    if (!std::cout) tools::say_cannot_write("-");
    return std::cout ? tools::exit_ok : tools::exit_failure;
}

int run(const Args & args, gnv_engine_t * engine, gnv_tokenizer_t * tokenizer, std::istream & input) {
    const std::string name = args.jsonl == "-" ? "standard input" : args.jsonl;
    std::string line;
    for (uint64_t number = 1; std::cout && std::getline(input, line); number++) {
        try {
            std::cout << (args.decode ? decode_line(engine, tokenizer, line)
                                      : encode_line(engine, tokenizer, args, line))
                      << '\n';
        } catch (const std::bad_alloc &) {
            throw; // a message of its own
        } catch (const std::exception & error) {
            std::cout.flush();
            tools::failure_kind = tools::exit_input;
            tools::say_error("%s:%llu: %s\n", name.c_str(), static_cast<unsigned long long>(number), error.what());
            return tools::exit_failure;
        }
    }
    std::cout.flush();
    if (!std::cout) tools::say_cannot_write("-");
    if (input.bad()) tools::say_error("cannot read %s\n", name.c_str());
    return input.bad() || !std::cout ? tools::exit_failure : tools::exit_ok;
}

} // namespace

static int run_program(int argc, char ** argv) {
    Args args;
    tools::Program app("tokenize", "Convert texts to token ids and back with a checkpoint's own tokenizer.",
                       "MODEL --jsonl FILE | --chat FILE [options]",
                       {{"texts to ids, one record a line", "echo '{\"text\": \"Hello\"}' | tokenize MODEL --jsonl -"},
                        {"a conversation as the model sees it", "tokenize MODEL --chat chat.json --text"}});
    tools::set_up(app);
    declare(app, args);
    if (const auto code = tools::parse(app, argc, argv)) return *code;
    if (args.decode && !tools::refuse(app, {"--no-special"}, "has no effect with --decode: leave it out"))
        return tools::exit_failure;
    if (!args.chat.empty() && !tools::refuse(app, {"--decode"}, "has no part in --chat: leave it out"))
        return tools::exit_failure;
    if (args.text && !tools::refuse(app, {"--no-special"}, "has no part in --text: leave it out"))
        return tools::exit_failure;
    if (args.jsonl.empty() && args.chat.empty()) {
        tools::say_error("--jsonl FILE or --chat FILE is needed\n");
        return tools::exit_failure;
    }
    const std::string & path = args.chat.empty() ? args.jsonl : args.chat;
    std::ios::sync_with_stdio(false);
    std::ifstream file;
    if (path != "-") file.open(path, std::ios::binary);
    if (!file) {
        perror(("error: cannot read " + path).c_str());
        return tools::exit_failure;
    }
    if (!tools::find_model(args.model)) return tools::exit_failure;
    const tools::Engine engine = tools::make_engine(args.engine);
    if (!engine) return tools::exit_failure;
    gnv_tokenizer_t * handle = nullptr;
    if (gnv_tokenizer_load(engine.get(), args.model.c_str(), &handle) != GNV_OK) return tools::report(engine.get());
    const Tokenizer tokenizer(handle);
    if (gnv_tokenizer_set_progress(handle, tools::stop_on_request, nullptr) != GNV_OK)
        return tools::report(engine.get());
    std::istream & input = path == "-" ? std::cin : file;
    return args.chat.empty() ? run(args, engine.get(), tokenizer.get(), input)
                             : run_chat(args, engine.get(), tokenizer.get(), input);
}

int tools::run_tokenize(int argc, char ** argv) { return tools::guarded(run_program, argc, argv); }
