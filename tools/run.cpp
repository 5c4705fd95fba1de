// run MODEL --prompt TEXT | --tokens FILE | --chat [--image FILE] | --bench: lets a model write on, and writes down what it computes.
#include "common/args.h"
#include "common/bench.h"
#include "common/chat.h"
#include "common/draft.h"
#include "common/opened.h"

#include <algorithm>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>

namespace {

using nlohmann::json;
using tools::Tokenizer;
using Model = tools::Handle<gnv_model_t, gnv_model_close>;
using Dump = tools::Handle<gnv_dump_t, gnv_dump_destroy>;
using Picture = tools::Handle<gnv_picture_t, gnv_picture_destroy>;
using Ids = std::vector<int32_t>;

// Positions of a forward pass; the last may have up to twice as many. A multiple of 64, so that results do not depend
// on it.
constexpr size_t piece_positions = 256;
constexpr uint64_t default_predict = 128;

struct Args {
    std::string model, prompt, tokens, system, dump;
    std::vector<std::string> taps, images;
    tools::DeviceArgs device;
    std::optional<uint64_t> predict;
    std::optional<float> temperature, top_p, min_p, repetition_penalty;
    std::optional<int32_t> top_k;
    float presence_penalty = 0, frequency_penalty = 0;
    std::vector<gnv_logit_bias> logit_bias;
    std::vector<std::string> stop_texts;
    uint64_t seed = 42, ram_bytes = 0;
    int32_t draft = 0;
    gnv_cache_dtype cache_dtype = GNV_CACHE_AUTO;
    tools::EngineArgs engine;
    tools::BenchArgs bench;
    bool greedy = false, weights_only = false, json = false, quiet = false, has_prompt = false, chat = false;
    bool generates() const { return !bench.wanted && (dump.empty() || predict.value_or(0) > 0); }
};

// --logit-bias ID=BIAS.
void add_logit_bias(CLI::App & app, Args & args) {
    const auto take = [&args](const CLI::results_t & texts) {
        for (const std::string & text : texts) {
            const size_t split = std::min(text.find('='), text.size());
            uint64_t id = 0;
            char * end = nullptr;
            const float bias = split < text.size() ? strtof(text.c_str() + split + 1, &end) : 0;
            if (!tools::parse_count(text.substr(0, split), id) || id > INT32_MAX || !end || split + 1 == text.size() ||
                *end != '\0' || !(bias >= -100 && bias <= 100))
                tools::refuse_number("--logit-bias", text, "expected a token id, '=' and a number from -100 to 100");
            args.logit_bias.push_back({int32_t(id), bias});
        }
        return true;
    };
    app.add_option("--logit-bias", CLI::callback_t(take), "add BIAS, -100 to 100, to the logit of a token (repeatable)")
        ->type_name("ID=BIAS")
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->allow_extra_args(false);
}

void declare_sampling(CLI::App & app, Args & args) {
    constexpr double largest = std::numeric_limits<float>::max();
    tools::add_real(app, "--temp", args.temperature, 0, tools::Least::included, largest,
                    "temperature; 0: the likeliest token (default: the model's own)");
    tools::add_count(app, "--top-k", args.top_k, 0, INT32_MAX,
                     "sample among the K likeliest tokens; 0: all (default: the model's own)")
        ->type_name("K");
    tools::add_real(app, "--top-p", args.top_p, 0, tools::Least::excluded, 1,
                    "nucleus sampling: the fewest tokens that reach this probability (default: the model's own)")
        ->type_name("P");
    tools::add_real(app, "--min-p", args.min_p, 0, tools::Least::included, 1,
                    "tokens with at least P times the largest probability (default: the model's own)")
        ->type_name("P");
    tools::add_real(app, "--repetition-penalty", args.repetition_penalty, 0, tools::Least::excluded, largest,
                    "divide the logits of tokens in the text so far; 1: off (default: the model's own)");
    tools::add_real(app, "--presence-penalty", args.presence_penalty, -2, tools::Least::included, 2,
                    "subtract from the logits of written tokens (default 0)");
    tools::add_real(app, "--frequency-penalty", args.frequency_penalty, -2, tools::Least::included, 2,
                    "the same, for each time that a token was written (default 0)");
    add_logit_bias(app, args);
    tools::add_count_with_default(app, "--seed", args.seed, 0, tools::any_count, "seed of sampling");
    app.add_flag("--greedy", args.greedy, "always the likeliest token");
    tools::add_list(app, "--stop", args.stop_texts, "end before this text (repeatable)")->type_name("TEXT");
}

void declare(CLI::App & app, Args & args) {
    app.add_option("MODEL", args.model, "folder of a checkpoint: the source, or NVFP4")->required();
    auto * const prompt = app.add_option("--prompt", args.prompt, "prompt, without a chat template")->type_name("TEXT");
    app.add_option("--tokens", args.tokens, "prompts as token ids: {\"input_ids\": [[..], ..]}")
        ->type_name("FILE")
        ->excludes(prompt);
    tools::add_list(
        app, "--image", args.images,
        "a picture of the text, or a folder of frames: before --prompt, or at its placeholders; of --tokens at "
        "placeholders as many as the model needs; with --chat of the first turn (repeatable)")
        ->type_name("FILE");
    auto * const chat =
        app.add_flag("--chat", args.chat,
                     "a conversation: each line of standard input is a turn, /image FILE gives the next one a picture")
            ->excludes(prompt);
    app.add_option("--system", args.system, "what the model is told before the first turn")
        ->type_name("TEXT")
        ->needs(chat);
    tools::add_count(app, "--n-predict", args.predict, 0, INT32_MAX,
                     "tokens to write, at most (default 128; with --dump 0, with --chat up to the end of an answer)");
    declare_sampling(app, args);
    tools::add_draft(app, args.draft);
    app.add_option("--dump", args.dump, "write logits and the output of every block to a safetensors file")
        ->type_name("FILE");
    tools::add_list(app, "--tap", args.taps, "also write this module's output: layer.3.self_attn.q_norm (repeatable)")
        ->type_name("NAME");
    tools::add_device(app, args.device, "to compute on; several divide the layers among them", true);
    tools::add_vram(app, args.device);
    tools::add_precision(app, args.device);
    tools::add_cache_dtype(app, args.cache_dtype);
    app.add_flag("--weights-only", args.weights_only, "W4A16, also with input scales in the checkpoint");
    tools::add_bytes(
        app, "--ram", args.ram_bytes,
        "budget for weights and caches; on CUDA for experts that --vram has no room for, else for weights on "
        "their way (default: most of the free memory)");
    tools::add_threads(app, args.engine);
    app.add_flag(
        "--json", args.json,
        "a line {\"prompt_ids\": [..], \"ids\": [..], \"text\": ..} for each sequence, with --draft also \"draft\"; a "
        "document of --bench");
    tools::add_bench(app, args.bench);
    app.add_flag("--quiet", args.quiet, "only warnings and errors on standard error");
}

bool check_bench_usage(const CLI::App & app, const Args & args) {
    if (!args.bench.wanted)
        return tools::refuse(app, {"--n-prompt", "--n-gen", "--n-depth", "--repetitions"}, "is for --bench");
    const auto of_texts = {"--prompt", "--tokens", "--chat",  "--system",    "--image", "--dump",   "--tap",
                           "--temp",   "--top-k",  "--top-p", "--n-predict", "--seed",  "--greedy", "--draft"};
    return tools::refuse(app, of_texts, "goes without --bench, which makes its ids up");
}

// Every option must have an effect, and every output must be possible. False after printing the problem.
bool check_usage(const CLI::App & app, const Args & args) {
    if (!check_bench_usage(app, args)) return false;
    if (args.bench.wanted) return tools::check_counts(args.bench) && tools::check_vram(app, args.device);
    const char * problem = nullptr;
    if (!args.has_prompt && args.tokens.empty() && !args.chat)
        problem = "--prompt TEXT, --tokens FILE, --chat or --bench is needed";
    if (args.chat && (!args.tokens.empty() || !args.dump.empty() || args.json))
        problem = "--chat goes without --tokens, --dump and --json";
    if (args.chat && args.predict == 0u) problem = "--n-predict 0 leaves no answer";
    if (!args.taps.empty() && args.dump.empty()) problem = "--tap needs --dump FILE to write to";
    if (args.predict == 0u && args.dump.empty()) problem = "--n-predict 0 without --dump does nothing";
    if (args.greedy && (args.temperature || args.top_k || args.top_p || args.min_p))
        problem = "--greedy draws nothing: leave out --temp, --top-k, --top-p and --min-p";
    if (problem) tools::say_error("%s\n", problem);
    if (problem || !tools::check_vram(app, args.device)) return false;
    if (args.greedy || (args.temperature && *args.temperature == 0)) {
        const char * const why = "decides nothing: the likeliest token is taken; leave it out";
        if (!tools::refuse(app, {"--seed", "--top-k", "--top-p", "--min-p"}, why)) return false;
    }
    const auto of_texts = {"--temp",
                           "--top-k",
                           "--top-p",
                           "--min-p",
                           "--repetition-penalty",
                           "--presence-penalty",
                           "--frequency-penalty",
                           "--logit-bias",
                           "--seed",
                           "--greedy",
                           "--stop",
                           "--draft",
                           "--json"};
    if (!args.generates() && !tools::refuse(app, of_texts, "is for texts that are written on: give --n-predict N"))
        return false;
    if (access((args.dump + ".partial").c_str(), F_OK) == 0 && !args.dump.empty()) {
        tools::say_error("%s.partial is left from a run that did not finish; remove it\n", args.dump.c_str());
        return false;
    }
    return tools::check_new_file(args.dump);
}

// --- Sequences ----------------------------------------------------------------------------------------------------------

// Reads the ids of {"input_ids": [[..], ..]} while it is parsed, without a tree of a large file. Throws the problem of
// the file.
class SequenceReader : public nlohmann::json_sax<json> {
  public:
    std::vector<Ids> sequences;

