#include "quant/calibration_statistics.h"

#include "core/sha256.h"
#include "core/table.h"
#include "formats/json.h"
#include "formats/json_writer.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace gnv {

static constexpr const char * schema = "ggml-nvfp4.statistics.1";
static constexpr uint64_t small_tensor_bytes = 64 << 10;
static constexpr uint64_t statistics_limit = 256 << 20;

const char * precision_name(Precision precision) { return precision == Precision::bf16 ? "bf16" : "fp32"; }
const char * expert_tokens_name(ExpertTokens tokens) { return tokens == ExpertTokens::all ? "all" : "routed"; }

Result<std::string> model_fingerprint(const Checkpoint & checkpoint, const FolderFiles & files) {
    std::vector<const TensorInfo *> order;
    for (const TensorInfo & tensor : checkpoint.tensors()) order.push_back(&tensor);
    std::sort(order.begin(), order.end(), [](const TensorInfo * a, const TensorInfo * b) { return a->name < b->name; });
    GNV_ASSIGN(Sha256 hash, Sha256::create());
    std::vector<uint8_t> content;
    for (const TensorInfo * tensor : order) {
        const std::string line =
            concat(tensor->name, " ", dtype_name(tensor->dtype), " ", shape_text(tensor->shape), "\n");
        GNV_TRY(hash.update(line.data(), line.size()));
        if (tensor->bytes > small_tensor_bytes) continue;
        content.resize(size_t(tensor->bytes));
        GNV_TRY(files[tensor->shard]
                    ->read(content.data(), tensor->bytes, tensor->offset)
                    .add_context(checkpoint.describe(*tensor)));
        GNV_TRY(hash.update(content.data(), content.size()));
    }
    return hash.finish();
}

// --- File ---------------------------------------------------------------------------------------------------------------------

Status write_data(JsonWriter & json, const Statistics & statistics) {
    json.begin_array();
    for (const std::string & text : statistics.data) {
        GNV_ASSIGN(const JsonDocument parsed, JsonDocument::parse(text, "data"));
        json.value(parsed.root());
    }
    json.end_array();
    return {};
}

Result<std::string> statistics_json(const Statistics & statistics) {
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().member("schema", schema).member("model", statistics.model_fingerprint);
    json.member("data_sha256", statistics.data_sha256).member("sequences", statistics.sequences);
    json.member("positions", statistics.positions).member("tokens", statistics.tokens);
    json.member("precision", precision_name(statistics.precision));
    json.member("experts", expert_tokens_name(statistics.expert_tokens));
    GNV_TRY(write_data(json.key("data"), statistics));
    json.key("layers").begin_array();
    for (const LayerStatistics & layer : statistics.layers) {
        json.begin_object().key("maxima").begin_object();
        for (size_t i = 0; i < size_t(Observed::count_); i++) {
            if (layer.maxima[i].empty()) continue;
            json.key(observed_name(Observed(i))).begin_array();
            for (const float maximum : layer.maxima[i]) json.value(double(maximum));
            json.end_array();
        }
        json.end_object();
        if (!layer.tokens_per_expert.empty()) json.member("tokens_per_expert", layer.tokens_per_expert);
        json.end_object();
    }
    return json.end_array().end_object().take() + "\n";
}

static Status read_maxima(const JsonValue & value, std::vector<float> & out) {
    return value.for_each_element([&](size_t, const JsonValue & item) -> Status {
        GNV_ASSIGN(const double maximum, item.as_double());
        if (!(maximum >= 0) || !std::isfinite(float(maximum)))
            return fail(Code::format, item.where(), ": ", maximum, " is no largest magnitude");
        out.push_back(float(maximum));
        return {};
    });
}

static Status read_layer(const JsonValue & value, LayerStatistics & layer) {
    GNV_ASSIGN(const JsonValue maxima, value.get("maxima"));
    GNV_TRY(maxima.for_each_member([&](std::string_view key, const JsonValue & list) -> Status {
        for (size_t i = 0; i < size_t(Observed::count_); i++)
            if (key == observed_name(Observed(i))) return read_maxima(list, layer.maxima[i]);
        return fail(Code::format, list.where(), ": nothing that this version observes");
    }));
    JsonValue counts;
    if (!value.find("tokens_per_expert", counts)) return {};
    return counts.for_each_element([&](size_t, const JsonValue & item) -> Status {
        GNV_ASSIGN(const int64_t count, item.as_int());
        if (count < 0) return fail(Code::format, item.where(), ": a negative count");
        layer.tokens_per_expert.push_back(count);
        return {};
    });
}

static Status read_count(const JsonValue & root, const char * key, uint64_t & out) {
    GNV_ASSIGN(const JsonValue value, root.get(key));
    GNV_ASSIGN(const int64_t count, value.as_int());
    if (count < 0) return fail(Code::format, value.where(), ": a negative count");
    out = uint64_t(count);
    return {};
}

static Status read_text(const JsonValue & root, const char * key, std::string & out) {
    GNV_ASSIGN(const JsonValue value, root.get(key));
    GNV_ASSIGN(const std::string_view text, value.as_string());
    out = text;
    return {};
}

