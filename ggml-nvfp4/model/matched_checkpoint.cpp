#include "model/matched_checkpoint.h"

namespace gnv {

Result<std::string> read_config_text(const Folder & folder) {
    constexpr uint64_t limit = 16 << 20;
    return read_file(folder, "config.json", limit);
}

Result<JsonDocument> read_config(const Folder & folder) {
    GNV_ASSIGN(std::string text, read_config_text(folder));
    return JsonDocument::parse(std::move(text), join_path(folder.path(), "config.json"));
}

Result<MatchedCheckpoint> open_matched(std::shared_ptr<const Folder> folder, Accept accept) {
    GNV_ASSIGN(JsonDocument config, read_config(*folder));
    GNV_ASSIGN(Checkpoint checkpoint, Checkpoint::open(std::move(folder)));
    GNV_ASSIGN(ModelLayout layout, match_model(config.root(), checkpoint, accept));
    return MatchedCheckpoint{std::move(checkpoint), std::move(config), std::move(layout)};
}

} // namespace gnv