    bool null() override { return other("null"); }
    bool boolean(bool value) override { return other(value ? "true" : "false"); }
    bool number_integer(int64_t value) override { return number(value, std::to_string(value)); }
    bool number_unsigned(uint64_t value) override {
        return number(value <= INT32_MAX ? int64_t(value) : int64_t(INT64_MAX), std::to_string(value));
    }
    bool number_float(double, const std::string & text) override { return other(text); }
    bool string(std::string & text) override { return other("\"" + text + "\""); }
    bool binary(binary_t &) override { return other("binary data"); }
    bool key(std::string & name) override {
        if (depth_ == 1) wanted_ = name == "input_ids";
        return true;
    }
    bool start_object(size_t) override {
        if (wanted_) other("{..}");
        depth_++;
        return true;
    }
    bool end_object() override { return end(); }
    bool start_array(size_t) override {
        if (depth_ == 0) throw std::runtime_error(expected);
        if (wanted_ && depth_ == 2) sequences.emplace_back();
        if (wanted_ && depth_ > 2) other("[..]");
        depth_++;
        return true;
    }
    bool end_array() override {
        if (wanted_ && depth_ == 3 && sequences.back().empty())
            throw std::runtime_error(where(1) + " is no list of ids");
        return end();
    }
    bool parse_error(size_t position, const std::string &, const json::exception &) override {
        throw std::runtime_error("the file is not JSON from byte " + std::to_string(position) +
                                 " on; expected {\"input_ids\": [[1, 2], ..]}");
    }
    static constexpr const char * expected = "expected {\"input_ids\": [[..], ..]} with at least one sequence";

