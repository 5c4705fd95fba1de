#include "run/open_model.h"

#include "model/fingerprint.h"

#include "formats/file.h"

namespace gnv {

static Result<std::unique_ptr<TextModel>> make_draft(const JsonDocument & config, const ModelLayout & layout,
                                                     const WeightCatalog & weights) {
    if (!layout.has_mtp)
        return fail(Code::unsupported, weights.checkpoint().folder(),
                    ": the checkpoint has no draft head (tensors mtp.*)");
    int64_t experts = 0;
    if (layout.expert_count > 0) {
        GNV_ASSIGN(const WeightSpec router, weights.spec({Role::router, 0, -1, 0, false, Part::mtp}));
        experts = router.shape[0];
    }
    return make_draft_model(config.root(), experts);
}

Result<std::unique_ptr<OpenModel>> OpenModel::make(const JsonDocument & config, const Checkpoint & checkpoint,
                                                   const ModelLayout & layout, const FolderFiles & files) {
    GNV_ASSIGN(std::unique_ptr<TextModel> model, make_text_model(config.root()));
    GNV_ASSIGN(VisionModel vision, make_vision_model(config.root()));
    if (!layout.has_vision) vision.tower.reset();
    GNV_ASSIGN(WeightCatalog weights, WeightCatalog::create(layout, checkpoint));
    std::unique_ptr<TextModel> draft;
    Status no_draft;
    if (Result<std::unique_ptr<TextModel>> made = make_draft(config, layout, weights); made.ok()) {
        draft = made.take();
    } else {
        no_draft = made.take_status(); // a model runs without one
    }
    return std::unique_ptr<OpenModel>(new OpenModel(checkpoint, layout, files, std::move(model), std::move(draft),
                                                    std::move(no_draft), std::move(vision), std::move(weights)));
}

Result<std::unique_ptr<OpenModel>> OpenModel::open(const Checkpoint & checkpoint, const ModelLayout & layout,
                                                   const FolderFiles & files) {
    GNV_ASSIGN(const JsonDocument config, read_config(checkpoint.files()));
    return make(config, checkpoint, layout, files);
}

Result<std::unique_ptr<OpenModel>> OpenModel::open(std::shared_ptr<const Folder> folder, Accept accept) {
    GNV_ASSIGN(MatchedCheckpoint matched, open_matched(std::move(folder), accept));
    auto owned = std::make_unique<Owned>(Owned{std::move(matched), {}}); // must not move from here on
    GNV_ASSIGN(owned->files, owned->matched.checkpoint.open_shards());
    GNV_ASSIGN(std::unique_ptr<OpenModel> opened,
               make(owned->matched.config, owned->matched.checkpoint, owned->matched.layout, owned->files));
    opened->owned_ = std::move(owned);
    return opened;
}

Result<std::unique_ptr<OpenModel>> OpenModel::open(const std::string & folder) {
    constexpr const char * expected = "; a model is a folder with config.json and *.safetensors files";
    if (!is_directory(folder))
        return fail(Code::not_found, folder, path_exists(folder) ? " is not a folder" : " does not exist", expected);
    if (!path_exists(join_path(folder, "config.json")))
        return fail(Code::not_found, folder, " has no config.json", expected);
    GNV_ASSIGN(std::shared_ptr<const Folder> opened, open_folder(folder));
    return open(std::move(opened), all_formats());
}

Result<std::string> OpenModel::fingerprint() const { return model_fingerprint(checkpoint, files); }

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
