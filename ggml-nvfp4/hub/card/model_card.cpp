#include "hub/card/model_card.h"

#include "checkpoint/checkpoint_names.h"
#include "checkpoint/safetensors.h"
#include "core/sha256.h"
#include "formats/file.h"
#include "formats/file_list.h"
#include "formats/json.h"
#include "hub/card/front_matter.h"
#include "hub/card/hub_names.h"
#include "hub/card/json_members.h"
#include "output/journal.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <functional>
#include <optional>
#include <string_view>
#include <unistd.h>
#include <vector>

namespace gnv {

namespace {

constexpr uint64_t most_readme_bytes = 16 << 20, most_json_bytes = 256 << 20;
constexpr uint64_t hash_piece = 1 << 20;
constexpr size_t most_rules = 24; // shown
constexpr const char * begin_mark = "<!-- measured by verify: begin -->\n";
constexpr const char * end_mark = "<!-- measured by verify: end -->\n";

// Metadata of the source's card that hold for the result. Tags that name a format of files do not.
constexpr const char * kept_texts[] = {"license", "license_name", "license_link", "library_name", "pipeline_tag"};
constexpr const char * own_tags[] = {"nvfp4", "compressed-tensors", "vllm", "sglang"};
constexpr std::string_view format_tags[] = {"gguf", "safetensors", "onnx", "mlx", "bf16", "fp8", "awq", "gptq", "exl2"};

// --- Facts ----------------------------------------------------------------------------------------------------------------

// "org/name" of a folder CACHE/models--org--name/snapshots/COMMIT, an absolute path; "" for others.
std::string name_in_cache(const std::string & path) {
    if (base_name(parent_path(path)) != "snapshots") return "";
    const std::string repository = base_name(parent_path(parent_path(path))), begin = "models--";
    const size_t middle = repository.find("--", begin.size());
    if (!starts_with(repository, begin) || middle == repository.npos) return "";
    const std::string organization = repository.substr(begin.size(), middle - begin.size());
    const std::string name = repository.substr(middle + 2);
    return is_hub_word(organization) && is_hub_word(name) ? organization + "/" + name : "";
}

Result<YamlNode> source_metadata(const std::string & source) {
    const std::string path = join_path(source, card_file_name);
    YamlNode none;
    if (source.empty() || !path_exists(path)) return none;
    GNV_ASSIGN(const std::string text, read_file(path, most_readme_bytes));
    Result<YamlNode> metadata = parse_front_matter(text, path);
    return metadata.ok() ? std::move(metadata) : Result<YamlNode>(std::move(none)); // its authors' mistake is not ours
}

Result<std::string> hash_file(const std::string & path, const StopCheck & stop) {
    GNV_ASSIGN(const File file, File::open_read(path));
    GNV_ASSIGN(const FileStamp stamp, file.stamp());
    Sha256 hash;
    std::string piece(size_t(std::min(stamp.size, hash_piece)), '\0');
    for (uint64_t at = 0; at < stamp.size; at += piece.size()) {
        const uint64_t count = std::min<uint64_t>(piece.size(), stamp.size - at);
        GNV_TRY(file.read(piece.data(), count, at));
        hash.update(piece.data(), count);
        if (stop && stop()) return fail(Code::cancelled, "stopped on request");
    }
    return hash.finish();
}

// The files of the folder itself, without the card.
Result<std::vector<ListedFile>> hash_files(const std::string & folder, const CardOptions & options,
                                           ThreadPool & threads) {
    GNV_ASSIGN(const std::vector<DirectoryEntry> entries, list_directory(folder));
    std::vector<ListedFile> files;
    for (const DirectoryEntry & entry : entries) {
        if (entry.is_directory || is_hidden(entry.name) || entry.name == card_file_name) continue;
        if (entry.name == journal_name || entry.name == state_file_name) continue; // of a run that is about to end
        GNV_ASSIGN(const File file, File::open_read(join_path(folder, entry.name)));
        GNV_ASSIGN(const FileStamp stamp, file.stamp());
        const auto known = options.known.find(entry.name);
        const bool is_known = known != options.known.end() && known->second.stamp == stamp;
        files.push_back({entry.name, stamp.size, is_known ? known->second.sha256 : ""});
    }
    GNV_TRY(threads.parallel_for(int64_t(files.size()), [&](int64_t index) -> Status {
        ListedFile & file = files[size_t(index)];
        if (!file.sha256.empty()) return {};
        GNV_ASSIGN(file.sha256, hash_file(join_path(folder, file.name), options.stop));
        return {};
    }));
    return files;
}

bool has_nvfp4_inputs(const JsonValue & config) {
    JsonValue inputs;
    return find_at(config, {"quantization_config", "config_groups", "group_0", "input_activations"}, inputs) &&
           inputs.is_object();
}

enum class DraftHead : uint8_t { none, kept, quantized };

// The names of all tensors. Where there is an index it has them: 100,000 are read from headers in half a second.
Status for_tensor_names(const std::string & folder, const std::function<void(std::string_view name)> & visit) {
    const std::string index = join_path(folder, index_file_name);
    if (path_exists(index)) {
        GNV_ASSIGN(const JsonDocument document, JsonDocument::read(index, most_json_bytes, JsonKeys::last_wins));
        GNV_ASSIGN(const JsonValue map, document.root().get("weight_map"));
        return map.for_each_member([&](std::string_view name, const JsonValue &) {
            visit(name);
            return Status();
        });
    }
    GNV_ASSIGN(const Checkpoint checkpoint, Checkpoint::open(folder));
    for (const TensorInfo & tensor : checkpoint.tensors()) visit(tensor.name);
    return {};
}

Result<DraftHead> find_draft_head(const std::string & folder) {
    DraftHead found = DraftHead::none;
    GNV_TRY(for_tensor_names(folder, [&](std::string_view name) {
        if (!starts_with(name, "mtp.")) return;
        if (ends_with(name, ".weight_packed")) found = DraftHead::quantized;
        if (found == DraftHead::none) found = DraftHead::kept;
    }));
    return found;
}

// --- Text ------------------------------------------------------------------------------------------------------------------

std::string metadata_text(const YamlNode & source, const std::string & base_model) {
    std::string out = "---\n";
    if (!base_model.empty()) out += "base_model:\n- " + yaml_quote(base_model) + "\nbase_model_relation: quantized\n";
    for (const char * key : kept_texts)
        if (const std::string text = text_at(source, key); !text.empty())
            out += concat(key, ": ", yaml_quote(text), "\n");
    const auto add_list = [&](const char * key, const std::vector<std::string> & items) {
        if (!items.empty()) out += concat(key, ":\n");
        for (const std::string & item : items) out += concat("- ", yaml_quote(item), "\n");
    };
    add_list("language", texts_of(source.find("language")));
    std::vector<std::string> all(std::begin(own_tags), std::end(own_tags));
    for (const std::string & tag : texts_of(source.find("tags"))) {
        const bool is_format = std::find(std::begin(format_tags), std::end(format_tags), tag) != std::end(format_tags);
        if (!is_format && std::find(all.begin(), all.end(), tag) == all.end()) all.push_back(tag);
    }
    add_list("tags", all);
    return out + "---\n\n";
}

std::string serve_text(const std::string & name, DraftHead draft, bool w4a4) {
    std::string out =
        concat("## Serve\n\n```sh\nvllm serve ", name, " --reasoning-parser qwen3\n",
               "python -m sglang.launch_server --model-path ", name, " --reasoning-parser qwen3\n```\n\n");
    if (draft != DraftHead::none)
        out += concat("The draft head (MTP) is part of the checkpoint, ",
                      draft == DraftHead::kept ? "in the source's precision"
                                               : "its attention and experts in NVFP4 (W4A16)",
                      ". With speculative decoding:\n\n", "```sh\nvllm serve ", name, " --reasoning-parser qwen3 \\\n",
                      "    --speculative-config '{\"method\": \"mtp\", \"num_speculative_tokens\": 2}'\n",
                      "python -m sglang.launch_server --model-path ", name, " --reasoning-parser qwen3 \\\n",
                      "    --speculative-algo NEXTN --speculative-num-steps 3 --speculative-eagle-topk 1 \\\n",
                      "    --speculative-num-draft-tokens 4\n```\n\n");
    if (w4a4)
        out += "Blackwell computes in NVFP4; other GPUs load the same files and keep the weights alone in NVFP4.\n\n";
    return out;
}

void add_row(std::string & out, const char * name, const std::string & value) {
    if (!value.empty()) out += concat("| ", name, " | ", markdown_cell(value), " |\n");
}

std::string data_text(const JsonValue & report) {
    JsonValue data, sources;
    std::string names;
    if (!find_at(report, {"calibration", "data"}, data) || !data.is_array()) return names;
    (void)data
        .for_each_element([&](size_t, const JsonValue & item) -> Status {
            if (!find_at(item, {"sources"}, sources) || !sources.is_array()) return {};
            return sources.for_each_element([&](size_t, const JsonValue & source) -> Status {
                const std::string rows = count_text(count_at(source, {"rows_chosen"}));
                names += concat(names.empty() ? "" : ", ", text_at(source, {"name"}), " (", rows, " rows)");
                return {};
            });
        })
        .ok();
    return names;
}

Result<std::string> method_text(const JsonValue & config, const JsonValue * report, const std::string & base_model,
                                const std::string & commit, const std::string & command, uint64_t bytes) {
    JsonValue ignored;
    std::string out = "## How it was made\n\n| | |\n|---|---|\n";
    add_row(out, "source",
            base_model.empty() ? "a local checkpoint" : base_model + (commit.empty() ? "" : ", commit " + commit));
    add_row(out, "format",
            concat("compressed-tensors NVFP4, ",
                   has_nvfp4_inputs(config) ? "W4A4: weights and inputs" : "W4A16: weights alone"));
    add_row(out, "size", bytes_text(bytes));
    if (report) {
        add_row(out, "modules in NVFP4", count_text(count_at(*report, {"quantized_modules"})));
        add_row(out, "method", text_at(*report, {"recipe", "method"}));
        add_row(out, "preset", text_at(*report, {"recipe", "preset"}));
        JsonValue calibration;
        if (find_at(*report, {"calibration"}, calibration) && calibration.is_object()) {
            add_row(out, "calibration data", data_text(*report));
            add_row(out, "calibration tokens",
                    concat(count_text(count_at(calibration, {"tokens"})), " in ",
                           count_text(count_at(calibration, {"sequences"})), " sequences, SHA-256 ",
                           text_at(calibration, {"data_sha256"})));
            add_row(out, "experts see",
                    text_at(calibration, {"experts"}) == "all" ? "every token" : "the tokens routed to them");
        }
        add_row(out, "version", concat("ggml-nvfp4 ", text_at(*report, {"version"})));
    } else {
        add_row(out, "version", concat("ggml-nvfp4 ", GNV_VERSION_STRING));
    }
    const bool has_rules = report && find_at(*report, {"recipe", "rules"}, ignored) && ignored.is_array();
    if (has_rules || (find_at(config, {"quantization_config", "ignore"}, ignored) && ignored.is_array())) {
        const size_t count = ignored.array_size().value();
        std::string list;
        const auto add = [&](size_t index, const JsonValue & item) -> Status {
            if (index < most_rules && item.is_string())
                list += concat(index > 0 ? ", " : "", "`", markdown_cell(std::string(item.as_string().value())), "`");
            return {};
        };
        GNV_TRY(ignored.for_each_element(add));
        if (count > most_rules) list += concat(", ... (", count, " in all)");
        out += concat(has_rules ? "| rules" : "| kept in the source's precision", " | ", list, " |\n");
    }
    out += "\n";
    if (!command.empty()) out += concat("```sh\n", printable_line(command), "\n```\n\n");
    return out;
}

// Written under another name first, so that no reader sees half of it.
Status replace_file(const std::string & path, const std::string & content) {
    const std::string fresh = path + ".partial";
    if (path_exists(fresh)) GNV_TRY(remove_file(fresh));
    GNV_TRY(write_file_synced(fresh, content));
    if (rename(fresh.c_str(), path.c_str()) == 0) return sync_directory(parent_path(path));
    return system_failure(errno, "cannot rename ", fresh);
}

} // namespace

Result<std::string> model_card_text(const std::string & folder, const CardOptions & options, ThreadPool & threads) {
    GNV_ASSIGN(const JsonDocument config,
               JsonDocument::read(join_path(folder, "config.json"), most_json_bytes, JsonKeys::last_wins));
    const std::string report_path = join_path(folder, "quantization_report.json");
    std::optional<JsonDocument> report;
    if (path_exists(report_path)) {
        GNV_ASSIGN(JsonDocument document, JsonDocument::read(report_path, most_json_bytes, JsonKeys::last_wins));
        report.emplace(std::move(document));
    }
    GNV_ASSIGN(const YamlNode metadata, source_metadata(options.source));
    GNV_ASSIGN(const std::vector<ListedFile> files, hash_files(folder, options, threads));
    GNV_ASSIGN(const DraftHead draft, find_draft_head(folder));
    std::string base_model = options.base_model, commit;
    if (base_model.empty() && !options.source.empty()) {
        GNV_ASSIGN(const std::string source, canonical_path(options.source));
        base_model = name_in_cache(source);
        if (!base_model.empty() && is_hex(base_name(source), 40)) commit = base_name(source);
    }
    const std::string made_of = base_model.empty() ? "MODEL" : base_name(base_model);
    const std::string served = options.repository.empty() ? concat("ORG/", made_of, "-NVFP4") : options.repository;
    uint64_t bytes = 0;
    for (const ListedFile & file : files) bytes += file.size;
    JsonValue report_root;
    if (report) report_root = report->root();
    std::string out = metadata_text(metadata, base_model);
    out += concat(
        "# ", markdown_cell(base_name(served)), "\n\n",
        base_model.empty() ? "A checkpoint" : concat("[", base_model, "](https://huggingface.co/", base_model, ")"),
        " in NVFP4, made with ggml-nvfp4. Everything that is not listed as NVFP4 has the bytes of the source.\n\n");
    out += serve_text(served, draft, has_nvfp4_inputs(config.root()));
    GNV_ASSIGN(const std::string method,
               method_text(config.root(), report ? &report_root : nullptr, base_model, commit, options.command, bytes));
    out += method;
    out += concat("## Measured\n\n", begin_mark,
                  "Not measured yet: `ggml-nvfp4 verify FOLDER --source SOURCE --data FILE --card`.\n", end_mark, "\n");
    return out + "## Files\n\n" + file_list_text(files);
}

Status write_model_card(const std::string & folder, const CardOptions & options, ThreadPool & threads) {
    GNV_ASSIGN(const std::string text, model_card_text(folder, options, threads));
    return replace_file(join_path(folder, card_file_name), text);
}

Status add_measurements(const std::string & folder, const std::string & verify_report) {
    GNV_ASSIGN(const std::string block, measurements_text(verify_report));
    const std::string path = join_path(folder, card_file_name);
    if (!path_exists(path))
        return fail(Code::not_found, path, ": is missing: quantize writes the card, and verify --card adds to it");
    GNV_ASSIGN(std::string text, read_file(path, most_readme_bytes));
    const std::string begin = begin_mark, end = end_mark;
    const size_t first = text.find(begin), last = text.find(end);
    if (first == text.npos || last == text.npos || last < first)
        return fail(Code::format, path, ": is no card of quantize: it lacks the lines ",
                    begin.substr(0, begin.size() - 1), " and ", end.substr(0, end.size() - 1));
    text.replace(first + begin.size(), last - first - begin.size(), block);
    return replace_file(path, text);
}

} // namespace gnv
