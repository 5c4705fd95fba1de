// A data set of the hub as a folder of its data files: those of one configuration and split, chosen by the metadata of its
// README.md or, without them, by the names of folders and files.
#pragma once

#include "hub/card/front_matter.h"
#include "hub/card/hub_names.h"
#include "hub/hub_client.h"
#include "hub/repository.h"

#include <string>
#include <vector>

namespace gnv {

struct DatasetName {
    RepositoryName repository;
    std::string config, split; // "": the usual one
};
// "ORG/NAME[@REVISION][:CONFIG[:SPLIT]]"
Result<DatasetName> parse_dataset_name(const std::string & text);

struct DatasetChoice {
    std::vector<RemoteFile> files; // sorted by name
    std::string config, split;     // as chosen; "" where names tell none
    std::string note;              // what else there is: "other configurations: a, b"; may be empty
    size_t left_out = 0;           // files of the same split beyond the limit of bytes
};
// Fails with Code::not_found and the known names. `metadata`: of README.md.
Result<DatasetChoice> choose_dataset_files(const RemoteListing & listing, const YamlNode & metadata,
                                           const DatasetName & wanted);

// The folder of links to the chosen files, whose names begin with their place in the order. Downloads what is missing.
Result<std::string> fetch_dataset(const HubOptions & hub, const DatasetName & dataset, bool offline);

} // namespace gnv
