#include "run/open_model.h"

#include "formats/file.h"

namespace gnv {

static constexpr uint64_t config_limit = 16 << 20;

Result<std::unique_ptr<OpenModel>> OpenModel::open(const std::string & folder) {
    const std::string config_path = join_path(folder, "config.json");
    if (!is_directory(folder))
        return fail(Code::not_found, folder, path_exists(folder) ? " is not a folder" : " does not exist",
                    "; a model is a folder with config.json and *.safetensors files");
    if (!path_exists(config_path))
        return fail(Code::not_found, folder, " has no config.json; a model is a folder with config.json and ",
                    "*.safetensors files");
    GNV_ASSIGN(const JsonDocument config, JsonDocument::read(config_path, config_limit));
    GNV_ASSIGN(Checkpoint checkpoint, Checkpoint::open(folder));
    GNV_ASSIGN(ModelLayout layout, match_model(config.root(), checkpoint, all_formats()));
    // The catalog points into the two, which stay where they are from here on.
    std::unique_ptr<OpenModel> open(new OpenModel{std::move(checkpoint), std::move(layout), {}, {}, {}});
    GNV_ASSIGN(open->model, make_text_model(config.root()));
    GNV_ASSIGN(open->weights, WeightCatalog::create(open->layout, open->checkpoint));
    GNV_ASSIGN(open->files, open->checkpoint.open_shards());
    return open;
}

uint64_t OpenModel::quantized_modules() const {
    uint64_t count = 0;
    for (const LinearModule & module : layout.modules) count += module.part == Part::text && module.stored;
    return count;
}

bool OpenModel::has_input_scales() const {
    for (const LinearModule & module : layout.modules)
        if (module.part == Part::text && module.has_input_scale()) return true;
    return false;
}

} // namespace gnv
