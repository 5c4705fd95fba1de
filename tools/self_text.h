// Calibration data that the model writes itself: sequences sampled at temperature 1, one half from the start token, the other from
// short prompts, kept as a tokens file with the seed that repeats them.
#pragma once

#include "common/args.h"
#include "common/outputs.h"

#include <algorithm>
#include <cstdint>
#include <fstream>
#include <functional>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace tools {

struct SelfTextArgs {
    uint64_t records = 0; // 0: none
    uint64_t length = 512;
    uint64_t seed = 42;
    std::string path;   // of the tokens file, which is new
    std::string writer; // folder of the checkpoint that writes
};

// Whether two checkpoints mean the same by an id.
inline bool have_same_tokenizer(const std::string & one, const std::string & other) {
    const auto text_of = [](const std::string & folder) {
        std::ifstream file(folder + "/tokenizer.json", std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(file), {});
    };
    const std::string text = text_of(one);
    return !text.empty() && text == text_of(other);
}

// "self" or "self:N", beside the sources of data, which they leave. False after printing what is wrong with one.
inline bool take_self_text(std::vector<std::string> & sources, SelfTextArgs & args) {
    constexpr uint64_t usual = 256, most = 1'000'000;
    std::vector<std::string> others;
    for (const std::string & source : sources) {
        const bool is_self = source == "self" || source.rfind("self:", 0) == 0;
        if (!is_self) {
            others.push_back(source);
            continue;
        }
        const std::string number = source.size() > 5 ? source.substr(5) : source == "self" ? std::to_string(usual) : "";
        const bool digits =
            !number.empty() && number.size() < 8 && number.find_first_not_of("0123456789") == std::string::npos;
        const uint64_t records = digits ? std::stoull(number) : 0;
        if (args.records > 0 || records == 0 || records > most) {
            say_error("--calib %s: %s\n", source.c_str(),
                      args.records > 0 ? "the model's own text is wanted twice; give one number of sequences"
                                       : "after self: comes the number of sequences, 1 to 1000000");
            return false;
        }
        args.records = records;
    }
    sources = std::move(others);
    return true;
}

class SelfTextWriter {
  public:
    // `source_bytes`: of the source's weights, of which small CPU models have a copy for each thread.
    SelfTextWriter(const EngineArgs & engine, int32_t device, const DeviceArgs & device_args, uint64_t source_bytes,
                   const SelfTextArgs & args)
        : model_(args.writer), engine_(engine), device_(device), device_args_(device_args), args_(args) {
        constexpr uint64_t small = uint64_t(1) << 30;
        const int processors = int(std::thread::hardware_concurrency());
        const int wanted = engine.threads > 0 ? engine.threads : std::max(1, processors);
        workers_ = device == 0 && source_bytes < small ? wanted : 1;
    }

    // Writes all texts. False after printing the reason.
    bool run(bool quiet) {
        texts_.assign(args_.records, {});
        std::vector<std::thread> threads;
        const StoppableCall stoppable;
        for (int i = 0; i < workers_; i++) threads.emplace_back([this, quiet] { work(quiet); });
        for (std::thread & thread : threads) thread.join();
        if (failed_ || stop_request()) return false;
        texts_.erase(std::remove_if(texts_.begin(), texts_.end(), [](const auto & text) { return text.empty(); }),
                     texts_.end());
        if (!quiet || replaced_ > 0)
            fprintf(stderr,
                    "note: the model wrote %zu sequences of up to %llu tokens; %llu fell into repetition, %llu of them "
                    "were replaced\n",
                    texts_.size(), static_cast<unsigned long long>(args_.length),
                    static_cast<unsigned long long>(replaced_ + left_out_), static_cast<unsigned long long>(replaced_));
        if (!texts_.empty()) return true;
        say_error("every text that the model wrote falls into repetition: calibrate with data\n");
        return false;
    }

