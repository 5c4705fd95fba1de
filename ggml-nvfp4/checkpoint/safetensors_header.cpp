#include "checkpoint/safetensors_header.h"

namespace gnv {

std::string make_header(const std::vector<HeaderTensor> & tensors,
                        const std::map<std::string, std::string> & metadata) {
    JsonWriter json;
    json.begin_object();
    if (!metadata.empty()) {
        json.key("__metadata__").begin_object();
        for (const auto & [key, value] : metadata) json.member(key, value);
        json.end_object();
    }
    for (const HeaderTensor & tensor : tensors) {
        json.key(tensor.name).begin_object().member("dtype", dtype_name(tensor.dtype)).member("shape", tensor.shape);
        json.key("data_offsets").begin_array().value(tensor.begin).value(tensor.end).end_array().end_object();
    }
    json.end_object();
    std::string out = std::string(8, '\0') + json.take();
    while (out.size() % 8) out += ' ';
    const uint64_t length = out.size() - 8;
    for (int i = 0; i < 8; i++) out[size_t(i)] = char(length >> 8 * i & 0xff);
    return out;
}

} // namespace gnv
