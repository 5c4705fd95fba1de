// Sampling a .jsonl.zst beside plain decompression of the same file, and what the parts cost. MB are of decompressed text;
// every number is the best of several runs. On a busy machine compare processor seconds (of all threads), not the clock's.
//   bench_dataset TOKENIZER [FILE.jsonl.zst]     without a file: records made up on the spot, 400 MB in a scratch folder
#include "data/calibration_set.h"
#include "data/files/byte_stream.h"
#include "data/files/line_reader.h"
#include "scratch.h"

#include <chrono>
#include <cstdio>
#include <ctime>
#include <random>
#include <zstd.h>

using namespace gnv;

namespace {

constexpr int repeats = 5;

struct Seconds {
    double clock = 1e30, processor = 1e30;
    bool failed = false;
};

// The best of several runs.
template <class Work>
Seconds best_of_runs(const Work & work) {
    Seconds best;
    for (int i = 0; i < repeats; i++) {
        const auto begin = std::chrono::steady_clock::now();
        const std::clock_t processor_begin = std::clock();
        const Status status = work();
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
        best.clock = std::min(best.clock, taken.count());
        best.processor = std::min(best.processor, double(std::clock() - processor_begin) / CLOCKS_PER_SEC);
        if (status.ok()) continue;
        fprintf(stderr, "error: %s\n", status.message().c_str());
        best.failed = true;
        break;
    }
    return best;
}

// Records of some 2 kB in the manner of Open-Platypus: words drawn with the skew of a language.
Status write_records(const std::string & path, uint64_t bytes) {
    std::mt19937 random(1);
    std::vector<std::string> words;
    for (int i = 0; i < 20'000; i++) {
        std::string & word = words.emplace_back();
        for (uint32_t length = 2 + random() % 9; length > 0; length--) word += char('a' + random() % 26);
    }
    std::geometric_distribution<uint32_t> rank(0.002);
    const auto text = [&](uint32_t count) {
        std::string out;
        for (uint32_t i = 0; i < count; i++) out += words[rank(random) % words.size()] + (i % 12 == 11 ? "\\n" : " ");
        return out;
    };
    std::string lines;
    GNV_ASSIGN(File file, File::create(path));
    uint64_t written = 0, offset = 0;
    while (written < bytes) {
        lines.clear();
        while (lines.size() < (8 << 20))
            lines += concat("{\"instruction\": \"", text(20), "\", \"input\": \"\", \"output\": \"",
                            text(50 + random() % 500), "\"}\n");
        std::string frame(ZSTD_compressBound(lines.size()), '\0');
        frame.resize(ZSTD_compress(frame.data(), frame.size(), lines.data(), lines.size(), 3));
        GNV_TRY(file.write(frame.data(), frame.size(), offset));
        offset += frame.size();
        written += lines.size();
    }
    return file.close();
}

Result<uint64_t> count_bytes(const std::string & path) {
    GNV_ASSIGN(ByteStream stream, ByteStream::open(path));
    uint64_t bytes = 0;
    for (;;) {
        GNV_ASSIGN(const std::string_view piece, stream.next());
        if (piece.empty()) return bytes;
        bytes += piece.size();
    }
}

Result<uint64_t> count_lines(const std::string & path) {
    GNV_ASSIGN(LineReader reader, LineReader::open(path));
    std::string_view line;
    for (;;) {
        GNV_ASSIGN(const bool found, reader.next(line));
        if (!found) return reader.number();
    }
}

int run(const std::string & path, const Tokenizer & tokenizer) {
    const auto pool = ThreadPool::create(0).take();
    uint64_t bytes = 0, rows = 0;
    const Seconds decompress = best_of_runs([&]() -> Status {
        GNV_ASSIGN(bytes, count_bytes(path));
        return {};
    });
    const Seconds lines = best_of_runs([&]() -> Status {
        GNV_ASSIGN(rows, count_lines(path));
        return {};
    });
    uint64_t parsed = 0, tokens = 0;
    const auto sample = [&](bool pack) {
        return best_of_runs([&]() -> Status {
            CalibrationOptions options;
            options.sources = {path};
            options.pack = pack;
            GNV_ASSIGN(const CalibrationSet set, build_calibration_set(options, tokenizer, *pool));
            parsed = set.sources[0].rows_parsed;
            tokens = set.tokens;
            return {};
        });
    };
    const auto print = [&](const char * what, const Seconds & seconds) {
        printf("%-20s %7.3f s %6.0f MB/s   processor %7.3f s %6.0f MB/s %4.0f %% of decompression\n", what,
               seconds.clock, double(bytes) / 1e6 / seconds.clock, seconds.processor,
               double(bytes) / 1e6 / seconds.processor, 100 * decompress.processor / seconds.processor);
    };
    const Seconds sampled = sample(false);
    const uint64_t parsed_sampled = parsed, tokens_sampled = tokens;
    const Seconds packed = sample(true);
    if (decompress.failed || lines.failed || sampled.failed || packed.failed) return 2;
    printf("%s, %s rows, %d threads\n", bytes_text(bytes).c_str(), count_text(rows).c_str(), pool->size());
    print("decompression alone", decompress);
    print("lines", lines);
    print("256 samples", sampled);
    printf("  %s rows parsed, %s tokens\n", count_text(parsed_sampled).c_str(), count_text(tokens_sampled).c_str());
    print("256 x 2048 packed", packed);
    printf("  %s rows parsed, %s tokens\n", count_text(parsed).c_str(), count_text(tokens).c_str());
    return 0;
}

} // namespace

int main(int argc, char ** argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: %s TOKENIZER [FILE.jsonl.zst]\n", argv[0]);
        return 2;
    }
    const auto tokenizer = Tokenizer::load(argv[1]);
    if (!tokenizer.ok()) {
        fprintf(stderr, "error: %s\n", tokenizer.status().message().c_str());
        return 2;
    }
    if (argc > 2) return run(argv[2], tokenizer.value());
    const test::ScratchFolder folder;
    const Status written = write_records(folder / "records.jsonl.zst", 400'000'000);
    if (!written.ok()) {
        fprintf(stderr, "error: %s\n", written.message().c_str());
        return 2;
    }
    return run(folder / "records.jsonl.zst", tokenizer.value());
}