  private:
    std::string where(size_t back) const { return "input_ids[" + std::to_string(sequences.size() - back) + "]"; }
    bool number(int64_t value, const std::string & text) {
        const bool fits = value >= INT32_MIN && value <= INT32_MAX;
        if (!wanted_ || depth_ != 3 || !fits) return other(text);
        sequences.back().push_back(int32_t(value));
        return true;
    }
    // A value other than an id.
    bool other(const std::string & text) {
        if (depth_ == 0 || (wanted_ && depth_ == 1)) throw std::runtime_error(expected);
        if (wanted_ && depth_ == 2) throw std::runtime_error(where(0) + " is no list of ids");
        if (wanted_) throw std::runtime_error(where(1) + " has an element that is not an id: " + text);
        return true;
    }
    bool end() {
        depth_--;
        if (depth_ == 1) wanted_ = false;
        return true;
    }

    int depth_ = 0;       // containers around the next value: 2 in the list of sequences, 3 in a sequence
    bool wanted_ = false; // below the key "input_ids"
};

std::vector<Ids> read_sequences(const std::string & path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot be read");
    SequenceReader reader;
    json::sax_parse(file, &reader);
    if (reader.sequences.empty()) throw std::runtime_error(SequenceReader::expected);
    return std::move(reader.sequences);
}

// --- Pictures -----------------------------------------------------------------------------------------------------------

struct Pictures {
    std::vector<Picture> handles;
    std::vector<const gnv_picture_t *> list; // of the handles
    std::vector<gnv_picture_info> infos;

