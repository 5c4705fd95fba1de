#include "report/phases.h"

#include "core/strings.h"
#include "core/table.h"
#include "report/figure_text.h"

#include <algorithm>

namespace gnv {

namespace {

// Lanes in the order of the table. Times of threads are summed over them.
struct Lane {
    const char * name;
    const char * title;
};
constexpr Lane lanes[] = {
    {"compute", "compute queue"},
    {"screening", "screening: pairs of a token and an expert"},
    {"upload", "upload queue"},
    {"download", "download queue"},
    {"reader", "threads that read weights (sums over threads)"},
    {"worker", "threads that write the result (sums over threads)"},
    {"host", "main thread: waiting, memory, inputs"},
};
const char * const idle_name = "idle";

// The unit of the rate of a kind of work; bytes unless listed.
struct Kind {
    const char * name;
    Phase::Rate rate;
    double DeviceLimits::*limit;
};
constexpr const char * expert_products = "experts gate, up";
constexpr Kind kinds[] = {
    {expert_products, Phase::Rate::flops, &DeviceLimits::product},
    {"linear", Phase::Rate::flops, &DeviceLimits::product},
    {"grouped_linear", Phase::Rate::flops, &DeviceLimits::product},
    {"attention", Phase::Rate::flops, nullptr},
    {"gated_delta_net", Phase::Rate::flops, nullptr},
    {"upload", Phase::Rate::bytes, &DeviceLimits::upload},
    {"download", Phase::Rate::bytes, &DeviceLimits::download},
    {"copy from another device", Phase::Rate::bytes, nullptr},
};

void set_rate(Phase & phase, const DeviceLimits & limits) {
    if (phase.work.bytes <= 0 && phase.work.flops <= 0) return;
    const bool on_device = phase.lane == "compute" || phase.lane == "upload" || phase.lane == "download";
    const auto kind =
        std::find_if(std::begin(kinds), std::end(kinds), [&](const Kind & known) { return phase.name == known.name; });
    if (on_device && kind != std::end(kinds)) {
        phase.rate = kind->rate;
        phase.limit = kind->limit ? limits.*kind->limit : 0;
        return;
    }
    phase.rate = Phase::Rate::bytes;
    if (on_device) phase.limit = limits.copy;
}

std::string title_of(const Lane & lane, size_t devices) {
    const bool is_queue = ends_with(lane.title, "queue");
    return is_queue && devices > 1 ? concat(lane.title, "s (sums over ", devices, " devices)") : lane.title;
}

std::string rate(double per_second, Phase::Rate unit) {
    if (unit == Phase::Rate::none || per_second <= 0) return "";
    return unit == Phase::Rate::flops ? flop_rate_text(per_second) : byte_rate_text(per_second);
}

} // namespace

// What screening found, as counts; the time that it saved is against the limit of products, where that was measured.
static void add_screening(std::vector<Phase> & phases, const PhaseInput & input) {
    const ScreeningCounts & found = input.screening;
    if (found.pairs == 0) return;
    double saved = 0;
    for (const Phase & phase : phases)
        if (phase.name == expert_products && phase.limit > 0) saved = phase.work.flops / phase.limit - phase.seconds;
    phases.push_back({"screening", "screened", found.pairs, 0, {}});
    phases.push_back({"screening", "computed in full", found.candidates, 0, {}});
    phases.back().part = double(found.candidates) / double(found.pairs);
    phases.push_back({"screening", "experts of a batch computed whole", found.whole, 0, {}});
    if (saved > 0) phases.push_back({"screening", "saved, against the products' limit", 0, saved, {}});
}

double Phase::rate_per_second() const {
    if (seconds <= 0 || rate == Rate::none) return 0;
    return (rate == Rate::flops ? work.flops : work.bytes) / seconds;
}

std::vector<Phase> make_phases(const PhaseInput & input) {
    std::vector<Phase> phases;
    double computing = 0;
    for (const Lane & lane : lanes) {
        const size_t first = phases.size();
        for (const Trace::Total & total : input.totals) {
            if (std::string_view(total.lane) != lane.name) continue;
            Phase phase = {total.lane, total.name, total.spans, total.seconds, total.work};
            if (phase.name == "grouped_linear" || phase.name == "expert_gather") phase.work.flops *= input.slots_in_use;
            if (phase.name == "expert_gather") phase.work.bytes *= input.slots_in_use;
            set_rate(phase, input.limits);
            if (phase.name == "expert_combine" && input.slots_in_use < 1)
                phase.rate = Phase::Rate::none, phase.limit = 0;
            if (phase.lane == "compute") computing += phase.seconds;
            phases.push_back(std::move(phase));
        }
        std::sort(phases.begin() + ptrdiff_t(first), phases.end(), [](const Phase & a, const Phase & b) {
            return a.seconds != b.seconds ? a.seconds > b.seconds : a.name < b.name;
        });
        if (phases.size() > first && phases.back().lane == "compute" && input.pass_seconds > 0)
            phases.push_back(
                {"compute", idle_name, 0, std::max(0.0, input.pass_seconds * double(input.devices) - computing), {}});
    }
    add_screening(phases, input);
    return phases;
}

std::string phases_text(const std::vector<Phase> & phases, const DeviceLimits & limits, size_t devices, size_t width) {
    std::string out;
    std::vector<std::vector<std::string>> rows = {{"", "seconds", "times", "rate", "limit", "share"}};
    for (const Lane & lane : lanes) {
        bool titled = false;
        for (const Phase & phase : phases) {
            if (phase.lane != lane.name) continue;
            if (!titled) rows.push_back({title_of(lane, devices)});
            titled = true;
            const bool is_count = phase.spans > 0 && phase.seconds == 0 && phase.lane == std::string_view("screening");
            rows.push_back({"  " + phase.name, is_count ? "" : fixed_text(phase.seconds, 2),
                            phase.spans > 0 ? count_text(phase.spans) : "", rate(phase.rate_per_second(), phase.rate),
                            rate(phase.limit, phase.rate),
                            phase.limit > 0  ? fixed_text(100 * phase.share(), 0) + " %"
                            : phase.part > 0 ? fixed_text(100 * phase.part, 4) + " %"
                                             : ""});
        }
    }
    out += format_table(rows, {false, true, true, true, true, true}, width);
    if (limits.copy > 0)
        out += concat("limits: a copy within the device's memory ", byte_rate_text(limits.copy),
                      " read and written, measured before the run\n");
    if (limits.product > 0)
        out +=
            concat("limits: ", limits.product_shape[0], " x ", limits.product_shape[1], " -> ", limits.product_shape[2],
                   " sustained ", flop_rate_text(limits.product), ", measured before the run\n");
    return out;
}

void phases_json(JsonWriter & json, const std::vector<Phase> & phases) {
    json.begin_array();
    for (const Phase & phase : phases) {
        json.begin_object().member("lane", phase.lane).member("name", phase.name).member("spans", phase.spans);
        json.member("seconds", phase.seconds).member("flops", phase.work.flops).member("bytes", phase.work.bytes);
        json.key("unit");
        phase.rate == Phase::Rate::none ? json.value(nullptr)
                                        : json.value(phase.rate == Phase::Rate::flops ? "flops" : "bytes");
        json.key("per_second");
        phase.rate == Phase::Rate::none ? json.value(nullptr) : json.value(phase.rate_per_second());
        json.key("limit");
        phase.limit > 0 ? json.value(phase.limit) : json.value(nullptr);
        json.key("share");
        phase.limit > 0 ? json.value(phase.share()) : json.value(nullptr);
        json.end_object();
    }
    json.end_array();
}

} // namespace gnv
