// What a hub may send: a list of files ("{" comes first), or the README.md of a data set, by which files are chosen. Names that
// pass the checks stay inside their folder.
#include "hub/dataset_files.h"
#include "hub/repository.h"

#include <cstdlib>
#include <string>

using namespace gnv;

static void require(bool condition) {
    if (!condition) abort();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const std::string text(reinterpret_cast<const char *>(data), size);
    if (size > 0 && text[0] == '{') {
        const Result<RemoteListing> listing = parse_listing(text, "org/name");
        require(listing.ok() || !listing.status().message().empty());
        if (!listing.ok()) return 0;
        for (const RemoteFile & file : listing.value().files) {
            require(!file.name.empty() && file.name[0] != '/' && file.name.find('\0') == file.name.npos);
            require(("/" + file.name + "/").find("/../") == std::string::npos);
            require(is_hex(file.hash, 40) || is_hex(file.hash, 64));
        }
        return 0;
    }
    const Result<YamlNode> metadata = parse_front_matter(text, "README.md");
    require(metadata.ok() || !metadata.status().message().empty());
    if (!metadata.ok()) return 0;
    RemoteListing listing;
    for (const char * name : {"README.md", "data/train-0.parquet", "data/test-0.parquet", "x/train.jsonl", "y/a/b.csv"})
        listing.files.push_back({name, 10, std::string(40, 'a')});
    DatasetName wanted;
    wanted.repository.organization = wanted.repository.name = "x";
    const Result<DatasetChoice> choice = choose_dataset_files(listing, metadata.value(), wanted);
    require(choice.ok() ? !choice.value().files.empty() : !choice.status().message().empty());
    return 0;
}
