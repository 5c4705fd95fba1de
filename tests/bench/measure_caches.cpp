// What caches in FP8 change of a model's predictions: mean KL divergence from those with caches of activations, over token ids.
// measure_caches MODEL TOKENS [PRECISION [DEVICE]]: TOKENS as of `dataset --tokens-out`; fp32 or bf16; a name of --device.
#include "ggml-nvfp4.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <vector>

namespace {

using Model = std::unique_ptr<gnv_model_t, decltype(&gnv_model_close)>;

void check(gnv_engine_t * engine, gnv_status status) {
    if (status == GNV_OK) return;
    fprintf(stderr, "measure_caches: %s\n", gnv_last_error(engine));
    exit(1);
}

std::vector<double> log_softmax(const float * logits, size_t count) {
    double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < count; i++) largest = std::max(largest, double(logits[i]));
    for (size_t i = 0; i < count; i++) sum += std::exp(double(logits[i]) - largest);
    std::vector<double> out(count);
    for (size_t i = 0; i < count; i++) out[i] = double(logits[i]) - largest - std::log(sum);
    return out;
}

struct Sums {
    double divergence = 0, squares = 0, loss = 0, plain_loss = 0;
    size_t positions = 0, same = 0, predicted = 0;

    void add(const float * plain, const float * coded, size_t vocabulary, int32_t next) {
        const std::vector<double> p = log_softmax(plain, vocabulary), q = log_softmax(coded, vocabulary);
        double sum = 0;
        for (size_t i = 0; i < vocabulary; i++) sum += std::exp(p[i]) * (p[i] - q[i]);
        divergence += sum, squares += sum * sum, positions++;
        same += std::max_element(p.begin(), p.end()) - p.begin() == std::max_element(q.begin(), q.end()) - q.begin();
        if (next < 0) return;
        plain_loss -= p[size_t(next)], loss -= q[size_t(next)], predicted++;
    }
    void print(const char * what) const {
        const double n = double(positions), mean = divergence / n;
        printf("%-28s %7zu positions, KL %.6f +- %.6f, same top token %.2f %%, perplexity %.4f and %.4f\n", what,
               positions, mean, std::sqrt(std::max(0.0, squares / n - mean * mean) / n), 100 * double(same) / n,
               std::exp(plain_loss / double(predicted)), std::exp(loss / double(predicted)));
    }
};

} // namespace

int main(int argc, char ** argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: measure_caches MODEL TOKENS [PRECISION [DEVICE]]\n");
        return 2;
    }
    std::ifstream file(argv[2]);
    const auto sequences = nlohmann::json::parse(file).at("input_ids").get<std::vector<std::vector<int32_t>>>();
    size_t longest = 0;
    for (const std::vector<int32_t> & ids : sequences) longest = std::max(longest, ids.size());
    gnv_engine_options engine_options;
    gnv_engine_options_init(&engine_options);
    gnv_engine_t * engine = nullptr;
    if (gnv_engine_create(&engine_options, &engine) != GNV_OK) return 1;
    const std::unique_ptr<gnv_engine_t, decltype(&gnv_engine_destroy)> owner(engine, &gnv_engine_destroy);
    gnv_model_options options;
    gnv_model_options_init(&options);
    const gnv_precision wanted = argc > 3 && strcmp(argv[3], "bf16") == 0 ? GNV_PRECISION_BF16 : GNV_PRECISION_FP32;
    check(engine, gnv_device_find(engine, argc > 4 ? argv[4] : "cpu", &wanted, &options.device, &options.precision));
    options.capacity = longest;
    gnv_model_info info = {};
    info.struct_size = sizeof info;
    std::vector<Model> models;
    for (const gnv_cache_dtype cache : {GNV_CACHE_AUTO, GNV_CACHE_FP8}) {
        options.cache_dtype = cache;
        gnv_model_t * model = nullptr;
        check(engine, gnv_model_open(engine, argv[1], &options, &model));
        models.emplace_back(model, &gnv_model_close);
        check(engine, gnv_model_get_info(model, &info));
        printf("caches of %zu positions: %llu bytes\n", longest, static_cast<unsigned long long>(info.cache_bytes));
    }
    Sums all, late; // late: the last quarter of each sequence
    for (const std::vector<int32_t> & ids : sequences) {
        std::vector<float> logits[2];
        for (size_t m = 0; m < 2; m++) {
            logits[m].resize(ids.size() * size_t(info.vocabulary));
            gnv_forward_options forward;
            gnv_forward_options_init(&forward);
            forward.all_logits = 1;
            size_t written = 0;
            check(engine, gnv_model_reset(models[m].get()));
            check(engine, gnv_model_forward(models[m].get(), ids.data(), ids.size(), &forward, logits[m].data(),
                                            logits[m].size(), &written));
        }
        for (size_t t = 0; t < ids.size(); t++) {
            const size_t at = t * size_t(info.vocabulary);
            const int32_t next = t + 1 < ids.size() ? ids[t + 1] : -1;
            all.add(&logits[0][at], &logits[1][at], size_t(info.vocabulary), next);
            if (t * 4 >= ids.size() * 3) late.add(&logits[0][at], &logits[1][at], size_t(info.vocabulary), next);
        }
    }
    all.print("all");
    late.print("last quarter of each text");
    return 0;
}
