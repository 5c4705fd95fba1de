// Model names of the hub, "ORG/NAME" or "ORG/NAME@REVISION", found in the local cache that huggingface_hub fills. The
// library reads no environment; the programs do, as huggingface_hub does:
//
//   HF_HUB_CACHE    the cache; else HF_HOME/hub; else XDG_CACHE_HOME/huggingface/hub; else ~/.cache/huggingface/hub
//
//   CACHE/models--ORG--NAME/refs/REVISION        the commit that a branch or tag stood for
//   CACHE/models--ORG--NAME/snapshots/COMMIT/    the model's folder
#pragma once

#include "process.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <system_error>

namespace tools {

struct HubName {
    std::string organization, name, revision; // revision: "main" unless given
    bool is_given = false;                    // the revision
};

inline std::string environment(const char * name) {
    const char * const value = getenv(name);
    return value ? value : "";
}

inline std::string hub_home() {
    if (const std::string home = environment("HF_HOME"); !home.empty()) return home;
    if (const std::string cache = environment("XDG_CACHE_HOME"); !cache.empty()) return cache + "/huggingface";
    return environment("HOME") + "/.cache/huggingface";
}

inline std::string hub_cache() {
    const std::string cache = environment("HF_HUB_CACHE");
    return cache.empty() ? hub_home() + "/hub" : cache;
}

inline bool is_hub_word(const std::string & word) {
    return !word.empty() && word[0] != '.' && word[0] != '-' &&
           word.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-") == word.npos;
}

// False for what has another form.
inline bool parse_hub_name(const std::string & text, HubName & out) {
    const size_t at = text.find('@'), slash = text.find('/');
    if (slash == text.npos || slash > at) return false;
    out.organization = text.substr(0, slash);
    out.name = text.substr(slash + 1, at == text.npos ? text.npos : at - slash - 1);
    out.is_given = at != text.npos;
    out.revision = out.is_given ? text.substr(at + 1) : "main";
    const bool climbs = out.revision.empty() || out.revision[0] == '/' || out.revision.find("..") != text.npos;
    return is_hub_word(out.organization) && is_hub_word(out.name) && !climbs;
}

// The folder of a model in the cache; empty where it is not there.
inline std::string find_snapshot(const std::string & cache, const HubName & model) {
    const std::filesystem::path repository =
        std::filesystem::path(cache) / ("models--" + model.organization + "--" + model.name);
    std::string commit = model.revision;
    std::ifstream reference(repository / "refs" / model.revision);
    if (std::string line; std::getline(reference, line) && is_hub_word(line)) commit = line;
    if (!is_hub_word(commit)) return "";
    std::error_code error;
    const std::filesystem::path snapshot = repository / "snapshots" / commit;
    return std::filesystem::is_directory(snapshot, error) ? snapshot.string() : "";
}

// A path that exists is itself, as is what cannot be a name.
inline bool may_be_hub_name(const std::string & path) {
    std::error_code error;
    HubName model;
    return !path.empty() && !std::filesystem::exists(std::filesystem::symlink_status(path, error)) &&
           parse_hub_name(path, model);
}

inline bool is_tensor_file(const std::string & path) {
    std::error_code error;
    return std::filesystem::path(path).extension() == ".safetensors" && std::filesystem::is_regular_file(path, error);
}

// False after saying that `path` is a file of a checkpoint, where its folder is wanted.
inline bool check_folder(const std::string & path) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) return true;
    const std::filesystem::path file(path);
    const bool is_gguf = file.extension() == ".gguf";
    if (!is_gguf && file.extension() != ".safetensors" && file.filename() != "config.json" &&
        file.filename() != "model.safetensors.index.json")
        return true; // the library says what it is not
    const std::string folder = file.has_parent_path() ? file.parent_path().string() : ".";
    if (is_gguf) {
        say_error("%s: GGUF files are not read: give the folder of the BF16 checkpoint that it was made from\n",
                  path.c_str());
    } else if (is_tensor_file(path) && !std::filesystem::exists(file.parent_path() / "config.json", error)) {
        say_error(
            "%s is a file of tensors, and no checkpoint with a config.json is around it: give a checkpoint's folder; "
            "inspect shows what is in the file\n",
            path.c_str());
    } else {
        say_error("%s is one file of a checkpoint: give its folder, %s\n", path.c_str(), folder.c_str());
    }
    return false;
}

// False after saying that `path` is a file of any kind: a tokenizer.json is none that runs, either.
inline bool check_model(const std::string & path) {
    std::error_code error;
    if (!std::filesystem::is_regular_file(path, error)) return true;
    say_error("%s is a file; a model is a folder with config.json and *.safetensors files\n", path.c_str());
    return false;
}

// Replaces a model's name by its folder. False after saying that the model is not in the cache, and how to download it.
inline bool find_model(std::string & path) {
    HubName model;
    if (!check_folder(path)) return false;
    if (!may_be_hub_name(path) || !parse_hub_name(path, model)) return true;
    const std::string cache = hub_cache(), snapshot = find_snapshot(cache, model);
    if (!snapshot.empty()) {
        path = snapshot;
        return true;
    }
    const std::string revision = model.is_given ? " --revision " + model.revision : "";
    say_error("%s: no such folder, and not in the hub's cache %s; download it first: hf download %s/%s%s\n",
              path.c_str(), cache.c_str(), model.organization.c_str(), model.name.c_str(), revision.c_str());
    return false;
}

} // namespace tools
