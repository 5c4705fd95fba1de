// The main of a test program: doctest's own, and --part=K/N, which runs the K-th of N equal stretches of the cases. With parts,
// one long program keeps all cores of a large machine busy.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <sstream>
#include <string>
#include <vector>

namespace {

// The cases that the filters of the command line let through.
int count_cases(int argc, char ** argv) {
    std::vector<const char *> arguments(argv, argv + argc);
    arguments.push_back("--count");
    std::ostringstream text;
    doctest::Context context(int(arguments.size()), arguments.data());
    context.setCout(&text);
    context.run();
    const std::string printed = text.str();
    const size_t number = printed.find_last_of(' ');
    return number == std::string::npos ? 0 : std::atoi(printed.c_str() + number);
}

} // namespace

int main(int argc, char ** argv) {
    int part = 1, parts = 1;
    for (int i = 1; i < argc; i++) {
        if (std::strncmp(argv[i], "--part=", 7) != 0) continue;
        if (std::sscanf(argv[i], "--part=%d/%d", &part, &parts) != 2 || part < 1 || part > parts) {
            std::fprintf(stderr, "%s: expected --part=K/N with K from 1 to N\n", argv[i]);
            return 2;
        }
    }
    doctest::Context context(argc, argv);
    if (parts > 1) {
        const int cases = count_cases(argc, argv), first = cases * (part - 1) / parts, end = cases * part / parts;
        if (first == end) return 0; // fewer cases than parts
        context.setOption("first", first + 1);
        context.setOption("last", end);
    }
    return context.run();
}