    void resize(size_t count) { // to fewer
        handles.resize(count), list.resize(count), infos.resize(count);
    }
};

bool open_picture(gnv_engine_t * engine, const Args & args, const std::string & path, Pictures & pictures) {
    gnv_picture_t * handle = nullptr;
    const tools::StoppableCall stoppable;
    if (gnv_picture_open(engine, args.model.c_str(), path.c_str(), 0, &handle) != GNV_OK) return false;
    Picture owned(handle);
    gnv_picture_info info = {};
    info.struct_size = sizeof info;
    if (gnv_picture_get_info(handle, &info) != GNV_OK) return false;
    pictures.handles.push_back(std::move(owned));
    pictures.list.push_back(handle);
    pictures.infos.push_back(info);
    return true;
}

bool open_pictures(gnv_engine_t * engine, const Args & args, Pictures & pictures) {
    for (const std::string & path : args.images)
        if (!open_picture(engine, args, path, pictures)) return false;
    return true;
}

// The prompt with as many placeholders as the pictures need, as ids.
bool encode_with_pictures(gnv_tokenizer_t * tokenizer, const std::string & text, const Pictures & pictures, Ids & ids) {
    gnv_text_t * expanded = nullptr;
    if (gnv_picture_text(tokenizer, text.data(), text.size(), pictures.list.data(), pictures.list.size(), &expanded) !=
        GNV_OK)
        return false;
    const tools::Handle<gnv_text_t, gnv_text_destroy> owned(expanded);
    return tools::encode_text(tokenizer, gnv_text_data(expanded), gnv_text_size(expanded), ids);
}

// --- Progress -----------------------------------------------------------------------------------------------------------

// Stops long work on Ctrl-C; on a terminal it shows the progress of work that takes longer than a second.
class Progress {
  public:
    Progress(const char * what, bool quiet) : what_(what), shows_(!quiet && isatty(STDERR_FILENO) == 1) {}

    static int callback(void * user, const gnv_progress * now) {
        static_cast<Progress *>(user)->show(*now);
        return tools::stop_request();
    }

  private:
    void show(const gnv_progress & now) {
        const bool loads = now.bytes_total > 0;
        const uint64_t done = loads ? now.bytes : now.positions, total = loads ? now.bytes_total : now.positions_total;
        if (shown_ && done == total) {
            fputs("\r\033[K", stderr);
            shown_ = shows_ = false;
        } else if (shows_ && now.seconds > 1 && done < total) {
            fprintf(stderr, "\r\033[K%s %.0f %%", what_, 100 * double(done) / double(total));
            shown_ = true;
        }
    }

    const char * what_;
    bool shows_, shown_ = false;
};

// --- Dump ---------------------------------------------------------------------------------------------------------------

// Writes the activations of all sequences, in pieces of a forward pass, to one file. With pictures also what the tower is
// given of them, and where they stand in the text.
class DumpWriter {
  public:
    DumpWriter(gnv_engine_t * engine, gnv_model_t * model, const Pictures & pictures)
        : engine_(engine), model_(model), pictures_(pictures) {}

    // Plans the whole file and makes it.
    bool create(const Args & args, const std::vector<Ids> & sequences, uint64_t layers) {
        names_ = {"logits"};
        for (uint64_t layer = 0; layer < layers; layer++) names_.push_back("layer." + std::to_string(layer));
        if (!pictures_.list.empty()) add_tower();
        for (const std::string & name : args.taps)
            if (std::find(names_.begin(), names_.end(), name) == names_.end()) names_.push_back(name);
        std::vector<std::string> tensor_names;
        std::vector<std::vector<int64_t>> shapes;
        std::vector<gnv_dump_tensor> tensors;
        for (size_t s = 0; s < sequences.size(); s++) {
            for (const std::string & name : names_) {
                gnv_activation info = {};
                info.struct_size = sizeof info;
                uint64_t tap = 0;
                if (gnv_model_find_tap(model_, name.c_str(), &tap) != GNV_OK ||
                    gnv_model_tap_info(model_, tap, is_of_tower(name) ? patches() : sequences[s].size(), &info) !=
                        GNV_OK)
                    return false;
                tensor_names.push_back(sequences.size() > 1 ? std::to_string(s) + "." + name : name);
                shapes.emplace_back(info.shape, info.shape + info.dimensions);
                tensors.push_back(
                    {nullptr, std::string(info.dtype) == "I32" ? "I32" : "F32", info.dimensions, nullptr});
            }
        }
        inputs_ = tensors.size();
        if (!pictures_.list.empty()) {
            const auto columns = int64_t(pictures_.infos.front().columns), count = int64_t(pictures_.list.size());
            tensor_names.insert(tensor_names.end(), {"pixel_values", "grid_thw", "position_ids"});
            shapes.insert(shapes.end(), {{int64_t(patches()), columns}, {count, 3}, {3, int64_t(sequences[0].size())}});
            for (const char * dtype : {"F32", "I32", "I32"}) tensors.push_back({nullptr, dtype, 2, nullptr});
        }
        for (size_t i = 0; i < tensors.size(); i++) { // the vectors above have stopped moving
            tensors[i].name = tensor_names[i].c_str();
            tensors[i].shape = shapes[i].data();
        }
        gnv_dump_t * handle = nullptr;
        if (gnv_dump_create(engine_, args.dump.c_str(), tensors.data(), tensors.size(), &handle) != GNV_OK)
            return false;
        dump_.reset(handle);
        unfinished_ = std::make_unique<tools::UnfinishedFile>(args.dump + ".partial");
        return true;
    }

