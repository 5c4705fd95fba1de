// An opened model folder: config.json and the checkpoint that it describes. All readers open models here.
#pragma once

#include "formats/folder.h"
#include "model/model_def.h"

#include <memory>
#include <string>

namespace gnv {

// config.json of a folder, as text or as a document; at most 16 MB.
Result<std::string> read_config_text(const Folder & folder);
Result<JsonDocument> read_config(const Folder & folder);

struct MatchedCheckpoint {
    Checkpoint checkpoint;
    JsonDocument config;
    ModelLayout layout;
};

// Reads headers and config.json, no weights. `accept`: see match_model(). A part that config.json announces and no listed
// file holds is taken from a file that the index does not list; one under other names is refused.
Result<MatchedCheckpoint> open_matched(std::shared_ptr<const Folder> folder, Accept accept = {});

} // namespace gnv
