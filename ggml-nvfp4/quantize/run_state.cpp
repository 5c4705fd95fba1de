#include "quantize/run_state.h"

#include "core/sha256.h"
#include "model/fingerprint.h"

#include <algorithm>
#include <cstring>

namespace gnv {

// --- Identity -----------------------------------------------------------------------------------------------------------------

static std::string rules_of(const Plan & plan) {
    std::string rules;
    for (size_t r = 0; r < plan.recipe.rules().size(); r++) rules += plan.recipe.describe_rule(int(r)) + "\n";
    return sha256_hex(rules.data(), rules.size());
}

Result<RunIdentity> run_identity(const Plan & plan, const FolderFiles & shards, const QuantizeOptions & options,
                                 const Device * device) {
    GNV_ASSIGN(const std::string weights, model_fingerprint(plan.checkpoint, shards));
    RunIdentity identity = {
        {"version", GNV_VERSION_STRING},
        {"source", plan.source_fingerprint},
        {"small weights", weights},
        {"scheme", plan.options.recipe.scheme->name},
        {"preset", preset_name(plan.options.recipe.preset)},
        {"method", plan.quantizer().name()},
        {"headroom", concat(double(plan.options.recipe.headroom))},
        {"rules", rules_of(plan)},
        {"shard size", concat(plan.options.shard_bytes)},
        {"plan", plan.plan_fingerprint},
        {"draft head", plan.options.recipe.draft_head ? plan.options.recipe.draft_head->name : ""},
    };
    if (options.calibration) {
        identity.emplace_back("data", options.calibration->sha256);
        identity.emplace_back("precision", precision_name(options.precision));
        identity.emplace_back("experts", expert_tokens_name(options.expert_tokens));
        // Devices of other kinds round differently.
        identity.emplace_back("device", device && device->has_own_memory() ? device->name : "cpu");
    }
    if (options.statistics) {
        GNV_ASSIGN(const std::string text, statistics_json(*options.statistics));
        identity.emplace_back("statistics", sha256_hex(text.data(), text.size()));
    }
    identity.emplace_back("input scales", options.calibration  ? "measured"
                                          : options.statistics ? "of statistics"
                                                               : "none");
    return identity;
}

// --- Counts for the report ----------------------------------------------------------------------------------------------------

// Of the numbers of one layer and role, as pack_choices() writes them.
static constexpr uint64_t choice_bytes = (2 + method_count + 2) * sizeof(uint64_t);

static uint64_t most_tail_bytes(const Plan & plan) {
    return uint64_t(plan.layout.layer_count + 1) * uint64_t(Role::count_) * choice_bytes;
}

uint64_t RunState::disk_bytes(const Plan & plan, const LayerPass & pass) {
    return PassState::disk_bytes(pass, most_tail_bytes(plan));
}

static std::string pack_choices(const LayerChoices & choices) {
    std::string bytes;
    const auto put = [&](uint64_t value) { bytes.append(reinterpret_cast<const char *>(&value), sizeof value); };
    for (const auto & [place, choice] : choices) {
        put(uint64_t(int64_t(place.first)));
        put(uint64_t(place.second));
        for (const uint64_t rows : choice.rows) put(rows);
        put(choice.judged);
        put(choice.error_parts);
    }
    return bytes;
}

static LayerChoices unpack_choices(std::string_view bytes) {
    LayerChoices choices;
    size_t at = 0;
    const auto get = [&] {
        uint64_t value = 0;
        memcpy(&value, bytes.data() + at, sizeof value);
        at += sizeof value;
        return value;
    };
    while (at + choice_bytes <= bytes.size()) {
        const auto layer = int32_t(get());
        const auto role = Role(get());
        MethodChoices & choice = choices[{layer, role}];
        for (uint64_t & rows : choice.rows) rows = get();
        choice.judged = get();
        choice.error_parts = get();
    }
    return choices;
}

// --- The state ----------------------------------------------------------------------------------------------------------------

RunState::RunState(const Plan & plan, Calibration & calibration, CheckpointWriter & writer, Resume resume)
    : plan_(plan), writer_(writer), bytes_(disk_bytes(plan, calibration.pass())),
      state_(calibration.pass(), most_tail_bytes(plan), resume, "begin anew without it (--no-resume --overwrite)") {}

Status RunState::open() {
    GNV_ASSIGN(const File * const file, writer_.state_file(bytes_));
    return state_.open(*file, writer_.state(), [this](const StateRecord & record) -> Status {
        if (!plan_.quantizer().needs().empty()) GNV_TRY(writer_.settle());
        return writer_.record_state(record);
    });
}

Status RunState::restore(LayerChoices & choices) {
    GNV_ASSIGN(const std::string own, state_.restore());
    choices = unpack_choices(own);
    return {};
}

Status RunState::save_if_due(int32_t layers, const std::function<Result<LayerChoices>()> & finish, Trace & trace) {
    const auto own = [&]() -> Result<std::string> {
        GNV_ASSIGN(const LayerChoices choices, finish());
        return pack_choices(choices);
    };
    return state_.save_if_due(layers, own, &trace);
}

} // namespace gnv