    bool run(const std::vector<Ids> & sequences, bool quiet) {
        const std::vector<const char *> names = tools::pointers(names_);
        gnv_forward_options options;
        gnv_forward_options_init(&options);
        options.all_logits = 1;
        options.tap = on_tap;
        options.user = this;
        options.tap_names = names.data();
        options.tap_count = names.size();
        Progress progress("forward pass", quiet);
        options.progress = Progress::callback;
        options.progress_user = &progress;
        options.pictures = pictures_.list.data();
        options.picture_count = pictures_.list.size();
        if (!write_inputs(sequences.front())) return false;
        for (sequence_ = 0; sequence_ < sequences.size(); sequence_++) {
            const Ids & ids = sequences[sequence_];
            if (gnv_model_reset(model_) != GNV_OK) return false;
            for (size_t at = 0, count = 0; at < ids.size(); at += count) {
                const bool whole = ids.size() - at < 2 * piece_positions || !pictures_.list.empty(); // none is cut
                count = whole ? ids.size() - at : piece_positions;
                failed_ = false;
                const tools::StoppableCall stoppable;
                if (gnv_model_forward(model_, ids.data() + at, count, &options, nullptr, 0, nullptr) != GNV_OK) {
                    if (failed_) tools::say_error("%s\n", failure_.c_str());
                    said_ = failed_;
                    return false;
                }
            }
            if (!quiet)
                fprintf(stderr, "sequence %zu of %zu: %zu positions\n", sequence_ + 1, sequences.size(), ids.size());
        }
        const bool finished = gnv_dump_finish(dump_.get()) == GNV_OK;
        unfinished_.reset();
        return finished;
    }
    bool said() const { return said_; } // the failure has been printed

  private:
    uint64_t patches() const {
        uint64_t sum = 0;
        for (const gnv_picture_info & info : pictures_.infos) sum += info.patches;
        return sum;
    }
    static bool is_of_tower(const std::string & name) {
        for (const char * prefix : {"block.", "merger", "patch_embed"})
            if (name.rfind(prefix, 0) == 0) return true;
        return false;
    }
    void add_tower() {
        uint64_t tap = 0;
        for (uint64_t block = 0;; block++) {
            const std::string name = "block." + std::to_string(block);
            if (gnv_model_find_tap(model_, name.c_str(), &tap) != GNV_OK) break;
            names_.push_back(name);
        }
        names_.push_back("merger");
    }
    // What is known before anything runs.
    bool write_inputs(const Ids & ids) {
        if (pictures_.list.empty()) return true;
        Ids grids, positions(3 * ids.size());
        if (gnv_model_reset(model_) != GNV_OK ||
            gnv_model_picture_positions(model_, ids.data(), ids.size(), pictures_.list.data(), pictures_.list.size(),
                                        positions.data()) != GNV_OK)
            return false;
        for (const gnv_picture_info & info : pictures_.infos) {
            for (const int64_t extent : info.grid) grids.push_back(int32_t(extent));
            if (gnv_dump_append(dump_.get(), inputs_, info.pixel_values, info.patches * info.columns * sizeof(float)) !=
                GNV_OK)
                return false;
        }
        return gnv_dump_append(dump_.get(), inputs_ + 1, grids.data(), grids.size() * sizeof(int32_t)) == GNV_OK &&
               gnv_dump_append(dump_.get(), inputs_ + 2, positions.data(), positions.size() * sizeof(int32_t)) ==
                   GNV_OK;
    }

    static int on_tap(void * user, const gnv_activation * activation) {
        auto & self = *static_cast<DumpWriter *>(user);
        if (tools::stop_request()) return 1;
        const auto name = std::find(self.names_.begin(), self.names_.end(), activation->name);
        const size_t tensor = self.sequence_ * self.names_.size() + size_t(name - self.names_.begin());
        if (gnv_dump_append(self.dump_.get(), tensor, activation->data, activation->bytes) == GNV_OK) return 0;
        self.failed_ = true; // keeps its message from being replaced by that of the stopped call
        self.failure_ = gnv_last_error(self.engine_);
        return 1;
    }

