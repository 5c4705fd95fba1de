// run --bench: how fast a model reads prompts and writes tokens, in the columns of llama-bench, beside the machine's
// limits. The ids are made up: no tokenizer, no sampling.
#pragma once

#include "args.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

namespace tools {

struct BenchArgs {
    bool wanted = false;
    std::vector<uint64_t> prompts = {512}, generated = {128}, depths = {0};
    uint64_t repetitions = 5;

    // The room that the longest test needs.
    uint64_t positions() const {
        uint64_t longest = 1;
        for (const auto * counts : {&prompts, &generated})
            for (const uint64_t count : *counts) longest = std::max(longest, count);
        return *std::max_element(depths.begin(), depths.end()) + longest;
    }
};

// False after saying that nothing would be measured.
inline bool check_counts(const BenchArgs & args) {
    for (const auto * counts : {&args.prompts, &args.generated})
        for (const uint64_t count : *counts)
            if (count > 0) return true;
    say_error("--bench measures nothing with --n-prompt 0 and --n-gen 0: give one of them\n");
    return false;
}

// "512,1024": whole numbers.
inline void add_counts(CLI::App & app, const std::string & name, std::vector<uint64_t> & counts,
                       const std::string & help) {
    const auto take = [=, &counts](const CLI::results_t & texts) {
        counts.clear();
        const std::string & list = texts.back();
        for (size_t at = 0; at <= list.size();) {
            const size_t end = std::min(list.find(',', at), list.size());
            uint64_t count = 0;
            if (!parse_count(list.substr(at, end - at), count) || count > most_positions / 4)
                refuse_number(name, list, "expected whole numbers with commas between them, such as 0,4096");
            counts.push_back(count);
            at = end + 1;
        }
        return true;
    };
    app.add_option(name, CLI::callback_t(take), help)->type_name("N,..");
}

inline void add_bench(CLI::App & app, BenchArgs & args) {
    app.add_flag("--bench", args.wanted, "measure the rates of reading prompts and of writing tokens");
    add_counts(app, "--n-prompt", args.prompts, "--bench: tokens of a prompt; 0: none (default 512)");
    add_counts(app, "--n-gen", args.generated, "--bench: tokens to write; 0: none (default 128)");
    add_counts(app, "--n-depth", args.depths, "--bench: tokens in the caches before each test (default 0)");
    add_count(app, "--repetitions", args.repetitions, 1, 1000, "--bench: runs of each test (default 5)");
}

inline double bench_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// Bytes a second that all threads together read and write when they copy memory: the best of some copies.
inline double copy_rate(unsigned threads) {
    constexpr size_t total = size_t(256) << 20;
    const size_t part = total / threads / 64 * 64;
    std::vector<char> from(total, 1), to(total, 2); // all pages are there
    double best = 0;
    for (int run = 0; run < 7; run++) {
        const double start = bench_seconds();
        std::vector<std::thread> workers;
        for (unsigned i = 1; i < threads; i++)
            workers.emplace_back([&, i] { memcpy(&to[i * part], &from[i * part], part); });
        memcpy(to.data(), from.data(), part);
        for (std::thread & worker : workers) worker.join();
        best = std::max(best, 2 * double(part) * threads / (bench_seconds() - start));
    }
    return best;
}

// What a checkpoint's text model holds, and what one token reads of it as its weights lie in memory.
struct BenchWeights {
    uint64_t bytes = 0, parameters = 0, bytes_a_token = 0;
};

// False with the message in the engine.
inline bool find_weights(gnv_engine_t * engine, const std::string & folder, const gnv_model_info & model,
                         BenchWeights & weights) {
    gnv_checkpoint_t * handle = nullptr;
    const gnv_status status = gnv_checkpoint_open(engine, folder.c_str(), &handle);
    if (status == GNV_UNSUPPORTED) return true; // a library without `inspect`: the columns stay 0
    if (status != GNV_OK) return false;
    const Handle<gnv_checkpoint_t, gnv_checkpoint_close> checkpoint(handle);
    uint64_t expert_bytes = 0, embedding_bytes = 0;
    bool has_head = false;
    for (uint64_t i = 0; i < gnv_checkpoint_tensor_count(handle); i++) {
        gnv_tensor_info tensor = {};
        tensor.struct_size = sizeof tensor;
        if (gnv_checkpoint_tensor_info(handle, i, &tensor) != GNV_OK) return false;
        const std::string role = tensor.role, part = tensor.part;
        if (role.rfind("draft head", 0) == 0 || role.rfind("vision", 0) == 0 || role == "extra") continue;
        uint64_t elements = 1;
        for (uint64_t d = 0; d < tensor.dimensions; d++) elements *= uint64_t(tensor.shape[d]);
        if (part == "codes") elements *= 2; // two in a byte
        if (part.empty() || part == "codes") weights.parameters += elements;
        weights.bytes += tensor.bytes;
        has_head = has_head || role == "lm_head";
        uint64_t & sum = role == "embedding"            ? embedding_bytes // of which a token reads one row
                         : role.rfind("expert", 0) == 0 ? expert_bytes
                                                        : weights.bytes_a_token;
        sum += tensor.bytes;
    }
    if (!has_head) weights.bytes_a_token += embedding_bytes; // which is the head, too
    if (model.experts > 0) weights.bytes_a_token += expert_bytes / model.experts * model.experts_per_token;
    weights.bytes_a_token -= std::min(weights.bytes_a_token, model.saved_bytes);
    return true;
}

struct BenchResult {
    std::string test; // "pp512 @ d4096"
    uint64_t prompt = 0, generated = 0, depth = 0;
    std::vector<double> seconds;

