#include "session/sampling/generation_config.h"

#include "formats/file.h"
#include "session/sampling/sampler.h"

#include <utility>

namespace gnv {

static constexpr uint64_t size_limit = 1 << 20;

static bool find_value(const JsonValue & root, std::string_view key, JsonValue & out) {
    return root.find(key, out) && !out.is_null();
}

static Result<int32_t> as_id(const JsonValue & value) {
    GNV_ASSIGN(const int64_t id, value.as_int());
    if (id < 0 || id > INT32_MAX) return fail(Code::format, value.where(), ": ", id, " is no token id");
    return int32_t(id);
}

Result<GenerationConfig> parse_generation_config(const JsonValue & root) {
    GenerationConfig config;
    if (!root.is_object()) return fail(Code::format, root.where(), ": expected an object");
    JsonValue value;
    if (find_value(root, "do_sample", value)) {
        GNV_ASSIGN(config.do_sample, value.as_bool());
    }
    if (find_value(root, "top_k", value)) {
        GNV_ASSIGN(config.top_k, value.as_int());
    }
    for (const auto & [key, number] : {std::pair("temperature", &config.temperature),
                                       {"top_p", &config.top_p},
                                       {"min_p", &config.min_p},
                                       {"repetition_penalty", &config.repetition_penalty}})
        if (find_value(root, key, value)) {
            GNV_ASSIGN(*number, value.as_double());
        }
    SamplerOptions sampling = {config.temperature, config.top_k, config.top_p};
    sampling.min_p = config.min_p;
    sampling.repetition_penalty = config.repetition_penalty;
    Status sensible = check_sampler_options(sampling);
    if (!sensible.ok()) return fail(Code::format, root.where(), ": ", sensible.message());
    if (!find_value(root, "eos_token_id", value)) return config;
    if (!value.is_array()) {
        GNV_ASSIGN(const int32_t id, as_id(value));
        config.stop_ids.push_back(id);
        return config;
    }
    GNV_TRY(value.for_each_element([&](size_t, const JsonValue & element) -> Status {
        GNV_ASSIGN(const int32_t id, as_id(element));
        config.stop_ids.push_back(id);
        return {};
    }));
    return config;
}

Result<GenerationConfig> read_generation_config(const std::string & folder) {
    const std::string path = join_path(folder, generation_config_name);
    if (!path_exists(path)) return GenerationConfig();
    GNV_ASSIGN(const JsonDocument document, JsonDocument::read(path, size_limit, JsonKeys::last_wins));
    return parse_generation_config(document.root());
}

} // namespace gnv
