#include "quantize/estimate/machine_rates.h"

#include "core/clock.h"
#include "core/sha256.h"
#include "formats/file.h"
#include "model/text_model.h"
#include "pass/layer_pass.h"
#include "pass/pass_operations.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace gnv {

namespace {

constexpr uint64_t piece_bytes = 4 << 20;

// Pieces spread over all shards, other ones each time: what is read now would be in the page cache the next time.
Status measure_reading(const FolderFiles & shards, ThreadPool & threads, double & rate) {
    constexpr int64_t pieces = 64;
    constexpr double enough = 0.3; // seconds
    std::vector<uint64_t> ends;
    uint64_t all = 0;
    for (const auto & shard : shards) {
        GNV_ASSIGN(const FileStamp stamp, shard->stamp());
        all += stamp.size;
        ends.push_back(all);
    }
    if (all == 0) return {};
    const auto start = Clock::now();
    const double shift = double(start.time_since_epoch().count() % 1000) / 1000;
    std::atomic<uint64_t> bytes{0};
    Status done = threads.parallel_for(pieces, [&](int64_t i) -> Status {
        if (seconds_since(start) > enough) return {};
        const auto at = uint64_t((double(i) + shift) / double(pieces) * double(all));
        const size_t s = size_t(std::upper_bound(ends.begin(), ends.end(), at) - ends.begin());
        if (s >= ends.size()) return {};
        const uint64_t begin = s == 0 ? 0 : ends[s - 1];
        const uint64_t count = std::min(piece_bytes, ends[s] - at);
        std::vector<uint8_t> buffer(count);
        GNV_TRY(shards[s]->read(buffer.data(), count, at - begin));
        bytes += count;
        return {};
    });
    GNV_TRY(std::move(done));
    rate = double(bytes) / std::max(seconds_since(start), 1e-6);
    return {};
}

// A file without a name, which leaves nothing behind. A folder that cannot be written is the run's to report.
void measure_writing(const std::string & folder, MachineRates & rates) {
    constexpr uint64_t bytes = 32 << 20;
    if (folder.empty()) return;
    const Result<File> file = File::create_unnamed(folder);
    if (!file.ok()) return;
    const std::vector<uint8_t> piece(piece_bytes, 0x5a);
    const auto before = Clock::now();
    if (!file.value().reserve(bytes).ok()) return;
    rates.reserve = double(bytes) / std::max(seconds_since(before), 1e-6);
    const auto start = Clock::now();
    for (uint64_t at = 0; at < bytes; at += piece.size())
        if (!file.value().write(piece.data(), piece.size(), at).ok()) return;
    const double written = seconds_since(start);
    if (!file.value().sync().ok()) return;
    rates.write = double(bytes) / std::max(written, 1e-6);
    rates.disk = double(bytes) / std::max(seconds_since(start), 1e-6);
}

// The quantizer on rows as wide as most of the weights. Methods that search with what calibration measured are not timed: how long
// they take depends on it.
Status measure_packing(const Plan & plan, ThreadPool & threads, double & rate) {
    if (!plan.quantizer().needs().empty() || plan.modules.empty()) return {};
    std::map<int64_t, uint64_t> by_columns;
    for (const PlanModule & module : plan.modules)
        by_columns[plan.linear(module).columns] += plan.weight_bytes(plan.linear(module));
    const int64_t columns = std::max_element(by_columns.begin(), by_columns.end(), [](const auto & a, const auto & b) {
                                return a.second < b.second;
                            })->first;
    const Format & format = plan.format(plan.modules.front());
    constexpr int64_t rows = 64;
    constexpr double enough = 0.15; // seconds
    std::atomic<uint64_t> bytes{0};
    const auto start = Clock::now();
    Status done = threads.parallel_for(threads.size(), [&](int64_t) -> Status {
        std::vector<uint16_t> weights(size_t(rows * columns));
        fill_with_numbers(weights);
        std::array<std::vector<uint8_t>, most_components> memory;
        PackedRows out{rows, columns, {}};
        for (size_t c = 0; c < format.components.size(); c++) {
            if (format.components[c].scope != FormatComponent::Scope::rows) continue;
            memory[c].resize(format.components[c].bytes(rows, columns));
            out.data[c] = memory[c].data();
        }
        const WeightRows source{DType::bf16, weights.data(), rows, columns};
        while (seconds_since(start) < enough) {
            UnitMeasure measure;
            plan.quantizer().measure(threads.instructions(), source, measure);
            GNV_ASSIGN(const UnitScale scale, plan.quantizer().prepare(format, source.dtype, measure, {}));
            GNV_TRY(plan.quantizer().pack(threads.instructions(), format, source, scale, out, nullptr, nullptr));
            bytes += weights.size() * 2;
        }
        return {};
    });
    GNV_TRY(std::move(done));
    rate = double(bytes) / seconds_since(start);
    return {};
}

double measure_hashing() {
    const std::string piece(8 << 20, 'a');
    const auto start = Clock::now();
    (void)sha256_hex(piece.data(), piece.size());
    return double(piece.size()) / std::max(seconds_since(start), 1e-6);
}

void take_probe(const PassProbe & probe, MachineRates & rates) {
    double flops = 0, flop_seconds = 0, bytes = probe.other.work.bytes, byte_seconds = probe.other.seconds;
    for (const auto & [name, op] : probe.ops) {
        const bool computes = is_bound_by_operations(name);
        const double work = amount_of(name, op.work);
        if (work <= 0 || op.seconds <= 0) continue;
        rates.seconds_per_unit[name] = op.seconds / work;
        (computes ? flops : bytes) += work;
        (computes ? flop_seconds : byte_seconds) += op.seconds;
    }
    rates.flops = flop_seconds > 0 ? flops / flop_seconds : 0;
    rates.bytes = byte_seconds > 0 ? bytes / byte_seconds : 0;
    rates.gaps = probe.gaps;
}

// Whole runs and kernels of docs/performance.md: an H100, and an H200 that copies faster. Reading and writing are those of that
// machine: a source in memory, a result of 25 GB in 13 seconds.
MachineRates recorded(const char * name, double copy) {
    MachineRates rates;
    rates.name = name;
    rates.has_device = true;
    rates.flops = 590e12;
    rates.bytes = 0.9 * copy;
    rates.seconds_per_unit = {{expert_product_label, 1 / 678e12}, {"linear", 1 / 590e12},
                              {"grouped_linear", 1 / 227e12},     {"attention", 1 / 194e12},
                              {"gated_delta_net", 1 / 52e12},     {"causal_conv", 1 / (0.45 * copy)}};
    rates.gaps = 0.02;
    rates.read = 8e9, rates.write = 2.5e9, rates.disk = 2e9, rates.upload = 52e9;
    rates.pack = 0.75 * copy, rates.hash = 1.5e9;
    return rates;
}

const std::map<std::string, MachineRates, std::less<>> & records() {
    static const std::map<std::string, MachineRates, std::less<>> all = {{"h100", recorded("H100", 2.96e12)},
                                                                         {"h200", recorded("H200", 4.2e12)}};
    return all;
}

} // namespace

Result<MachineRates> measure_rates(const Plan & plan, const FolderFiles & shards, ThreadPool & threads,
                                   const LayerPass * pass, const std::string & folder, double seconds) {
    MachineRates rates;
    rates.name = "this machine";
    rates.is_measured = true;
    GNV_TRY(measure_reading(shards, threads, rates.read));
    measure_writing(folder, rates);
    GNV_TRY(measure_packing(plan, threads, rates.pack));
    rates.hash = measure_hashing();
    if (!pass) return rates;
    GNV_ASSIGN(const PassProbe probe, pass->probe(seconds));
    take_probe(probe, rates);
    rates.has_device = pass->plan().uses_device();
    return rates;
}

const MachineRates * recorded_rates(std::string_view name) {
    const auto found = records().find(name);
    return found == records().end() ? nullptr : &found->second;
}

std::string recorded_names() {
    std::string names;
    for (const auto & [name, rates] : records()) names += (names.empty() ? "" : ", ") + name;
    return names;
}

} // namespace gnv
