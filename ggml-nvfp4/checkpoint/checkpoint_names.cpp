#include "checkpoint/checkpoint_names.h"

#include "core/strings.h"

#include <algorithm>

namespace gnv {

namespace {

struct FileRow {
    std::string_view pattern; // one * stands for any text without /; at the beginning not for a hidden name
    bool needed;
};

const FileRow checkpoint_files[] = {
    // weights
    {"*.safetensors", true},
    {"*.safetensors.index.json", true},
    // the computation
    {"config.json", true},
    {"configuration.json", false}, // ModelScope's
    {"generation_config.json", true},
    {"params.json", true},
    {"configuration_*.py", true},
    {"modeling_*.py", true},
    {"tokenization_*.py", true},
    {"processing_*.py", true},
    {"image_processing_*.py", true},
    {"video_processing_*.py", true},
    // text, images
    {"tokenizer*.json", true},
    {"*tokenizer.model", true},
    {"*.tiktoken", true},
    {"tekken.json", true},
    {"vocab.*", true},
    {"merges.txt", true},
    {"special_tokens_map.json", true},
    {"added_tokens.json", true},
    {"chat_template.*", true},
    {"additional_chat_templates/*.jinja", true},
    {"*processor_config.json", true},
    // the quantization
    {"recipe.yaml", false},
    {"quantization_report.json", false},
    {"quantization_config.json", true},
    {"quantize_config.json", true},
    {"hf_quant_config.json", true},
    // for people
    {"README*", false},
    {"LICENSE*", false},
    {"LICENCE*", false},
    {"NOTICE*", false},
    {"COPYING*", false},
    {"USE_POLICY*", false},
    {"USAGE_POLICY*", false},
    {"CHANGELOG*", false},
    {"MODEL_CARD*", false},
    // of hubs
    {".gitattributes", false},
};

bool matches(std::string_view pattern, std::string_view name) {
    const size_t star = pattern.find('*');
    if (star == std::string_view::npos) return name == pattern;
    const std::string_view before = pattern.substr(0, star), after = pattern.substr(star + 1);
    if (before.empty() && is_hidden(name)) return false;
    if (name.size() < before.size() + after.size() || !starts_with(name, before) || !ends_with(name, after))
        return false;
    const std::string_view middle = name.substr(before.size(), name.size() - before.size() - after.size());
    return middle.find('/') == std::string_view::npos;
}

const FileRow * find_row(std::string_view name) {
    const auto row = std::find_if(std::begin(checkpoint_files), std::end(checkpoint_files),
                                  [&](const FileRow & candidate) { return matches(candidate.pattern, name); });
    return row == std::end(checkpoint_files) ? nullptr : row;
}

} // namespace

bool is_checkpoint_file(std::string_view name) { return find_row(name) != nullptr; }

bool is_needed_file(std::string_view name) {
    const FileRow * const row = find_row(name);
    return row && row->needed;
}

bool is_hidden(std::string_view file_name) { return starts_with(file_name, "."); }

bool is_hidden_checkpoint_file(std::string_view file_name) {
    return is_hidden(file_name) && is_checkpoint_file(file_name);
}

} // namespace gnv
