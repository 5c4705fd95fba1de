// A whole folder on disk in the form of fuzz_input.h, with a part "recipe" of patterns to ignore: refused with a message,
// or a plan that accounts for every byte.
#include "fuzz/fuzz_input.h"
#include "quant/plan.h"
#include "scratch.h"

#include <unistd.h>

using namespace gnv;
using namespace gnv::fuzz;

static void write_part(const std::string & folder, const std::string & part, const std::string & content) {
    const auto [name, bytes] = split_size(part);
    if (name.empty() || name.find('/') != std::string::npos || name.find('\0') != std::string::npos || name == "." ||
        name == ".." || name.size() > 200)
        return;
    const bool shard = ends_with(name, ".safetensors");
    const std::string path = join_path(folder, name), text = shard ? length_prefix(content.size()) + content : content;
    if (path_exists(path)) return;
    const Result<File> file = File::create(path);
    require(file.ok() && file.value().write(text.data(), text.size(), 0).ok());
    if (shard) require(truncate(path.c_str(), off_t(text.size() + bytes % (uint64_t(1) << 32))) == 0); // a hole
}

static void check_plan(const Plan & plan) {
    uint64_t source = 0;
    for (const PlanUnit & unit : plan.units) source += unit.source_bytes;
    require(source == plan.checkpoint.tensor_bytes());
    for (size_t s = 0; s < plan.output.shards.size(); s++) {
        uint64_t at = plan.output.shards[s].data_begin;
        for (const uint32_t t : plan.output.shards[s].tensors) {
            require(plan.output.tensors[t].offset == at);
            at += plan.output.tensors[t].bytes;
        }
        require(at == plan.output.shards[s].file_bytes);
    }
    require(JsonDocument::parse(plan_json(plan), "plan").ok() && JsonDocument::parse(plan.config_text, "config").ok());
    require(!plan_text(plan).empty());
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const test::ScratchFolder folder;
    PlanOptions options;
    options.recipe.scheme = size % 2 ? &formats::nvfp4 : &formats::nvfp4a16;
    for (const auto & [part, content] : split_parts(data, size)) {
        if (part == "recipe") {
            options.recipe.ignore.push_back(content);
        } else {
            write_part(folder.path(), part, content);
        }
    }
    const Result<Plan> plan = make_plan(folder.path(), options);
    require_message(plan.status());
    if (plan.ok()) check_plan(plan.value());
    return 0;
}
