// Recorded tensors: one safetensors file of tests/data/golden, or one with an absolute path, read whole.
#pragma once

#include "checkpoint/safetensors.h"
#include "formats/file.h"

#include <cstring>
#include <string>
#include <vector>

namespace gnv::test {

class GoldenFile {
  public:
    explicit GoldenFile(const std::string & name) {
        const std::string path = starts_with(name, "/") ? name : GNV_TEST_DATA "/golden/" + name;
        file_ = read_file(path, uint64_t(1) << 28).take();
        uint64_t header_bytes = 0; // little-endian, as the processors that this runs on
        GNV_CHECK(file_.size() >= sizeof header_bytes);
        memcpy(&header_bytes, file_.data(), sizeof header_bytes);
        GNV_CHECK(header_bytes <= file_.size() - sizeof header_bytes);
        data_begin_ = sizeof header_bytes + header_bytes;
        header_ =
            parse_header(file_.substr(sizeof header_bytes, header_bytes), file_.size() - data_begin_, path).take();
    }

    // F32, I32 or U8 elements of a tensor that is there.
    std::vector<float> floats(const std::string & name) const { return elements<float>(name, DType::f32); }
    std::vector<int32_t> ints(const std::string & name) const { return elements<int32_t>(name, DType::i32); }
    std::vector<uint8_t> bytes(const std::string & name) const { return elements<uint8_t>(name, DType::u8); }

    const std::vector<HeaderTensor> & tensors() const { return header_.tensors; }
    const HeaderTensor & tensor(const std::string & name) const {
        for (const HeaderTensor & tensor : header_.tensors)
            if (tensor.name == name) return tensor;
        check_failed(__FILE__, __LINE__, name.c_str());
    }

  private:
    template <class T>
    std::vector<T> elements(const std::string & name, DType dtype) const {
        const HeaderTensor & info = tensor(name);
        GNV_CHECK(info.dtype == dtype);
        std::vector<T> values((info.end - info.begin) / sizeof(T));
        memcpy(values.data(), file_.data() + data_begin_ + info.begin, info.end - info.begin);
        return values;
    }

    std::string file_;
    uint64_t data_begin_ = 0;
    Header header_;
};

} // namespace gnv::test