Result<Statistics> read_statistics(const std::string & path) {
    GNV_ASSIGN(const JsonDocument document, JsonDocument::read(path, statistics_limit));
    const JsonValue root = document.root();
    std::string found, precision, experts;
    GNV_TRY(read_text(root, "schema", found));
    if (found != schema)
        return fail(Code::format, path, ": schema \"", printable(found), "\", expected \"", schema,
                    "\": this is no file that --save-stats wrote");
    Statistics statistics;
    GNV_TRY(read_text(root, "model", statistics.model_fingerprint));
    GNV_TRY(read_text(root, "data_sha256", statistics.data_sha256));
    GNV_TRY(read_count(root, "sequences", statistics.sequences));
    GNV_TRY(read_count(root, "positions", statistics.positions));
    GNV_TRY(read_count(root, "tokens", statistics.tokens));
    GNV_TRY(read_text(root, "precision", precision));
    GNV_TRY(read_text(root, "experts", experts));
    for (const Precision value : {Precision::f32, Precision::bf16})
        if (precision == precision_name(value)) statistics.precision = value, precision.clear();
    for (const ExpertTokens value : {ExpertTokens::all, ExpertTokens::routed})
        if (experts == expert_tokens_name(value)) statistics.expert_tokens = value, experts.clear();
    if (!precision.empty() || !experts.empty())
        return fail(Code::format, path, ": unknown ", precision.empty() ? "experts" : "precision", " \"",
                    printable(precision.empty() ? experts : precision), "\"");
    GNV_ASSIGN(const JsonValue data, root.get("data"));
    GNV_TRY(data.for_each_element([&](size_t, const JsonValue & item) -> Status {
        statistics.data.push_back(item.text());
        return {};
    }));
    GNV_ASSIGN(const JsonValue layers, root.get("layers"));
    GNV_TRY(layers.for_each_element([&](size_t, const JsonValue & layer) {
        statistics.layers.emplace_back();
        return read_layer(layer, statistics.layers.back());
    }));
    return statistics;
}

// --- Merging ------------------------------------------------------------------------------------------------------------------

static bool same_shape(const LayerStatistics & a, const LayerStatistics & b) {
    for (size_t i = 0; i < size_t(Observed::count_); i++)
        if (a.maxima[i].size() != b.maxima[i].size()) return false;
    return a.tokens_per_expert.size() == b.tokens_per_expert.size();
}

Status merge_statistics(Statistics & into, const Statistics & other) {
    if (into.model_fingerprint != other.model_fingerprint)
        return Status(Code::model, "statistics of two different models cannot be merged");
    if (into.precision != other.precision || into.expert_tokens != other.expert_tokens)
        return fail(Code::invalid_argument, "statistics of precision ", precision_name(into.precision), ", experts ",
                    expert_tokens_name(into.expert_tokens), " cannot be merged with ", precision_name(other.precision),
                    ", ", expert_tokens_name(other.expert_tokens));
    if (into.layers.size() != other.layers.size() ||
        !std::equal(into.layers.begin(), into.layers.end(), other.layers.begin(), same_shape))
        return Status(Code::format, "statistics of one model have different shapes: one of the files is damaged");
    for (size_t l = 0; l < into.layers.size(); l++) {
        LayerStatistics & layer = into.layers[l];
        for (size_t i = 0; i < size_t(Observed::count_); i++)
            for (size_t g = 0; g < layer.maxima[i].size(); g++)
                layer.maxima[i][g] = std::max(layer.maxima[i][g], other.layers[l].maxima[i][g]);
        for (size_t e = 0; e < layer.tokens_per_expert.size(); e++)
            layer.tokens_per_expert[e] += other.layers[l].tokens_per_expert[e];
    }
    into.sequences += other.sequences;
    into.positions += other.positions;
    into.tokens += other.tokens;
    into.data.insert(into.data.end(), other.data.begin(), other.data.end());
    GNV_ASSIGN(Sha256 hash, Sha256::create());
    GNV_TRY(hash.update(into.data_sha256.data(), into.data_sha256.size()));
    GNV_TRY(hash.update(other.data_sha256.data(), other.data_sha256.size()));
    GNV_ASSIGN(into.data_sha256, hash.finish());
    return {};
}

// --- Text ---------------------------------------------------------------------------------------------------------------------

static std::string number_text(float value) {
    char text[32];
    snprintf(text, sizeof text, "%.4g", double(value));
    return text;
}

// "0.51", of experts "0.51 .. 6.2"
static std::string range_text(const std::vector<float> & maxima) {
    if (maxima.empty()) return "";
    const auto [low, high] = std::minmax_element(maxima.begin(), maxima.end());
    return maxima.size() == 1 ? number_text(*low) : number_text(*low) + " .. " + number_text(*high);
}

std::string statistics_text(const Statistics & statistics) {
    std::string out =
        concat(count_text(statistics.sequences), " sequences, ", count_text(statistics.positions), " positions, ",
               count_text(statistics.tokens), " tokens, precision ", precision_name(statistics.precision),
               ", experts see ", expert_tokens_name(statistics.expert_tokens), " tokens\n\nLargest inputs:\n");
    std::vector<std::vector<std::string>> rows = {{"layer"}};
    std::vector<size_t> columns; // of Observed, where anything was observed
    for (size_t i = 0; i < size_t(Observed::count_); i++) {
        const bool used = std::any_of(statistics.layers.begin(), statistics.layers.end(),
                                      [&](const LayerStatistics & layer) { return !layer.maxima[i].empty(); });
        if (!used) continue;
        columns.push_back(i);
        rows.front().push_back(observed_name(Observed(i)));
    }
    rows.front().push_back("tokens per expert");
    for (size_t l = 0; l < statistics.layers.size(); l++) {
        const LayerStatistics & layer = statistics.layers[l];
        rows.push_back({std::to_string(l)});
        for (const size_t i : columns) rows.back().push_back(range_text(layer.maxima[i]));
        const std::vector<int64_t> & tokens = layer.tokens_per_expert;
        const auto [low, high] = std::minmax_element(tokens.begin(), tokens.end());
        rows.back().push_back(tokens.empty() ? "" : concat(*low, " .. ", *high));
    }
    return out + format_table(rows, std::vector<bool>(rows.front().size(), true));
}

} // namespace gnv
