// Signals that come from outside, and writes that meet one: the exit status is 128 + the signal, results are whole or absent.
// What a signal does at a chosen call of a run is a matter of test_programs.
#include "programs/program_fixture.h"

#include <chrono>
#include <fstream>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <thread>

using namespace gnv;
using namespace gnv::test;

TEST_CASE("a reader that goes away ends a program quietly, with 128 + SIGPIPE") {
    const SmallRun & small = small_run();
    const std::string records = small.scratch.save("texts.jsonl", "{\"text\": \"a\"}\n{\"text\": \"b\"}\n");
    const Words commands[] = {
        {"quantize", small.source, "--dry-run", "--no-estimate", "--scheme", "nvfp4a16"},
        {"quantize", "--help"},
        small.verify(small.made),
        small.verify(small.made) + Words{"--json", "-"},
        {"verify", "--version"},
        small.generate() + Words{"--quiet"},
        small.generate() + Words{"--quiet", "--json"},
        {"inspect", small.made},
        {"inspect", small.made, "--tensor", "lm_head.weight", "--values", "100000"},
        {"inspect", small.made, "--compare", small.source},
        {"tokenize", small.source, "--jsonl", records},
        {"dataset", small.source, "--calib", small.rows, "--show", "8"},
    };
    for (const Words & command : commands) {
        Surroundings around;
        around.no_reader = true;
        const Ended ended = run_program(command, around);
        CAPTURE(command[0]);
        CAPTURE(command.back());
        CHECK(ended.exit_code == 128 + SIGPIPE);
        CHECK(ended.errors.find("error") == std::string::npos);
        // A program that was told to ignore the signal gets an error like any other.
        around.ignored = {SIGPIPE};
        const Ended ignored = run_program(command, around);
        CHECK(ignored.exit_code == 4);
        CHECK(ignored.says("cannot write to standard output: Broken pipe"));
    }
}

TEST_CASE("quantize: a reader that goes away does not undo a result") {
    const SmallRun & small = small_run();
    const NewPath out(small.scratch / "piped");
    Surroundings around;
    around.no_reader = true;
    const Ended ended = run_program(small.quantize(out, "nvfp4a16") + Words{"--json", "-"}, around);
    CHECK(ended.exit_code == 128 + SIGPIPE);
    CHECK(path_exists(join_path(out, "config.json")));
}

TEST_CASE("files that may not grow: the message names the file, the status is 128 + SIGXFSZ, nothing is half there") {
    const SmallRun & small = small_run();
    const NewPath out(small.scratch / "limited"), file(small.scratch / "limited.file");
    const Words data = {"--tokens", small.tokens};
    struct Limited {
        Words command;
        std::string named;
    };
    const Limited all[] = {
        {small.quantize(out, "nvfp4a16"), static_cast<const std::string &>(out) + ".partial/"},
        {small.quantize(out, "nvfp4"), static_cast<const std::string &>(out) + ".partial/"},
        {small.verify(small.made) + Words{"--json", file}, file},
        {small.verify(small.made) + data + Words{"--save-logits", file}, file},
        {{"run", small.source, "--tokens", small.tokens, "--dump", file, "--device", "cpu"}, file},
        {{"inspect", small.made, "--json", file}, file},
        {{"inspect", small.made, "--tensors"}, "standard output"},
    };
    for (const Limited & one : all) {
        for (const bool ignored : {false, true}) {
            Surroundings around;
            around.largest_file = 2048;
            if (ignored) around.ignored = {SIGXFSZ};
            const Ended ended = run_program(one.command, around);
            CAPTURE(one.command[0]);
            CAPTURE(ended.errors);
            CHECK(ended.exit_code == (ignored ? 4 : 128 + SIGXFSZ));
            CHECK(ended.says("File too large"));
            CHECK(ended.says(one.named));
            CHECK_FALSE(path_exists(out));
            CHECK_FALSE(path_exists(file));
            const std::string partial = static_cast<const std::string &>(out) + ".partial";
            if (path_exists(partial)) CHECK(remove_tree(partial).ok());
        }
    }
}

namespace {

// Whether a process sleeps: "PID (NAME) S ...".
bool sleeps(pid_t process) {
    std::ifstream file("/proc/" + std::to_string(process) + "/stat");
    std::string status;
    std::getline(file, status);
    const size_t name_end = status.rfind(')');
    return name_end != std::string::npos && status.compare(name_end, 3, ") S") == 0;
}

// Runs a command that waits for its input, a pipe that stays open, and sends it signals.
Ended interrupt(const Words & command, int number, bool ignored) {
    const ScratchFolder scratch;
    const std::string pipe_name = scratch / "pipe", errors = scratch.save("errors", "");
    REQUIRE(mkfifo(pipe_name.c_str(), 0600) == 0);
    const int end = open(pipe_name.c_str(), O_RDWR);
    std::vector<std::string> words = command;
    words[0] = GNV_TEST_BINARY_DIR "/bin/" + words[0];
    std::vector<char *> arguments;
    for (std::string & word : words) arguments.push_back(word.data());
    arguments.push_back(nullptr);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        if (ignored) signal(number, SIG_IGN);
        if (dup2(end, 0) < 0 || dup2(open(errors.c_str(), O_WRONLY), 2) < 0) _exit(97);
        alarm(longest_run);
        execv(arguments[0], arguments.data());
        _exit(98);
    }
    // It waits when it has taken the line and sleeps, twice in a row. A signal before that is lost under ThreadSanitizer, which
    // runs handlers at the end of calls: a read that began with the signal pending has none.
    const std::string line = "{\"text\": \"a\"}\n";
    REQUIRE(write(end, line.data(), line.size()) == ssize_t(line.size()));
    for (int left = 1, asleep = 0; asleep < 2;) {
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
        REQUIRE(ioctl(end, FIONREAD, &left) == 0);
        REQUIRE(waitpid(child, nullptr, WNOHANG) == 0);
        asleep = left == 0 && sleeps(child) ? asleep + 1 : 0;
    }
    REQUIRE(kill(child, number) == 0);
    if (ignored) REQUIRE(kill(child, SIGTERM) == 0);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    close(end);
    Ended ended;
    if (WIFEXITED(status)) ended.exit_code = WEXITSTATUS(status);
    if (WIFSIGNALED(status)) ended.signal = WTERMSIG(status);
    ended.errors = read_file(errors, 1 << 20).take();
    return ended;
}

