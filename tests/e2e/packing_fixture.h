// Quantizing with weights that are packed group by group by a backend and written in the background, as where a device
// computes; on the CPU's backend it needs none.
#pragma once

#include "formats/json.h"
#include "load_group.h"
#include "quantize/quantize_run.h"
#include "run/stage_runner.h"

#include <algorithm>
#include <cstring>
#include <string>
#include <vector>

namespace gnv::test {

struct PackingRun {
    const Plan & plan;
    std::string destination;
    DevicePacker::Size size; // no pieces: nothing is packed by the backend
    int threads = 2;
    // What the hook may do to the weights that are "on the device", before they are packed.
    std::function<void(WeightGroup & weights, uint8_t * memory)> damage = {};
    std::function<bool(const QuantizeProgress &)> progress = {};
    bool rest_beside = false;    // what no group holds is streamed beside the groups, else after them
    uint64_t packed_modules = 0; // filled: how many the backend could pack
    QuantizeReport report = {};  // filled
};

// All stages of a layer; -1: the embedding.
inline std::vector<Stage> stages_of(const TextModel & model, int32_t layer) {
    return layer < 0 ? std::vector<Stage>{Stage{StageKind::embed}} : model.block_stages(layer);
}

// Units whose weights the group holds as they are in the file, and that no group before took.
inline std::vector<uint32_t> take_units(const Plan & plan, const WeightGroup & group, std::vector<bool> & taken) {
    std::vector<uint32_t> units;
    for (uint32_t u = 0; u < plan.units.size(); u++) {
        const PlanUnit & unit = plan.units[u];
        const auto holds = [&](uint32_t m) {
            const LinearModule & linear = plan.linear(plan.modules[m]);
            return group.source_bytes(linear.source, linear.offset, plan.weight_bytes(linear)) != nullptr;
        };
        bool held = !taken[u];
        for (uint32_t m = unit.first; unit.quantize && m < unit.first + unit.count; m++) held = held && holds(m);
        if (!unit.quantize)
            held = held && group.source_bytes(plan.tensors[unit.first].source, 0, unit.source_bytes) != nullptr;
        if (!held) continue;
        taken[u] = true;
        units.push_back(u);
    }
    return units;
}

// Units of other parts of the model than the text: no group holds them.
inline std::vector<uint32_t> take_units_of_other_parts(const Plan & plan, std::vector<bool> & taken) {
    std::vector<bool> is_text(plan.checkpoint.tensors().size(), false);
    for (const ModelTensor & tensor : plan.layout.tensors) is_text[tensor.source] = tensor.part == Part::text;
    std::vector<uint32_t> units;
    for (uint32_t u = 0; u < plan.units.size(); u++) {
        const PlanUnit & unit = plan.units[u];
        if (is_text[unit.quantize ? plan.linear(plan.modules[unit.first]).source : plan.tensors[unit.first].source])
            continue;
        taken[u] = true;
        units.push_back(u);
    }
    return units;
}

inline Status pack_groups(PackingRun & run, const FolderFiles & shards, CheckpointWriter & writer, ThreadPool & threads,
                          QuantizeRun & quantize_run) {
    const Plan & plan = run.plan;
    GNV_ASSIGN(const JsonDocument config,
               JsonDocument::read(join_path(plan.checkpoint.folder(), "config.json"), 16 << 20));
    GNV_ASSIGN(const std::unique_ptr<TextModel> model, make_text_model(config.root()));
    GNV_ASSIGN(const WeightCatalog catalog, WeightCatalog::create(plan.layout, plan.checkpoint));
    const std::unique_ptr<Backend> backend = open_cpu(threads);
    std::unique_ptr<DevicePacker> packer;
    if (run.size.pieces > 0) {
        GNV_ASSIGN(packer, DevicePacker::create(*backend, plan, run.size));
    }
    HostMemory host_memory[2], device_memory; // two: the host's copy of one group stays while the next is loaded
    GNV_ASSIGN(GroupJobs jobs, GroupJobs::create(run.threads));
    std::vector<bool> taken(plan.units.size(), false);
    if (run.rest_beside) GNV_TRY(quantize_run.begin_rest(take_units_of_other_parts(plan, taken)));
    for (int32_t layer = -1; layer < int32_t(model->sizes().layers); layer++) {
        HostMemory & memory = host_memory[size_t(layer + 1) % 2];
        GNV_ASSIGN(WeightGroup host, WeightGroup::plan(catalog, weights_of(*model, stages_of(*model, layer))));
        GNV_ASSIGN(HostMemory loaded, backend->allocate_host(host.bytes()));
        GNV_TRY(load_group(host, catalog, shards, loaded.get(), threads));
        GNV_TRY(quantize_run.leave_host_memory(jobs, run.report)); // which the next group takes
        memory = std::move(loaded);
        GNV_ASSIGN(device_memory, backend->allocate_host(host.bytes()));
        memcpy(device_memory.get(), memory.get(), host.bytes());
        WeightGroup on_device = host.at(device_memory.get());
        if (run.damage) run.damage(on_device, static_cast<uint8_t *>(device_memory.get()));
        const std::vector<uint32_t> units = take_units(plan, host, taken);
        for (const uint32_t u : units)
            if (packer && packer->can_pack(plan.units[u], on_device)) run.packed_modules += plan.units[u].count;
        GNV_TRY(quantize_run.begin_group(units, host, {{&on_device, packer.get(), nullptr}}, jobs, run.report));
        memset(device_memory.get(), 0xff, host.bytes()); // the next group comes
    }
    GNV_TRY(quantize_run.finish_groups(jobs, run.report));
    if (run.rest_beside) GNV_TRY(quantize_run.finish_rest(threads, run.report));
    std::vector<uint32_t> others;
    for (uint32_t u = 0; u < taken.size(); u++)
        if (!taken[u]) others.push_back(u);
    GNV_TRY(quantize_run.stream(others, nullptr, threads, run.report));
    return writer.finish_tensors();
}

// Writes and publishes the tensors of a weights-only plan; other files of the folder are left out.
inline Status quantize_by_groups(PackingRun & run) {
    return guard_exceptions([&]() -> Status {
        GNV_ASSIGN(const std::unique_ptr<ThreadPool> threads, ThreadPool::create(run.threads));
        GNV_ASSIGN(const FolderFiles shards, run.plan.checkpoint.open_shards());
        const CheckpointWriter::Options writer_options{run.plan.destination(run.destination, false),
                                                       run.plan.plan_fingerprint, run.plan.source_fingerprint};
        GNV_ASSIGN(const std::unique_ptr<CheckpointWriter> writer,
                   CheckpointWriter::create(run.plan.output, writer_options));
        QuantizeOptions options;
        options.destination = run.destination;
        options.progress = run.progress;
        QuantizeRun quantize_run(run.plan, options, shards, *writer, threads->instructions(), nullptr);
        GNV_TRY(pack_groups(run, shards, *writer, *threads, quantize_run));
        return writer->publish(run.plan.config_text);
    });
}

} // namespace gnv::test
