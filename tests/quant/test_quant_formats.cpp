// A format and a quantizer that only these tests know, through the seams alone: what they need of the library is a row of
// codec/format.h and a class of quant/quantizers/quantizer.h.
#include "codec/nvfp4_pack.h"
#include "faults/small_model.h"
#include "model/fingerprint.h"
#include "model/weight_source.h"
#include "quantize/quantize.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <doctest/doctest.h>
#include <random>

using namespace gnv;
using namespace gnv::test;

namespace {

// --- A format: bytes in steps of the unit's largest magnitude / 127, and the largest byte of each 32 columns -----------------

constexpr FormatComponent byte_components[] = {
    {".weight_bytes", "bytes", "bytes", DType::i8, FormatComponent::Scope::rows, 1},
    {".weight_largest", "largest", "largest bytes", DType::u8, FormatComponent::Scope::rows, 32},
    {".weight_limit", "limit", "limit", DType::f32, FormatComponent::Scope::unit},
};

void pack_bytes(InstructionSet, const WeightRows & source, float scale, const PackedRows & out) {
    for (int64_t i = 0; i < source.rows * source.columns; i++) {
        const float steps = std::nearbyint(nvfp4::load_element(source.dtype, source.data, i) * 127 / scale);
        const auto byte = int8_t(std::clamp(steps, -127.0f, 127.0f));
        if (i % 32 == 0) out.data[1][i / 32] = 0;
        out.data[0][i] = uint8_t(byte);
        out.data[1][i / 32] = std::max(out.data[1][i / 32], uint8_t(std::abs(byte)));
    }
}

void unpack_bytes(InstructionSet, const PackedRows & packed, float scale, float * out) {
    for (int64_t i = 0; i < packed.rows * packed.columns; i++) out[i] = float(int8_t(packed.data[0][i])) * scale / 127;
}

uint64_t count_nothing(InstructionSet, const WeightRows &, float, const PackedRows &) { return 0; }

constexpr QuantizationArgs byte_args = {8, "int", "group", 32, "torch.float32", nullptr, "memoryless_minmax"};

constinit const Format bytes_format = {
    .name = "bytes",
    .title = "bytes",
    .description = "bytes (W8A16)",
    .preset = "BYTES",
    .codec = "bytes",
    .block = 32,
    .components = byte_components,
    .graph_dtype = DType::i8,
    .group_format = "bytes-packed",
    .weights = &byte_args,
    .inputs = nullptr,
    .unit_scale = [](DType, float absolute_maximum) { return std::max(absolute_maximum, 0x1p-100f); },
    .input_scale = nullptr,
    .pack = pack_bytes,
    .unpack = unpack_bytes,
    .count_saturated = count_nothing,
};

// --- A quantizer: room for weights twice as large ----------------------------------------------------------------------------

class Roomy final : public Quantizer {
  public:
    const char * name() const override { return "roomy"; }
    Result<UnitScale> prepare(const Format & format, DType source, const UnitMeasure & measure,
                              const UnitInputs &) const override {
        return UnitScale{format.unit_scale(source, measure.absolute_maximum * 2), nullptr};
    }
    Status pack(InstructionSet set, const Format & format, const WeightRows & rows, const UnitScale & scale,
                const PackedRows & out, ErrorFigures * errors, MethodChoices *) const override {
        format.pack(set, rows, scale.value, out);
        if (errors) errors->add(measure_errors(set, format, rows, scale.value, out));
        return {};
    }
};

class Demanding final : public Quantizer {
  public:
    const char * name() const override { return "demanding"; }
    std::vector<const Statistic *> needs() const override { return {&Statistic::second_moments}; }
    Status pack(InstructionSet, const Format &, const WeightRows &, const UnitScale &, const PackedRows &,
                ErrorFigures *, MethodChoices *) const override {
        return {};
    }
};

// --- Runs --------------------------------------------------------------------------------------------------------------------

const std::string & source() {
    static const ScratchFolder folder;
    static const std::string path = [] {
        write_small_model(folder / "source");
        return folder / "source";
    }();
    return path;
}

Result<Plan> plan_of(const RecipeOptions & recipe) {
    PlanOptions options;
    options.recipe = recipe;
    options.threads = 2;
    return make_plan(source(), options);
}

RecipeOptions recipe_with(const Format & scheme) {
    RecipeOptions recipe;
    recipe.scheme = &scheme;
    return recipe;
}

// What a run writes, by name.
std::map<std::string, MemoryTensor> quantized(const RecipeOptions & recipe, const std::string & destination,
                                              const Statistics * statistics = nullptr) {
    const Plan plan = plan_of(recipe).take();
    const auto threads = ThreadPool::create(2).take();
    QuantizeOptions options;
    options.destination = destination;
    options.statistics = statistics;
    const Result<QuantizeReport> report = quantize(plan, *threads, options);
    REQUIRE_MESSAGE(report.ok(), report.status().message());
    std::map<std::string, MemoryTensor> tensors;
    for (MemoryTensor & tensor : load_tensors(destination)) tensors.emplace(tensor.name, tensor);
    return tensors;
}

JsonDocument config_of(const std::string & folder) {
    return JsonDocument::read(join_path(folder, "config.json"), 1 << 20).take();
}

// "config_groups.group_1.format" of the quantization_config; "" when it is not there
std::string config_value(const JsonDocument & config, const std::string & path) {
    JsonValue value = config.root().get("quantization_config").value();
    for (size_t begin = 0; begin <= path.size();) {
        const size_t end = std::min(path.find('.', begin), path.size());
        JsonValue next;
        if (!value.find(path.substr(begin, end - begin), next)) return "";
        value = next;
        begin = end + 1;
    }
    return value.text();
}

} // namespace