// A conversation with a program: its input, output and messages are pipes.
class Conversation {
  public:
    explicit Conversation(const Words & command) {
        int ends[3][2]; // of its descriptors
        for (auto & both : ends) REQUIRE(pipe2(both, O_CLOEXEC) == 0);
        std::vector<std::string> words = command;
        words[0] = GNV_TEST_BINARY_DIR "/bin/" + words[0];
        std::vector<char *> arguments;
        for (std::string & word : words) arguments.push_back(word.data());
        arguments.push_back(nullptr);
        child_ = fork();
        REQUIRE(child_ >= 0);
        if (child_ == 0) {
            for (int descriptor = 0; descriptor < 3; descriptor++)
                if (dup2(ends[descriptor][descriptor > 0], descriptor) < 0) _exit(97);
            alarm(longest_run);
            execv(arguments[0], arguments.data());
            _exit(98);
        }
        for (int descriptor = 0; descriptor < 3; descriptor++) {
            close(ends[descriptor][descriptor > 0]);
            ours_[descriptor] = ends[descriptor][descriptor == 0];
        }
    }
    Conversation(const Conversation &) = delete;
    Conversation & operator=(const Conversation &) = delete;

    void say(const std::string & line) { REQUIRE(write(ours_[0], line.data(), line.size()) == ssize_t(line.size())); }
    void interrupt() { REQUIRE(kill(child_, SIGINT) == 0); }
    // What comes from its output (1) or messages (2) up to `end` or, without one, whatever comes first; empty at its end.
    std::string hear(int descriptor, const std::string & end = {}) {
        std::string heard;
        do {
            char bytes[256];
            const ssize_t count = read(ours_[descriptor], bytes, sizeof bytes);
            if (count <= 0) break;
            heard.append(bytes, size_t(count));
        } while (!end.empty() && heard.find(end) == std::string::npos);
        return heard;
    }
    // Forgets what has come, until nothing more does.
    void drain(int descriptor) {
        pollfd waits = {ours_[descriptor], POLLIN, 0};
        while (poll(&waits, 1, 300) == 1 && !hear(descriptor).empty()) continue;
    }
    // Ends its input; its exit status.
    int leave() {
        close(ours_[0]);
        for (const int descriptor : {1, 2}) {
            while (!hear(descriptor).empty()) continue;
            close(ours_[descriptor]);
        }
        int status = 0;
        REQUIRE(waitpid(child_, &status, 0) == child_);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    }

  private:
    pid_t child_ = -1;
    int ours_[3] = {-1, -1, -1};
};

} // namespace

TEST_CASE("run --chat: Ctrl-C ends an answer, and the conversation goes on") {
    // Without its stop tokens the model talks on and on.
    Conversation chat({"run", GNV_TEST_BINARY_DIR "/data/qwen36-tiny", "--device", "cpu", "--chat", "--greedy",
                       "--n-predict", "100000", "--logit-bias", "4074=-100", "--logit-bias", "4072=-100"});
    for (int turn = 0; turn < 2; turn++) {
        CAPTURE(turn);
        chat.say("What is a sea?\n");
        CHECK(!chat.hear(1).empty());
        chat.interrupt();
        const std::string end = chat.hear(2, "(stopped)");
        CHECK_MESSAGE(end.find("(stopped)") != std::string::npos, end);
        chat.drain(1); // the next turn begins with its own first words
    }
    CHECK(chat.leave() == 0);
}

TEST_CASE("a program that waits hears the first signal, says so, and ends with 128 + its number") {
    const Words command = {"tokenize", small_run().source, "--jsonl", "-"};
    for (const auto & [number, name] :
         {std::pair(SIGINT, "SIGINT"), std::pair(SIGTERM, "SIGTERM"), std::pair(SIGHUP, "SIGHUP"),
          std::pair(SIGPIPE, "SIGPIPE"), std::pair(SIGXFSZ, "SIGXFSZ")}) {
        const Ended ended = interrupt(command, number, false);
        CAPTURE(name);
        CHECK(ended.exit_code == 128 + number);
        CHECK(ended.errors == std::string("error: stopped by ") + name + "\n");
    }
    CHECK(interrupt(command, SIGHUP, true).exit_code == 128 + SIGTERM); // nohup: SIGHUP stays ignored
}
