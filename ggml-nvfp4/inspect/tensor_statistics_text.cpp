#include "inspect/inspect_text.h"

#include "codec/nvfp4.h"
#include "core/table.h"
#include "formats/json_writer.h"

#include <numeric>

namespace gnv {

static double share(uint64_t count, uint64_t of) { return of == 0 ? 0 : 100 * double(count) / double(of); }

static std::string describe(const Contents & contents, const WeightStatistics & weight) {
    if (weight.module >= 0) {
        const QuantizedModule & module = contents.modules()[size_t(weight.module)];
        return concat(module.scheme(), " ", shape_text({module.rows, module.columns}), ", named as ",
                      module.naming->producer, " does; the values are dequantized");
    }
    const TensorInfo & tensor = contents.tensor(uint64_t(weight.tensor));
    return concat(dtype_name(tensor.dtype), " ", shape_text(tensor.shape), ", ", count_text(tensor.bytes), " bytes at ",
                  tensor.offset, " of ", printable(contents.checkpoint().shards()[tensor.shard].file_name));
}

static uint64_t role_tensor(const Contents & contents, const WeightStatistics & weight) {
    return weight.tensor >= 0 ? uint64_t(weight.tensor) : contents.modules()[size_t(weight.module)].codes();
}

static std::string counted(uint64_t count, uint64_t of) {
    return concat(count_text(count), " (", number_text(share(count, of), 3), " %)");
}

std::string statistics_text(const Contents & contents, const WeightStatistics & weight) {
    const Statistics & s = weight.values;
    std::vector<std::vector<std::string>> rows = {
        {"  stored as", describe(contents, weight)},
        {"  role", contents.role_name(role_tensor(contents, weight))},
        {"  elements", count_text(s.elements)},
        {"  minimum", number_text(s.minimum, 9)},
        {"  maximum", number_text(s.maximum, 9)},
        {"  largest magnitude", number_text(s.largest, 9)},
        {"  mean", number_text(s.mean, 9)},
        {"  standard deviation", number_text(s.deviation, 9)},
        {"  zeros", counted(s.zeros, s.elements)},
        {"  NaN, Inf", s.first_not_finite < 0 ? "none"
                                              : concat(count_text(s.nans), ", ", count_text(s.infinities),
                                                       "; the first is element ", s.first_not_finite)},
    };
    if (weight.global_scale) rows.push_back({"  global scale", number_text(double(*weight.global_scale), 9)});
    if (weight.input_scale) rows.push_back({"  input scale", number_text(double(*weight.input_scale), 9)});
    if (weight.block_scales) {
        const BlockScaleStatistics & b = *weight.block_scales;
        rows.push_back({"  block scales", concat(number_text(b.minimum), " to ", number_text(b.maximum))});
        rows.push_back(
            {"", concat(count_text(b.zeros), " zero, ", count_text(b.subnormals), " subnormal, ", count_text(b.largest),
                        " largest, ", count_text(b.nans), " NaN, ", count_text(b.negatives), " negative")});
    }
    std::string out = printable(weight.name) + "\n" + format_table(rows, {false, false});
    if (weight.codes) {
        const uint64_t all = std::accumulate(weight.codes->begin(), weight.codes->end(), uint64_t(0));
        std::vector<std::vector<std::string>> table = {{"  code", "value", "count", "%"}};
        for (uint8_t code = 0; code < 16; code++)
            table.push_back({concat("  ", int(code)), number_text(double(nvfp4::e2m1_value(code))),
                             count_text((*weight.codes)[code]), number_text(share((*weight.codes)[code], all), 3)});
        out += format_table(table, {true, true, true, true});
    }
    return out;
}

std::string statistics_json(const Contents & contents, const WeightStatistics & weight) {
    const Statistics & s = weight.values;
    JsonWriter json(JsonWriter::Form::indented);
    json.begin_object().member("schema", "ggml-nvfp4.inspect.1").member("kind", "statistics");
    json.member("folder", contents.checkpoint().folder()).member("name", weight.name);
    json.member("role", contents.role_name(role_tensor(contents, weight))).member("elements", s.elements);
    json.member("zeros", s.zeros).member("nans", s.nans).member("infinities", s.infinities);
    json.member("first_not_finite", s.first_not_finite).member("minimum", s.minimum).member("maximum", s.maximum);
    json.member("largest_magnitude", s.largest).member("mean", s.mean).member("standard_deviation", s.deviation);
    if (weight.tensor >= 0) {
        json.member("dtype", dtype_name(contents.tensor(uint64_t(weight.tensor)).dtype));
        json.member("shape", contents.tensor(uint64_t(weight.tensor)).shape);
    } else {
        const QuantizedModule & module = contents.modules()[size_t(weight.module)];
        json.member("scheme", module.scheme()).member("naming", module.naming->producer);
        json.member("shape", std::vector<int64_t>{module.rows, module.columns});
    }
    if (weight.global_scale) json.member("global_scale", double(*weight.global_scale));
    if (weight.input_scale) json.member("input_scale", double(*weight.input_scale));
    if (weight.block_scales) {
        const BlockScaleStatistics & b = *weight.block_scales;
        json.key("block_scales").begin_object().member("minimum", b.minimum).member("maximum", b.maximum);
        json.member("zeros", b.zeros).member("subnormals", b.subnormals).member("largest", b.largest);
        json.member("nans", b.nans).member("negatives", b.negatives).end_object();
    }
    if (weight.codes) json.member("codes", std::vector<uint64_t>(weight.codes->begin(), weight.codes->end()));
    return json.end_object().take() + "\n";
}

} // namespace gnv