    double tokens() const { return double(prompt + generated); }
    double mean() const {
        double sum = 0;
        for (const double s : seconds) sum += tokens() / s;
        return sum / double(seconds.size());
    }
    double deviation() const {
        if (seconds.size() < 2) return 0;
        double squares = 0;
        for (const double s : seconds) squares += std::pow(tokens() / s - mean(), 2);
        return std::sqrt(squares / double(seconds.size() - 1));
    }
    double best() const { return tokens() / *std::min_element(seconds.begin(), seconds.end()); }
};

class Bench {
  public:
    Bench(const BenchArgs & args, gnv_model_t * model, const gnv_model_info & info)
        : args_(args), model_(model), vocabulary_(info.vocabulary) {}

    // False with the message in the engine, or when the program is asked to end.
    bool run(std::vector<BenchResult> & results) {
        for (const uint64_t depth : args_.depths) {
            for (const uint64_t count : args_.prompts)
                if (count > 0 && !measure({name("pp", count, depth), count, 0, depth, {}}, results)) return false;
            for (const uint64_t count : args_.generated)
                if (count > 0 && !measure({name("tg", count, depth), 0, count, depth, {}}, results)) return false;
        }
        return true;
    }

  private:
    static std::string name(const char * kind, uint64_t count, uint64_t depth) {
        return kind + std::to_string(count) + (depth > 0 ? " @ d" + std::to_string(depth) : "");
    }

    // The next `count` tokens in one call: ids that differ, the same in every run.
    bool forward(uint64_t count) {
        if (count == 0) return true;
        ids_.clear();
        for (uint64_t i = 0; i < count; i++, next_++)
            ids_.push_back(int32_t((next_ * 2654435761u + 12345u) % vocabulary_));
        const StoppableCall stoppable;
        return gnv_model_forward(model_, ids_.data(), ids_.size(), nullptr, nullptr, 0, nullptr) == GNV_OK &&
               !stop_wanted;
    }

    bool once(const BenchResult & test, double & seconds) {
        next_ = 0;
        if (gnv_model_reset(model_) != GNV_OK || !forward(test.depth)) return false;
        const double start = bench_seconds();
        if (!forward(test.prompt)) return false;
        for (uint64_t i = 0; i < test.generated; i++)
            if (!forward(1)) return false;
        seconds = bench_seconds() - start;
        return true;
    }

    bool measure(BenchResult test, std::vector<BenchResult> & results) {
        double seconds = 0;
        BenchResult warm_up = test; // builds the graphs; few tokens are enough
        warm_up.generated = std::min<uint64_t>(test.generated, 4);
        warm_up.depth = std::min<uint64_t>(test.depth, 4);
        if (!once(warm_up, seconds)) return false;
        for (uint64_t i = 0; i < args_.repetitions; i++) {
            if (!once(test, seconds)) return false;
            test.seconds.push_back(seconds);
        }
        results.push_back(std::move(test));
        return true;
    }

