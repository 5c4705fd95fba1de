#include "checkpoint/safetensors.h"

#include "checkpoint/header_reader.h"
#include "formats/folder_hints.h"
#include "formats/json.h"

#include <algorithm>
#include <cstring>
#include <tuple>

namespace gnv {

// --- Header ---------------------------------------------------------------------------------------------------------------

// Bytes of a tensor of this dtype and shape; false if they are no whole number or exceed 64 bits.
static bool tensor_bytes_of(DType dtype, const std::vector<int64_t> & shape, uint64_t & bytes) {
    uint64_t bits = uint64_t(dtype_traits(dtype).bits);
    for (const int64_t extent : shape)
        if (__builtin_mul_overflow(bits, uint64_t(extent), &bits)) return false;
    bytes = bits / 8;
    return bits % 8 == 0;
}

static constexpr size_t most_dimensions = 64;    // the maximum of all frameworks
static constexpr size_t most_metadata = 100'000; // frameworks write a few, training tools some hundred
static constexpr std::string_view metadata_key = "__metadata__";

static Result<HeaderTensor> parse_tensor(std::string_view name, const JsonValue & value, uint64_t data_bytes) {
    HeaderTensor tensor;
    tensor.name = std::string(name);

    GNV_ASSIGN(const JsonValue dtype, value.get("dtype"));
    GNV_ASSIGN(const std::string_view dtype_text, dtype.as_string());
    if (!dtype_from_name(dtype_text, tensor.dtype))
        return fail(Code::format, dtype.where(), ": \"", printable(dtype_text), "\" is not a dtype of the format");

    GNV_ASSIGN(const JsonValue shape, value.get("shape"));
    GNV_TRY(shape.for_each_element([&](size_t, const JsonValue & item) -> Status {
        GNV_ASSIGN(const int64_t extent, item.as_int());
        if (extent < 0) return fail(Code::format, item.where(), ": ", extent, " is negative");
        if (tensor.shape.size() == most_dimensions)
            return fail(Code::format, shape.where(), ": more than ", most_dimensions, " dimensions");
        tensor.shape.push_back(extent);
        return {};
    }));

    GNV_ASSIGN(const JsonValue offsets, value.get("data_offsets"));
    uint64_t ends[2] = {0, 0};
    size_t count = 0;
    GNV_TRY(offsets.for_each_element([&](size_t index, const JsonValue & item) -> Status {
        GNV_ASSIGN(const int64_t offset, item.as_int());
        if (offset < 0) return fail(Code::format, item.where(), ": ", offset, " is negative");
        if (index < 2) ends[index] = uint64_t(offset);
        count++;
        return {};
    }));
    if (count != 2) return fail(Code::format, offsets.where(), ": expected two offsets, found ", count);
    tensor.begin = ends[0], tensor.end = ends[1];
    if (tensor.begin <= tensor.end && tensor.end > data_bytes)
        return fail(Code::format, offsets.where(), ": bytes ", tensor.begin, " to ", tensor.end, " do not lie in the ",
                    data_bytes, " bytes of data that the file holds; it is at least ", tensor.end - data_bytes,
                    " bytes short: copy or download it again");
    if (tensor.begin > tensor.end)
        return fail(Code::format, offsets.where(), ": bytes ", tensor.begin, " to ", tensor.end, " do not lie in the ",
                    data_bytes, " bytes of data that the file holds");
    uint64_t bytes = 0;
    if (!tensor_bytes_of(tensor.dtype, tensor.shape, bytes) || bytes != tensor.end - tensor.begin)
        return fail(Code::format, value.where(), ": ", shape_text(tensor.shape), " of ", dtype_name(tensor.dtype),
                    " does not fill the ", tensor.end - tensor.begin, " bytes at ", tensor.begin, " to ", tensor.end);
    return tensor;
}

// The apparent number of members of the object "__metadata__" of a header. Counted before the JSON is parsed, since
// entries take many times their size; the result is arbitrary for a text that is no JSON.
static size_t count_metadata(std::string_view json) {
    size_t count = 0, string_begin = 0;
    int depth = 0;
    bool is_metadata = false;
    std::string_view last_string;
    for (size_t at = 0; at < json.size(); at++) {
        const char c = json[at];
        if (c == '"') {
            string_begin = at + 1;
            do at = json.find_first_of("\"\\", at + 1);
            while (at != json.npos && json[at] == '\\' && ++at);
            if (at == json.npos) break;
            last_string = json.substr(string_begin, at - string_begin);
        } else if (c == '{' || c == '[') {
            is_metadata = is_metadata || (depth == 1 && last_string == metadata_key);
            depth++;
        } else if (c == '}' || c == ']') {
            depth--;
            is_metadata = is_metadata && depth > 1;
        } else if (c == ':') {
            count += is_metadata;
        }
    }
    return count;
}

Result<Header> parse_header(std::string json, uint64_t data_bytes, const std::string & file_name) {
    const auto too_much_metadata = [&](size_t entries) {
        return fail(Code::format, file_name, ": ", metadata_key, " has ", entries, " entries; at most ", most_metadata,
                    " are accepted: write the file again without them");
    };
    if (const size_t entries = count_metadata(json); entries > most_metadata) return too_much_metadata(entries);
    if (json.empty() || json[0] != '{')
        return fail(Code::format, file_name, ": the header at byte 8 does not start with \"{\"");
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(std::move(json), file_name));
    Header header;
    GNV_TRY(document.root().for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
        if (key == metadata_key) {
            return value.for_each_member([&](std::string_view name, const JsonValue & text) -> Status {
                if (header.metadata.size() == most_metadata) return too_much_metadata(most_metadata + 1);
                GNV_ASSIGN(const std::string_view content, text.as_string());
                header.metadata[std::string(name)] = std::string(content);
                return {};
            });
        }
        if (key.empty()) return fail(Code::format, file_name, ": a tensor has an empty name");
        GNV_ASSIGN(HeaderTensor tensor, parse_tensor(key, value, data_bytes));
        header.tensors.push_back(std::move(tensor));
        return {};
    }));

    std::sort(header.tensors.begin(), header.tensors.end(), [](const HeaderTensor & a, const HeaderTensor & b) {
        return std::tie(a.begin, a.end, a.name) < std::tie(b.begin, b.end, b.name);
    });
    uint64_t covered = 0;
    for (const HeaderTensor & tensor : header.tensors) {
        if (tensor.begin != covered)
            return fail(Code::format, file_name, ": tensor ", printable(tensor.name), " starts at byte ", tensor.begin,
                        " of the data, ",
                        tensor.begin > covered ? "leaving a hole after byte " : "inside the one that ends at byte ",
                        covered);
        covered = tensor.end;
    }
    if (covered != data_bytes)
        return fail(Code::format, file_name, ": the tensors end at byte ", covered, " of the data, the file at byte ",
                    data_bytes);
    return header;
}