    gnv_engine_t * engine_;
    gnv_model_t * model_;
    const Pictures & pictures_;
    std::unique_ptr<tools::UnfinishedFile> unfinished_; // a signal in a forward pass ends the program at once
    Dump dump_;
    std::vector<std::string> names_; // of one sequence's tensors, in file order
    size_t sequence_ = 0;
    size_t inputs_ = 0; // tensors before those of the pictures
    bool failed_ = false, said_ = false;
    std::string failure_;
};

// --- Generation ---------------------------------------------------------------------------------------------------------

struct Output {
    bool stream = false;
    Ids ids;
    std::string text;
    size_t shown = 0; // of the text: all but a stop token
};

int on_token(void * user, const gnv_token * token) {
    auto & output = *static_cast<Output *>(user);
    output.ids.push_back(token->id);
    output.text.append(token->text, token->text_size);
    output.shown = output.text.size() - token->text_size + token->answer_size;
    if (output.stream) {
        fwrite(token->text, 1, token->answer_size, stdout);
        if (fflush(stdout) != 0) return 1;
    }
    return tools::stop_request();
}

void print_speed(const gnv_generate_result & result) {
    const auto rate = [](uint64_t count, double seconds) { return seconds > 0 ? double(count) / seconds : 0; };
    static const char * const reasons[] = {"a stop token", "--n-predict", "the model's positions", "stopped", "--stop"};
    fprintf(stderr, "prompt %llu tokens, %.1f/s; written %llu tokens, %.1f/s (%s)\n",
            static_cast<unsigned long long>(result.prompt_tokens), rate(result.prompt_tokens, result.prompt_seconds),
            static_cast<unsigned long long>(result.tokens), rate(result.tokens - 1, result.token_seconds),
            reasons[result.stop]);
    tools::print_drafts(result);
}

// `stop_texts`: those of `args`, for the library; they live as long as the options.
gnv_generate_options options_of(const Args & args, const std::vector<const char *> & stop_texts,
                                gnv_tokenizer_t * tokenizer, Output & output, Progress & progress) {
    gnv_generate_options options;
    gnv_generate_options_init(&options);
    options.max_tokens = args.predict.value_or(args.chat ? 0 : default_predict);
    if (args.greedy) options.temperature = 0;
    if (args.temperature) options.temperature = *args.temperature;
    if (args.top_k) options.top_k = *args.top_k;
    if (args.top_p) options.top_p = *args.top_p;
    if (args.min_p) options.min_p = *args.min_p;
    if (args.repetition_penalty) options.repetition_penalty = *args.repetition_penalty;
    options.presence_penalty = args.presence_penalty;
    options.frequency_penalty = args.frequency_penalty;
    options.logit_bias = args.logit_bias.data();
    options.logit_bias_count = args.logit_bias.size();
    options.seed = args.seed;
    options.draft = args.draft;
    options.stop_texts = stop_texts.data();
    options.stop_text_count = stop_texts.size();
    options.tokenizer = tokenizer;
    options.callback = on_token;
    options.user = &output;
    options.progress = Progress::callback;
    options.progress_user = &progress;
    return options;
}

// False with the message in the engine, or after a full standard output.
bool generate(const Args & args, gnv_model_t * model, gnv_tokenizer_t * tokenizer, const Pictures & pictures,
              const Ids & prompt) {
    Output output;
    output.stream = !args.json;
    Progress progress("reading the prompt", args.quiet);
    const std::vector<const char *> stop_texts = tools::pointers(args.stop_texts);
    gnv_generate_options options = options_of(args, stop_texts, tokenizer, output, progress);
    options.pictures = pictures.list.data();
    options.picture_count = pictures.list.size();
    gnv_generate_result result = {};
    result.struct_size = sizeof result;
    const tools::StoppableCall stoppable;
    if (gnv_model_reset(model) != GNV_OK ||
        gnv_model_generate(model, prompt.data(), prompt.size(), &options, &result) != GNV_OK)
        return false;
    if (args.json) {
        nlohmann::ordered_json line = {{"prompt_ids", prompt}, {"ids", output.ids}, {"text", output.text}};
        if (args.draft != 0) line["draft"] = tools::drafts_json(result);
        printf("%s\n", line.dump().c_str());
    } else {
        putchar('\n');
    }
    fflush(stdout);
    if (!args.quiet) print_speed(result);
    return true;
}

// --- Conversations ------------------------------------------------------------------------------------------------------

// Answers turn by turn. What the model holds of the conversation stays where the template leaves it as it was.
class Chat {
  public:
    // `pictures`: those of the first turn.
    Chat(const Args & args, gnv_engine_t * engine, gnv_model_t * model, gnv_tokenizer_t * tokenizer,
         Pictures & pictures)
        : args_(args), engine_(engine), model_(model), tokenizer_(tokenizer), conversation_(tokenizer, args.system),
          pictures_(pictures), asks_(!args.quiet && isatty(STDIN_FILENO) == 1) {}

