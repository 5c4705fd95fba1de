#include "quantize/run_state.h"

#include "core/checksum.h"
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

// --- Places -------------------------------------------------------------------------------------------------------------------

// Of the numbers of one layer and role, as save() writes them.
static constexpr uint64_t choice_bytes = (2 + method_count + 2) * sizeof(uint64_t);

static uint64_t most_tail_bytes(const Plan & plan) {
    return uint64_t(plan.layout.layer_count + 1) * uint64_t(Role::count_) * choice_bytes;
}

static uint64_t place_bytes(const Plan & plan, const LayerPass & pass) {
    const uint64_t bytes = pass.row_bytes() + pass.requested_statistics().kept_bytes() + most_tail_bytes(plan);
    return (bytes + 4095) / 4096 * 4096;
}

uint64_t RunState::disk_bytes(const Plan & plan, const LayerPass & pass) { return 2 * place_bytes(plan, pass); }

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

// --- The file -----------------------------------------------------------------------------------------------------------------

Status RunState::open() {
    found_ = writer_.state();
    const uint64_t each = place_bytes(plan_, calibration_.pass());
    GNV_ASSIGN(file_, writer_.state_file(2 * each));
    constexpr double slow_disk = 200e6; // bytes a second, until it is known
    expected_ = 0.01 + double(calibration_.pass().row_bytes()) / slow_disk;
    if (!found_) return {};
    next_place_ = 1 - found_->place;
    const bool fits = (found_->place == 0 || found_->place == 1) && found_->layers > 0 &&
                      found_->layers < plan_.layout.layer_count &&
                      calibration_.pass().row_bytes() + found_->tail_bytes <= each;
    if (fits) return {};
    return fail(Code::format, writer_.partial_folder(),
                "/journal: its state is of another run: begin anew without it (--no-resume --overwrite)");
}

Status RunState::restore(LayerChoices & choices) {
    uint64_t at = uint64_t(found_->place) * place_bytes(plan_, calibration_.pass());
    Checksum sum;
    const auto read = [&](void * to, uint64_t bytes) -> Status {
        GNV_TRY(file_->read(to, bytes, at));
        sum.add(to, bytes);
        at += bytes;
        return {};
    };
    GNV_TRY(calibration_.pass().restore_rows(read));
    std::string tail(found_->tail_bytes, '\0');
    GNV_TRY(read(tail.data(), tail.size()));
    const std::string now = calibration_.pass().statistics(0).packed();
    if (sum.finish() != found_->checksum || tail.size() < now.size())
        return fail(Code::format, file_->path(), ": the state after layer ", found_->layers - 1,
                    " is not as it was written: the disk or a program damaged it; begin anew without it "
                    "(--no-resume --overwrite)");
    GNV_TRY(calibration_.pass().restore_statistics(0, std::string_view(tail).substr(0, now.size())));
    choices = unpack_choices(std::string_view(tail).substr(now.size()));
    saved_ = Clock::now();
    return {};
}

bool RunState::is_due() const {
    constexpr double most_share = 0.03; // of the time
    return resume_ == Resume::each_layer || seconds_since(saved_) * most_share >= expected_;
}

Status RunState::save_if_due(int32_t layers, const std::function<Result<LayerChoices>()> & finish, Trace & trace) {
    if (!is_due()) return {};
    GNV_ASSIGN(const LayerChoices choices, finish());
    const Clock::time_point start = Clock::now();
    {
        const Span span(&trace, "host", "save the state", {0, double(calibration_.pass().row_bytes())});
        GNV_TRY(save(layers, choices).add_context("the state of the run, to go on with if it is stopped"));
    }
    saved_ = Clock::now();
    expected_ = seconds_since(start);
    seconds_ += expected_;
    return {};
}

Status RunState::save(int32_t layers, const LayerChoices & choices) {
    if (!plan_.quantizer().needs().empty()) GNV_TRY(writer_.settle());
    const uint64_t each = place_bytes(plan_, calibration_.pass());
    uint64_t at = uint64_t(next_place_) * each;
    Checksum sum;
    const auto write = [&](const void * from, uint64_t bytes) -> Status {
        GNV_TRY(file_->write(from, bytes, at));
        sum.add(from, bytes);
        at += bytes;
        return {};
    };
    GNV_TRY(calibration_.pass().save_rows(write));
    const std::string tail = calibration_.pass().statistics(0).packed() + pack_choices(choices);
    GNV_CHECK(calibration_.pass().row_bytes() + tail.size() <= each);
    GNV_TRY(write(tail.data(), tail.size()));
    GNV_TRY(file_->sync());
    GNV_TRY(writer_.record_state({next_place_, layers, sum.finish(), tail.size()}));
    next_place_ = 1 - next_place_;
    return {};
}

} // namespace gnv
