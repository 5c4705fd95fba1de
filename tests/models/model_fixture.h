// Configs of published models, changed as a test needs, and checkpoints that are all header.
#pragma once

#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_header.h"
#include "formats/file.h"
#include "formats/json.h"
#include "model/model_def.h"
#include "scratch.h"

#include <doctest/doctest.h>
#include <nlohmann/json.hpp>
#include <string>
#include <unistd.h>
#include <vector>

namespace gnv::test {

using Json = nlohmann::ordered_json;

inline Json read_json(const std::string & path) { return Json::parse(read_file(path, 1 << 24).value()); }

// The small checkpoint, unpacked by the build.
inline const std::string tiny_folder = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";

// The config of a published model, or of the small checkpoint ("qwen36-tiny").
inline Json read_data(const std::string & name) {
    return read_json(name == "qwen36-tiny" ? tiny_folder + "/config.json" : GNV_TEST_DATA "/configs/" + name + ".json");
}

// The model's config with one value replaced, for example set("qwen36-tiny", "/text_config/head_dim", 7).
inline Json set(Json config, const std::string & pointer, const Json & value) {
    config[Json::json_pointer(pointer)] = value;
    return config;
}

inline Json without(Json config, const std::string & parent, const std::string & key) {
    config[Json::json_pointer(parent)].erase(key);
    return config;
}

inline JsonDocument parse(const Json & config) { return JsonDocument::parse(config.dump(), "config.json").take(); }

inline Result<std::vector<TensorSpec>> list(const Json & config, const LayoutChoice & choice = {}) {
    return list_tensors(parse(config).root(), choice);
}

inline uint64_t elements(const std::vector<int64_t> & shape) {
    uint64_t count = 1;
    for (const int64_t extent : shape) count *= uint64_t(extent);
    return count;
}

// A checkpoint's tensors, to be bent before they are written. The data is a hole in the file: zeros that take no space.
struct SparseCheckpoint {
    std::vector<HeaderTensor> tensors;

    explicit SparseCheckpoint(const std::vector<TensorSpec> & specs) {
        for (const TensorSpec & spec : specs) tensors.push_back({spec.name, DType::bf16, spec.shape, 0, 0});
    }
    SparseCheckpoint(const Json & config, const LayoutChoice & choice = {})
        : SparseCheckpoint(list(config, choice).take()) {}

    HeaderTensor & operator[](const std::string & name) {
        for (HeaderTensor & tensor : tensors)
            if (tensor.name == name) return tensor;
        return tensors.emplace_back(HeaderTensor{name, DType::bf16, {1}, 0, 0});
    }
    void remove(const std::string & prefix) {
        std::erase_if(tensors, [&](const HeaderTensor & tensor) { return starts_with(tensor.name, prefix); });
    }

    Checkpoint write(const ScratchFolder & folder) {
        uint64_t end = 0;
        for (HeaderTensor & tensor : tensors) {
            tensor.begin = end;
            end += elements(tensor.shape) * uint64_t(dtype_traits(tensor.dtype).bits) / 8;
            tensor.end = end;
        }
        const std::string path = folder / "model.safetensors", header = make_header(tensors, {});
        REQUIRE(write_file_synced(path, header).ok());
        REQUIRE(truncate(path.c_str(), off_t(header.size() + end)) == 0);
        return Checkpoint::open(folder.path()).take();
    }

    Result<ModelLayout> match(const Json & config) {
        const ScratchFolder folder;
        const Checkpoint checkpoint = write(folder);
        return match_model(parse(config).root(), checkpoint);
    }
};

} // namespace gnv::test