    // Texts and, behind them, the sequences of `data` (may be null), as a new tokens file. False after printing the reason.
    bool save(gnv_engine_t * engine, gnv_dataset_t * data) const {
        nlohmann::json ids = texts_, masks = nlohmann::json::array();
        for (const auto & text : texts_) masks.push_back(std::vector<int>(text.size(), 1));
        for (uint64_t i = 0; i < gnv_dataset_size(data); i++) {
            gnv_sequence sequence = {};
            sequence.struct_size = sizeof sequence;
            if (gnv_dataset_sequence(data, i, &sequence) != GNV_OK) {
                report(engine);
                return false;
            }
            ids.push_back(std::vector<int32_t>(sequence.ids, sequence.ids + sequence.length));
            std::vector<int> mask(sequence.length, 1);
            for (uint64_t k = 0; sequence.mask && k < sequence.length; k++) mask[k] = sequence.mask[k];
            masks.push_back(mask);
        }
        const nlohmann::json file = {{"input_ids", ids},
                                     {"attention_mask", masks},
                                     {"self_text",
                                      {{"model", model_},
                                       {"sequences", texts_.size()},
                                       {"length", args_.length},
                                       {"seed", args_.seed},
                                       {"temperature", 1},
                                       {"replaced", replaced_},
                                       {"left_out", left_out_}}}};
        const std::string text = file.dump() + "\n";
        FILE * const out = fopen(args_.path.c_str(), "wxe");
        const UnfinishedFile unfinished(args_.path);
        const bool good = out && fwrite(text.data(), 1, text.size(), out) == text.size();
        if ((!out || fclose(out) == 0) && good) return true;
        say_cannot_write(args_.path);
        if (out) unlink(args_.path.c_str());
        return false;
    }

  private:
    static constexpr int attempts = 4;
    using Model = Handle<gnv_model_t, gnv_model_close>;
    // A text that is written.
    struct Text {
        Handle<gnv_session_t, gnv_session_close> session;
        uint64_t record = 0;
        int attempt = 0;
        std::vector<int32_t> ids;
        bool writes = false;
    };

