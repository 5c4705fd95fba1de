// Headers of safetensors files that are nearly right: a valid one from a seed, and changes that keep it JSON or nearly so.
#pragma once

#include "checkpoint/safetensors_header.h"

#include <algorithm>
#include <cstdint>
#include <random>
#include <string>

namespace gnv::fuzz {

using Random = std::mt19937_64; // the same numbers everywhere

inline uint64_t below(Random & random, uint64_t limit) { return random() % limit; }

struct GeneratedHeader {
    std::string json;
    uint64_t data_bytes = 0;
};

inline GeneratedHeader generate_header(Random & random) {
    std::vector<HeaderTensor> tensors(below(random, 12));
    GeneratedHeader out;
    for (size_t i = 0; i < tensors.size(); i++) {
        HeaderTensor & tensor = tensors[i];
        tensor.name = concat("model.layers.", below(random, 4), ".t", i, below(random, 2) ? ".weight" : "");
        tensor.dtype = DType(below(random, uint64_t(DType::count_)));
        uint64_t bits = uint64_t(dtype_traits(tensor.dtype).bits);
        for (uint64_t rank = below(random, 5); rank > 0; rank--) {
            tensor.shape.push_back(int64_t(below(random, 9)));
            bits *= uint64_t(tensor.shape.back());
        }
        if (bits % 8) tensor.shape.push_back(8), bits *= 8;
        tensor.begin = out.data_bytes;
        tensor.end = out.data_bytes += bits / 8;
    }
    std::shuffle(tensors.begin(), tensors.end(), random);
    out.json = make_header(tensors, {{"format", "pt"}}).substr(8);
    return out;
}

namespace detail {

inline size_t find_from(const std::string & json, Random & random, const char * characters) {
    const size_t at = json.find_first_of(characters, below(random, json.size() + 1));
    return at == std::string::npos ? json.find_first_of(characters) : at;
}

// [begin, end) of the token at a position: a number, a string, or one character.
inline std::pair<size_t, size_t> token_at(const std::string & json, size_t at) {
    if (json[at] == '"') {
        const size_t close = json.find('"', at + 1);
        return {at, close == std::string::npos ? json.size() : close + 1};
    }
    size_t end = at;
    while (end < json.size() &&
           (isalnum(static_cast<unsigned char>(json[end])) || json[end] == '-' || json[end] == '.'))
        end++;
    return {at, std::max(end, at + 1)};
}

} // namespace detail

inline constexpr const char * odd_values[] = {
    "0",
    "-1",
    "1",
    "8",
    "255",
    "2147483648",
    "4294967296",
    "9223372036854775807",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "1e3",
    "1.5",
    "-0",
    "0.0",
    "1e400",
    "null",
    "true",
    "\"\"",
    "\"0\"",
    "[]",
    "{}",
    "[1]",
    "[[1]]",
    "{\"a\":1}",
    "\"BF16\"",
    "\"F4\"",
    "\"F6_E2M3\"",
    "\"F64\"",
    "\"BOOL\"",
    "\"bf16\"",
    "\"dtype\"",
    "\"shape\"",
    "\"data_offsets\"",
    "\"__metadata__\"",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "\"\xff\"",
    "\"a\\/b\"",
    "",
};

// One change of one place.
inline void mutate_header_once(std::string & json, Random & random) {
    if (json.empty()) {
        json = "{}";
        return;
    }
    const auto odd = [&] { return std::string(odd_values[below(random, std::size(odd_values))]); };
    const size_t number = detail::find_from(json, random, "0123456789"), string = detail::find_from(json, random, "\"");
    const size_t mark = detail::find_from(json, random, "{}[],:");
    const size_t any = below(random, json.size());
    const auto replace_token = [&](size_t at, const std::string & with) {
        if (at == std::string::npos) return;
        const auto [begin, end] = detail::token_at(json, at);
        json.replace(begin, end - begin, with);
    };
    switch (below(random, 12)) {
    case 0: replace_token(number, odd()); break;
    case 1: replace_token(number, std::to_string(below(random, 64))); break;
    case 2: replace_token(string, odd()); break;
    case 3: replace_token(mark, odd()); break;
    case 4: json.erase(any, 1 + below(random, 40)); break;
    case 5: json.insert(any, json.substr(below(random, json.size()), below(random, 80))); break; // a piece twice
    case 6: json[any] = char(json[any] ^ (1 << below(random, 8))); break;
    case 7: json.resize(any); break;
    case 8: json.insert(any, std::string(1 + below(random, 400), "[{\" 0"[below(random, 5)])); break;
    case 9: { // two tokens swapped
        const size_t other = detail::find_from(json, random, "0123456789\"");
        if (number == std::string::npos || other == std::string::npos) break;
        const auto [a, a_end] = detail::token_at(json, std::min(number, other));
        const auto [b, b_end] = detail::token_at(json, std::max(number, other));
        if (a_end > b) break;
        const std::string first = json.substr(a, a_end - a), second = json.substr(b, b_end - b);
        json.replace(b, b_end - b, first);
        json.replace(a, a_end - a, second);
        break;
    }
    case 10: json.insert(any, odd()); break;
    default: json.append(below(random, 2) ? " " : odd()); break;
    }
}

} // namespace gnv::fuzz