    // False with the message in the engine, or when the program is asked to end.
    bool run() {
        std::string line;
        for (; ask() && std::getline(std::cin, line) && !ferror(stdout);) {
            if (line.find_first_not_of(" \t\r") == std::string::npos || takes_picture(line)) continue;
            std::vector<const char *> kinds; // of the pictures of this turn
            for (size_t i = told_; i < pictures_.infos.size(); i++)
                kinds.push_back(pictures_.infos[i].is_video ? "video" : "image");
            conversation_.add("user", line, kinds);
            if (!answer()) return false;
        }
        return true;
    }

  private:
    bool ask() const {
        if (asks_) fputs("> ", stderr);
        return true;
    }

    // "/image FILE": a picture of the next turn. One that cannot be read is said, and the conversation goes on.
    bool takes_picture(const std::string & line) {
        const std::string command = "/image ";
        if (line.compare(0, command.size(), command) != 0) return false;
        const size_t end = line.find_last_not_of(" \t\r") + 1;
        const std::string path = line.substr(command.size(), end > command.size() ? end - command.size() : 0);
        if (!open_picture(engine_, args_, path, pictures_)) (void)tools::report(engine_);
        return true;
    }

    bool answer() {
        Ids ids;
        if (!conversation_.encode(pictures_.list, ids)) return false;
        const bool goes_on = held_.size() < ids.size() && std::equal(held_.begin(), held_.end(), ids.begin());
        if (!goes_on) {
            held_.clear();
            held_pictures_ = 0;
            if (gnv_model_reset(model_) != GNV_OK) return false;
        }
        Output output;
        output.stream = true;
        Progress progress("reading the conversation", args_.quiet);
        const std::vector<const char *> stop_texts = tools::pointers(args_.stop_texts);
        gnv_generate_options options = options_of(args_, stop_texts, tokenizer_, output, progress);
        options.pictures = pictures_.list.data() + held_pictures_;
        options.picture_count = pictures_.list.size() - held_pictures_;
        gnv_generate_result result = {};
        result.struct_size = sizeof result;
        bool done = false;
        {
            const tools::StoppableCall stoppable;
            done = gnv_model_generate(model_, ids.data() + held_.size(), ids.size() - held_.size(), &options,
                                      &result) == GNV_OK;
        }
        putchar('\n');
        fflush(stdout);
        const bool stopped = tools::stop_wanted;
        if (stopped && !tools::forget_interrupt()) return false;
        if (!done && !stopped) return false;
        if (!done) { // stopped before the answer began: the model holds nothing, and the turn is taken back
            held_.clear();
            held_pictures_ = 0;
            pictures_.resize(told_);
            conversation_.remove_last();
            return gnv_model_reset(model_) == GNV_OK;
        }
        held_ = std::move(ids);
        held_pictures_ = told_ = pictures_.list.size();
        if (!output.ids.empty()) held_.insert(held_.end(), output.ids.begin(), output.ids.end() - 1);
        conversation_.add("assistant", output.text.substr(0, output.shown));
        if (!args_.quiet) print_speed(result);
        return true;
    }

