// The plan of a forward pass, for people and for programs.
#include "core/strings.h"
#include "core/table.h"
#include "formats/json_writer.h"
#include "run/text_pass.h"

#include <algorithm>

namespace gnv {

namespace {

struct Kind {
    const char *name, *key;
    uint64_t PassMemory::*bytes;
};
constexpr Kind kinds[] = {
    {"weights", "weights", &PassMemory::weights},
    {"activations", "activations", &PassMemory::activations},
    {"hidden states", "hidden_states", &PassMemory::hidden_states},
    {"inputs", "inputs", &PassMemory::inputs},
    {"statistics", "statistics", &PassMemory::statistics},
    {"logits", "logits", &PassMemory::logits},
    {"packed weights", "packed", &PassMemory::packed},
    {"driver, libraries", "context", &PassMemory::context},
};

bool is_remote(const PassPlan & plan) { return plan.device.total() > 0; }

// Parts that the experts of a block are cut into.
size_t expert_parts(const PassPlan & plan) {
    size_t most = 1, parts = 0;
    for (const PassGroup & group : plan.groups) {
        parts = group.stages.front().kind == StageKind::experts ? parts + 1 : 0;
        most = std::max(most, parts);
    }
    return most;
}

void write_memory(JsonWriter & json, const PassMemory & memory, uint64_t budget) {
    for (const Kind & kind : kinds) json.member(kind.key, memory.*kind.bytes);
    json.member("total", memory.total()).member("budget", budget);
}

} // namespace

std::string pass_plan_text(const PassPlan & plan, const Device & device) {
    static const char * const places[] = {"on the device", "in host memory", "in a scratch file"};
    const size_t parts = expert_parts(plan);
    std::string out = format_table(
        {{"forward pass", concat(count_text(uint64_t(plan.store.positions)), " positions on ", device.name, " in ",
                                 count_text(plan.batches.size()), plan.batches.size() == 1 ? " batch" : " batches",
                                 " of at most ", count_text(uint64_t(plan.largest_batch)))},
         {"weights", concat(count_text(plan.groups.size()), " groups, one at a time",
                            plan.weight_buffers > 1 ? ", the next copied while one computes" : "",
                            parts > 1 ? concat("; experts of a block in ", parts, " parts") : "")},
         {"hidden states", places[size_t(plan.store_place)]}},
        {false, false});
    std::vector<std::vector<std::string>> rows = {{"memory", "host"}};
    if (is_remote(plan)) rows[0].push_back("device");
    const auto add = [&](const char * name, uint64_t on_host, uint64_t on_device) {
        rows.push_back({name, bytes_text(on_host)});
        if (is_remote(plan)) rows.back().push_back(bytes_text(on_device));
    };
    for (const Kind & kind : kinds)
        if (plan.host.*kind.bytes + plan.device.*kind.bytes > 0)
            add(kind.name, plan.host.*kind.bytes, plan.device.*kind.bytes);
    add("together", plan.host.total(), plan.device.total());
    add("budget", plan.host_budget, plan.device_budget);
    if (plan.reading_bytes > 0) add("before, to read data", plan.reading_bytes, 0);
    return out + "\n" + format_table(rows, {false, true, true});
}

std::string pass_plan_json(const PassPlan & plan, const Device & device) {
    JsonWriter json;
    json.begin_object().member("positions", plan.store.positions).member("batches", plan.batches.size());
    json.member("largest_batch", plan.largest_batch).member("groups", plan.groups.size());
    json.member("weight_buffers", plan.weight_buffers).member("expert_parts", expert_parts(plan));
    json.member("hidden_states", place_name(plan.store_place)).member("reading_bytes", plan.reading_bytes);
    json.key("host").begin_object();
    write_memory(json, plan.host, plan.host_budget);
    json.end_object().key("device");
    if (is_remote(plan)) {
        json.begin_object().member("name", device.name);
        write_memory(json, plan.device, plan.device_budget);
        json.end_object();
    } else {
        json.value(nullptr);
    }
    return json.end_object().take();
}

} // namespace gnv
