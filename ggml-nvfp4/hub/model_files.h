// A model of the hub as a folder: found in the cache, or downloaded into it.
#pragma once

#include "hub/card/hub_names.h"
#include "hub/hub_client.h"
#include "hub/repository.h"

#include <string>
#include <vector>

namespace gnv {

// What of a repository a run needs: configs, tokenizer, card and licence, and weights as safetensors. The same weights in
// other formats, and everything else, stay on the hub.
struct FileChoice {
    std::vector<RemoteFile> small, weights, left_out;
};
FileChoice choose_model_files(const RemoteListing & listing);
// Of the weights, leaves those out that no "*.safetensors.index.json" of `folder` names and
// that by their names hold no further part (mtp.safetensors); fails if one is named that `choice`
// lacks. Without an index all weights stay.
Status follow_index(const std::string & folder, const std::string & subject, FileChoice & choice);

// What the hub has of a model.
struct ModelListing {
    std::string commit;
    FileChoice files;
};
// Code::model if there is no checkpoint in the repository.
Result<ModelListing> list_model(const HubOptions & hub, const RepositoryName & model);
// Downloads the small files, and leaves out the weights that their index does not need.
Status fetch_small_files(const HubOptions & hub, const RepositoryName & model, ModelListing & listing);

// The complete snapshot in the cache; "" where there is none.
std::string find_model_folder(const std::string & cache, const RepositoryName & model);

// The folder of the snapshot; downloads what is missing. `list_only`: says what would be downloaded, and gives "".
Result<std::string> fetch_model(const HubOptions & hub, const RepositoryName & model, bool list_only);

// "3 files, 12.3 GB: a.bin, b.bin, ..."
std::string describe_files(const std::vector<RemoteFile> & files);

} // namespace gnv