TEST_CASE("a format of its own: planned, written, described and read back") {
    const ScratchFolder scratch;
    const auto tensors = quantized(recipe_with(bytes_format), scratch / "out");
    const JsonDocument config = config_of(scratch / "out");
    CHECK(config_value(config, "format") == "\"bytes-packed\"");
    CHECK(config_value(config, "config_groups.group_0.weights.num_bits") == "8");
    CHECK(config_value(config, "config_groups.group_0.weights.type") == "\"int\"");
    CHECK(config_value(config, "config_groups.group_0.input_activations") == "null");
    const std::string json = plan_json(plan_of(recipe_with(bytes_format)).value());
    CHECK(json.find("\"content\":\"largest\"") != std::string::npos);

    // The checkpoint's Linears, matched and read, against the source's, packed here.
    const Plan plan = plan_of(recipe_with(bytes_format)).take();
    const FolderFiles source_files = plan.checkpoint.open_shards().take();
    const WeightSource original(plan.checkpoint, source_files);
    const Format * const accepted[] = {&bytes_format};
    const Checkpoint written = Checkpoint::open(scratch / "out").take();
    const FolderFiles files = written.open_shards().take();
    const WeightSource weights(written, files);
    const ModelLayout layout = match_model(config.root(), written, accepted).take();
    CHECK_FALSE(match_model(config.root(), written, all_formats()).ok());
    uint64_t compared = 0;
    for (const PlanUnit & unit : plan.units) {
        float largest = 0;
        for (uint32_t m = unit.first; unit.quantize && m < unit.first + unit.count; m++) {
            const LinearModule & linear = plan.linear(plan.modules[m]);
            std::vector<uint16_t> rows(size_t(linear.rows * linear.columns));
            REQUIRE(original.read_rows(linear, 0, linear.rows, rows.data()).ok());
            bool finite = true;
            largest = std::max(
                largest, nvfp4::absolute_maximum_reference(DType::bf16, rows.data(), int64_t(rows.size()), finite));
        }
        for (uint32_t m = unit.first; unit.quantize && m < unit.first + unit.count; m++) {
            const LinearModule & linear = plan.linear(plan.modules[m]);
            const auto found = std::find_if(layout.modules.begin(), layout.modules.end(),
                                            [&](const LinearModule & other) { return other.name == linear.name; });
            REQUIRE(found != layout.modules.end());
            CHECK(found->stored == &bytes_format);
            const int64_t first = linear.rows / 2, count = linear.rows - first; // the later rows alone
            std::vector<uint16_t> rows(size_t(count * linear.columns));
            std::vector<float> values(rows.size()), expected(rows.size());
            REQUIRE(original.read_rows(linear, first, count, rows.data()).ok());
            REQUIRE(weights.row_dtype(*found) == DType::f32);
            REQUIRE(weights.read_rows(*found, first, count, values.data()).ok());
            for (size_t i = 0; i < rows.size(); i++)
                expected[i] = std::nearbyint(nvfp4::bf16_to_float(rows[i]) * 127 / largest) * largest / 127;
            CHECK((values == expected));
            compared++;
        }
    }
    CHECK(compared == plan.modules.size());
    CHECK(tensors.count(plan.linear(plan.modules[0]).name + ".weight_packed") == 0);
}

