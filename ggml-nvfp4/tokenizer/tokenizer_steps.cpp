#include "tokenizer/tokenizer_model.h"

#include <functional>

namespace gnv {

namespace {

// GPT-2's pattern, which a ByteLevel pre-tokenizer applies itself when use_regex is set.
constexpr std::string_view byte_level_pattern =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";

// Every step runs over the whole text; published files have at most five.
constexpr size_t most_steps = 16;

Status unsupported(const JsonValue & value, const std::string & what) {
    return fail(Code::unsupported, value.where(), ": ", what, " is not supported");
}

// Calls `visit` for a step with its type, or for each step of a Sequence, whose list is the member `list`.
Status for_each_step(const JsonValue & step, const char * list,
                     const std::function<Status(const JsonValue & step, std::string_view type)> & visit,
                     size_t & count) {
    if (step.is_null()) return {};
    GNV_ASSIGN(const JsonValue type_value, step.get("type"));
    GNV_ASSIGN(const std::string_view type, type_value.as_string());
    if (type != "Sequence") {
        if (++count > most_steps)
            return fail(Code::unsupported, step.where(), ": more than ", most_steps, " steps are not supported");
        return visit(step, type);
    }
    GNV_ASSIGN(const JsonValue steps, step.get(list));
    return steps.for_each_element(
        [&](size_t, const JsonValue & inner) { return for_each_step(inner, list, visit, count); });
}

Status for_each_step(const JsonValue & step, const char * list,
                     const std::function<Status(const JsonValue & step, std::string_view type)> & visit) {
    size_t count = 0;
    return for_each_step(step, list, visit, count);
}

Result<bool> flag(const JsonValue & object, const char * key, bool absent) {
    JsonValue value;
    if (!object.find(key, value)) return absent;
    return value.as_bool();
}

// --- Normalizer -----------------------------------------------------------------------------------------------------------

Status read_normalizer(const JsonValue & normalizer, TokenizerModel & model) {
    return for_each_step(normalizer, "normalizers", [&](const JsonValue & step, std::string_view type) -> Status {
        if (type != "NFC") return unsupported(step, concat("the normalizer ", printable(type)));
        model.nfc = true;
        return {};
    });
}

// --- Pre-tokenizer --------------------------------------------------------------------------------------------------------

Status add_pattern(const JsonValue & where, std::string_view pattern, TokenizerModel & model) {
    Result<SplitPattern> compiled = SplitPattern::compile(pattern);
    if (!compiled.ok()) return compiled.take_status().add_context(where.where());
    model.patterns.push_back(compiled.take());
    return {};
}

Status read_split(const JsonValue & step, TokenizerModel & model) {
    GNV_ASSIGN(const JsonValue pattern, step.get("pattern"));
    JsonValue regex;
    if (!pattern.find("Regex", regex)) return unsupported(pattern, "a Split pattern other than a Regex");
    GNV_ASSIGN(const std::string_view expression, regex.as_string());
    GNV_ASSIGN(const JsonValue behavior_value, step.get("behavior"));
    GNV_ASSIGN(const std::string_view behavior, behavior_value.as_string());
    if (behavior != "Isolated") return unsupported(behavior_value, concat("the behavior ", printable(behavior)));
    GNV_ASSIGN(const bool invert, flag(step, "invert", false));
    if (invert) return unsupported(step, "an inverted Split");
    return add_pattern(regex, expression, model);
}

Status read_pre_tokenizer(const JsonValue & pre_tokenizer, TokenizerModel & model) {
    bool byte_level = false;
    const auto read_step = [&](const JsonValue & step, std::string_view type) -> Status {
        if (byte_level) return unsupported(step, "a step after ByteLevel");
        if (type == "Split") return read_split(step, model);
        if (type != "ByteLevel") return unsupported(step, concat("the pre-tokenizer ", printable(type)));
        byte_level = true;
        GNV_ASSIGN(const bool prefix_space, flag(step, "add_prefix_space", true));
        if (prefix_space) return unsupported(step, "add_prefix_space");
        GNV_ASSIGN(const bool use_regex, flag(step, "use_regex", true));
        return use_regex ? add_pattern(step, byte_level_pattern, model) : Status();
    };
    GNV_TRY(for_each_step(pre_tokenizer, "pretokenizers", read_step));
    if (!byte_level) return unsupported(pre_tokenizer, "a pre-tokenizer without ByteLevel");
    return {};
}

// --- After the ids --------------------------------------------------------------------------------------------------------

// TemplateProcessing is harmless when its template for one text is the text alone.
Status read_template(const JsonValue & step) {
    GNV_ASSIGN(const JsonValue single, step.get("single"));
    return single.for_each_element([&](size_t, const JsonValue & item) -> Status {
        JsonValue sequence;
        if (item.find("Sequence", sequence)) return {};
        return unsupported(item, "a template that adds tokens");
    });
}

Status read_post_processor(const JsonValue & post_processor) {
    return for_each_step(post_processor, "processors", [](const JsonValue & step, std::string_view type) -> Status {
        if (type == "TemplateProcessing") return read_template(step);
        if (type != "ByteLevel") return unsupported(step, concat("the post-processor ", printable(type)));
        return {}; // it moves offsets, not ids
    });
}

Status read_decoder(const JsonValue & decoder) {
    bool byte_level = false;
    const auto read_step = [&](const JsonValue & step, std::string_view type) -> Status {
        if (type != "ByteLevel" || byte_level) return unsupported(step, concat("the decoder ", printable(type)));
        byte_level = true;
        return {};
    };
    GNV_TRY(for_each_step(decoder, "decoders", read_step));
    if (!byte_level) return unsupported(decoder, "a decoder without ByteLevel");
    return {};
}

} // namespace

Status read_tokenizer_steps(const JsonValue & root, TokenizerModel & model) {
    JsonValue post_processor;
    GNV_ASSIGN(const JsonValue normalizer, root.get("normalizer"));
    GNV_ASSIGN(const JsonValue pre_tokenizer, root.get("pre_tokenizer"));
    GNV_ASSIGN(const JsonValue decoder, root.get("decoder"));
    GNV_TRY(read_normalizer(normalizer, model));
    GNV_TRY(read_pre_tokenizer(pre_tokenizer, model));
    if (root.find("post_processor", post_processor)) GNV_TRY(read_post_processor(post_processor));
    return read_decoder(decoder);
}

} // namespace gnv
