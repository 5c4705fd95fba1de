// make-checkpoint: a checkpoint of any size from nothing but a config.json, for tests and benchmarks.
#include "core/strings.h"
#include "formats/file.h"
#include "formats/json.h"
#include "tools/synthetic_checkpoint.h"

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <map>

using namespace gnv;

// Text-only configs have no text_config, and their tensors no "language_model.".
static bool is_nested(const std::string & config_text) {
    const Result<JsonDocument> config = JsonDocument::parse(config_text, "config.json");
    JsonValue text;
    return config.ok() && config.value().root().find("text_config", text);
}

static Result<test::SyntheticResult> run(const std::string & config_path, const std::string & folder,
                                         const std::string & prefix, test::SyntheticOptions options) {
    GNV_ASSIGN(const std::string config_text, read_file(config_path, 1 << 24));
    options.layout.nested_prefix = prefix.empty() ? is_nested(config_text) : prefix == "model.language_model.";
    return test::write_synthetic_checkpoint(config_text, folder, options);
}

int main(int argc, char ** argv) {
    CLI::App app("Writes a checkpoint with made-up values for a config.json, the same for the same seed.",
                 "make-checkpoint");
    std::string config_path, folder, prefix;
    test::SyntheticOptions options;
    options.threads = 0;
    bool no_vision = false, no_mtp = false;
    const std::map<std::string, bool> layouts = {{"fused", true}, {"per-expert", false}};
    app.add_option("config", config_path, "config.json of the model")->required();
    app.add_option("-o,--output", folder, "folder to write; must not exist")->required();
    app.add_option("--layout", options.layout.fused_experts, "experts of the text model: fused or per-expert")
        ->transform(CLI::CheckedTransformer(layouts));
    app.add_option("--mtp-layout", options.layout.fused_mtp_experts, "experts of the draft head: fused or per-expert")
        ->transform(CLI::CheckedTransformer(layouts));
    app.add_option("--shards", options.shards, "number of files")->check(CLI::Range(1, 10000));
    app.add_option("--seed", options.seed, "selects the values");
    app.add_option("--threads", options.threads, "worker threads, 0 for one per processor")->check(CLI::Range(0, 4096));
    app.add_option("--prefix", prefix, "prefix of the text model's tensors; default: what the config's class uses")
        ->check(CLI::IsMember({"model.language_model.", "model."}));
    app.add_flag("--headers-only", options.headers_only, "files of the right size that hold no data");
    app.add_flag("--no-vision", no_vision, "leave the vision tower out");
    app.add_flag("--no-mtp", no_mtp, "leave the draft head out");
    CLI11_PARSE(app, argc, argv);
    options.layout.with_vision = !no_vision;
    options.layout.with_mtp = !no_mtp;

    const auto start = std::chrono::steady_clock::now();
    const Result<test::SyntheticResult> result = run(config_path, folder, prefix, options);
    if (!result.ok()) {
        fprintf(stderr, "make-checkpoint: %s\n", result.status().message().c_str());
        return 1;
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const test::SyntheticResult & made = result.value();
    printf("%s: %s tensors, %s in %s files, %.2f s", folder.c_str(), count_text(made.tensors).c_str(),
           bytes_text(made.bytes).c_str(), count_text(made.shards).c_str(), seconds);
    if (!options.headers_only) printf(", %.2f GB/s", double(made.bytes) / 1e9 / seconds);
    printf("\n");
    return 0;
}
