// Checkpoints to inspect: the small one, llm-compressor's output for a part of it, and what tests make of both.
#pragma once

#include "checkpoint_files.h"
#include "core/thread_pool.h"
#include "inspect/contents.h"
#include "scratch.h"

#include <cstring>
#include <doctest/doctest.h>
#include <memory>

namespace gnv::test {

inline const std::string tiny_folder = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";
// 16 quantized modules of layer 3, W4A4, and the global scales of all others.
inline const std::string golden_folder = GNV_TEST_DATA "/golden";
inline const std::string layer3 = "model.language_model.layers.3.";

// Contents stay where they are: what is made from them points at them.
inline std::unique_ptr<Contents> open_contents(const std::string & folder) {
    Result<Contents> contents = Contents::open(folder);
    INFO(contents.status().message());
    REQUIRE(contents.ok());
    return std::make_unique<Contents>(contents.take());
}

inline std::unique_ptr<ThreadPool> make_threads(int count) { return ThreadPool::create(count).take(); }

template <class Value>
MemoryTensor make_tensor(const std::string & name, DType dtype, std::vector<int64_t> shape,
                         const std::vector<Value> & values) {
    MemoryTensor tensor{name, dtype, std::move(shape), std::string(values.size() * sizeof(Value), '\0')};
    if (!values.empty()) memcpy(tensor.data.data(), values.data(), tensor.data.size());
    return tensor;
}

// A folder with these tensors and no config.json.
inline std::string save_folder(const ScratchFolder & scratch, const std::string & name,
                               const std::vector<MemoryTensor> & tensors) {
    REQUIRE(make_directory(scratch / name).ok());
    save_tensors(scratch / name, tensors, 1);
    return scratch / name;
}

} // namespace gnv::test