    const BenchArgs & args_;
    gnv_model_t * model_;
    uint64_t vocabulary_, next_ = 0;
    std::vector<int32_t> ids_;
};

struct BenchReport {
    std::string model, backend;
    unsigned threads = 0;
    BenchWeights weights;
    double copy_bytes_per_second = 0; // 0: the device is not the CPU
    std::vector<BenchResult> results;

    // Of a token's weights, as a share of what a copy reads and writes in the same time.
    double share_of_copy(const BenchResult & result) const {
        if (copy_bytes_per_second == 0 || result.generated == 0) return 0;
        return result.best() * double(weights.bytes_a_token) / copy_bytes_per_second;
    }

    void print() const {
        const double gib = double(1 << 30);
        printf("| model | size | params | backend | threads | test | t/s |\n"
               "| ----- | ---: | -----: | ------- | ------: | ---: | --: |\n");
        for (const BenchResult & result : results)
            printf("| %s | %.2f GiB | %.2f B | %s | %u | %s | %.2f ± %.2f |\n", model.c_str(),
                   double(weights.bytes) / gib, double(weights.parameters) * 1e-9, backend.c_str(), threads,
                   result.test.c_str(), result.mean(), result.deviation());
        printf("\na token reads %.1f MB of weights", double(weights.bytes_a_token) * 1e-6);
        if (copy_bytes_per_second > 0)
            printf("; memory copy: %.1f GB/s, read and written", copy_bytes_per_second * 1e-9);
        printf("\n");
        for (const BenchResult & result : results)
            if (share_of_copy(result) > 0)
                printf("%s, best run: %.2f t/s, %.1f GB/s of weights, %.0f %% of the copy\n", result.test.c_str(),
                       result.best(), result.best() * double(weights.bytes_a_token) * 1e-9,
                       100 * share_of_copy(result));
    }

    void print_json() const {
        nlohmann::ordered_json tests = nlohmann::ordered_json::array();
        for (const BenchResult & result : results)
            tests.push_back({{"test", result.test},
                             {"n_prompt", result.prompt},
                             {"n_gen", result.generated},
                             {"n_depth", result.depth},
                             {"seconds", result.seconds},
                             {"tokens_per_second", result.mean()},
                             {"deviation", result.deviation()},
                             {"best", result.best()}});
        const nlohmann::ordered_json document = {{"schema", "ggml-nvfp4.bench.1"},
                                                 {"model", model},
                                                 {"bytes", weights.bytes},
                                                 {"parameters", weights.parameters},
                                                 {"bytes_per_token", weights.bytes_a_token},
                                                 {"backend", backend},
                                                 {"threads", threads},
                                                 {"copy_bytes_per_second", copy_bytes_per_second},
                                                 {"tests", tests}};
        printf("%s\n", document.dump(2).c_str());
    }
};

// False with the message in the engine, or when the program is asked to end.
inline bool run_bench(gnv_engine_t * engine, const BenchArgs & args, const std::string & folder, int32_t device,
                      int threads, gnv_model_t * model, const gnv_model_info & info, bool json) {
    gnv_device_info where = {};
    where.struct_size = sizeof where;
    BenchReport report;
    if (gnv_device_get_info(engine, device, &where) != GNV_OK || !find_weights(engine, folder, info, report.weights))
        return false;
    report.model = std::string(info.description).substr(0, std::string(info.description).find(':'));
    report.model += info.quantized_modules == 0 ? " BF16" : info.quantizes_inputs ? " NVFP4 W4A4" : " NVFP4 W4A16";
    report.backend = where.name;
    report.threads = threads > 0 ? unsigned(threads) : std::max(std::thread::hardware_concurrency(), 1u);
    if (where.kind == GNV_DEVICE_CPU) report.copy_bytes_per_second = copy_rate(report.threads);
    if (!Bench(args, model, info).run(report.results)) return false;
    if (where.kind == GNV_DEVICE_CPU) // the machine may have been busy
        report.copy_bytes_per_second = std::max(report.copy_bytes_per_second, copy_rate(report.threads));
    json ? report.print_json() : report.print();
    return true;
}

} // namespace tools
