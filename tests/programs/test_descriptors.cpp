// Programs whose standard streams are closed, as daemons and supervisors may start them: nothing that is printed gets into a
// result.
#include "programs/program_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

Surroundings without(int streams) {
    Surroundings around;
    for (int fd = 0; fd < 3; fd++)
        if (streams >> fd & 1) around.closed.push_back(fd);
    return around;
}

// `command`: makes a file or a folder, given its path.
template <class Command>
void check_every_combination(const Command & command) {
    const SmallRun & small = small_run();
    Files good;
    for (int streams = 0; streams < 8; streams++) {
        CAPTURE(streams);
        const NewPath result(small.scratch / "result");
        const Ended ended = run_program(command(result), without(streams));
        CAPTURE(ended.errors);
        REQUIRE(ended.exit_code == 0);
        Files files;
        if (is_directory(result)) {
            files = read_folder(result);
        } else {
            files[""] = without_seconds(read_file(result, 1 << 26).take());
        }
        if (streams == 0) good = files;
        const bool equal = files == good;
        CHECK(equal);
    }
}

} // namespace

TEST_CASE("closed standard streams: quantize, in every combination, gives the same bytes") {
    for (const char * scheme : {"nvfp4a16", "nvfp4"})
        check_every_combination([&](const std::string & path) { return small_run().quantize(path, scheme); });
}

TEST_CASE("closed standard streams: so do the files of the other programs") {
    const SmallRun & small = small_run();
    check_every_combination([&](const std::string & path) { return small.verify(small.made) + Words{"--json", path}; });
    check_every_combination([&](const std::string & path) {
        return small.verify(small.made) + Words{"--tokens", small.tokens, "--quiet", "--markdown", path};
    });
    check_every_combination([&](const std::string & path) {
        return small.verify(small.made) + Words{"--tokens", small.tokens, "--save-logits", path};
    });
    check_every_combination([&](const std::string & path) {
        return Words{"run", small.source, "--tokens", small.tokens, "--dump", path, "--device", "cpu"};
    });
    check_every_combination([&](const std::string & path) {
        return Words{"dataset", small.source, "--calib", small.rows, "--tokens-out", path};
    });
    check_every_combination([&](const std::string & path) { return Words{"inspect", small.made, "--json", path}; });
}

TEST_CASE("the library opens no file as a standard stream") {
    const ScratchFolder scratch;
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        for (int fd = 0; fd < 3; fd++) close(fd);
        const Result<File> created = File::create(scratch / "new");
        const Result<File> unnamed = File::create_unnamed(scratch.path());
        const Result<File> read = File::open_read(scratch / "new");
        bool free = created.ok() && unnamed.ok() && read.ok();
        for (int fd = 0; fd < 3; fd++) free = free && fcntl(fd, F_GETFD) < 0;
        _exit(free ? 0 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(status == 0);
}
