// The plan of a forward pass, for people and for programs.
#include "core/strings.h"
#include "core/table.h"
#include "formats/json_writer.h"
#include "pass/pass_plan.h"

#include <algorithm>

namespace gnv {

namespace {

struct Kind {
    const char *name, *key;
};
constexpr Kind kinds[] = {
    {"weights", "weights"},       {"activations", "activations"},   {"hidden states", "hidden_states"},
    {"inputs", "inputs"},         {"statistics", "statistics"},     {"logits", "logits"},
    {"packed weights", "packed"}, {"driver, libraries", "context"},
};

constexpr Kind kinds_of_some[] = {{"pictures", "pictures"}, {"search for scales", "search"}};

// The number of ranges of a block's experts.
size_t expert_parts(const PassPlan & plan) {
    size_t most = 1, parts = 0;
    for (const PassGroup & group : plan.groups) {
        parts = group.stages.front().kind == StageKind::experts ? parts + 1 : 0;
        most = std::max(most, parts);
    }
    return most;
}

void write_memory(JsonWriter & json, const Budget & memory) {
    for (const Kind & kind : kinds) json.member(kind.key, memory.reserved(kind.name));
    for (const Kind & kind : kinds_of_some)
        if (memory.reserved(kind.name) > 0) json.member(kind.key, memory.reserved(kind.name));
    json.member("total", memory.used()).member("budget", memory.total());
}

} // namespace

std::string pass_plan_text(const PassPlan & plan, const Device & device) {
    static const char * const places[] = {"on the device", "in host memory", "in a scratch file"};
    const size_t parts = expert_parts(plan);
    std::string out = format_table(
        {{"forward pass", concat(count_text(uint64_t(plan.store.positions)), " positions on ",
                                 plan.lanes.size() > 1 ? concat(plan.lanes.size(), " x ") : "", device.name, " in ",
                                 count_text(plan.batches.size()), plan.batches.size() == 1 ? " batch" : " batches",
                                 " of at most ", count_text(uint64_t(plan.largest_batch)))},
         {"weights", concat(count_text(plan.groups.size()), " groups, one at a time",
                            plan.weight_buffers < 2 ? ""
                            : plan.uses_device()    ? ", the next copied while one computes"
                                                    : ", the next read while one computes",
                            parts > 1 ? concat("; experts of a block in ", parts, " parts") : "")},
         {"hidden states", places[size_t(plan.store_place)]},
         {"state", plan.state_bytes == 0 ? "not saved"
                                         : concat(bytes_text(plan.state_bytes),
                                                  " of disk beside the result, to go on with after a stop")}},
        {false, false});
    std::vector<BudgetColumn> columns = {{"host", plan.host}};
    if (plan.uses_device()) columns.push_back({plan.lanes.size() > 1 ? "each device" : "device", plan.device});
    std::vector<std::vector<std::string>> before;
    if (plan.reading_bytes > 0) before = {{"before, to read data", bytes_text(plan.reading_bytes)}};
    return out + "\n" + budget_table(columns, before);
}

std::string pass_plan_json(const PassPlan & plan, const Device & device) {
    JsonWriter json;
    json.begin_object().member("positions", plan.store.positions).member("batches", plan.batches.size());
    json.member("largest_batch", plan.largest_batch).member("groups", plan.groups.size());
    json.member("weight_buffers", plan.weight_buffers).member("expert_parts", expert_parts(plan));
    json.member("hidden_states", place_name(plan.store_place)).member("reading_bytes", plan.reading_bytes);
    json.member("state_bytes", plan.state_bytes).member("devices", plan.lanes.size());
    json.key("host").begin_object();
    write_memory(json, plan.host);
    json.end_object().key("device");
    if (plan.uses_device()) {
        json.begin_object().member("name", device.name);
        write_memory(json, plan.device);
        json.end_object();
    } else {
        json.value(nullptr);
    }
    return json.end_object().take();
}

} // namespace gnv
