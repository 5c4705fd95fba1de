// A finished folder to a model repository: large files over Git LFS, then one commit.
#pragma once

#include "hub/card/hub_names.h"
#include "hub/hub_client.h"

#include <string>

namespace gnv {

struct UploadOptions {
    std::string message = "Upload with ggml-nvfp4";
    bool create = false, is_private = false;
};

// Gives the page of the repository.
Result<std::string> upload_folder(const HubOptions & hub, const std::string & folder, const RepositoryName & model,
                                  const UploadOptions & options);
// Whether the token may write there, and the repository is there or is to be made; changes nothing.
Result<std::string> check_upload(const HubOptions & hub, const RepositoryName & model, const UploadOptions & options);

} // namespace gnv
