// Lines "k PATTERN", "i PATTERN", "n PATTERN" (keep, ignore, include), "e" (the preset experts-only) and "d" (the draft head, too):
// refused with a message, or a selection that loaders can build, and a config.json.
#include "fuzz/fuzz_model.h"
#include "quant/plan.h"

#include <sstream>

using namespace gnv;
using namespace gnv::fuzz;

static const ModelLayout & layout() {
    static const ModelLayout it = [] {
        uint64_t bytes = 0;
        const std::string header = tiny_header(bytes);
        const auto folder = std::make_shared<OverlayFolder>(std::make_shared<EmptyFolder>());
        folder->put("model.safetensors", length_prefix(header.size()) + header + std::string(bytes, '\0'));
        const JsonDocument config = JsonDocument::parse(tiny_config(), "config.json").take();
        return match_model(config.root(), Checkpoint::open(folder).take()).take();
    }();
    return it;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    RecipeOptions options;
    std::istringstream lines(std::string(reinterpret_cast<const char *>(data), size));
    size_t patterns = 0;
    for (std::string line; patterns < 8 && std::getline(lines, line); patterns++) {
        if (line == "e") options.preset = Preset::experts_only;
        if (line == "d") options.draft_head = &formats::nvfp4a16;
        if (line.size() < 2) continue;
        (line[0] == 'k' ? options.keep : line[0] == 'n' ? options.include : options.ignore).push_back(line.substr(2));
    }
    const Result<Recipe> recipe = Recipe::create(options);
    require_message(recipe.status());
    if (!recipe.ok()) return 0;
    const Result<Selection> selection = recipe.value().select(layout());
    require_message(selection.status());
    if (!selection.ok()) return 0;
    int64_t count = 0, of_head = 0;
    for (size_t i = 0; i < layout().modules.size(); i++) {
        const LinearModule & module = layout().modules[i];
        if (!selection.value().format[i]) continue;
        count++;
        of_head += module.part == Part::mtp;
        require(role_traits(module.role).can_quantize && module.part != Part::vision);
    }
    require(count > 0 && count == selection.value().count && of_head == selection.value().draft_count);
    require((of_head > 0) == (options.draft_head != nullptr));
    const JsonDocument config = JsonDocument::parse(tiny_config(), "config.json").take();
    require(quantized_config(config.root(), layout(), selection.value(), options.scheme).ok());
    return 0;
}
