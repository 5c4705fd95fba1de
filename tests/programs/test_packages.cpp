// scripts/install_deps.sh on a machine of stubs: what it prints, when it asks, and when it calls apt-get.
#include "programs/program.h"

#include <cstring>
#include <pty.h>
#include <sys/stat.h>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Machine {
    const char * user = "1000";
    const char * ci = nullptr;     // the variable CI
    const char * answer = nullptr; // on a terminal; null: there is none
    bool has_sudo = true;
    bool has_network = true; // without one no package of an example comes
};

struct Installed {
    int exit_code = -1;
    std::string said, calls; // calls: of apt-get, and of sudo before it
};

Installed install(const Machine & machine) {
    const ScratchFolder scratch;
    const std::string bin = scratch / "bin", calls = scratch.save("calls", "");
    REQUIRE(make_directory(bin).ok());
    const auto stub = [&](const std::string & name, const std::string & body) {
        REQUIRE(write_file_synced(join_path(bin, name), "#!/bin/sh\n" + body + "\n").ok());
        REQUIRE(chmod(join_path(bin, name).c_str(), 0755) == 0);
    };
    stub("apt-get",
         "echo \"apt-get $*\" >> " + calls + (machine.has_network ? "" : "\ncase \"$*\" in *httplib*) exit 1 ;; esac"));
    stub("sudo", "printf 'sudo ' >> " + calls + "\n\"$@\"");
    if (!machine.has_sudo) REQUIRE(remove_file(join_path(bin, "sudo")).ok());
    stub("id", std::string("echo ") + machine.user);
    stub("dpkg-query", "exit 1"); // nothing is installed
    stub("pkg-config", "exit 1");
    stub("c++", "exit 1");
    for (const char * tool : {"sh", "dirname", "grep", "printf", "sed", "echo", "cat"})
        for (const char * folder : {"/bin/", "/usr/bin/"})
            if (path_exists(std::string(folder) + tool)) {
                (void)!symlink((std::string(folder) + tool).c_str(), join_path(bin, tool).c_str());
                break;
            }
    const std::string out = scratch.save("out", ""), script = GNV_TEST_DATA "/../../scripts/install_deps.sh";
    int terminal = -1;
    const pid_t child = machine.answer ? forkpty(&terminal, nullptr, nullptr, nullptr) : fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        const int to = open(out.c_str(), O_WRONLY);
        if (dup2(to, 1) < 0 || dup2(to, 2) < 0) _exit(97);
        if (!machine.answer && dup2(open("/dev/null", O_RDONLY), 0) < 0) _exit(97);
        const std::string path = "PATH=" + bin, ci = std::string("CI=") + (machine.ci ? machine.ci : "");
        const char * const environment[] = {path.c_str(), machine.ci ? ci.c_str() : nullptr, nullptr};
        alarm(longest_run);
        execle("/bin/sh", "sh", script.c_str(), nullptr, environment);
        _exit(98);
    }
    if (machine.answer) REQUIRE(write(terminal, machine.answer, strlen(machine.answer)) > 0);
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    if (terminal >= 0) close(terminal);
    Installed installed;
    if (WIFEXITED(status)) installed.exit_code = WEXITSTATUS(status);
    installed.said = read_file(out, 1 << 20).take();
    installed.calls = read_file(calls, 1 << 20).take();
    return installed;
}

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

} // namespace

TEST_CASE("as root and in CI packages are installed without an answer, after they are printed") {
    for (const Machine & machine : {Machine{.user = "0"}, Machine{.user = "0", .has_sudo = false},
                                    Machine{.ci = "true"}, Machine{.user = "0", .ci = "true"}}) {
        const Installed installed = install(machine);
        CAPTURE(installed.said);
        CHECK(installed.exit_code == 0);
        CHECK(has(installed.said, "Installing with apt-get: "));
        CHECK(has(installed.said, "cmake"));
        CHECK(has(installed.calls, "apt-get update"));
        CHECK(has(installed.calls, "apt-get install"));
        CHECK(has(installed.calls, "sudo") == (std::string(machine.user) != "0"));
    }
}

TEST_CASE("elsewhere the script asks first; no and no terminal install nothing") {
    const Installed yes = install({.answer = "y\n"});
    CAPTURE(yes.said);
    CHECK(yes.exit_code == 0);
    CHECK(has(yes.said, "[y/N]"));
    CHECK(has(yes.calls, "sudo apt-get install"));
    for (const Machine & machine :
         {Machine{.answer = "n\n"}, Machine{.answer = "\n"}, Machine{}, Machine{.ci = "false"},
          Machine{.has_sudo = false}, Machine{.answer = "y\n", .has_sudo = false}}) {
        const Installed installed = install(machine);
        CAPTURE(installed.said);
        CHECK(installed.exit_code == 1);
        CHECK(has(installed.said, "apt-get install --no-install-recommends"));
        CHECK(installed.calls == "");
    }
}

TEST_CASE("an example's package is installed where no answer is needed, and is never a reason to fail") {
    for (const Machine & machine : {Machine{.user = "0"}, Machine{.ci = "true"}}) {
        const Installed installed = install(machine);
        CHECK(has(installed.calls, "--no-install-recommends libcpp-httplib-dev"));
        CHECK_FALSE(has(installed.said, "left out"));
    }
    for (const Machine & machine : {Machine{.user = "0", .has_network = false}, Machine{.answer = "y\n"}}) {
        const Installed installed = install(machine);
        CAPTURE(installed.said);
        CHECK(installed.exit_code == 0);
        CHECK(has(installed.said, "The example server is left out: it needs libcpp-httplib-dev"));
        CHECK(has(installed.calls, "httplib") == !machine.has_network);
    }
}