TEST_CASE("formats by pattern: each module as in a run with its format alone") {
    const ScratchFolder scratch;
    RecipeOptions mixed = recipe_with(formats::nvfp4a16);
    mixed.formats = {{"re:.*self_attn\\..*", &bytes_format}, {"re:.*", &formats::nvfp4a16}};
    const auto both = quantized(mixed, scratch / "mixed");
    const auto nvfp4 = quantized(recipe_with(formats::nvfp4a16), scratch / "nvfp4");
    const auto bytes = quantized(recipe_with(bytes_format), scratch / "bytes");
    size_t of_bytes = 0;
    for (const auto & [name, tensor] : both) {
        const bool attention = name.find("self_attn.") != std::string::npos;
        const auto & alone = attention ? bytes : nvfp4;
        REQUIRE_MESSAGE(alone.count(name) == 1, name);
        CHECK(alone.at(name).data == tensor.data);
        of_bytes += ends_with(name, ".weight_bytes");
    }
    CHECK(of_bytes == 4);
    const JsonDocument config = config_of(scratch / "mixed");
    CHECK(config_value(config, "format") == "\"mixed-precision\"");
    CHECK(config_value(config, "config_groups.group_0.format") == "\"nvfp4-pack-quantized\"");
    CHECK(config_value(config, "config_groups.group_0.targets").find("\"Linear\"") != std::string::npos);
    CHECK(config_value(config, "config_groups.group_1.format") == "\"bytes-packed\"");
    CHECK(config_value(config, "config_groups.group_1.targets").find("layers.1.self_attn.o_proj") != std::string::npos);

    mixed.formats = {{".*q_proj", &bytes_format}}; // k and v stay behind
    const Result<Plan> torn = plan_of(mixed);
    REQUIRE_FALSE(torn.ok());
    CHECK(torn.status().message().find("would be bytes and") != std::string::npos);
    CHECK(torn.status().message().find("give both one format") != std::string::npos);
}

TEST_CASE("input scales only where the module's format takes them") {
    const ScratchFolder scratch;
    RecipeOptions mixed = recipe_with(formats::nvfp4a16);
    mixed.formats = {{".*mlp.experts.*", &formats::nvfp4}};
    const Plan plan = plan_of(mixed).take();
    CHECK(plan.takes_input_scales());
    Statistics statistics;
    statistics.model_fingerprint = model_fingerprint(plan.checkpoint, plan.checkpoint.open_shards().take()).take();
    const ModelNames & names = *plan.layout.names;
    statistics.totals.set_names(&names);
    statistics.totals.set_layers(plan.layout.layer_count);
    for (int32_t layer = 0; layer < plan.layout.layer_count; layer++)
        for (int32_t input = 0; input < int32_t(names.inputs.size()); input++) {
            const StatisticKey key = {Part::text, layer, input, &Statistic::maximum};
            std::fill_n(statistics.totals.insert(key, {plan.layout.expert_count}).as<float>(), plan.layout.expert_count,
                        1.5f);
        }
    const auto tensors = quantized(mixed, scratch / "out", &statistics);
    size_t scales = 0;
    for (const auto & [name, tensor] : tensors) {
        if (!ends_with(name, ".input_global_scale")) continue;
        CHECK(name.find(".mlp.experts.") != std::string::npos);
        float scale = 0;
        memcpy(&scale, tensor.data.data(), sizeof scale);
        CHECK(scale == 1792);
        scales++;
    }
    CHECK(scales == 2 * 4 * 3);
}

