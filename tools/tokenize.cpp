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
};

void declare(CLI::App & app, Args & args) {
    app.add_option("MODEL", args.model, "folder of a checkpoint, or a tokenizer.json")->required();
    app.add_option("--jsonl", args.jsonl, "records to read, one a line; - is standard input")
        ->required()
        ->type_name("FILE");
    app.add_flag("--decode", args.decode, "{\"ids\": [...]} in, {\"text\": ...} out, instead of the other way round");
    app.add_flag("--no-special", args.no_special, "treat control strings such as <|im_end|> as text");
}

// The member `key` of the record in `line`; throws what the record lacks.
json take_member(const std::string & line, const char * key) {
    const json record = json::parse(line);
    if (!record.is_object()) throw std::runtime_error("the line is not a JSON object");
    const auto member = record.find(key);
    if (member != record.end()) return *member;
    std::string found;
    for (const auto & item : record.items()) found += (found.empty() ? "\"" : ", \"") + item.key() + "\"";
    throw std::runtime_error(std::string("the record has no \"") + key + "\", only: " + found);
}

std::string encode_line(gnv_engine_t * engine, gnv_tokenizer_t * tokenizer, const Args & args,
                        const std::string & line) {
    const json text_value = take_member(line, "text");
    if (!text_value.is_string()) throw std::runtime_error("\"text\" is not a string");
    const auto & text = text_value.get_ref<const std::string &>();
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
    const json list = take_member(line, "ids");
    if (!list.is_array()) throw std::runtime_error("\"ids\" is not an array");
    std::vector<int32_t> ids;
    for (const json & id : list) {
        const bool fits = id.is_number_integer() && id >= INT32_MIN && id <= INT32_MAX;
        if (!fits) throw std::runtime_error("\"ids\" has an element that is not an id: " + id.dump());
        ids.push_back(id.get<int32_t>());
    }
    gnv_text_t * text = nullptr;
    if (gnv_tokenizer_decode(tokenizer, ids.data(), ids.size(), 0, &text) != GNV_OK)
        throw std::runtime_error(gnv_last_error(engine));
    const tools::Text owner(text);
    return "{\"text\": " + json(std::string(gnv_text_data(text), gnv_text_size(text))).dump() + "}";
}

int run(const Args & args, gnv_engine_t * engine, gnv_tokenizer_t * tokenizer, std::istream & input) {
    const std::string name = args.jsonl == "-" ? "standard input" : args.jsonl;
    std::string line;
    for (uint64_t number = 1; std::getline(input, line); number++) {
        try {
            std::cout << (args.decode ? decode_line(engine, tokenizer, line)
                                      : encode_line(engine, tokenizer, args, line))
                      << '\n';
        } catch (const std::exception & error) {
            std::cout.flush();
            fprintf(stderr, "error: %s:%llu: %s\n", name.c_str(), static_cast<unsigned long long>(number),
                    error.what());
            return tools::exit_failure;
        }
    }
    std::cout.flush();
    if (input.bad()) fprintf(stderr, "error: cannot read %s\n", name.c_str());
    if (!std::cout) fprintf(stderr, "error: cannot write the records\n");
    return input.bad() || !std::cout ? tools::exit_failure : tools::exit_ok;
}

} // namespace

static int run_program(int argc, char ** argv) {
    Args args;
    CLI::App app("Texts to token ids and back, with a checkpoint's own tokenizer.", "tokenize");
    tools::set_up(app);
    declare(app, args);
    TOOLS_PARSE(app, argc, argv);
    const tools::Engine engine = tools::make_engine(1);
    if (!engine) return tools::exit_failure;
    gnv_tokenizer_t * handle = nullptr;
    if (gnv_tokenizer_load(engine.get(), args.model.c_str(), &handle) != GNV_OK) return tools::report(engine.get());
    const Tokenizer tokenizer(handle);

    std::ios::sync_with_stdio(false);
    std::ifstream file;
    if (args.jsonl != "-") file.open(args.jsonl, std::ios::binary);
    if (!file) {
        perror(("error: cannot read " + args.jsonl).c_str());
        return tools::exit_failure;
    }
    return run(args, engine.get(), tokenizer.get(), args.jsonl == "-" ? std::cin : file);
}

int main(int argc, char ** argv) { return tools::guarded(run_program, argc, argv); }
