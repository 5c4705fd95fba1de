// The files of a repository as the hub lists them.
#pragma once

#include "hub/card/hub_names.h"
#include "hub/hub_client.h"

#include <vector>

namespace gnv {

struct RemoteFile {
    std::string name; // checked: a relative path
    uint64_t size = 0;
    std::string hash; // of the content (hub/content_hash.h): 64 or 40 digits
};

struct RemoteListing {
    std::string commit;            // 40 digits
    std::vector<RemoteFile> files; // sorted by name

    const RemoteFile * find(const std::string & name) const; // null: no such file
};

uint64_t bytes_of(const std::vector<RemoteFile> & files);

// GET /api/models/ORG/NAME/revision/REVISION?blobs=true. Every name, size and hash is checked.
Result<RemoteListing> list_repository(const HubOptions & hub, const RepositoryName & repository);

// The same of the text of an answer; `subject` is for messages.
Result<RemoteListing> parse_listing(std::string text, const std::string & subject);

} // namespace gnv