TEST_CASE("a quantizer of its own: its scales, everything else as ever") {
    const ScratchFolder scratch;
    const Roomy roomy;
    RecipeOptions recipe = recipe_with(formats::nvfp4a16);
    const auto nearest = quantized(recipe, scratch / "nearest");
    recipe.quantizer = &roomy;
    const auto other = quantized(recipe, scratch / "roomy");
    size_t scales = 0;
    for (const auto & [name, tensor] : other) {
        const std::string & before = nearest.at(name).data;
        if (ends_with(name, ".weight_global_scale")) {
            float scale = 0, half = 0;
            memcpy(&scale, before.data(), sizeof scale);
            memcpy(&half, tensor.data.data(), sizeof half);
            CHECK(half * 2 == scale);
            scales++;
        } else if (!ends_with(name, ".weight_packed") && !ends_with(name, ".weight_scale")) {
            CHECK(tensor.data == before);
        }
    }
    CHECK(scales == plan_of(recipe).value().modules.size());
}

TEST_CASE("a quantizer that wants statistics which no run measures is refused") {
    const ScratchFolder scratch;
    const Demanding demanding;
    RecipeOptions recipe = recipe_with(formats::nvfp4a16);
    recipe.quantizer = &demanding;
    const Plan plan = plan_of(recipe).take();
    const auto threads = ThreadPool::create(1).take();
    QuantizeOptions options;
    options.destination = scratch / "out";
    const Result<QuantizeReport> report = quantize(plan, *threads, options);
    REQUIRE_FALSE(report.ok());
    CHECK(report.status().code() == Code::invalid_argument);
    CHECK(report.status().message().find("demanding") != std::string::npos);
    CHECK_FALSE(path_exists(scratch / "out"));
}

TEST_CASE("error figures: as a reference finds them, with the same bytes") {
    constexpr int64_t rows = 7, columns = 96;
    std::mt19937 random(5);
    std::normal_distribution<float> normal(0, 0.02f);
    std::vector<uint16_t> weights(size_t(rows * columns));
    for (uint16_t & weight : weights) weight = nvfp4::bf16_from_float(normal(random));
    const WeightRows source = {DType::bf16, weights.data(), rows, columns};
    for (const Format * const format : {&formats::nvfp4, &bytes_format}) {
        UnitMeasure measure;
        const Quantizer & quantizer = round_to_nearest();
        for (int64_t row = 0; row < rows; row++)
            quantizer.measure(best_instruction_set(), {DType::bf16, weights.data() + row * columns, 1, columns},
                              measure);
        // A scale for smaller weights: some saturate.
        measure.absolute_maximum /= format == &formats::nvfp4 ? 4 : 1;
        const UnitScale scale = quantizer.prepare(*format, DType::bf16, measure, {}).take();
        std::vector<uint8_t> plain(format->packed_bytes(rows, columns)), measured(plain.size());
        const auto at = [&](std::vector<uint8_t> & memory) {
            return PackedRows{
                rows, columns, {memory.data(), memory.data() + format->components[0].bytes(rows, columns)}};
        };
        ErrorFigures figures;
        REQUIRE(quantizer.pack(best_instruction_set(), *format, source, scale, at(plain), nullptr, nullptr).ok());
        REQUIRE(quantizer.pack(best_instruction_set(), *format, source, scale, at(measured), &figures, nullptr).ok());
        CHECK(plain == measured);
        std::vector<float> values(weights.size());
        format->unpack(best_instruction_set(), at(plain), scale.value, values.data());
        double errors = 0, squares = 0, largest = 0;
        for (size_t i = 0; i < values.size(); i++) {
            const double weight = nvfp4::bf16_to_float(weights[i]), error = std::fabs(double(values[i]) - weight);
            errors += error * error, squares += weight * weight, largest = std::max(largest, error);
        }
        CHECK(figures.elements == weights.size());
        CHECK(figures.error_squares == doctest::Approx(errors));
        CHECK(figures.largest_error == largest);
        CHECK(figures.sqnr_db() == doctest::Approx(10 * std::log10(squares / errors)));
        CHECK((figures.saturated > 0) == (format == &formats::nvfp4));
    }
}