Result<Header> read_header(const std::string & path, uint64_t file_bytes, const ReadBytes & read,
                           uint64_t & data_begin) {
    uint8_t prefix[8];
    if (file_bytes < sizeof prefix)
        return fail(Code::format, path, " has only ", file_bytes, " bytes: not a safetensors file, or cut off");
    std::string begin(std::min<uint64_t>(file_bytes, lfs_pointer_begin.size()), '\0');
    GNV_TRY(read(begin.data(), begin.size(), 0));
    if (is_lfs_pointer(begin)) return fail(Code::format, path, " ", lfs_pointer_text);
    memcpy(prefix, begin.data(), sizeof prefix);
    uint64_t length = 0;
    for (int i = 7; i >= 0; i--) length = length << 8 | prefix[i];
    const bool is_text =
        std::all_of(prefix, prefix + sizeof prefix, [](unsigned char c) { return c >= ' ' && c < 0x7f; });
    if (length > max_header_bytes && is_text)
        return fail(
            Code::format, path, ": begins with the text \"", printable(std::string_view(begin).substr(0, 8)),
            "\", no safetensors file: a download that failed may have left a page or a message; download it again");
    if (length > max_header_bytes)
        return fail(Code::format, path, ": the header length at byte 0 is ", length, ", more than the ",
                    max_header_bytes, " that the format allows");
    if (length > file_bytes - sizeof prefix)
        return fail(Code::format, path, ": the header needs ", length, " bytes after byte 8, the file has ",
                    file_bytes - sizeof prefix);
    std::string json(length, '\0');
    GNV_TRY(read(json.data(), length, sizeof prefix));
    data_begin = sizeof prefix + length;
    return parse_header(std::move(json), file_bytes - data_begin, path);
}

} // namespace gnv
