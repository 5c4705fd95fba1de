#include "verify/faults.h"

#include "codec/nvfp4.h"
#include "core/strings.h"
#include "verify/loader_names.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <set>

namespace gnv::verify {

namespace {

// --- Choosing ---------------------------------------------------------------------------------------------------------------

bool is_sound(const Module & module) { return module.complete && module.part == Part::text; }
bool is_sound_alone(const Module & module) { return is_sound(module) && module.fused < 0; }
bool is_plain_text(const Module & module) { return module.stored == Stored::plain && module.part == Part::text; }

// A quantized module outside fused parameters, so that a fault has one place; preferably not an expert.
const Module * choose_module(Damage & damage) {
    const Module * module = damage.find([](const Module & m) { return is_sound_alone(m) && m.expert < 0; });
    if (!module) module = damage.find(is_sound_alone);
    if (!module) module = damage.find(is_sound);
    if (module) damage.touch(*module);
    return module;
}

const Module * choose_expert(Damage & damage, int32_t expert, Role role) {
    const Module * module =
        damage.find([&](const Module & m) { return is_sound(m) && m.expert == expert && m.role == role; });
    if (module) damage.touch(*module);
    return module;
}

// A fused parameter whose members share a global scale, preferably of experts.
std::vector<const Module *> choose_pair(Damage & damage) {
    const Subject & subject = damage.subject();
    std::vector<const Module *> best;
    for (const FusedGroup & group : subject.fused_groups) {
        std::vector<const Module *> members;
        for (const uint32_t m : group.modules) members.push_back(&subject.modules[m]);
        const bool usable = fused_parameters()[size_t(group.parameter)].shares_scale && members.size() >= 2 &&
                            std::all_of(members.begin(), members.end(), [](const Module * m) { return is_sound(*m); });
        if (usable && (best.empty() || (best.front()->expert < 0 && members.front()->expert >= 0))) best = members;
    }
    if (!best.empty()) damage.touch(*best.front());
    return best;
}

// --- Bytes ------------------------------------------------------------------------------------------------------------------

std::string float_bytes(float value) { return std::string(reinterpret_cast<const char *>(&value), sizeof value); }

// Applies `change` to a tensor's bytes.
template <class Change>
Result<bool> change_bytes(Damage & damage, int64_t tensor, const Change & change) {
    GNV_ASSIGN(std::string bytes, damage.read(tensor));
    change(bytes);
    damage.write(tensor, std::move(bytes));
    return true;
}

template <class Change>
Result<bool> change_module(Damage & damage, Component component, const Change & change) {
    const Module * module = choose_module(damage);
    if (!module || module->tensor(component) < 0) return false;
    return change_bytes(damage, module->tensor(component), change);
}

// Sets the global scale of a module and of all modules that share it.
Result<bool> change_global_scales(Damage & damage, float (*change)(float)) {
    const Module * module = choose_module(damage);
    if (!module) return false;
    std::vector<uint32_t> members;
    if (module->fused >= 0) {
        members = damage.subject().fused_groups[size_t(module->fused)].modules;
    } else {
        members.push_back(uint32_t(module - damage.subject().modules.data()));
    }
    for (const uint32_t m : members) {
        const int64_t tensor = damage.subject().modules[m].tensor(Component::weight_global_scale);
        if (tensor < 0) continue;
        GNV_ASSIGN(const std::string bytes, damage.read(tensor));
        float value = 0;
        memcpy(&value, bytes.data(), std::min(bytes.size(), sizeof value));
        damage.write(tensor, float_bytes(change(value)));
    }
    return true;
}

// --- Codes and scales ---------------------------------------------------------------------------------------------------------

Result<bool> swap_nibbles(Damage & damage) {
    return change_module(damage, Component::codes, [](std::string & bytes) {
        for (char & byte : bytes) byte = char(uint8_t(byte) << 4 | uint8_t(byte) >> 4);
    });
}

Result<bool> reverse_blocks(Damage & damage) {
    return change_module(damage, Component::codes, [](std::string & bytes) {
        for (size_t block = 0; block + 8 <= bytes.size(); block += 8)
            std::reverse(bytes.begin() + ptrdiff_t(block), bytes.begin() + ptrdiff_t(block) + 8);
        for (char & byte : bytes) byte = char(uint8_t(byte) << 4 | uint8_t(byte) >> 4);
    });
}

Result<bool> flip_code_sign(Damage & damage) {
    return change_module(damage, Component::codes, [](std::string & bytes) { bytes[bytes.size() / 2] ^= 0x08; });
}

Result<bool> flip_code_bit(Damage & damage) {
    return change_module(damage, Component::codes, [](std::string & bytes) { bytes[bytes.size() / 2] ^= 0x01; });
}

Result<bool> shift_scales(Damage & damage) {
    return change_module(damage, Component::block_scales,
                         [](std::string & bytes) { std::rotate(bytes.begin(), bytes.begin() + 1, bytes.end()); });
}

Result<bool> set_nan_scale(Damage & damage) {
    return change_module(damage, Component::block_scales, [](std::string & bytes) { bytes[bytes.size() / 2] = 0x7f; });
}

Result<bool> set_zero_scale(Damage & damage) {
    return change_module(damage, Component::block_scales, [](std::string & bytes) {
        *std::max_element(bytes.begin(), bytes.end()) = 0; // positive bytes: the largest scale
    });
}

Result<bool> negate_scales(Damage & damage) {
    return change_module(damage, Component::block_scales,
                         [](std::string & bytes) { bytes[0] = char(bytes[0] | 0x80); });
}

Result<bool> invert_global_scale(Damage & damage) {
    return change_global_scales(damage, [](float value) { return 1 / value; });
}

Result<bool> double_global_scale(Damage & damage) {
    return change_global_scales(damage, [](float value) { return 2 * value; });
}

Result<bool> part_fused_scales(Damage & damage) {
    const std::vector<const Module *> pair = choose_pair(damage);
    if (pair.empty()) return false;
    return change_bytes(damage, pair.back()->tensor(Component::weight_global_scale), [](std::string & bytes) {
        float value;
        memcpy(&value, bytes.data(), sizeof value);
        bytes = float_bytes(value * 1.25f);
    });
}

Result<bool> set_infinite_input_scale(Damage & damage) {
    return change_module(damage, Component::input_global_scale,
                         [](std::string & bytes) { bytes = float_bytes(std::numeric_limits<float>::infinity()); });
}

Result<bool> inflate_input_scale(Damage & damage) {
    const Module * module = choose_expert(damage, 0, Role::expert_down);
    if (!module || module->tensor(Component::input_global_scale) < 0) return false;
    return change_bytes(damage, module->tensor(Component::input_global_scale),
                        [](std::string & bytes) { bytes = float_bytes(1.0f / 64); });
}

// --- Tensors ----------------------------------------------------------------------------------------------------------------

Result<bool> swap_experts(Damage & damage) {
    const Module * first = choose_expert(damage, 0, Role::expert_down);
    if (!first) return false;
    const Module * second = damage.find([&](const Module & m) {
        return is_sound(m) && m.expert == 1 && m.role == first->role && m.layer == first->layer;
    });
    if (!second) return false;
    for (const Component component :
         {Component::codes, Component::block_scales, Component::weight_global_scale, Component::input_global_scale}) {
        const int64_t a = first->tensor(component), b = second->tensor(component);
        if (a < 0 || b < 0) continue;
        damage.rename(a, damage.subject().info(b).name);
        damage.rename(b, damage.subject().info(a).name);
    }
    return true;
}

Result<bool> drop_expert(Damage & damage) {
    const Module * any = choose_expert(damage, 1, Role::expert_down);
    if (!any) return false;
    for (const Module & module : damage.subject().modules) {
        if (module.part != any->part || module.layer != any->layer || module.expert != any->expert) continue;
        for (const int64_t tensor : module.tensors)
            if (tensor >= 0) damage.remove(tensor);
    }
    return true;
}

Result<bool> misorder_expert_name(Damage & damage) {
    const Module * module = choose_expert(damage, 0, Role::expert_down);
    if (!module) return false;
    const int64_t codes = module->tensor(Component::codes);
    const std::string prefix = module->name.substr(0, module->name.rfind(".experts.") + 9);
    damage.rename(codes, prefix + "down_proj.0" + nvfp4_component(Component::codes).suffix);
    return true;
}

Result<bool> drop_component(Damage & damage, Component component) {
    const Module * module = choose_module(damage);
    if (!module || module->tensor(component) < 0) return false;
    damage.remove(module->tensor(component));
    return true;
}

Result<bool> transpose(Damage & damage) {
    const Module * module = damage.find([](const Module & m) { return is_sound(m) && m.rows != m.columns / 2; });
    if (!module) return false;
    damage.touch(*module);
    damage.set_shape(module->tensor(Component::codes), {module->columns / 2, module->rows});
    return true;
}

Result<bool> retype_scales(Damage & damage) {
    const Module * module = choose_module(damage);
    if (!module) return false;
    damage.set_dtype(module->tensor(Component::block_scales), DType::u8);
    return true;
}

Result<bool> leave_weight(Damage & damage) {
    const Module * module = choose_module(damage);
    if (!module) return false;
    damage.add(module->tensor(Component::codes), module->name + ".weight", DType::bf16, {module->rows, module->columns},
               std::string(size_t(module->rows * module->columns) * 2, '\0'));
    return true;
}

Result<bool> add_unknown_tensor(Damage & damage) {
    const Module * module = choose_module(damage);
    if (!module) return false;
    damage.add(module->tensor(Component::codes), module->name + ".lora_A.weight", DType::bf16, {1},
               std::string(2, '\0'));
    return true;
}

// Packs a weight that the recipe keeps, as without its ignore entry.
Result<bool> quantize_ignored(Damage & damage) {
    const auto fits = [&](const Module & m) {
        return is_plain_text(m) && m.columns % 16 == 0 && m.fused < 0 &&
               damage.subject().info(m.weight()).dtype == DType::bf16;
    };
    const Module * module = damage.find([&](const Module & m) { return fits(m) && role_traits(m.role).can_quantize; });
    if (!module) module = damage.find(fits);
    if (!module) return false;
    damage.touch(*module);
    const int64_t weight = module->weight();
    GNV_ASSIGN(const std::string source, damage.read(weight));
    const Format & format = formats::nvfp4a16;
    const WeightRows rows = {DType::bf16, source.data(), module->rows, module->columns};
    bool finite = true;
    const float scale = format.unit_scale(
        rows.dtype, absolute_maximum(damage.instructions(), rows.dtype, rows.data, rows.rows * rows.columns, finite));
    std::array<std::string, most_components> data;
    PackedRows packed{rows.rows, rows.columns, {}};
    for (size_t c = 0; c < format.components.size(); c++) {
        data[c].resize(format.components[c].bytes(rows.rows, rows.columns));
        packed.data[c] = reinterpret_cast<uint8_t *>(data[c].data());
    }
    format.pack(damage.instructions(), rows, scale, packed);
    data[size_t(format.unit_component())] = float_bytes(scale);
    for (size_t c = 0; c < format.components.size(); c++)
        damage.add(weight, module->name + format.components[c].suffix, format.components[c].dtype,
                   format.components[c].shape(rows.rows, rows.columns), std::move(data[c]));
    damage.remove(weight);
    return true;
}

Result<bool> flip_preserved_bit(Damage & damage) {
    const Module * module = damage.find(is_plain_text);
    if (!module) return false;
    damage.touch(*module);
    return change_bytes(damage, module->weight(), [](std::string & bytes) { bytes[bytes.size() / 2] ^= 1; });
}

// --- Parts ------------------------------------------------------------------------------------------------------------------

// Tensors of one part; the first gives the layer to read again.
std::vector<int64_t> part_tensors(const Subject & subject, Part part) {
    std::vector<int64_t> tensors;
    for (size_t i = 0; i < subject.specs.size(); i++)
        if (subject.specs[i].part == part && subject.spec_tensors[i] >= 0) tensors.push_back(subject.spec_tensors[i]);
    return tensors;
}

Result<bool> alter_vision(Damage & damage) {
    const Module * module =
        damage.find([](const Module & m) { return m.part == Part::vision && m.stored == Stored::plain; });
    if (!module) return false;
    damage.touch(*module);
    return change_bytes(damage, module->weight(), [](std::string & bytes) { bytes[1] ^= 0x40; });
}

Result<bool> drop_tensors(Damage & damage, const std::vector<int64_t> & tensors) {
    for (const int64_t tensor : tensors) damage.remove(tensor);
    return !tensors.empty();
}

Result<bool> drop_draft_head(Damage & damage) {
    std::set<int64_t> tensors; // several modules may share one
    for (const Module & module : damage.subject().modules)
        for (const int64_t tensor : module.tensors)
            if (module.part == Part::mtp && tensor >= 0) tensors.insert(tensor);
    for (const int64_t tensor : part_tensors(damage.subject(), Part::mtp)) tensors.insert(tensor);
    return drop_tensors(damage, {tensors.begin(), tensors.end()});
}

Result<bool> drop_vision_tensor(Damage & damage) {
    const std::vector<int64_t> tensors = part_tensors(damage.subject(), Part::vision);
    return tensors.empty() ? Result<bool>(false) : drop_tensors(damage, {tensors.back()});
}

// --- Names --------------------------------------------------------------------------------------------------------------------

bool is_text_name(const std::string & name) {
    return starts_with(without_prefixes(name), "layers.") && starts_with(name, "model.");
}

// Gives the tensors of the text model's blocks another prefix.
Result<bool> change_prefix(Damage & damage, std::string (*prefix)(const std::string & old)) {
    bool applied = false;
    for (size_t i = 0; i < damage.subject().checkpoint->tensors().size(); i++) {
        const std::string & name = damage.subject().info(int64_t(i)).name;
        if (!is_text_name(name)) continue;
        const std::string rest(without_prefixes(name));
        damage.rename(int64_t(i), prefix(name.substr(0, name.size() - rest.size())) + rest);
        applied = true;
    }
    return applied;
}

Result<bool> lose_prefix(Damage & damage) {
    return change_prefix(damage, [](const std::string & old) {
        return old == "model." ? std::string("model.language_model.") : std::string("model.");
    });
}

Result<bool> double_prefix(Damage & damage) {
    return change_prefix(damage, [](const std::string & old) {
        return old == "model." ? std::string("model.model.") : old + "language_model.";
    });
}

Result<bool> use_model_opt_names(Damage & damage) {
    const Module * module = choose_module(damage);
    if (!module) return false;
    damage.rename(module->tensor(Component::weight_global_scale), module->name + ".weight_scale_2");
    return true;
}

// --- config.json ----------------------------------------------------------------------------------------------------------------

JsonTree * find_ignore(Damage & damage) {
    JsonTree * const ignore = damage.config().find("quantization_config/ignore");
    return ignore && ignore->is_array() ? ignore : nullptr;
}

Result<bool> ignore_quantized(Damage & damage) {
    JsonTree * ignore = find_ignore(damage);
    const Module * module = choose_module(damage);
    if (!ignore || !module) return false;
    ignore->children.push_back(JsonTree::make_string(module->name));
    return true;
}

Result<bool> ignore_half_a_pair(Damage & damage) {
    JsonTree * ignore = find_ignore(damage);
    const std::vector<const Module *> pair = choose_pair(damage);
    if (!ignore || pair.empty()) return false;
    ignore->children.push_back(JsonTree::make_string(pair.back()->name));
    return true;
}

Result<bool> empty_ignore_list(Damage & damage) {
    JsonTree * ignore = find_ignore(damage);
    if (!ignore || ignore->children.empty()) return false;
    ignore->children.clear();
    return true;
}

Result<bool> undeclare_draft_head(Damage & damage) {
    JsonTree * ignore = find_ignore(damage);
    if (!ignore || !damage.subject().has_part[size_t(Part::mtp)]) return false;
    return std::erase_if(ignore->children, [](const JsonTree & entry) {
               return entry.type == JsonType::string && entry.text.find("mtp") != std::string::npos;
           }) > 0;
}

Result<bool> set_config(Damage & damage, const char * path, const char * text) {
    JsonTree * const value = damage.config().find(path);
    JsonTree changed = JsonTree::make_string(text);
    if (!value || value->text == changed.text) return false;
    changed.key = value->key;
    *value = std::move(changed);
    return true;
}

Result<bool> drop_quantization_config(Damage & damage) { return damage.config().erase("quantization_config"); }

JsonTree & text_config(Damage & damage) {
    JsonTree * const text = damage.config().find("text_config");
    return text ? *text : damage.config();
}

// A number of the model that contradicts its tensors.
Result<bool> age_config(Damage & damage) {
    for (const char * key : {"moe_intermediate_size", "intermediate_size", "hidden_size"}) {
        JsonTree * const size = text_config(damage).find(key);
        if (!size || size->type != JsonType::integer) continue;
        text_config(damage).set(key, concat(strtoll(size->text.c_str(), nullptr, 10) * 2));
        return true;
    }
    return false;
}

// A number that no tensor contradicts.
Result<bool> change_epsilon(Damage & damage) {
    const bool present = text_config(damage).find("rms_norm_eps");
    if (present) text_config(damage).set("rms_norm_eps", "0.015625");
    return present;
}

// --- Files --------------------------------------------------------------------------------------------------------------------

Result<bool> spoil_index(Damage & damage) {
    const Subject & subject = damage.subject();
    JsonWriter json;
    json.begin_object().key("weight_map").begin_object();
    for (const TensorInfo & info : subject.checkpoint->tensors())
        if (&info != &subject.checkpoint->tensors().front())
            json.member(info.name, subject.checkpoint->shards()[info.shard].file_name);
    json.end_object().end_object();
    damage.files().put(index_file_name, json.take());
    return subject.checkpoint->tensors().size() > 1;
}

Result<bool> cut_shard(Damage & damage) {
    const Shard & shard = damage.subject().checkpoint->shards().back();
    GNV_TRY(damage.files().truncate(shard.file_name, shard.data_begin + shard.data_bytes - 1));
    return shard.data_bytes > 0;
}

Result<bool> cut_tokenizer(Damage & damage) {
    GNV_ASSIGN(const bool present, has_file(*damage.subject().folder, "tokenizer.json"));
    if (!present) return false;
    GNV_ASSIGN(const std::string content, read_file(*damage.subject().folder, "tokenizer.json", 1 << 30));
    damage.files().put("tokenizer.json", content.substr(0, content.size() / 2));
    return true;
}

Result<bool> swap_tokens(Damage & damage) {
    GNV_ASSIGN(const bool present, has_file(*damage.subject().folder, "tokenizer.json"));
    if (!present) return false;
    GNV_ASSIGN(const std::string content, read_file(*damage.subject().folder, "tokenizer.json", 1 << 30));
    const Result<JsonDocument> document = JsonDocument::parse(content, "tokenizer.json");
    if (!document.ok() && is_machine_failure(document.status())) return copy_of(document.status());
    if (!document.ok()) return false;
    JsonTree tokenizer = JsonTree::copy(document.value().root());
    JsonTree * const tokens = tokenizer.find("model/vocab");
    if (!tokens || !tokens->is_object() || tokens->children.size() < 2) return false;
    std::swap(tokens->children[0].text, tokens->children[1].text);
    damage.files().put("tokenizer.json", tokenizer.dump());
    return true;
}

Result<bool> set_plain_nan(Damage & damage) {
    const Module * const module = damage.find(is_plain_text);
    if (!module) return false;
    damage.touch(*module);
    return change_bytes(damage, module->weight(), [](std::string & bytes) {
        std::fill_n(bytes.end() - 4, 4, '\xff'); // one F32, or two numbers of 16 bits
    });
}

Result<bool> remove_preprocessor(Damage & damage) {
    if (!damage.subject().announces_part[size_t(Part::vision)]) return false;
    bool applied = false;
    for (const char * name : {"preprocessor_config.json", "processor_config.json"}) {
        GNV_ASSIGN(const bool present, has_file(*damage.subject().folder, name));
        if (!present) continue;
        damage.files().remove(name);
        applied = true;
    }
    return applied;
}

} // namespace

const std::vector<Fault> & faults() {
    constexpr bool alone = false, with_source = true;
    // clang-format off
    static const std::vector<Fault> table = {
        {"nibbles swapped", {"S2"}, with_source, swap_nibbles},
        {"blocks reversed", {"S2"}, with_source, reverse_blocks},
        {"sign bit of one code flipped", {"S2", "S3"}, with_source, flip_code_sign},
        {"lowest bit of one code flipped", {"S3"}, with_source, flip_code_bit},
        {"block scales shifted by one", {"S2"}, with_source, shift_scales},
        {"block scale NaN", {"L9"}, alone, set_nan_scale},
        {"block scale zero", {"L9"}, alone, set_zero_scale},
        {"block scale negative", {"L9"}, alone, negate_scales},
        {"global scale inverted", {"L7"}, alone, invert_global_scale},
        {"global scale doubled", {"L7"}, with_source, double_global_scale},
        {"global scales of a fused pair differ", {"L6"}, alone, part_fused_scales},
        {"input scale infinite", {"L6"}, alone, set_infinite_input_scale},
        {"input scale of one expert far off", {"L8"}, alone, inflate_input_scale},
        {"experts swapped", {"S2"}, with_source, swap_experts},
        {"expert dropped", {"L5"}, alone, drop_expert},
        {"number after the projection in an expert's name", {"L5"}, alone, misorder_expert_name},
        {"block scales missing", {"L2"}, alone, [](Damage & damage) { return drop_component(damage, Component::block_scales); }},
        {"global scale missing", {"L2"}, alone, [](Damage & damage) { return drop_component(damage, Component::weight_global_scale); }},
        {"input scale missing", {"L2"}, alone, [](Damage & damage) { return drop_component(damage, Component::input_global_scale); }},
        {"packed weight transposed", {"L2"}, alone, transpose},
        {"block scales stored as U8", {"L2"}, alone, retype_scales},
        {"weight left beside the packed one", {"L2"}, alone, leave_weight},
        {"unknown tensor", {"L2"}, alone, add_unknown_tensor},
        {"ignored module quantized", {"L3"}, alone, quantize_ignored},
        {"quantized module ignored", {"L3"}, alone, ignore_quantized},
        {"half of a fused pair ignored", {"L4"}, alone, ignore_half_a_pair},
        {"ignore list empty", {"L3", "L11"}, alone, empty_ignore_list},
        {"draft head dropped", {"L11"}, alone, drop_draft_head},
        {"draft head undeclared", {"L11"}, alone, undeclare_draft_head},
        {"vision tensor dropped", {"L11"}, alone, drop_vision_tensor},
        {"vision tensor altered", {"S1"}, with_source, alter_vision},
        {"one bit flipped in a preserved tensor", {"S1"}, with_source, flip_preserved_bit},
        {"NaN in a preserved tensor", {"L16"}, alone, set_plain_nan},
        {"prefix wrong", {"L12"}, alone, lose_prefix},
        {"prefix doubled", {"L12"}, alone, double_prefix},
        {"global scale under ModelOpt's name", {"L15"}, alone, use_model_opt_names},
        {"quantization_config missing", {"L10"}, alone, drop_quantization_config},
        {"format wrong", {"L10"}, alone, [](Damage & damage) { return set_config(damage, "quantization_config/format", "fp4"); }},
        {"status wrong", {"L10"}, alone, [](Damage & damage) { return set_config(damage, "quantization_config/quantization_status", "frozen"); }},
        {"config.json of another model", {"L2", "L5", "L10"}, alone, age_config},
        {"epsilon of the norms changed", {"S4"}, with_source, change_epsilon},
        {"index does not list a tensor", {"L1", "L2"}, alone, spoil_index},
        {"shard cut short", {"L1"}, alone, cut_shard},
        {"tokenizer cut short", {"L14"}, alone, cut_tokenizer},
        {"two tokens swapped", {"L14"}, with_source, swap_tokens},
        {"preprocessor config missing", {"L14"}, alone, remove_preprocessor},
    };
    // clang-format on
    return table;
}

} // namespace gnv::verify
