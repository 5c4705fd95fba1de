#include "quantize/packing/source_reads.h"

#include "formats/json_writer.h"

#include <map>

namespace gnv {

void SourceReads::add(uint32_t shard, uint64_t bytes) {
    const std::string & file = plan_.checkpoint.shards()[shard].file_name;
    if (list_.empty() || list_.back().file != file) list_.push_back({file, 0});
    list_.back().bytes += bytes;
}

void SourceReads::add_module(const PlanModule & module, const WeightGroup * resident) {
    const LinearModule & linear = plan_.linear(module);
    const uint64_t bytes = plan_.weight_bytes(linear);
    if (!resident || !resident->holds(uint32_t(linear.source), linear.offset, bytes))
        add(plan_.source_of(linear).shard, bytes);
}

void SourceReads::add_units(const std::vector<uint32_t> & units, const WeightGroup * resident) {
    for (const uint32_t u : units) {
        const PlanUnit & unit = plan_.units[u];
        if (!unit.quantize) {
            const uint32_t source = plan_.tensors[unit.first].source;
            if (!resident || !resident->holds(source, 0, unit.source_bytes))
                add(plan_.checkpoint.tensors()[source].shard, unit.source_bytes);
            continue;
        }
        for (int turn = 0; turn < (unit.read_twice ? 2 : 1); turn++)
            for (uint32_t m = unit.first; m < unit.first + unit.count; m++) add_module(plan_.modules[m], resident);
    }
}

// A group is read file by file (run/weight_stream.h).
void SourceReads::add_group(const WeightGroup & group) {
    std::map<uint32_t, uint64_t> bytes;
    for (const WeightGroup::Read & read : group.reads())
        bytes[plan_.checkpoint.tensors()[read.piece.tensor].shard] += read.piece.bytes;
    for (const auto & [shard, sum] : bytes) add(shard, sum);
}

void SourceReads::add_part(Part part) {
    for (const ModelTensor & tensor : plan_.layout.tensors)
        if (tensor.part == part) {
            const TensorInfo & source = plan_.checkpoint.tensors()[tensor.source];
            add(source.shard, source.bytes);
        }
}

void describe_streaming(Plan & plan, const SourceReads & reads) {
    const FetchedFiles * const fetched = plan.checkpoint.files().fetched();
    if (!fetched) return;
    const FetchPlan fetch = fetched->plan(reads.list());
    plan.stream_text =
        concat("fetches ", fetch.files, fetch.files == 1 ? " file, " : " files, ", bytes_text(fetch.bytes),
               fetch.again > 0 ? concat(", ", fetch.again, " of them again") : "", "; at most ",
               bytes_text(fetch.disk_bytes), " on the disk at a time");
    JsonWriter json;
    json.begin_object().member("files", fetch.files).member("bytes", fetch.bytes).member("again", fetch.again);
    plan.stream_json = json.member("disk_bytes", fetch.disk_bytes).end_object().take();
}

} // namespace gnv
