#include "inspect/inspect_text.h"

#include "core/table.h"
#include "formats/json_writer.h"

#include <map>
#include <tuple>

namespace gnv {

namespace {

// All weights of a role with one form of storage. A quantized weight counts once, with all its tensors' bytes.
struct SummaryRow {
    std::string role, stored_as;
    uint64_t weights = 0, parameters = 0, bytes = 0;
};

// By part and role in the order of the model, then by form of storage.
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

    std::string out = concat(printable_line(checkpoint.folder()), ": ", count_text(checkpoint.tensors().size()),
                             " tensors, ", count_text(contents.modules().size()), " quantized weights, ",
                             checkpoint.shards().size(), checkpoint.shards().size() == 1 ? " file, " : " files, ",
                             count_text(checkpoint.tensor_bytes()), " bytes\n\n");
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
    for (const std::string & note : contents.notes()) out += "note: " + printable_line(note) + "\n";
    return printable_text(out);
}

Result<std::string> contents_json(const Contents & contents, const Pattern * filter) {
    GNV_ASSIGN(const std::vector<uint64_t> selected, select(contents, filter));
    const Checkpoint & checkpoint = contents.checkpoint();
    Summary summary;
    for (const uint64_t t : selected) add_tensor(summary, contents, t);

    JsonWriter json;
    json.begin_object().member("schema", "ggml-nvfp4.inspect.1").member("kind", "contents");
    json.member("folder", checkpoint.folder()).member("tensor_count", checkpoint.tensors().size());
    json.member("tensor_bytes", checkpoint.tensor_bytes()).member("module_count", contents.modules().size());
    json.key("shards").begin_array();
    for (const Shard & shard : checkpoint.shards())
        json.begin_object().member("file", shard.file_name).member("bytes", shard.stamp.size).end_object();
    json.end_array().member("notes", contents.notes());
    json.key("roles").begin_array();
    for (const auto & [key, row] : summary) {
        json.begin_object().member("role", row.role).member("stored_as", row.stored_as).member("weights", row.weights);
        json.member("parameters", row.parameters).member("bytes", row.bytes).end_object();
    }
    json.end_array();
    json.key("modules").begin_array();
    for (const uint64_t t : selected) {
        const Contents::Use & use = contents.use(t);
        if (use.module_part != ModulePart::codes) continue;
        const QuantizedModule & module = contents.modules()[size_t(use.module)];
        json.begin_object().member("name", module.name).member("role", contents.role_name(t));
        json.member("scheme", module.scheme()).member("naming", module.naming->producer);
        json.member("shape", std::vector<int64_t>{module.rows, module.columns}).end_object();
    }
    json.end_array();
    json.key("tensors").begin_array();
    for (const uint64_t t : selected) {
        const TensorInfo & tensor = contents.tensor(t);
        const Contents::Use & use = contents.use(t);
        json.begin_object().member("name", tensor.name).member("role", contents.role_name(t));
        json.member("dtype", dtype_name(tensor.dtype)).member("shape", tensor.shape).member("file", tensor.shard);
        json.member("offset", tensor.offset).member("bytes", tensor.bytes);
        if (use.module >= 0)
            json.member("module", contents.modules()[size_t(use.module)].name)
                .member("part", module_part_name(use.module_part));
        json.end_object();
    }
    return json.end_array().end_object().take() + "\n";
}

} // namespace gnv
