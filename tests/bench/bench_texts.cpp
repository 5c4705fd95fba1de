// Tokens a second of many texts on one set of weights, and a sum of their ids, which must not depend on how many there are.
// bench_texts MODEL TEXTS[,TEXTS..] [STEPS [PROMPT]]: so many steps of one likeliest id for each text, after PROMPT ids.
#include "ggml-nvfp4.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

namespace {

using Engine = std::unique_ptr<gnv_engine_t, decltype(&gnv_engine_destroy)>;
using Model = std::unique_ptr<gnv_model_t, decltype(&gnv_model_close)>;
using Session = std::unique_ptr<gnv_session_t, decltype(&gnv_session_close)>;

void check(gnv_engine_t * engine, gnv_status status) {
    if (status == GNV_OK) return;
    fprintf(stderr, "bench_texts: %s\n", gnv_last_error(engine));
    exit(1);
}

double seconds_of(const auto & work) {
    const auto begin = std::chrono::steady_clock::now();
    work();
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

void step(gnv_engine_t * engine, gnv_model_t * model) {
    gnv_step_result result = {};
    result.struct_size = sizeof result;
    do check(engine, gnv_model_step(model, nullptr, 0, nullptr, &result));
    while (result.waiting > 0);
}

void measure(gnv_engine_t * engine, gnv_model_t * model, size_t count, size_t steps, size_t prompt) {
    gnv_model_info info = {};
    info.struct_size = sizeof info;
    check(engine, gnv_model_get_info(model, &info));
    std::vector<Session> texts;
    for (size_t i = 0; i < count; i++) {
        gnv_session_t * session = nullptr;
        check(engine, gnv_session_open(model, &session));
        texts.emplace_back(session, &gnv_session_close);
        std::vector<int32_t> ids(prompt);
        for (size_t j = 0; j < prompt; j++) ids[j] = int32_t((i * 7919 + j * 104729 + 13) % info.vocabulary);
        check(engine, gnv_session_feed(session, ids.data(), ids.size(), GNV_WANT_LIKELIEST));
    }
    const double first = seconds_of([&] { step(engine, model); });
    std::vector<uint64_t> sums(count, 0);
    double seconds = 0, fastest = 1e9;
    constexpr size_t warm = 3; // launched node by node, recorded, replayed
    for (size_t turn = 0; turn < steps + warm; turn++) {
        for (size_t i = 0; i < count; i++) {
            int32_t id = 0;
            check(engine, gnv_session_likeliest(texts[i].get(), &id, nullptr));
            sums[i] = sums[i] * 31 + uint64_t(id);
            check(engine, gnv_session_feed(texts[i].get(), &id, 1, GNV_WANT_LIKELIEST));
        }
        const double taken = seconds_of([&] { step(engine, model); });
        if (turn < warm) continue;
        seconds += taken;
        fastest = std::min(fastest, taken);
    }
    printf("%4zu texts: %9.1f tokens/s, step %7.3f ms (best %7.3f), prompts %7.0f positions/s, ids %016llx\n", count,
           double(count * steps) / seconds, seconds / double(steps) * 1e3, fastest * 1e3,
           double(count * prompt) / first, static_cast<unsigned long long>(sums[0]));
    fflush(stdout);
}

} // namespace

int main(int argc, char ** argv) {
    if (argc < 3) {
        fprintf(stderr, "usage: bench_texts MODEL TEXTS[,TEXTS..] [STEPS [PROMPT]]\n");
        return 2;
    }
    std::vector<size_t> counts;
    std::stringstream list(argv[2]);
    for (std::string number; std::getline(list, number, ',');)
        counts.push_back(std::strtoull(number.c_str(), nullptr, 10));
    const size_t steps = argc > 3 ? std::strtoull(argv[3], nullptr, 10) : 32;
    const size_t prompt = argc > 4 ? std::strtoull(argv[4], nullptr, 10) : 64;

    gnv_engine_options engine_options;
    gnv_engine_options_init(&engine_options);
    gnv_engine_t * engine = nullptr;
    if (gnv_engine_create(&engine_options, &engine) != GNV_OK) return 1;
    const Engine engine_owner(engine, &gnv_engine_destroy);
    gnv_model_options options;
    gnv_model_options_init(&options);
    check(engine, gnv_device_find(engine, "auto", nullptr, &options.device, &options.precision));
    options.capacity = 768;
    for (const size_t count : counts) options.sessions = std::max<uint64_t>(options.sessions, count);
    gnv_model_t * model = nullptr;
    check(engine, gnv_model_open(engine, argv[1], &options, &model));
    const Model owner(model, &gnv_model_close);
    for (const size_t count : counts) measure(engine, model, count, steps, prompt);
    return 0;
}
