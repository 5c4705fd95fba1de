// Small checkpoints held in memory: loaded, changed and written by tests in any layout.
#pragma once

#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_header.h"

#include <cstdio>
#include <string>
#include <vector>

namespace gnv::test {

struct MemoryTensor {
    std::string name;
    DType dtype = DType::bf16;
    std::vector<int64_t> shape;
    std::string data;
};

inline std::vector<MemoryTensor> load_tensors(const std::string & folder) {
    const Checkpoint checkpoint = Checkpoint::open(folder).take();
    const FolderFiles files = checkpoint.open_shards().take();
    std::vector<MemoryTensor> tensors;
    for (const TensorInfo & info : checkpoint.tensors()) {
        MemoryTensor tensor{info.name, info.dtype, info.shape, std::string(info.bytes, '\0')};
        GNV_CHECK(files[info.shard]->read(tensor.data.data(), info.bytes, info.offset).ok());
        tensors.push_back(std::move(tensor));
    }
    return tensors;
}

// One file, or `shards` files with an index; tensors in the given order.
inline void save_tensors(const std::string & folder, const std::vector<MemoryTensor> & tensors, size_t shards) {
    std::string index = "{\"metadata\":{},\"weight_map\":{";
    for (size_t s = 0; s < shards; s++) {
        char name[64] = "model.safetensors";
        if (shards > 1) snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", s + 1, shards);
        std::vector<HeaderTensor> header;
        std::string data;
        for (size_t t = tensors.size() * s / shards; t < tensors.size() * (s + 1) / shards; t++) {
            header.push_back({tensors[t].name, tensors[t].dtype, tensors[t].shape, data.size(),
                              data.size() + tensors[t].data.size()});
            data += tensors[t].data;
            index += (t ? "," : "") + json_quote(tensors[t].name) + ":\"" + name + "\"";
        }
        GNV_CHECK(write_file_synced(join_path(folder, name), make_header(header, {{"format", "pt"}}) + data).ok());
    }
    if (shards > 1) GNV_CHECK(write_file_synced(join_path(folder, index_file_name), index + "}}").ok());
}

// Fused expert tensors [E, ...] become one tensor per expert and projection.
inline std::vector<MemoryTensor> split_experts(const std::vector<MemoryTensor> & tensors) {
    std::vector<MemoryTensor> out;
    for (const MemoryTensor & tensor : tensors) {
        const bool gate_up = ends_with(tensor.name, ".experts.gate_up_proj");
        if (!gate_up && !ends_with(tensor.name, ".experts.down_proj")) {
            out.push_back(tensor);
            continue;
        }
        const std::string prefix = tensor.name.substr(0, tensor.name.rfind('.') + 1);
        const std::vector<const char *> names =
            gate_up ? std::vector<const char *>{"gate_proj", "up_proj"} : std::vector<const char *>{"down_proj"};
        const size_t pieces = size_t(tensor.shape[0]) * names.size(), bytes = tensor.data.size() / pieces;
        for (size_t p = 0; p < pieces; p++)
            out.push_back({concat(prefix, p / names.size(), ".", names[p % names.size()], ".weight"),
                           tensor.dtype,
                           {tensor.shape[1] / int64_t(names.size()), tensor.shape[2]},
                           tensor.data.substr(p * bytes, bytes)});
    }
    return out;
}

// config.json, tokenizer and the like: everything but safetensors and index.
inline void copy_other_files(const std::string & from, const std::string & to) {
    for (const DirectoryEntry & entry : list_directory(from).take())
        if (!ends_with(entry.name, ".safetensors") && entry.name != index_file_name)
            GNV_CHECK(copy_file_synced(join_path(from, entry.name), join_path(to, entry.name)).ok());
}

inline MemoryTensor & find_tensor(std::vector<MemoryTensor> & tensors, const std::string & name) {
    for (MemoryTensor & tensor : tensors)
        if (tensor.name == name) return tensor;
    check_failed(__FILE__, __LINE__, name.c_str());
}

} // namespace gnv::test
