// gnv_hub_stream_t, for calls that read a model whose weights stay on the hub.
#pragma once

#include "api/arguments.h"
#include "api/progress.h"
#include "formats/folder.h"

#include <memory>

struct gnv_hub_stream_t : gnv::api::Owned {
    std::unique_ptr<gnv::api::Progress> progress; // outlives the folder, which asks it
    std::shared_ptr<const gnv::Folder> folder;
};

namespace gnv::api {

// The source of a call: the folder, or that of `stream`, which may be null. `what`: the field that holds the stream.
inline Result<std::shared_ptr<const Folder>> open_source(const gnv_engine_t * engine, const char * source,
                                                         const gnv_hub_stream_t * stream, const char * what) {
    if (!stream) return open_folder(source);
    GNV_TRY(check_engine(engine, stream, what));
    if (stream->folder->path() == source) return std::shared_ptr<const Folder>(stream->folder);
    return fail(Code::invalid_argument, what, ": its folder is ", stream->folder->path(), ", and not the source ",
                source);
}

} // namespace gnv::api
