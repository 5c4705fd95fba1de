// gnv_hub_stream_t, for plans of a model whose weights stay on the hub.
#pragma once

#include "api/handles.h"
#include "api/progress.h"
#include "formats/folder.h"

#include <memory>

struct gnv_hub_stream_t : gnv::api::Owned {
    std::unique_ptr<gnv::api::Progress> progress; // outlives the folder, which asks it
    std::shared_ptr<const gnv::Folder> folder;
};
