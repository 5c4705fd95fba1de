// What fuzz targets share: inputs cut into parts, folders that exist in memory only, and the rule of all of them: a
// refusal comes with a message, a success keeps its promises.
#pragma once

#include "core/status.h"
#include "formats/folder.h"

#include <cstdint>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gnv::fuzz {

inline void require(bool promise) {
    if (!promise) abort();
}

inline void require_message(const Status & status) {
    if (!status.ok()) require(!status.message().empty() && status.code() != Code::internal);
}

// Numbers and byte strings from the front of an input; zeros and nothing behind its end.
class Bytes {
  public:
    Bytes(const uint8_t * data, size_t size) : data_(data), size_(size) {}
    bool empty() const { return size_ == 0; }
    uint64_t number(size_t bytes) {
        uint64_t value = 0;
        for (size_t i = 0; i < bytes; i++) value |= uint64_t(i < size_ ? data_[i] : 0) << 8 * i;
        skip(bytes);
        return value;
    }
    std::string text(size_t bytes) {
        std::string out(reinterpret_cast<const char *>(data_), bytes < size_ ? bytes : size_);
        skip(bytes);
        return out;
    }
    std::string rest() { return text(size_); }

  private:
    void skip(size_t bytes) {
        const size_t step = bytes < size_ ? bytes : size_;
        data_ += step, size_ -= step;
    }
    const uint8_t * data_;
    size_t size_;
};

// Text of the form "@name\ncontent\n@name\ncontent": its parts, in order. What stands before the first "@" is no part.
inline std::vector<std::pair<std::string, std::string>> split_parts(const uint8_t * data, size_t size) {
    const std::string text = "\n" + std::string(reinterpret_cast<const char *>(data), size);
    std::vector<std::pair<std::string, std::string>> parts;
    for (size_t at = text.find("\n@"); at != std::string::npos;) {
        const size_t next = text.find("\n@", at + 2);
        const std::string part = text.substr(at + 2, next == std::string::npos ? next : next - at - 2);
        const size_t end = part.find('\n');
        parts.emplace_back(part.substr(0, end), end == std::string::npos ? "" : part.substr(end + 1));
        at = next;
    }
    return parts;
}

// "NAME BYTES": what part names of safetensors files say; their content is the JSON header, the data is zeros.
inline std::pair<std::string, uint64_t> split_size(const std::string & name) {
    const size_t blank = name.find(' ');
    if (blank == std::string::npos) return {name, 0};
    return {name.substr(0, blank), strtoull(name.c_str() + blank + 1, nullptr, 10)};
}

inline std::string length_prefix(uint64_t length) {
    std::string out;
    for (int i = 0; i < 8; i++) out += char(length >> 8 * i & 0xff);
    return out;
}

class EmptyFolder final : public Folder {
  public:
    const std::string & path() const override { return path_; }
    Result<std::vector<DirectoryEntry>> list() const override { return std::vector<DirectoryEntry>(); }
    Result<std::unique_ptr<FolderFile>> open(const std::string & name) const override {
        return fail(Code::not_found, "cannot open ", path_, "/", name);
    }

  private:
    std::string path_ = "memory";
};

// A folder of the parts of an input.
inline std::shared_ptr<const Folder> memory_folder(const std::vector<std::pair<std::string, std::string>> & parts) {
    const auto folder = std::make_shared<OverlayFolder>(std::make_shared<EmptyFolder>());
    for (const auto & [part, content] : parts) {
        const auto [name, bytes] = split_size(part);
        if (name.find(".safetensors") == std::string::npos || ends_with(name, ".json")) {
            folder->put(part, content);
        } else {
            folder->put(name, length_prefix(content.size()) + content + std::string(bytes % (1 << 16), '\0'));
        }
    }
    return folder;
}

} // namespace gnv::fuzz
