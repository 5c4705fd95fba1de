// Runs a fuzz target over files and folders of inputs where libFuzzer is not at hand: each input as it is, then cut off
// and with one byte changed at places spread evenly over it. Fails when there is no input; a finding is a crash.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size);

using Bytes = std::vector<uint8_t>;

// From a block of exactly this size, so that a sanitizer sees a read past the end.
static void run(const Bytes & input) {
    const Bytes exact(input.begin(), input.end());
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

static void run_with_variations(const Bytes & input) {
    run(input);
    const size_t step = std::max<size_t>(1, input.size() / 64);
    for (size_t at = 0; at < input.size(); at += step) {
        run(Bytes(input.begin(), input.begin() + std::ptrdiff_t(at)));
        Bytes changed = input;
        changed[at] = uint8_t(changed[at] ^ (1u << at % 8));
        run(changed);
    }
}

int main(int argc, char ** argv) {
    namespace fs = std::filesystem;
    std::vector<fs::path> files;
    for (int i = 1; i < argc; i++) {
        if (fs::is_directory(argv[i])) {
            for (const fs::directory_entry & entry : fs::directory_iterator(argv[i])) files.push_back(entry.path());
        } else {
            files.emplace_back(argv[i]);
        }
    }
    std::sort(files.begin(), files.end());
    for (const fs::path & file : files) {
        std::ifstream stream(file, std::ios::binary);
        if (!stream) {
            fprintf(stderr, "cannot read %s\n", file.c_str());
            return 2;
        }
        printf("%s\n", file.c_str());
        fflush(stdout); // a crash leaves the name of its input as the last line
        run_with_variations(Bytes(std::istreambuf_iterator<char>(stream), {}));
    }
    printf("%zu inputs\n", files.size());
    return files.empty() ? 2 : 0;
}
