// A folder of shards, with or without an index (fuzz_input.h describes the form): refused, or every tensor found once.
#include "checkpoint/safetensors.h"
#include "fuzz/fuzz_input.h"

using namespace gnv;
using namespace gnv::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const std::shared_ptr<const Folder> folder = memory_folder(split_parts(data, size));
    const Result<Checkpoint> strict = Checkpoint::open(folder);
    require_message(strict.status());
    std::vector<std::string> problems;
    const Result<Checkpoint> lenient = Checkpoint::open(folder, &problems);
    require_message(lenient.status());
    require(strict.ok() == (lenient.ok() && problems.empty()));
    if (!lenient.ok()) return 0;
    const Checkpoint & checkpoint = lenient.value();
    const Result<FolderFiles> files = checkpoint.open_shards();
    require(files.ok());
    for (size_t i = 0; i < checkpoint.tensors().size(); i++) {
        const TensorInfo & tensor = checkpoint.tensors()[i];
        require(checkpoint.find(tensor.name) == int64_t(i));
        std::string bytes(tensor.bytes, '\0');
        require(files.value()[tensor.shard]->read(bytes.data(), bytes.size(), tensor.offset).ok());
    }
    return 0;
}
