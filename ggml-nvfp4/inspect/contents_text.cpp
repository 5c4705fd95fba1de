#include "inspect/inspect_text.h"

#include "core/table.h"

#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <tuple>

namespace gnv {

using Json = nlohmann::ordered_json;

std::string number_text(double value, int digits) {
    char text[40];
    snprintf(text, sizeof text, "%.*g", digits, value);
    return text;
}

namespace {

// All weights of a role that are stored in the same way. A quantized weight counts once, with all its tensors' bytes.
struct SummaryRow {
    std::string role, stored_as;
    uint64_t weights = 0, parameters = 0, bytes = 0;
};

// By part and role in the order of the model, then by how they are stored.
using Summary = std::map<std::tuple<Part, Role, std::string>, SummaryRow>;

void add_tensor(Summary & summary, const Contents & contents, uint64_t t) {
    const Contents::Use & use = contents.use(t);
    const TensorInfo & tensor = contents.tensor(t);
    const QuantizedModule * module = use.module >= 0 ? &contents.modules()[size_t(use.module)] : nullptr;
    const std::string stored_as = module ? module->scheme() : dtype_name(tensor.dtype);
    SummaryRow & row = summary[{use.part, use.role, stored_as}];
    row.role = contents.role_name(t);
    row.stored_as = stored_as;
    row.bytes += tensor.bytes;
    if (module && use.module_part != ModulePart::codes) return;
    row.weights++;
    row.parameters += uint64_t(module ? module->rows * module->columns : tensor.elements());
}

// Positions of the tensors to show.
Result<std::vector<uint64_t>> select(const Contents & contents, const Pattern * filter) {
    std::vector<uint64_t> selected;
    for (uint64_t t = 0; t < contents.checkpoint().tensors().size(); t++) {
        bool wanted = !filter;
        if (filter) {
            GNV_ASSIGN(wanted, filter->matches(contents.tensor(t).name));
        }
        if (!wanted && contents.use(t).module >= 0) {
            GNV_ASSIGN(wanted, filter->matches(contents.modules()[size_t(contents.use(t).module)].name));
        }
        if (wanted) selected.push_back(t);
    }
    return selected;
}

std::string list_tensors_text(const Contents & contents, const std::vector<uint64_t> & selected) {
    std::vector<std::vector<std::string>> rows = {{"tensor", "role", "dtype", "shape", "bytes", "file", "part of"}};
    for (const uint64_t t : selected) {
        const TensorInfo & tensor = contents.tensor(t);
        const Contents::Use & use = contents.use(t);
        rows.push_back(
            {printable(tensor.name), contents.role_name(t), dtype_name(tensor.dtype), shape_text(tensor.shape),
             count_text(tensor.bytes), printable(contents.checkpoint().shards()[tensor.shard].file_name),
             use.module < 0
                 ? ""
                 : concat(contents.modules()[size_t(use.module)].scheme(), ": ", module_part_name(use.module_part))});
    }
    return format_table(rows, {false, false, false, false, true, false, false});
}

} // namespace

Result<std::string> contents_text(const Contents & contents, const Pattern * filter, bool list) {
    GNV_ASSIGN(const std::vector<uint64_t> selected, select(contents, filter));
    const Checkpoint & checkpoint = contents.checkpoint();
    Summary summary;
    SummaryRow total = {"total", "", 0, 0, 0};
    for (const uint64_t t : selected) add_tensor(summary, contents, t);

    std::string out = concat(checkpoint.folder(), ": ", count_text(checkpoint.tensors().size()), " tensors, ",
                             count_text(contents.modules().size()), " quantized weights, ", checkpoint.shards().size(),
                             " files, ", count_text(checkpoint.tensor_bytes()), " bytes\n\n");
    std::vector<std::vector<std::string>> rows = {{"role", "weights", "stored as", "parameters", "bytes", "bits each"}};
    const auto add_row = [&](const SummaryRow & row) {
        const double bits = row.parameters ? double(row.bytes) * 8 / double(row.parameters) : 0;
        rows.push_back({row.role, count_text(row.weights), row.stored_as, count_text(row.parameters),
                        bytes_text(row.bytes), number_text(bits, 4)});
    };
    for (const auto & [key, row] : summary) {
        add_row(row);
        total.weights += row.weights, total.parameters += row.parameters, total.bytes += row.bytes;
    }
    add_row(total);
    out += format_table(rows, {false, true, false, true, true, true});
    if (list) out += "\n" + list_tensors_text(contents, selected);
    for (const std::string & note : contents.notes()) out += "note: " + note + "\n";
    return out;
}

// Entries are turned into text one by one: a document of 124,000 tensors never exists as a tree.
Result<std::string> contents_json(const Contents & contents, const Pattern * filter) {
    GNV_ASSIGN(const std::vector<uint64_t> selected, select(contents, filter));
    const Checkpoint & checkpoint = contents.checkpoint();
    constexpr auto replace = Json::error_handler_t::replace; // file names may be anything
    const auto text_of = [&](const Json & json) { return json.dump(-1, ' ', false, replace); };

    Summary summary;
    for (const uint64_t t : selected) add_tensor(summary, contents, t);
    Json shards = Json::array(), roles = Json::array();
    for (const Shard & shard : checkpoint.shards())
        shards.push_back({{"file", shard.file_name}, {"bytes", shard.stamp.size}});
    for (const auto & [key, row] : summary)
        roles.push_back({{"role", row.role},
                         {"stored_as", row.stored_as},
                         {"weights", row.weights},
                         {"parameters", row.parameters},
                         {"bytes", row.bytes}});
    std::string out =
        concat("{\"schema\":\"ggml-nvfp4.inspect.1\",\"kind\":\"contents\",\n\"folder\":", text_of(checkpoint.folder()),
               ",\"tensor_count\":", checkpoint.tensors().size(), ",\"tensor_bytes\":", checkpoint.tensor_bytes(),
               ",\"module_count\":", contents.modules().size(), ",\n\"shards\":", text_of(shards),
               ",\n\"notes\":", text_of(contents.notes()), ",\n\"roles\":", text_of(roles), ",\n\"modules\":[");
    for (const uint64_t t : selected) {
        const Contents::Use & use = contents.use(t);
        if (use.module_part != ModulePart::codes) continue;
        const QuantizedModule & module = contents.modules()[size_t(use.module)];
        out += concat(out.back() == '[' ? "\n" : ",\n", text_of({{"name", module.name},
                                                                 {"role", contents.role_name(t)},
                                                                 {"scheme", module.scheme()},
                                                                 {"naming", module.naming->producer},
                                                                 {"shape", {module.rows, module.columns}}}));
    }
    out += "],\n\"tensors\":[";
    for (const uint64_t t : selected) {
        const TensorInfo & tensor = contents.tensor(t);
        const Contents::Use & use = contents.use(t);
        Json entry = {{"name", tensor.name},   {"role", contents.role_name(t)}, {"dtype", dtype_name(tensor.dtype)},
                      {"shape", tensor.shape}, {"file", tensor.shard},          {"offset", tensor.offset},
                      {"bytes", tensor.bytes}};
        if (use.module >= 0) {
            entry["module"] = contents.modules()[size_t(use.module)].name;
            entry["part"] = module_part_name(use.module_part);
        }
        out += concat(out.back() == '[' ? "\n" : ",\n", text_of(entry));
    }
    return out + "]}\n";
}

} // namespace gnv