    // The mixing function of SplitMix64: seeds that follow each other have no text in common.
    static uint64_t spread(uint64_t seed) {
        seed = (seed ^ seed >> 30) * 0xbf58476d1ce4e5b9;
        seed = (seed ^ seed >> 27) * 0x94d049bb133111eb;
        return seed ^ seed >> 31;
    }
    // Ids of a text. Empty: none.
    static std::vector<int32_t> encode(gnv_tokenizer_t * tokenizer, const std::string & text) {
        std::vector<int32_t> ids(text.size() + 1);
        size_t count = 0;
        if (gnv_tokenizer_encode(tokenizer, text.data(), text.size(), 0, ids.data(), ids.size(), &count) != GNV_OK)
            return {};
        ids.resize(std::min(count, ids.size()));
        return ids;
    }
    // Every second text begins with the start token alone.
    std::vector<int32_t> prompt(gnv_tokenizer_t * tokenizer, const gnv_model_info & info, uint64_t record) const {
        static constexpr const char * prompts[] = {"The",
                                                   "# ",
                                                   "import ",
                                                   "How do I",
                                                   "Once upon a time",
                                                   "{\"",
                                                   "<!DOCTYPE html>\n",
                                                   "Question: ",
                                                   "In this chapter",
                                                   "#include <",
                                                   "1. ",
                                                   "Die ",
                                                   "Le ",
                                                   "SELECT ",
                                                   "Abstract. ",
                                                   "Dear "};
        std::vector<int32_t> ids = encode(tokenizer, "<|endoftext|>");
        if (ids.size() != 1) ids.assign(info.stop_count > 0 ? 1 : 0, info.stop_count > 0 ? info.stop_ids[0] : 0);
        if (record % 2 == 0 && !ids.empty()) return ids;
        const std::vector<int32_t> more = encode(tokenizer, prompts[record / 2 % std::size(prompts)]);
        ids.insert(ids.end(), more.begin(), more.end());
        return ids;
    }
    void fail(const gnv_engine_t * engine) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (!failed_ && engine) report(engine);
        failed_ = true;
    }

    // Takes one text after another. A text depends on its number and the seed alone.
    void work(bool quiet) {
        EngineArgs engine_args = engine_;
        if (workers_ > 1) engine_args.threads = 1;
        const Engine engine = make_engine(engine_args);
        if (!engine) return fail(nullptr);
        std::vector<Text> texts;
        const Model model_owner = open(engine.get(), texts);
        gnv_model_t * const model = model_owner.get();
        if (!model) return fail(engine.get());
        gnv_tokenizer_t * tokenizer = nullptr;
        if (gnv_tokenizer_load(engine.get(), model_.c_str(), &tokenizer) != GNV_OK) return fail(engine.get());
        const Tokenizer tokenizer_owner(tokenizer);
        gnv_model_info info = {};
        info.struct_size = sizeof info;
        if (gnv_model_get_info(model, &info) != GNV_OK) return fail(engine.get());
        for (Text & text : texts) {
            gnv_session_t * session = nullptr;
            if (gnv_session_open(model, &session) != GNV_OK) return fail(engine.get());
            text.session.reset(session);
        }
        gnv_step_options step_options;
        gnv_step_options_init(&step_options);
        step_options.progress = [](void *, const gnv_progress *) { return int(stop_request()); };
        // Texts go on together, a token each; where one ends, the next begins.
        for (;;) {
            bool any = false;
            for (Text & text : texts) {
                if (!text.writes && next(text.record, quiet)) {
                    text.attempt = 0;
                    if (!begin(tokenizer, info, text)) return fail(engine.get());
                }
                any |= text.writes;
            }
            if (!any || stop_request()) break;
            gnv_step_result step = {};
            step.struct_size = sizeof step;
            do
                if (const gnv_status status = gnv_model_step(model, nullptr, 0, &step_options, &step); status != GNV_OK)
                    return status == GNV_CANCELLED ? void() : fail(engine.get());
            while (step.waiting > 0);
            for (Text & text : texts)
                if (text.writes && !go_on(tokenizer, info, text)) return fail(engine.get());
        }
    }

    // With as many sessions as there is room for beside the weights; if there is none, with many texts for each time that the
    // weights are read.
    Model open(gnv_engine_t * engine, std::vector<Text> & texts) const {
        gnv_model_options options;
        gnv_model_options_init(&options);
        options.precision = device_args_.precision;
        options.device = device_;
        options.device_bytes = device_args_.vram_bytes;
        options.capacity = args_.length;
        const uint64_t most = std::min<uint64_t>(workers_ > 1 ? 8 : device_ == 0 ? 32 : 1024, args_.records);
        for (const bool must_stay : {true, false})
            for (uint64_t count = most; count > 0; count = count == 1 ? 0 : (count + 1) / 2) {
                options.sessions = count;
                gnv_model_t * model = nullptr;
                const gnv_status status = gnv_model_open(engine, model_.c_str(), &options, &model);
                Model owner(model);
                if (status != GNV_OK && status != GNV_OUT_OF_MEMORY) return {};
                gnv_model_info info = {};
                info.struct_size = sizeof info;
                if (!model || gnv_model_get_info(model, &info) != GNV_OK || (must_stay && !info.weights_stay)) continue;
                texts.resize(count);
                return owner;
            }
        return {};
    }
    bool next(uint64_t & record, bool quiet) {
        const std::lock_guard<std::mutex> lock(mutex_);
        if (failed_ || next_ == args_.records || stop_request()) return false;
        record = next_++;
        if (!quiet && record % std::max<uint64_t>(1, args_.records / 10) == 0)
            fprintf(stderr, "the model writes sequence %llu of %llu\n", static_cast<unsigned long long>(record + 1),
                    static_cast<unsigned long long>(args_.records));
        return true;
    }
    // Another attempt at a text.
    bool begin(gnv_tokenizer_t * tokenizer, const gnv_model_info & info, Text & text) const {
        text.ids = prompt(tokenizer, info, text.record);
        if (text.ids.size() >= args_.length) text.ids.resize(args_.length - 1);
        text.writes = true;
        gnv_generate_options options;
        gnv_generate_options_init(&options);
        options.temperature = 1;
        options.top_k = 0;
        options.top_p = 1;
        options.seed = spread(args_.seed) + text.record * attempts + uint64_t(text.attempt);
        // The series begins before the feed, so that the device draws the first token, too.
        gnv_session_t * const session = text.session.get();
        return gnv_session_reset(session) == GNV_OK && gnv_session_pick(session, &options, nullptr) == GNV_OK &&
               gnv_session_feed(session, text.ids.data(), text.ids.size(), GNV_WANT_PICK) == GNV_OK;
    }
    // The next token of a text; at its end the text is kept, or another attempt begins.
    bool go_on(gnv_tokenizer_t * tokenizer, const gnv_model_info & info, Text & text) {
        int32_t id = -1;
        if (gnv_session_pick(text.session.get(), nullptr, &id) != GNV_OK) return false;
        text.ids.push_back(id);
        if (text.ids.size() < args_.length)
            return gnv_session_feed(text.session.get(), &id, 1, GNV_WANT_PICK) == GNV_OK;
        text.writes = false;
        if (gnv_tokens_repeat(text.ids.data(), text.ids.size()) && ++text.attempt < attempts)
            return begin(tokenizer, info, text);
        const std::lock_guard<std::mutex> lock(mutex_);
        if (text.attempt == attempts) {
            left_out_++;
            return true;
        }
        replaced_ += text.attempt > 0;
        texts_[text.record] = std::move(text.ids);
        return true;
    }

    const std::string model_;
    const EngineArgs engine_;
    const int32_t device_;
    const DeviceArgs & device_args_;
    const SelfTextArgs & args_;
    int workers_ = 1;
    std::mutex mutex_;
    uint64_t next_ = 0, replaced_ = 0, left_out_ = 0;
    bool failed_ = false;
    std::vector<std::vector<int32_t>> texts_; // by number; empty: left out
};

} // namespace tools
