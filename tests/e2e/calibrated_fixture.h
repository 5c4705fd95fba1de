// Calibrated runs through the C API, and what tests compare of their results.
#pragma once

#include "api/capi_fixture.h"
#include "checkpoint_files.h"
#include "core/sha256.h"
#include "formats/json.h"
#include "id_list.h"

#include <cmath>
#include <map>
#include <string>
#include <vector>

namespace gnv::test {

using Ids = std::vector<std::vector<int32_t>>;

inline const std::string reference_tokens = golden_folder + "/reference-tokens.json";
inline const std::string padded_tokens = golden_folder + "/reference-padded-tokens.json";

// One call of quantize, as its program makes it.
struct CalibratedRun {
    std::string source = tiny_folder, destination;
    std::string tokens;                  // file of ids; empty: no data
    std::vector<std::string> statistics; // files
    std::string scratch_folder, save_statistics, trace_file;
    uint64_t ram_bytes = 0, device_bytes = 0;
    int threads = 2, device = 0;
    std::vector<int32_t> devices; // instead of `device`; empty: not
    int32_t first_layer = 0, layer_count = 0;
    std::vector<std::string> take;
    gnv_scheme scheme = GNV_SCHEME_NVFP4;
    gnv_method method = GNV_METHOD_RTN;
    gnv_draft_head draft_head = GNV_DRAFT_HEAD_KEEP;
    gnv_precision precision = GNV_PRECISION_FP32;
    gnv_expert_tokens experts = GNV_EXPERTS_ALL;
    gnv_screening screening = GNV_SCREENING_ON;
    gnv_resume resume = GNV_RESUME_ON;
    bool overwrite = false, card = false, measure_limits = false;
    uint32_t part = 0, parts = 0; // 0: all of the data
    uint64_t min_expert_tokens = 0;
    gnv_progress_callback progress = nullptr;
    void * user = nullptr;
};

struct RunResult {
    gnv_status status = GNV_OK;
    std::string message; // of a failure
    std::string report, phases, summary;
    bool says(const std::string & part) const { return message.find(part) != std::string::npos; }
};

namespace detail {

inline gnv_status quantize_with(gnv_engine_t * engine, const CalibratedRun & run, RunResult & result) {
    gnv_plan_options plan_options;
    gnv_plan_options_init(&plan_options);
    plan_options.scheme = run.scheme;
    plan_options.method = run.method;
    plan_options.draft_head = run.draft_head;
    plan_options.ram_bytes = run.ram_bytes;
    plan_options.calibrates = !run.tokens.empty();
    gnv_plan_t * plan_handle = nullptr;
    if (const gnv_status status = gnv_plan_create(engine, run.source.c_str(), &plan_options, &plan_handle))
        return status;
    const Handle<gnv_plan_t> plan(plan_handle);

    Handle<gnv_tokenizer_t> tokenizer;
    Handle<gnv_dataset_t> dataset;
    if (!run.tokens.empty()) {
        gnv_tokenizer_t * tokenizer_handle = nullptr;
        if (const gnv_status status = gnv_tokenizer_load(engine, run.source.c_str(), &tokenizer_handle)) return status;
        tokenizer.reset(tokenizer_handle);
        gnv_dataset_options options;
        gnv_dataset_options_init(&options);
        options.tokens_file = run.tokens.c_str();
        gnv_dataset_t * dataset_handle = nullptr;
        if (const gnv_status status = gnv_dataset_open(engine, tokenizer.get(), &options, &dataset_handle))
            return status;
        dataset.reset(dataset_handle);
    }
    Handle<gnv_calibration_t> calibration;
    if (!run.statistics.empty()) {
        std::vector<const char *> paths;
        for (const std::string & path : run.statistics) paths.push_back(path.c_str());
        gnv_calibration_t * handle = nullptr;
        if (const gnv_status status = gnv_calibration_load(engine, paths.data(), paths.size(), &handle)) return status;
        calibration.reset(handle);
    }
    gnv_quantize_options options;
    gnv_quantize_options_init(&options);
    options.dataset = dataset.get();
    options.calibration = calibration.get();
    options.precision = run.precision;
    options.experts = run.experts;
    options.screening = run.screening;
    options.device = run.device;
    options.first_layer = run.first_layer;
    options.layer_count = run.layer_count;
    std::vector<const char *> take;
    for (const std::string & folder : run.take) take.push_back(folder.c_str());
    options.take = take.data();
    options.take_count = take.size();
    options.devices = run.devices.data();
    options.device_count = run.devices.size();
    options.device_bytes = run.device_bytes;
    options.scratch_folder = run.scratch_folder.empty() ? nullptr : run.scratch_folder.c_str();
    options.save_statistics = run.save_statistics.empty() ? nullptr : run.save_statistics.c_str();
    options.progress = run.progress;
    options.resume = run.resume;
    options.overwrite = run.overwrite;
    options.part = run.part;
    options.parts = run.parts;
    options.user = run.user;
    options.measure_limits = run.measure_limits;
    gnv_card_options card;
    gnv_card_options_init(&card);
    options.card = run.card ? &card : nullptr;
    options.trace_file = run.trace_file.empty() ? nullptr : run.trace_file.c_str();
    gnv_text_t *text = nullptr, *phases = nullptr, *summary = nullptr;
    options.phases = &phases;
    options.summary = &summary;
    options.min_expert_tokens = run.min_expert_tokens;
    const char * const destination = run.destination.empty() ? nullptr : run.destination.c_str();
    const gnv_status status = gnv_quantize(plan.get(), destination, &options, &text);
    if (status == GNV_OK) {
        result.report = gnv_text_data(text);
        result.phases = gnv_text_data(phases);
        result.summary = gnv_text_data(summary);
    }
    gnv_text_destroy(text);
    gnv_text_destroy(phases);
    gnv_text_destroy(summary);
    return status;
}

} // namespace detail

inline RunResult quantize(const CalibratedRun & run) {
    const Handle<gnv_engine_t> engine = make_engine(run.threads);
    RunResult result;
    result.status = detail::quantize_with(engine.get(), run, result);
    if (result.status != GNV_OK) result.message = gnv_last_error(engine.get());
    return result;
}

inline void require_good(const RunResult & result) { REQUIRE_MESSAGE(result.status == GNV_OK, result.message); }

// --- Data ---------------------------------------------------------------------------------------------------------------

inline std::string id_list(const std::vector<int32_t> & ids) {
    std::string out;
    for (const int32_t id : ids) out += (out.empty() ? "" : ",") + std::to_string(id);
    return "[" + out + "]";
}

inline std::string tokens_text(const Ids & ids, const Ids & masks = {}) {
    const auto lists = [](const Ids & rows) {
        std::string out;
        for (const std::vector<int32_t> & row : rows) out += (out.empty() ? "" : ",") + id_list(row);
        return "[" + out + "]";
    };
    return "{\"input_ids\":" + lists(ids) + (masks.empty() ? "" : ",\"attention_mask\":" + lists(masks)) + "}";
}

// A list of lists of a tokens file.
inline Ids read_ids(const std::string & path, const char * key = "input_ids") {
    const JsonDocument document = JsonDocument::read(path, 1 << 24).take();
    Ids ids;
    REQUIRE(document.root()
                .get(key)
                .value()
                .for_each_element([&](size_t, const JsonValue & row) -> Status {
                    ids.push_back(read_id_list(row));
                    return {};
                })
                .ok());
    return ids;
}

// Some of the reference's samples, shortened to lengths that fall on no boundary.
inline Ids short_samples(size_t count) {
    Ids ids = read_ids(reference_tokens);
    ids.resize(count);
    for (size_t i = 0; i < count; i++) ids[i].resize(256 - 37 * i % 200);
    return ids;
}

// The same everywhere: a linear congruential generator.
inline Ids random_ids(size_t sequences, size_t length, int32_t vocabulary) {
    Ids ids(sequences);
    uint32_t state = 1;
    for (std::vector<int32_t> & row : ids)
        for (size_t t = 0; t < length; t++) {
            state = state * 1664525 + 1013904223;
            row.push_back(int32_t((state >> 8) % uint32_t(vocabulary)));
        }
    return ids;
}

// --- Results ------------------------------------------------------------------------------------------------------------

inline int64_t number_of(const JsonDocument & document, const char * key) {
    return document.root().get(key).value().as_int().value();
}

// Relative path -> SHA-256 of every file.
inline std::map<std::string, std::string> file_hashes(const std::string & folder) {
    std::map<std::string, std::string> out;
    for (const DirectoryEntry & entry : list_directory(folder).take()) {
        const std::string content = read_file(join_path(folder, entry.name), 1 << 30).take();
        out[entry.name] = sha256_hex(content.data(), content.size());
    }
    return out;
}

inline float float_of(const std::string & data) {
    float value = 0;
    REQUIRE(data.size() == sizeof value);
    memcpy(&value, data.data(), sizeof value);
    return value;
}

// What a run writes; the folder is gone afterwards.
inline std::map<std::string, std::string> files_of(const CalibratedRun & run) {
    require_good(quantize(run));
    const auto files = file_hashes(run.destination);
    REQUIRE(remove_tree(run.destination).ok());
    return files;
}

// Of a run that failed: nothing looks finished, and what there is goes.
inline void check_unfinished(const CalibratedRun & run) {
    CHECK_FALSE(path_exists(run.destination));
    CHECK_FALSE(path_exists(run.destination + ".partial/config.json"));
    if (path_exists(run.destination + ".partial")) REQUIRE(remove_tree(run.destination + ".partial").ok());
}

// Name of the tensor -> input_global_scale.
inline std::map<std::string, float> input_scales_of(const std::string & folder) {
    std::map<std::string, float> out;
    for (const MemoryTensor & tensor : load_tensors(folder))
        if (ends_with(tensor.name, ".input_global_scale")) out[tensor.name] = float_of(tensor.data);
    return out;
}

// Scales of BF16 precision that are at most two steps apart count as equal; `worst` is relative.
struct ScaleComparison {
    size_t compared = 0, near = 0;
    double worst = 0;
};

inline ScaleComparison compare_scales(const std::map<std::string, float> & found,
                                      const std::map<std::string, float> & expected) {
    ScaleComparison result;
    for (const auto & [name, value] : expected) {
        CAPTURE(name);
        const auto it = found.find(name);
        REQUIRE(it != found.end());
        int32_t a, b; // steps of BF16 are steps of the upper half
        memcpy(&a, &value, sizeof a);
        memcpy(&b, &it->second, sizeof b);
        CHECK((a & 0xffff) == 0);
        CHECK((b & 0xffff) == 0);
        result.near += std::abs((a >> 16) - (b >> 16)) <= 2;
        result.worst = std::max(result.worst, std::abs(double(it->second) / double(value) - 1));
        result.compared++;
    }
    return result;
}

} // namespace gnv::test
