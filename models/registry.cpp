// The table of model families. A new family is its own files in this folder and rows here.
#include "model/model_def.h"
#include "model/vision_model.h"
#include "models/qwen35.h"
#include "models/qwen35_names.h"

namespace gnv {

namespace {

struct ModelFamily {
    Result<std::vector<TensorSpec>> (*list_tensors)(const JsonValue & config, const LayoutChoice & choice);
    Result<ModelLayout> (*match_model)(const JsonValue & config, const Checkpoint & checkpoint, Accept accept);
    Result<std::unique_ptr<TextModel>> (*make_text_model)(const JsonValue & config);
    Result<std::unique_ptr<TextModel>> (*make_draft_model)(const JsonValue & config, int64_t experts);
    Result<VisionModel> (*make_vision_model)(const JsonValue & config);
};

template <Qwen35Mlp mlp>
constexpr ModelFamily qwen35 = {
    [](const JsonValue & config, const LayoutChoice & choice) { return list_qwen35_tensors(config, choice, mlp); },
    [](const JsonValue & config, const Checkpoint & checkpoint, Accept accept) {
        return match_qwen35(config, checkpoint, accept, mlp);
    },
    [](const JsonValue & config) { return make_qwen35_text(config, mlp); },
    [](const JsonValue & config, int64_t experts) { return make_qwen35_draft(config, mlp, experts); },
    [](const JsonValue & config) { return make_qwen35_vision(config, mlp); },
};

// The values of "architectures" and "model_type" in config.json.
struct FamilyName {
    const char * name;
    const ModelFamily * family;
};
constexpr FamilyName family_names[] = {
    {"Qwen3_5MoeForConditionalGeneration", &qwen35<Qwen35Mlp::experts>},
    {"Qwen3_5MoeForCausalLM", &qwen35<Qwen35Mlp::experts>},
    {"qwen3_5_moe", &qwen35<Qwen35Mlp::experts>},
    {"qwen3_5_moe_text", &qwen35<Qwen35Mlp::experts>},
    {"Qwen3_5ForConditionalGeneration", &qwen35<Qwen35Mlp::dense>},
    {"Qwen3_5ForCausalLM", &qwen35<Qwen35Mlp::dense>},
    {"qwen3_5", &qwen35<Qwen35Mlp::dense>},
    {"qwen3_5_text", &qwen35<Qwen35Mlp::dense>},
};

constexpr const ModelNames * all_names[] = {&qwen35::names};

// The keys by which tools mark a quantized checkpoint.
constexpr const char * quantization_keys[] = {"quantization_config", "compression_config", "quantization"};

Status refuse_quantization(const JsonValue & object) {
    for (const char * key : quantization_keys) {
        JsonValue value;
        if (!object.find(key, value) || value.is_null()) continue;
        JsonValue method;
        const std::string found =
            value.find("quant_method", method) ? concat(" (", printable(method.text(), 60), ")") : "";
        return fail(Code::unsupported, value.where(), ": this checkpoint is quantized already", found,
                    "; start from the BF16 one it was made from");
    }
    return {};
}

// The tensors tell how a checkpoint is quantized. But where its config has another form, no loader takes it, and the rest of
// the file may be as damaged.
Status check_quantization(const JsonValue & object) {
    JsonValue value;
    if (!object.find("quantization_config", value) || value.is_null() || value.is_object()) return {};
    return fail(Code::format, value.where(), ": expected an object, found ", printable(value.text(), 60),
                "; copy config.json from where the checkpoint was made");
}

Status for_each_config(const JsonValue & config, Status (*check)(const JsonValue & object)) {
    GNV_TRY(check(config));
    JsonValue text;
    if (config.find("text_config", text)) GNV_TRY(check(text));
    return {};
}

Result<const ModelFamily *> find_named_family(const JsonValue & name) {
    GNV_ASSIGN(const std::string_view text, name.as_string());
    std::string supported;
    for (const FamilyName & row : family_names) {
        if (text == row.name) return row.family;
        supported += (supported.empty() ? "" : ", ") + std::string(row.name);
    }
    return fail(Code::unsupported, name.where(), ": \"", printable(text), "\" is not supported; supported are ",
                supported);
}

// Every name in config.json must be known and mean the same family.
Result<const ModelFamily *> find_family(const JsonValue & config) {
    const ModelFamily * family = nullptr;
    const auto add = [&](const JsonValue & name) -> Status {
        GNV_ASSIGN(const ModelFamily * const named, find_named_family(name));
        if (family && named != family)
            return fail(Code::format, name.where(), ": ", name.text(), " contradicts the other names of the model");
        family = named;
        return {};
    };
    JsonValue names;
    if (config.find("architectures", names) && !names.is_null())
        GNV_TRY(names.for_each_element([&](size_t, const JsonValue & name) { return add(name); }));
    JsonValue type;
    if (config.find("model_type", type) && !type.is_null()) GNV_TRY(add(type));
    if (!family)
        return fail(Code::format, config.where(), ": neither \"architectures\" nor \"model_type\" names a model");
    return family;
}

} // namespace

Result<std::vector<TensorSpec>> list_tensors(const JsonValue & config, const LayoutChoice & choice) {
    GNV_ASSIGN(const ModelFamily * const family, find_family(config));
    return family->list_tensors(config, choice);
}

Result<ModelLayout> match_model(const JsonValue & config, const Checkpoint & checkpoint, Accept accept) {
    GNV_ASSIGN(const ModelFamily * const family, find_family(config));
    GNV_TRY(for_each_config(config, accept.empty() ? refuse_quantization : check_quantization));
    return family->match_model(config, checkpoint, accept);
}

const ModelNames * find_names_with_input(std::string_view name) {
    for (const ModelNames * const names : all_names)
        if (names->find_input(name) >= 0) return names;
    return nullptr;
}

Result<std::unique_ptr<TextModel>> make_text_model(const JsonValue & config) {
    GNV_ASSIGN(const ModelFamily * const family, find_family(config));
    return family->make_text_model(config);
}

Result<std::unique_ptr<TextModel>> make_draft_model(const JsonValue & config, int64_t experts) {
    GNV_ASSIGN(const ModelFamily * const family, find_family(config));
    return family->make_draft_model(config, experts);
}

Result<VisionModel> make_vision_model(const JsonValue & config) {
    GNV_ASSIGN(const ModelFamily * const family, find_family(config));
    return family->make_vision_model(config);
}

} // namespace gnv
