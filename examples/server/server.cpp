// example_server MODEL: a model behind the HTTP API of OpenAI. docs/server.md says what it serves.
#include "service.h"

#include <CLI/CLI.hpp>
#include <csignal>
#include <fstream>

namespace {

struct Args {
    server::EngineOptions engine;
    server::ServiceOptions service;
    std::string host = "127.0.0.1", key_file, draft;
    int port = 8080;
};

std::optional<int32_t> draft_of(const std::string & text) {
    if (text.empty() || text == "0") return 0;
    if (text == "auto") return GNV_DRAFT_AUTO;
    const bool is_number = text.size() <= 2 && text.find_first_not_of("0123456789") == std::string::npos;
    if (!is_number || std::stoi(text) > GNV_MOST_DRAFTS) return std::nullopt;
    return std::stoi(text);
}

void declare(CLI::App & app, Args & args) {
    app.add_option("MODEL", args.engine.model, "folder of a checkpoint")->required()->check(CLI::ExistingDirectory);
    app.add_option("--host", args.host, "address to listen on")->capture_default_str();
    app.add_option("--port", args.port, "port to listen on; 0: any that is free")
        ->check(CLI::Range(0, 65535))
        ->capture_default_str();
    app.add_option("--name", args.service.name, "name of the model (default: that of its folder)");
    app.add_option("--device", args.engine.device, "cpu, cuda[:N] or auto")->capture_default_str();
    app.add_option("--threads", args.engine.threads, "worker threads; 0: one per processor")
        ->check(CLI::Range(0, 4096));
    app.add_option("--capacity", args.engine.capacity, "tokens of a prompt and its answer")
        ->check(CLI::Range(1, INT32_MAX))
        ->capture_default_str();
    app.add_option("--texts", args.engine.texts, "texts at once; others wait")
        ->check(CLI::Range(1, 1024))
        ->capture_default_str();
    app.add_option("--positions", args.engine.positions, "tokens of all texts at once (default: the capacity of each)")
        ->check(CLI::Range(1, INT32_MAX));
    app.add_option("--prefixes", args.engine.prefixes, "beginnings of prompts that are kept for others; 0: none")
        ->check(CLI::Range(0, 1024))
        ->capture_default_str();
    app.add_option("--draft", args.draft, "tokens that the model's draft head guesses at a time, 1 to 15, or auto")
        ->check([](const std::string & text) { return draft_of(text) ? "" : "use 0 to 15 or auto"; });
    app.add_option("--ram", args.engine.ram_bytes, "bytes of memory (default: most of what is free)");
    app.add_option("--api-key-file", args.key_file, "file with the key that clients must send");
    app.add_option("--queue", args.engine.queue, "requests that may wait; others get 429")
        ->check(CLI::Range(0, 10000))
        ->capture_default_str();
    app.add_option("--queue-seconds", args.engine.queue_seconds, "that a request may wait; then it gets 503")
        ->check(CLI::Range(1, 86400))
        ->capture_default_str();
    app.add_option("--connections", args.service.connections, "connections at once; others wait to be accepted")
        ->check(CLI::Range(1, 10000))
        ->capture_default_str();
    app.add_option("--body-limit", args.service.body_bytes, "bytes of a request")
        ->check(CLI::Range(1, 1 << 30))
        ->capture_default_str();
    app.add_option("--read-seconds", args.service.read_seconds, "for the body of a request")
        ->check(CLI::Range(1, 3600))
        ->capture_default_str();
    app.add_flag("--quiet", args.service.quiet, "no line for each request");
}

void read_key(Args & args) {
    if (args.key_file.empty()) return;
    std::ifstream file(args.key_file);
    std::getline(file, args.service.api_key);
    if (args.service.api_key.empty()) throw std::runtime_error("--api-key-file " + args.key_file + " has no key");
}

int serve(Args & args, const sigset_t & ending_signals) {
    read_key(args);
    args.engine.draft = draft_of(args.draft).value_or(0);
    if (args.service.name.empty()) {
        std::string folder = args.engine.model;
        while (folder.size() > 1 && folder.back() == '/') folder.pop_back();
        args.service.name = folder.substr(folder.rfind('/') + 1);
    }
    server::PromptMaker prompts(args.engine.model);
    server::TextEngine engine(args.engine);
    server::Service service(args.service, engine, prompts);
    httplib::Server http;
    service.attach(http);
    const int port = args.port == 0 ? http.bind_to_any_port(args.host) : args.port;
    if (port <= 0 || (args.port != 0 && !http.bind_to_port(args.host, args.port)))
        throw std::runtime_error("cannot listen on " + args.host + ":" + std::to_string(args.port));
    printf("%s\nlistening on http://%s:%d\n", engine.description(), args.host.c_str(), port);
    fflush(stdout);
    std::thread listener([&] { http.listen_after_bind(); });
    int signal = 0;
    sigwait(&ending_signals, &signal);
    engine.stop();
    service.wait_for_answers(5); // that say why they end
    http.stop();
    listener.join();
    return 0;
}

} // namespace

int main(int argc, char ** argv) {
    // In all threads: one waits for them. A client that closes its end is no reason to end.
    sigset_t ending_signals;
    sigemptyset(&ending_signals);
    for (const int signal : {SIGINT, SIGTERM, SIGHUP}) sigaddset(&ending_signals, signal);
    pthread_sigmask(SIG_BLOCK, &ending_signals, nullptr);
    std::signal(SIGPIPE, SIG_IGN);
    Args args;
    CLI::App app("A model behind the HTTP API of OpenAI: chats, texts, streams, tools.", "example_server");
    declare(app, args);
    CLI11_PARSE(app, argc, argv);
    try {
        return serve(args, ending_signals);
    } catch (const std::exception & error) {
        fprintf(stderr, "error: %s\n", error.what());
        return 2;
    }
}
