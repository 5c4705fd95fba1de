// tokenize MODEL --jsonl FILE: texts to token ids and back, one JSON record a line.
#include "args.h"

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

namespace {

using nlohmann::json;
using tools::Tokenizer;

struct Args {
    std::string model, jsonl;
    bool decode = false, no_special = false;
    tools::EngineArgs engine = {1, GNV_INSTRUCTIONS_BEST};
};

void declare(CLI::App & app, Args & args) {
    app.add_option("MODEL", args.model, "folder of a checkpoint, or a tokenizer.json")->required();
    app.add_option("--jsonl", args.jsonl, "records to read, one a line; - is standard input")
        ->required()
        ->type_name("FILE");
    app.add_flag("--decode", args.decode, "{\"ids\": [...]} in, {\"text\": ...} out, instead of the other way round");
    app.add_flag("--no-special", args.no_special, "treat control strings such as <|im_end|> as text");
    tools::add_instructions(app, args.engine);
}

// Takes the member `key` out of a record while it is parsed: a text, or a list of ids. It makes no tree of values, whose
// destructor would need memory where none is left.
class RecordReader final : public nlohmann::json_sax<json> {
  public:
    explicit RecordReader(const char * key) : key_(key) {}

    // Throws what is wrong with the record. A key that occurs twice counts as it stands last.
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
    bool parse_error(size_t, const std::string &, const json::exception & error) override {
        problem_ = error.what();
        return false;
    }

  private:
    enum class Kind { absent, text, list, other };

    // A value that is no id, wherever it stands.
    bool other(const std::string & description) {
        if (in_list_ && no_id_.empty()) no_id_ = description;
        return true;
    }

    const std::string key_;
    Kind kind_ = Kind::absent;
    bool is_object_ = false, wanted_ = false, in_list_ = false;
    int depth_ = 0; // of the arrays and objects around what is read
    std::string text_, names_, no_id_, problem_;
    std::vector<int32_t> ids_;
};

std::string encode_line(gnv_engine_t * engine, gnv_tokenizer_t * tokenizer, const Args & args,
                        const std::string & line) {
    RecordReader record("text");
    record.read(line);
    const std::string & text = record.text();
    const uint32_t flags = args.no_special ? GNV_TOKENIZER_NO_SPECIAL : 0;
    std::vector<int32_t> ids(text.size());
    size_t count = 0;
    const auto encode = [&] {
        if (gnv_tokenizer_encode(tokenizer, text.data(), text.size(), flags, ids.data(), ids.size(), &count) != GNV_OK)
            throw std::runtime_error(gnv_last_error(engine));
    };
    encode();
    const bool complete = count <= ids.size(); // normalization can make a text longer
    ids.resize(count);
    if (!complete) encode();
    std::string out = "{\"ids\": [";
    for (size_t i = 0; i < ids.size(); i++) out += (i ? ", " : "") + std::to_string(ids[i]);
    return out + "]}";
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
            fprintf(stderr, "error: %s:%llu: %s\n", name.c_str(), static_cast<unsigned long long>(number),
                    error.what());
            return tools::exit_failure;
        }
    }
    std::cout.flush();
    if (!std::cout) tools::say_cannot_write("-");
    if (input.bad()) fprintf(stderr, "error: cannot read %s\n", name.c_str());
    return input.bad() || !std::cout ? tools::exit_failure : tools::exit_ok;
}

} // namespace

static int run_program(int argc, char ** argv) {
    Args args;
    CLI::App app("Texts to token ids and back, with a checkpoint's own tokenizer.", "tokenize");
    tools::set_up(app);
    declare(app, args);
    if (const auto code = tools::parse(app, argc, argv)) return *code;
    if (args.decode && !tools::refuse(app, {"--no-special"}, "has no part in --decode: leave it out"))
        return tools::exit_failure;
    std::ios::sync_with_stdio(false);
    std::ifstream file;
    if (args.jsonl != "-") file.open(args.jsonl, std::ios::binary);
    if (!file) {
        perror(("error: cannot read " + args.jsonl).c_str());
        return tools::exit_failure;
    }
    const tools::Engine engine = tools::make_engine(args.engine);
    if (!engine) return tools::exit_failure;
    gnv_tokenizer_t * handle = nullptr;
    if (gnv_tokenizer_load(engine.get(), args.model.c_str(), &handle) != GNV_OK) return tools::report(engine.get());
    const Tokenizer tokenizer(handle);
    if (gnv_tokenizer_set_progress(handle, tools::stop_on_request, nullptr) != GNV_OK)
        return tools::report(engine.get());
    return run(args, engine.get(), tokenizer.get(), args.jsonl == "-" ? std::cin : file);
}

int main(int argc, char ** argv) { return tools::guarded(run_program, argc, argv); }