    const Args & args_;
    gnv_engine_t * engine_;
    gnv_model_t * model_;
    gnv_tokenizer_t * tokenizer_;
    tools::Conversation conversation_;
    Pictures & pictures_;      // of all turns
    size_t told_ = 0;          // of them: those of turns that were answered
    Ids held_;                 // by the model's caches
    size_t held_pictures_ = 0; // among them
    const bool asks_;
};

// --- The run ------------------------------------------------------------------------------------------------------------

bool open_model(gnv_engine_t * engine, const Args & args, int32_t device, gnv_precision precision,
                const std::vector<Ids> & sequences, Model & model, gnv_model_info & info) {
    size_t longest = 0;
    for (const Ids & ids : sequences) longest = std::max(longest, ids.size());
    gnv_model_options options;
    gnv_model_options_init(&options);
    options.precision = precision;
    options.device = device;
    options.devices = args.device.numbers.data();
    options.device_count = args.device.numbers.size();
    options.weights_only = args.weights_only;
    options.ram_bytes = args.ram_bytes;
    options.device_bytes = args.device.vram_bytes;
    options.drafts = args.draft != 0;
    options.cache_dtype = args.cache_dtype;
    // A conversation has the room that models have when nothing is said.
    if (!args.chat) options.capacity = longest + (args.generates() ? args.predict.value_or(default_predict) : 0);
    if (args.bench.wanted) options.capacity = args.bench.positions();
    Progress progress("loading weights", args.quiet);
    options.progress = Progress::callback;
    options.user = &progress;
    gnv_model_t * handle = nullptr;
    const tools::StoppableCall stoppable;
    if (gnv_model_open(engine, args.model.c_str(), &options, &handle) != GNV_OK) return false;
    model.reset(handle);
    info.struct_size = sizeof info;
    return gnv_model_get_info(handle, &info) == GNV_OK;
}

int run(Args & args, gnv_engine_t * engine) {
    int32_t device = 0;
    gnv_precision precision = GNV_PRECISION_FP32;
    if (!tools::find_devices(engine, args.device, device, &precision)) return tools::exit_failure;
    std::vector<Ids> sequences;
    if (!args.tokens.empty()) {
        try {
            sequences = read_sequences(args.tokens);
        } catch (const std::exception & error) {
            tools::say_error("%s: %s\n", args.tokens.c_str(), error.what());
            return tools::exit_failure;
        }
    }
    Tokenizer tokenizer;
    if (args.has_prompt || args.generates()) { // forward passes over ids need none
        gnv_tokenizer_t * handle = nullptr;
        if (gnv_tokenizer_load(engine, args.model.c_str(), &handle) != GNV_OK) return tools::report(engine);
        tokenizer.reset(handle);
    }
    Pictures pictures;
    if (!open_pictures(engine, args, pictures)) return tools::report(engine);
    if (args.has_prompt && !encode_with_pictures(tokenizer.get(), args.prompt, pictures, sequences.emplace_back()))
        return tools::report(engine);
    if (!args.images.empty() && sequences.size() > 1) {
        tools::say_error("%s has %zu sequences; with --image it must have one, which the pictures are in\n",
                         args.tokens.c_str(), sequences.size());
        return tools::exit_failure;
    }
    if (!args.chat && !args.bench.wanted && sequences.front().empty()) {
        tools::say_error("--prompt is empty; give at least one character\n");
        return tools::exit_failure;
    }
    Model model;
    gnv_model_info info = {};
    if (!open_model(engine, args, device, precision, sequences, model, info)) return tools::report(engine);
    if (!args.quiet) tools::print_opened(info, args.cache_dtype);
    if (args.bench.wanted) {
        const bool done =
            tools::run_bench(engine, args.bench, args.model, device, args.engine.threads, model.get(), info, args.json);
        if (done) return tools::exit_ok;
        return tools::stop_wanted ? int(tools::exit_failure) : tools::report(engine);
    }
    if (!args.dump.empty()) {
        DumpWriter dump(engine, model.get(), pictures);
        if (!dump.create(args, sequences, info.layers)) return tools::report(engine);
        if (!dump.run(sequences, args.quiet)) return dump.said() ? int(tools::exit_failure) : tools::report(engine);
    }
    if (!args.generates()) return tools::exit_ok;
    if (args.chat) {
        if (!Chat(args, engine, model.get(), tokenizer.get(), pictures).run())
            return tools::stop_wanted ? int(tools::exit_failure) : tools::report(engine);
        return tools::exit_ok;
    }
    for (const Ids & ids : sequences) {
        if (!generate(args, model.get(), tokenizer.get(), pictures, ids)) return tools::report(engine);
        if (tools::stop_wanted) return tools::exit_failure;
        if (ferror(stdout)) {
            tools::say_cannot_write("-");
            return tools::exit_failure;
        }
    }
    return tools::exit_ok;
}

} // namespace

static int run_program(int argc, char ** argv) {
    Args args;
    tools::Program app("run",
                       "Run a model: continue texts, also about pictures; write logits and activations; measure rates.",
                       "MODEL --prompt TEXT | --tokens FILE | --chat | --bench [options]",
                       {{"continue a text", "run MODEL --prompt 'The capital of France is' --n-predict 16"},
                        {"a conversation", "run MODEL --chat"},
                        {"rates", "run MODEL --bench"}});
    tools::set_up(app);
    declare(app, args);
    app.group_help("Text", {"--prompt", "--tokens", "--image", "--chat", "--system", "--n-predict"});
    app.group_help("Sampling", {"--temp", "--top-k", "--top-p", "--min-p", "--repetition-penalty", "--presence-penalty",
                                "--frequency-penalty", "--logit-bias", "--seed", "--greedy", "--stop", "--draft"});
    app.group_help("Machine",
                   {"--device", "--threads", "--ram", "--vram", "--precision", "--weights-only", "--kv-cache-dtype"});
    app.group_help("Output", {"--dump", "--tap", "--json", "--quiet"});
    app.group_help("Rates", {"--bench", "--n-prompt", "--n-gen", "--n-depth", "--repetitions"});
    if (const auto code = tools::parse(app, argc, argv)) return *code;
    args.has_prompt = tools::is_given(app, "--prompt");
    if (!tools::find_model(args.model) || !tools::check_model(args.model) || !check_usage(app, args))
        return tools::exit_failure;
    const tools::Engine engine = tools::make_engine(args.engine);
    if (!engine) return tools::exit_failure;
    return run(args, engine.get());
}

int tools::run_run(int argc, char ** argv) { return tools::guarded(run_program, argc, argv); }
