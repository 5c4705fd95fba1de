// bench_tokenizer MODEL FILE: how fast a file's text is encoded and decoded on one thread.
#include "core/strings.h"
#include "formats/file.h"
#include "tokenizer/tokenizer.h"

#include <chrono>
#include <cstdio>

using namespace gnv;

static double seconds_since(std::chrono::steady_clock::time_point start) {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

static Status run(const std::string & model, const std::string & file) {
    GNV_ASSIGN(const std::string text, read_file(file, 1 << 30));
    auto start = std::chrono::steady_clock::now();
    GNV_ASSIGN(const Tokenizer tokenizer, Tokenizer::load(model));
    printf("load      %8.1f ms, %d tokens\n", seconds_since(start) * 1e3, tokenizer.vocab_size());
    Encoder encoder(tokenizer);
    std::vector<TokenId> ids;
    for (const char * const name : {"encode", "again"}) { // the second time with a warm cache
        ids.clear();
        start = std::chrono::steady_clock::now();
        GNV_TRY(encoder.encode(text, ids));
        const double seconds = seconds_since(start);
        printf("%-9s %8.1f MB/s, %s in %zu tokens, %.2f bytes a token\n", name, double(text.size()) / 1e6 / seconds,
               bytes_text(text.size()).c_str(), ids.size(), double(text.size()) / double(ids.size()));
    }
    start = std::chrono::steady_clock::now();
    GNV_ASSIGN(const std::string decoded, tokenizer.decode(ids));
    printf("decode    %8.1f MB/s\n", double(decoded.size()) / 1e6 / seconds_since(start));
    return {};
}

int main(int argc, char ** argv) {
    if (argc != 3) {
        fprintf(stderr, "usage: bench_tokenizer MODEL FILE (a model folder or tokenizer.json; any UTF-8 text)\n");
        return 2;
    }
    const Status status = run(argv[1], argv[2]);
    if (!status.ok()) fprintf(stderr, "error: %s\n", status.message().c_str());
    return status.ok() ? 0 : 2;
}
