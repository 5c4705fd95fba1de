#include "inspect/inspect_text.h"

#include "core/table.h"
#include "formats/nvfp4.h"

#include <nlohmann/json.hpp>
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
    return weight.tensor >= 0 ? uint64_t(weight.tensor) : contents.modules()[size_t(weight.module)].codes;
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
    nlohmann::ordered_json json = {
        {"schema", "ggml-nvfp4.inspect.1"},
        {"kind", "statistics"},
        {"folder", contents.checkpoint().folder()},
        {"name", weight.name},
        {"role", contents.role_name(role_tensor(contents, weight))},
        {"elements", s.elements},
        {"zeros", s.zeros},
        {"nans", s.nans},
        {"infinities", s.infinities},
        {"first_not_finite", s.first_not_finite},
        {"minimum", s.minimum},
        {"maximum", s.maximum},
        {"largest_magnitude", s.largest},
        {"mean", s.mean},
        {"standard_deviation", s.deviation},
    };
    if (weight.tensor >= 0) {
        json["dtype"] = dtype_name(contents.tensor(uint64_t(weight.tensor)).dtype);
        json["shape"] = contents.tensor(uint64_t(weight.tensor)).shape;
    } else {
        const QuantizedModule & module = contents.modules()[size_t(weight.module)];
        json["scheme"] = module.scheme();
        json["naming"] = module.naming->producer;
        json["shape"] = {module.rows, module.columns};
    }
    if (weight.global_scale) json["global_scale"] = *weight.global_scale;
    if (weight.input_scale) json["input_scale"] = *weight.input_scale;
    if (weight.block_scales) {
        const BlockScaleStatistics & b = *weight.block_scales;
        json["block_scales"] = {{"minimum", b.minimum},       {"maximum", b.maximum}, {"zeros", b.zeros},
                                {"subnormals", b.subnormals}, {"largest", b.largest}, {"nans", b.nans},
                                {"negatives", b.negatives}};
    }
    if (weight.codes) json["codes"] = *weight.codes;
    return json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
}

} // namespace gnv
