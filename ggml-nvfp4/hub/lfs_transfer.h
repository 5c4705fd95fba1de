// One large file to the hub's storage, by the batch API of Git LFS: in one piece or, where the hub asks for it, in parts.
#pragma once

#include "hub/card/hub_names.h"
#include "hub/hub_client.h"

#include <functional>
#include <string>

namespace gnv {

struct LocalFile {
    std::string name, path; // name: in the repository
    uint64_t size = 0;
    std::string sha256;
    bool is_large = false; // as the hub decides
};

// `sent`: bytes of the file that were accepted since the last call; false asks to stop. Says false where the hub had it.
Result<bool> send_large_file(const HubOptions & hub, HttpClient & client, const RepositoryName & model,
                             const LocalFile & file, const std::function<bool(uint64_t bytes)> & sent);

} // namespace gnv
