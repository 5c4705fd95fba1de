#include "formats/safetensors_header.h"

#include <nlohmann/json.hpp>

namespace gnv {

std::string json_quote(std::string_view text) {
    using nlohmann::json;
    return json(text).dump(-1, ' ', false, json::error_handler_t::replace);
}

std::string make_header(const std::vector<HeaderTensor> & tensors, const std::map<std::string, std::string> & metadata) {
    std::string out(8, '\0');
    out += '{';
    if (!metadata.empty()) {
        out += "\"__metadata__\":{";
        for (const auto & [key, value] : metadata) {
            if (out.back() != '{') out += ',';
            out += json_quote(key) + ":" + json_quote(value);
        }
        out += '}';
    }
    for (const HeaderTensor & tensor : tensors) {
        if (out.back() != '{') out += ',';
        out += json_quote(tensor.name) + ":{\"dtype\":\"" + dtype_name(tensor.dtype) + "\",\"shape\":[";
        for (const int64_t extent : tensor.shape) {
            if (out.back() != '[') out += ',';
            out += std::to_string(extent);
        }
        out += concat("],\"data_offsets\":[", tensor.begin, ",", tensor.end, "]}");
    }
    out += '}';
    while (out.size() % 8) out += ' ';
    const uint64_t length = out.size() - 8;
    for (int i = 0; i < 8; i++) out[size_t(i)] = char(length >> 8 * i & 0xff);
    return out;
}

} // namespace gnv
