#include "evaluate/evaluation_state.h"

#include "core/sha256.h"
#include "model/fingerprint.h"

namespace gnv::evaluate {

// --- Identity -----------------------------------------------------------------------------------------------------------------

static Status add_model(RunIdentity & identity, const std::string & name, const OpenModel & model) {
    constexpr uint64_t most_config_bytes = 64 << 20;
    GNV_ASSIGN(std::string shards, shard_fingerprint(model.checkpoint));
    GNV_ASSIGN(std::string weights, model.fingerprint());
    GNV_ASSIGN(const std::string config, read_file(model.checkpoint.files(), "config.json", most_config_bytes));
    identity.emplace_back(name, std::move(shards));
    identity.emplace_back(name + ": small weights", std::move(weights));
    identity.emplace_back(name + ": config.json", sha256_hex(config.data(), config.size()));
    return {};
}

Result<RunIdentity> comparison_identity(const OpenModel & checkpoint, const OpenModel * source,
                                        const std::vector<Line> & lines, const EvaluationData & data,
                                        const EvaluateOptions & options, const Device & device,
                                        const std::string & logits_sha256) {
    RunIdentity identity = {{"version", GNV_VERSION_STRING}};
    GNV_TRY(add_model(identity, "checkpoint", checkpoint));
    if (source) GNV_TRY(add_model(identity, "source", *source));
    std::string names;
    for (const Line line : lines) names += concat(names.empty() ? "" : ",", line_key(line));
    identity.emplace_back("work", "comparison");
    identity.emplace_back("source's predictions", logits_sha256.empty() ? "computed" : logits_sha256);
    identity.emplace_back("lines", names);
    identity.emplace_back("expert scales", options.share_expert_scale ? "shared" : "own");
    identity.emplace_back("data", data.sha256);
    identity.emplace_back("precision", precision_name(options.precision));
    // Devices of other kinds round differently.
    identity.emplace_back("device", device.has_own_memory() ? device.name : "cpu");
    return identity;
}

// --- The state ----------------------------------------------------------------------------------------------------------------

static uint64_t own_bytes(const LayerComparer * layers) { return layers ? layers->packed().size() : 0; }

EvaluationState::EvaluationState(std::shared_ptr<StateFolder> folder, LayerPass & pass, LayerComparer * layers,
                                 Resume resume)
    : folder_(std::move(folder)), layers_(layers),
      pass_(pass, own_bytes(layers), resume, "remove " + folder_->path() + ", or begin anew without it (--no-resume)") {
}

Result<std::unique_ptr<EvaluationState>> EvaluationState::open(const EvaluateOptions & options,
                                                               const RunIdentity & identity, LayerPass & pass,
                                                               LayerComparer * layers) {
    GNV_ASSIGN(std::shared_ptr<StateFolder> folder, StateFolder::open(options.state_folder, identity));
    std::unique_ptr<EvaluationState> self(new EvaluationState(folder, pass, layers, options.resume));
    const uint64_t bytes = PassState::disk_bytes(pass, own_bytes(layers));
    GNV_ASSIGN(const File * const file, folder->file(bytes));
    const auto record = [at = folder.get()](const StateRecord & state) { return at->record(state); };
    GNV_TRY(self->pass_.open(*file, folder->state(), record));
    if (!options.note) return self;
    const int64_t layer_count = pass.requested_statistics().layers();
    if (self->goes_on())
        options.note(concat("goes on with ", folder->path(), ": ", self->pass_.layers(), " of ", layer_count,
                            " layers are compared"));
    else
        options.note(concat("a stopped run goes on when it is repeated, with the state in ", folder->path(), " (",
                            bytes_text(bytes), " until the run ends; --no-resume: none)"));
    if (!folder->is_locked())
        options.note(concat("the file system of ", folder->path(),
                            " has no locks: start no other run with this state before this one has ended"));
    return self;
}

EvaluationState::~EvaluationState() {
    if (folder_ && !folder_->state()) (void)guard_exceptions([&] { return folder_->remove(); }).ok();
}

void EvaluationState::add_to(PassHooks & hooks) {
    hooks.first_layer = pass_.layers();
    hooks.restore = [this]() -> Status {
        GNV_ASSIGN(const std::string own, pass_.restore());
        if (own.empty() && !layers_) return {};
        if (layers_ && layers_->unpack(own)) return {};
        return fail(Code::format, folder_->path(), ": its state has another size than this run's");
    };
    hooks.on_layer = [this](int32_t layers) {
        const auto own = [this]() -> Result<std::string> { return layers_ ? layers_->packed() : std::string(); };
        return pass_.save_if_due(layers, own, nullptr);
    };
}

Status EvaluationState::leave(Status failure) {
    const Code code = failure.code();
    const bool is_cause_elsewhere = code == Code::cancelled || code == Code::io || code == Code::no_space ||
                                    code == Code::out_of_memory || code == Code::device;
    if (is_cause_elsewhere && folder_->state())
        return Status(code, concat(failure.message(), "; the state after ", folder_->state()->layers,
                                   " layers stays in ", folder_->path(), ", and the same command goes on from there"));
    const bool fails_again = code == Code::bad_value || code == Code::changed;
    if (fails_again) (void)folder_->remove().ok();
    return failure;
}

} // namespace gnv::evaluate
