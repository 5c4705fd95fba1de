// mutate_headers [COUNT [SEED]]: opens COUNT checkpoints whose headers are nearly right, in folders of one to three files
// with or without an index, and checks that each is refused with a message or kept to, quickly and in little memory.
// From a million on, headers as large as the format allows are tried as well, each made to take the most memory.
// Prints how many, how fast, and the peak memory; exit code 1 when that or a single input was too much.
#include "core/clock.h"
#include "fuzz/fuzz_input.h"
#include "fuzz/header_mutator.h"
#include "sanitized.h"

#include <cstdio>
#include <functional>
#include <map>
#include <sys/resource.h>

using namespace gnv;
using namespace gnv::fuzz;

static constexpr double most_seconds = test::sanitized ? 30 : 5; // of one input, on a busy machine
static constexpr uint64_t most_memory = test::sanitized ? 3'000'000'000 : 1'000'000'000;

static uint64_t peak_memory() {
    rusage usage;
    require(getrusage(RUSAGE_SELF, &usage) == 0);
    return uint64_t(usage.ru_maxrss) * 1024;
}

static std::shared_ptr<const Folder> make_folder(Random & random) {
    const auto folder = std::make_shared<OverlayFolder>(std::make_shared<EmptyFolder>());
    const uint64_t shards = 1 + below(random, 8) / 6;
    std::string index;
    for (uint64_t s = 0; s < shards; s++) {
        const std::string name = shards == 1 ? "model.safetensors" : concat("model-", s, ".safetensors");
        GeneratedHeader header = generate_header(random);
        for (size_t at = header.json.find("\"model."); at != std::string::npos;
             at = header.json.find("\"model.", at + 1)) {
            header.json.insert(at + 1, concat("s", s, ".")); // names differ between shards
            index += concat(index.empty() ? "" : ",", header.json.substr(at, header.json.find('"', at + 1) + 1 - at),
                            ":\"", name, "\"");
        }
        for (uint64_t changes = below(random, 4); changes > 0; changes--) mutate_header_once(header.json, random);
        uint64_t length = header.json.size(), data = header.data_bytes;
        if (below(random, 16) == 0) length = random() >> below(random, 64);
        if (below(random, 16) == 0) data += below(random, 3) - 1;
        folder->put(name, length_prefix(length) + header.json + std::string(data % (1 << 20), '\0'));
    }
    if (below(random, 3) == 0) {
        std::string text = "{\"metadata\":{},\"weight_map\":{" + index + "}}";
        if (below(random, 2)) mutate_header_once(text, random);
        folder->put(index_file_name, text);
    }
    return folder;
}

// Pieces made from their number, until the text is as long as a header may be.
template <class Piece>
static std::string fill_header(const std::string & begin, const std::string & end, const Piece & piece) {
    std::string json;
    json.reserve(max_header_bytes);
    json = begin;
    for (uint64_t i = 0;; i++) {
        const std::string next = piece(i);
        if (json.size() + next.size() + end.size() > max_header_bytes) return json + end;
        json += next;
    }
}

static double try_large_headers() {
    const auto tensor = [](uint64_t i) {
        return concat(i ? "," : "", "\"", i, "\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[", i, ",", i + 1,
                      "]}");
    };
    const auto long_named = [&](uint64_t i) {
        return concat(i ? "," : "", "\"", std::string(100, 'n'), tensor(i).substr(i ? 2 : 1));
    };
    const auto zero = [](uint64_t i) { return std::string(i ? ",0" : "0"); };
    const auto member = [](uint64_t i) { return concat(i ? "," : "", "\"", i, "\":0"); };
    const auto letter = [](uint64_t) { return std::string(1000, 'x'); };
    const auto open = [](uint64_t) { return std::string("["); };
    const std::function<std::string()> makers[] = {
        [&] { return fill_header("{", "}", tensor); },
        [&] { return fill_header("{", "}", long_named); },
        [&] { return fill_header("{\"a\":{\"dtype\":\"U8\",\"shape\":[", "]}}", zero); },
        [&] { return fill_header("{\"a\":{", "}}", member); },
        [&] { return fill_header("{\"", "\":0}", letter); },
        [&] { return fill_header("{\"__metadata__\":{\"a\":\"", "\"}}", letter); },
        [&] { return fill_header("{\"a\":", "}", open); },
    };
    double slowest = 0;
    for (const auto & make : makers) {
        std::string json = make();
        const Clock::time_point before = Clock::now();
        const Result<Header> header = parse_header(std::move(json), 1 << 20, "large.safetensors");
        slowest = std::max(slowest, seconds_since(before));
        require_message(header.status());
        printf("a header of 100 MB: %s; peak memory %s\n", printable(header.status().message(), 100).c_str(),
               bytes_text(peak_memory()).c_str());
    }
    return slowest;
}

int main(int argc, char ** argv) {
    const uint64_t count = argc > 1 ? strtoull(argv[1], nullptr, 10) : 20'000,
                   seed = argc > 2 ? strtoull(argv[2], nullptr, 10) : 1;
    std::map<std::string, uint64_t> outcomes;
    double slowest = 0;
    const Clock::time_point start = Clock::now();
    for (uint64_t i = 0; i < count; i++) {
        Random random(seed << 40 ^ i);
        const std::shared_ptr<const Folder> folder = make_folder(random);
        const Clock::time_point before = Clock::now();
        const Result<Checkpoint> checkpoint = Checkpoint::open(folder);
        slowest = std::max(slowest, seconds_since(before));
        require_message(checkpoint.status());
        outcomes[code_name(checkpoint.status().code())]++;
    }
    const double seconds = seconds_since(start);
    if (count >= 1'000'000) slowest = std::max(slowest, try_large_headers());
    const uint64_t memory = peak_memory();
    printf("%llu checkpoints in %.1f s (%.0f a second), the slowest %.3f s, peak memory %s\n",
           static_cast<unsigned long long>(count), seconds, double(count) / seconds, slowest,
           bytes_text(memory).c_str());
    for (const auto & [name, times] : outcomes)
        printf("  %-13s %llu\n", name.c_str(), static_cast<unsigned long long>(times));
    const bool varied = outcomes.count("ok") && outcomes.count("damaged file");
    return varied && slowest < most_seconds && memory < most_memory ? 0 : 1;
}
