// hub_server.py as a fixture: a hub on this machine with folders for repositories, and faults on request.
#pragma once

#include "formats/json.h"
#include "hub/http.h"
#include "scratch.h"

#include <csignal>
#include <cstring>
#include <doctest/doctest.h>
#include <memory>
#include <string>
#include <sys/wait.h>
#include <unistd.h>
#include <vector>

namespace gnv::test {

// Bytes that look random, the same for the same seed.
inline std::string made_up_bytes(size_t size, uint64_t seed) {
    std::string out(size, '\0');
    uint64_t state = seed * 0x9E3779B97F4A7C15u + 1;
    for (char & c : out) {
        state ^= state << 13, state ^= state >> 7, state ^= state << 17;
        c = char(state >> 32);
    }
    return out;
}

class HubServer {
  public:
    // `more`: options of hub_server.py.
    explicit HubServer(const std::vector<std::string> & more = {}) {
        int to_child[2], from_child[2];
        REQUIRE((pipe(to_child) == 0 && pipe(from_child) == 0));
        pid_ = fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            dup2(to_child[0], 0);
            dup2(from_child[1], 1);
            for (const int fd : {to_child[0], to_child[1], from_child[0], from_child[1]}) close(fd);
            std::vector<std::string> words = {"python3", GNV_TEST_DATA "/../hub/hub_server.py", root.path()};
            words.insert(words.end(), more.begin(), more.end());
            std::vector<char *> arguments;
            for (std::string & word : words) arguments.push_back(word.data());
            arguments.push_back(nullptr);
            execvp("python3", arguments.data());
            _exit(127);
        }
        close(to_child[0]);
        close(from_child[1]);
        stop_ = to_child[1];
        std::string line;
        for (char c = 0; read(from_child[0], &c, 1) == 1 && c != '\n';) line += c;
        close(from_child[0]);
        const Result<JsonDocument> ready = JsonDocument::parse(line, "hub_server.py");
        REQUIRE_MESSAGE(ready.ok(), line);
        url_ = ready.value().root().get("hub").value().as_string().value();
    }
    ~HubServer() {
        close(stop_);
        int status = 0;
        waitpid(pid_, &status, 0);
    }
    HubServer(const HubServer &) = delete;
    HubServer & operator=(const HubServer &) = delete;

    const std::string & url() const { return url_; }

    // Adds a file to a repository: "org/name/config.json", "datasets/org/name/a.jsonl".
    void add(const std::string & path, const std::string & content) const {
        for (size_t slash = path.find('/'); slash != path.npos; slash = path.find('/', slash + 1))
            if (!path_exists(root / path.substr(0, slash))) REQUIRE(make_directory(root / path.substr(0, slash)).ok());
        root.save(path, content);
    }

    void control(const std::string & json) const { ask("POST", "/_control", json); }
    // A number of /_seen.
    int64_t seen(const char * key) const {
        const Result<JsonDocument> document = JsonDocument::parse(ask("GET", "/_seen", ""), "/_seen");
        return document.value().root().get(key).value().as_int().value();
    }

    HttpOptions http() const {
        HttpOptions options;
        options.endpoint = url_;
        options.ca_file = ca_file;
        options.user_agent = "test";
        return options;
    }

    const ScratchFolder root;
    std::string ca_file;

  private:
    std::string ask(const char * method, const std::string & path, const std::string & body) const {
        Result<HttpClient> client = HttpClient::create(http());
        HttpRequest request;
        request.method = method;
        request.url = url_ + path;
        request.body = body;
        request.limit = 1 << 20;
        HttpOutcome outcome = client.value().send(request);
        REQUIRE_MESSAGE(outcome.failure.ok(), outcome.failure.message());
        return outcome.response.body;
    }

    pid_t pid_ = -1;
    int stop_ = -1;
    std::string url_;
};

// False, after saying so, on a machine without the program.
inline bool has_program(const char * name) {
    if (system((std::string("command -v ") + name + " >/dev/null").c_str()) == 0) return true;
    MESSAGE("skipped: this machine has no " << name);
    return false;
}

} // namespace gnv::test
