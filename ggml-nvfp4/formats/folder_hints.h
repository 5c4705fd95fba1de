// What a folder is that holds no checkpoint, as far as its entries tell: for messages that say what to give instead.
#pragma once

#include "formats/folder.h"

#include <string>
#include <string_view>

namespace gnv {

// "; it is the hub's cache: give ..." or "" where nothing is recognised.
std::string folder_hint(const Folder & folder);

// Whether a file begins like the pointer that Git keeps in place of a large file, and what to do about it.
inline constexpr std::string_view lfs_pointer_begin = "version https://git-lfs";
inline constexpr const char * lfs_pointer_text =
    "is a Git LFS pointer, not the file itself; fetch it with \"git lfs pull\", or download it from the hub";
inline bool is_lfs_pointer(std::string_view begin) {
    return begin.substr(0, lfs_pointer_begin.size()) == lfs_pointer_begin;
}

// Weights that are no part of a model's own: adapters, states of optimizers. `name` is a file's name.
bool is_side_weights(std::string_view name);

} // namespace gnv
