#include "quant/calibration_statistics.h"

#include "core/sha256.h"
#include "core/table.h"
#include "formats/file.h"
#include "formats/json.h"
#include "formats/json_writer.h"
#include "formats/sealed_json.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iterator>
#include <set>

namespace gnv {

static constexpr const char * schema = "ggml-nvfp4.statistics.2";
static constexpr const char * schema_without_checksums = "ggml-nvfp4.statistics.1"; // the same in everything else
static constexpr uint64_t statistics_limit = 256 << 20;

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

static void write_total(JsonWriter & json, const StatisticKey & key, const StatisticTotal & total) {
    json.begin_array();
    for (int64_t i = 0; i < total.shape.elements(); i++) {
        if (key.statistic->dtype == DType::f32) json.value(double(total.as<float>()[i]));
        if (key.statistic->dtype == DType::f64) json.value(total.as<double>()[i]);
        if (key.statistic->dtype == DType::i64) json.value(total.as<int64_t>()[i]);
    }
    json.end_array();
}

// For inputs of Linears an object with a list for each, in the order of the family; for the router's choices only the
// list.
static void write_layer(JsonWriter & json, const StatisticSet & set, int32_t layer) {
    json.begin_object();
    for (const Statistic * const statistic : saved_statistics) {
        const bool of_choice = !statistic->add;
        if (!of_choice) json.key(statistic->file_key).begin_object();
        for (const auto & [key, total] : set.totals()) {
            if (key.part != Part::text || key.layer != layer || key.statistic != statistic) continue;
            json.key(of_choice ? statistic->file_key : set.names()->inputs[size_t(key.input)].name);
            write_total(json, key, total);
        }
        if (!of_choice) json.end_object();
    }
    json.end_object();
}

static void write_moments(JsonWriter & json, const StatisticSet & set, const WrittenMoments & moments) {
    json.begin_object().member("method", moments.method).key("totals").begin_array();
    for (const MomentTotal & total : moments.totals) {
        json.begin_object().member("layer", total.key.layer);
        json.member("input", set.names()->inputs[size_t(total.key.input)].name);
        json.member("statistic", moments_key(*total.key.statistic));
        json.key("shape").begin_array();
        for (int i = 0; i < total.shape.rank; i++) json.value(total.shape[i]);
        json.end_array().member("sha256", total.sha256).end_object();
    }
    json.end_array().end_object();
}

Result<std::string> statistics_json(const Statistics & statistics, const WrittenMoments * moments) {
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().member("schema", schema).member("model", statistics.model_fingerprint);
    json.member("data_sha256", statistics.data_sha256);
    if (statistics.parts > 0) {
        json.key("parts").begin_object().member("of", statistics.parts).key("numbers").begin_array();
        for (const uint32_t number : statistics.part_numbers) json.value(number);
        json.end_array().end_object();
    }
    json.member("sequences", statistics.sequences);
    json.member("positions", statistics.positions).member("tokens", statistics.tokens);
    json.member("precision", precision_name(statistics.precision));
    json.member("experts", expert_tokens_name(statistics.expert_tokens));
    GNV_TRY(write_data(json.key("data"), statistics));
    json.key("layers").begin_array();
    for (int32_t layer = 0; layer < statistics.totals.layers(); layer++) write_layer(json, statistics.totals, layer);
    json.end_array();
    if (moments) write_moments(json.key("moments"), statistics.totals, *moments);
    return seal_json(json.end_object().take() + "\n");
}

// Totals of one group, and of one group for each element.
static Status read_total(const JsonValue & value, StatisticKey key, StatisticSet & set) {
    std::vector<double> maxima;
    std::vector<int64_t> counts;
    GNV_TRY(value.for_each_element([&](size_t, const JsonValue & item) -> Status {
        if (key.statistic->dtype == DType::i64) {
            GNV_ASSIGN(counts.emplace_back(), item.as_int());
            return counts.back() >= 0 ? Status() : fail(Code::format, item.where(), ": a negative count");
        }
        GNV_ASSIGN(maxima.emplace_back(), item.as_double());
        if (maxima.back() >= 0 && std::isfinite(float(maxima.back()))) return {};
        return fail(Code::format, item.where(), ": ", maxima.back(), " is no largest magnitude");
    }));
    const auto groups = int64_t(std::max(maxima.size(), counts.size()));
    if (groups == 0) return {};
    StatisticTotal & total = set.insert(key, {groups});
    std::copy(maxima.begin(), maxima.end(), total.as<float>());
    std::copy(counts.begin(), counts.end(), total.as<int64_t>());
    return {};
}

static Status read_layer(const JsonValue & value, int32_t layer, StatisticSet & set) {
    GNV_ASSIGN(const JsonValue maxima, value.get(Statistic::maximum.file_key));
    GNV_TRY(maxima.for_each_member([&](std::string_view name, const JsonValue & list) -> Status {
        const ModelNames * const names = set.names() ? set.names() : find_names_with_input(name);
        const int32_t input = names ? names->find_input(name) : -1;
        if (input < 0) return fail(Code::format, list.where(), ": nothing that this version observes");
        set.set_names(names);
        return read_total(list, {Part::text, layer, input, &Statistic::maximum}, set);
    }));
    JsonValue counts;
    if (!set.names() || !value.find(Statistic::tokens.file_key, counts)) return {};
    return read_total(counts, {Part::text, layer, set.names()->choices(), &Statistic::tokens}, set);
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

static Status read_parts(const JsonValue & root, Statistics & statistics) {
    JsonValue parts;
    if (!root.find("parts", parts)) return {};
    constexpr uint64_t most = 1'000'000;
    uint64_t count = 0;
    GNV_TRY(read_count(parts, "of", count));
    GNV_ASSIGN(const JsonValue numbers, parts.get("numbers"));
    GNV_TRY(numbers.for_each_element([&](size_t, const JsonValue & item) -> Status {
        GNV_ASSIGN(const int64_t number, item.as_int());
        const int64_t last = statistics.part_numbers.empty() ? 0 : statistics.part_numbers.back();
        if (number <= last || uint64_t(number) > count || count > most)
            return fail(Code::format, item.where(), ": ", number, " is no further part of ", count);
        statistics.part_numbers.push_back(uint32_t(number));
        return {};
    }));
    if (statistics.part_numbers.empty() || statistics.part_numbers.size() == count)
        return fail(Code::format, parts.where(), ": a list of some parts is expected");
    statistics.parts = uint32_t(count);
    return {};
}

// Checks the checksums. A file of the version without them may have taken hours to measure and differs in nothing else,
// so it is accepted with a warning.
static Status check_schema(const JsonValue & root, const std::string & path, bool sealed, std::string & warning) {
    std::string found;
    if (JsonValue value; !root.is_object() || !root.find("schema", value))
        return fail(Code::format, path, ": names no schema: this is no file that --save-stats wrote");
    GNV_TRY(read_text(root, "schema", found));
    if (found != schema && found != schema_without_checksums)
        return fail(Code::format, path, ": schema \"", printable(found), "\", expected \"", schema,
                    "\": this is no file that --save-stats wrote");
    if (sealed) return {};
    if (found == schema)
        return fail(Code::format, path,
                    ": its \"checksums\" are missing: the file is damaged or was edited; use another "
                    "copy, or measure anew");
    warning = path + " was written by an earlier version and has no checksums: damage to it would not be noticed";
    return {};
}

static Status read_moment_total(const JsonValue & value, const ModelNames & names, MomentTotal & total) {
    std::string input, statistic;
    uint64_t layer = 0;
    GNV_TRY(read_count(value, "layer", layer));
    GNV_TRY(read_text(value, "input", input));
    GNV_TRY(read_text(value, "statistic", statistic));
    const auto * const known = std::find_if(std::begin(saved_moments), std::end(saved_moments),
                                            [&](const SavedMoments & one) { return one.key == statistic; });
    const int32_t place = names.find_input(input);
    if (place < 0 || known == std::end(saved_moments) || layer > uint64_t(INT32_MAX))
        return fail(Code::format, value.where(), ": nothing that this version measures");
    const Statistic & kind = *known->statistic;
    total.key = {Part::text, int32_t(layer), place, &kind};
    GNV_ASSIGN(const JsonValue shape, value.get("shape"));
    GNV_TRY(shape.for_each_element([&](size_t, const JsonValue & item) -> Status {
        constexpr int64_t most = 1 << 24;
        GNV_ASSIGN(const int64_t extent, item.as_int());
        if (extent < 1 || extent > most || total.shape.rank == Shape::max_rank)
            return fail(Code::format, item.where(), ": no extent of a total");
        total.shape.dims[total.shape.rank++] = extent;
        return {};
    }));
    GNV_ASSIGN(const JsonValue hashes, value.get("sha256"));
    GNV_TRY(hashes.for_each_element([&](size_t, const JsonValue & item) -> Status {
        GNV_ASSIGN(const std::string_view text, item.as_string());
        total.sha256.emplace_back(text);
        return {};
    }));
    // The shape is that of the statistic for some width, and each group has a checksum.
    const int64_t width = kind.of_weights ? 1 : kind.shape(16).rank == 2 ? total.shape.last() : total.shape[1] * 16;
    if (total.shape.rank < 2 || total.sha256.size() != size_t(total.shape[0]) ||
        !(kind.total_shape(total.shape[0], width) == total.shape))
        return fail(Code::format, value.where(), ": not the shape of ", kind.name);
    return {};
}

static Status read_moments(const JsonValue & value, const std::string & path, Statistics & statistics) {
    std::string method;
    GNV_TRY(read_text(value, "method", method));
    const ModelNames * const names = statistics.totals.names();
    if (!names) return fail(Code::format, value.where(), ": second moments without largest inputs");
    std::vector<MomentTotal> totals;
    GNV_ASSIGN(const JsonValue list, value.get("totals"));
    GNV_TRY(list.for_each_element(
        [&](size_t, const JsonValue & item) { return read_moment_total(item, *names, totals.emplace_back()); }));
    return statistics.moments.open(moment_file_name(path), method, std::move(totals), *names);
}

Result<Statistics> read_statistics(const std::string & path, std::string & warning) {
    GNV_ASSIGN(std::string text, read_file(path, statistics_limit));
    GNV_ASSIGN(const bool sealed, check_sealed_json(text, path));
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(std::move(text), path));
    const JsonValue root = document.root();
    GNV_TRY(check_schema(root, path, sealed, warning));
    std::string precision, experts;
    Statistics statistics;
    GNV_TRY(read_text(root, "model", statistics.model_fingerprint));
    GNV_TRY(read_text(root, "data_sha256", statistics.data_sha256));
    GNV_TRY(read_parts(root, statistics));
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
    GNV_TRY(layers.for_each_element([&](size_t layer, const JsonValue & value) {
        statistics.totals.set_layers(int64_t(layer) + 1);
        return read_layer(value, int32_t(layer), statistics.totals);
    }));
    JsonValue moments;
    if (root.find("moments", moments)) GNV_TRY(read_moments(moments, path, statistics));
    return statistics;
}

// --- Merging ------------------------------------------------------------------------------------------------------------------

// Counts come from files, so their sum may overflow.
static Status add_count(uint64_t & into, uint64_t count, const char * what) {
    int64_t sum = 0;
    if (__builtin_add_overflow(into, count, &sum))
        return fail(Code::format, what, ": ", into, " and ", count, " are too many to be added: a file is damaged");
    into = uint64_t(sum);
    return {};
}

static std::string numbers_text(const std::vector<uint32_t> & numbers) {
    std::string text;
    for (const uint32_t number : numbers) text += concat(text.empty() ? "" : ", ", number);
    return text;
}

Status check_complete(const Statistics & statistics) {
    if (statistics.parts == 0) return {};
    std::vector<uint32_t> missing;
    for (uint32_t number = 1; number <= statistics.parts; number++)
        if (!std::binary_search(statistics.part_numbers.begin(), statistics.part_numbers.end(), number))
            missing.push_back(number);
    return fail(Code::invalid_argument, "statistics of a part of the data: of ", statistics.parts, " parts ",
                numbers_text(missing), missing.size() == 1 ? " is" : " are", " missing; give the files of all parts");
}

static bool are_parts_of_one(const Statistics & a, const Statistics & b) {
    return a.parts > 0 && a.parts == b.parts && a.data_sha256 == b.data_sha256;
}

// The numbers of both; all parts are the data.
static Status merge_parts(Statistics & into, const Statistics & other) {
    std::vector<uint32_t> both, twice;
    std::set_union(into.part_numbers.begin(), into.part_numbers.end(), other.part_numbers.begin(),
                   other.part_numbers.end(), std::back_inserter(both));
    std::set_intersection(into.part_numbers.begin(), into.part_numbers.end(), other.part_numbers.begin(),
                          other.part_numbers.end(), std::back_inserter(twice));
    if (!twice.empty())
        return fail(Code::invalid_argument, "part ", numbers_text(twice), " of ", into.parts,
                    " was given before: give the file of each part once");
    into.part_numbers = std::move(both);
    if (into.part_numbers.size() < into.parts) return {};
    into.parts = 0;
    into.part_numbers.clear();
    return {};
}

Result<Statistics> merge_all(std::vector<Statistics> list, const std::vector<std::string> & names) {
    GNV_CHECK(!list.empty() && list.size() == names.size());
    std::vector<size_t> first; // of each data set, in their order
    for (size_t i = 0; i < list.size(); i++) {
        const auto rest = std::find_if(first.begin(), first.end(),
                                       [&](size_t other) { return are_parts_of_one(list[other], list[i]); });
        if (rest == first.end()) {
            first.push_back(i);
        } else {
            GNV_TRY(merge_statistics(list[*rest], list[i]).add_context(names[i]));
        }
    }
    for (size_t i = 1; i < first.size(); i++) {
        for (const size_t one : {first[0], first[i]}) GNV_TRY(check_complete(list[one]).add_context(names[one]));
        GNV_TRY(merge_statistics(list[first[0]], list[first[i]]).add_context(names[first[i]]));
    }
    return std::move(list[first[0]]);
}

Status merge_statistics(Statistics & into, const Statistics & other) {
    if (into.model_fingerprint != other.model_fingerprint)
        return Status(Code::model, "statistics of two different models cannot be merged");
    if (into.precision != other.precision || into.expert_tokens != other.expert_tokens)
        return fail(Code::invalid_argument, "statistics of precision ", precision_name(into.precision), ", experts ",
                    expert_tokens_name(into.expert_tokens), " cannot be merged with ", precision_name(other.precision),
                    ", ", expert_tokens_name(other.expert_tokens));
    if (!into.totals.same_shapes(other.totals))
        return Status(Code::format, "statistics of one model have different shapes: one of the files is damaged");
    const bool are_parts = are_parts_of_one(into, other);
    if (are_parts) GNV_TRY(merge_parts(into, other));
    GNV_TRY(into.moments.merge(other.moments));
    GNV_TRY(into.totals.merge(other.totals));
    GNV_TRY(add_count(into.sequences, other.sequences, "sequences"));
    GNV_TRY(add_count(into.positions, other.positions, "positions"));
    GNV_TRY(add_count(into.tokens, other.tokens, "tokens"));
    if (are_parts) return {};
    into.data.insert(into.data.end(), other.data.begin(), other.data.end());
    const std::string both = into.data_sha256 + other.data_sha256;
    into.data_sha256 = sha256_hex(both.data(), both.size());
    return {};
}

// --- Text ---------------------------------------------------------------------------------------------------------------------

// "0.51", of experts "0.51 .. 6.2"
static std::string range_text(std::span<const float> maxima) {
    if (maxima.empty()) return "";
    const auto [low, high] = std::minmax_element(maxima.begin(), maxima.end());
    return maxima.size() == 1 ? number_text(double(*low), 4)
                              : number_text(double(*low), 4) + " .. " + number_text(double(*high), 4);
}

std::string statistics_text(const Statistics & statistics, size_t width) {
    std::string out =
        concat(count_text(statistics.sequences), " sequences, ", count_text(statistics.positions), " positions, ",
               count_text(statistics.tokens), " tokens, precision ", precision_name(statistics.precision),
               ", experts see ", expert_tokens_name(statistics.expert_tokens), " tokens",
               statistics.parts == 0
                   ? ""
                   : concat("\npart ", numbers_text(statistics.part_numbers), " of ", statistics.parts, " of the data"),
               "\n\nLargest inputs:\n");
    std::vector<std::vector<std::string>> rows = {{"layer"}};
    const StatisticSet & set = statistics.totals;
    std::set<int32_t> columns; // inputs with statistics
    for (const auto & [key, total] : set.totals())
        if (key.statistic == &Statistic::maximum) columns.insert(key.input);
    for (const int32_t input : columns) rows.front().push_back(set.names()->inputs[size_t(input)].name);
    rows.front().push_back("tokens per expert");
    for (int32_t layer = 0; layer < set.layers(); layer++) {
        rows.push_back({std::to_string(layer)});
        for (const int32_t input : columns) rows.back().push_back(range_text(set.maxima(layer, input)));
        const std::span<const int64_t> tokens = set.tokens_per_expert(layer);
        const auto [low, high] = std::minmax_element(tokens.begin(), tokens.end());
        rows.back().push_back(tokens.empty() ? ""
                                             : concat(count_text(uint64_t(*low)), " .. ", count_text(uint64_t(*high))));
    }
    return out + format_table(rows, std::vector<bool>(rows.front().size(), true), width);
}

} // namespace gnv
