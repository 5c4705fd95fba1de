#include "quantize/estimate/estimate.h"

#include "core/strings.h"
#include "core/table.h"
#include "report/figure_text.h"

#include <algorithm>
#include <cmath>

namespace gnv {

static double over(double amount, double rate) { return rate > 0 ? amount / rate : 0; }

static double pass_seconds(const RunWork & work, const MachineRates & rates) {
    double seconds = 0;
    for (const auto & [name, done] : work.ops) {
        const double used = name == "grouped_linear" || name == "expert_gather" ? work.slots_in_use : 1;
        const bool computes = is_bound_by_operations(name);
        const double amount = used * amount_of(name, done) * (computes ? 1 : work.byte_share);
        const auto known = rates.seconds_per_unit.find(name);
        seconds += known != rates.seconds_per_unit.end() ? amount * known->second
                                                         : over(amount, computes ? rates.flops : rates.bytes);
    }
    seconds *= 1 + rates.gaps;
    // A GPU holds its highest clock for seconds: 39 s by the rates of a probe took an H200 45 s, while 9 s took 8.
    constexpr double at_first = 10, later = 1.2;
    const bool warms = rates.has_device && rates.is_measured && seconds > at_first;
    return warms ? at_first + later * (seconds - at_first) : seconds;
}

// Files are hashed side by side while they are made, one after the other, each by one thread.
static double seconds_of_hashes_left(const RunWork & work, const MachineRates & rates, int threads, double making) {
    if (work.hash_bytes == 0) return 0;
    const double all = double(work.hash_bytes), last = double(std::min(work.hash_bytes, work.last_file));
    return std::max({0.0, over(all / double(std::max(1, threads)), rates.hash) - making,
                     over(last, rates.hash) - making * last / all});
}

Estimate make_estimate(const RunWork & work, const MachineRates & rates, int threads) {
    Estimate out;
    out.machine = rates.name;
    out.is_measured = rates.is_measured;
    out.overlaps = rates.has_device && !work.ops.empty();
    out.pass = pass_seconds(work, rates);
    out.read = over(double(work.read_bytes), rates.read);
    out.pack = work.searches ? 0 : over(double(work.weight_bytes), rates.pack);
    out.knows_pack = !work.searches;
    out.knows_write = rates.write > 0;
    out.write = over(double(work.write_bytes + work.scratch_bytes), rates.write);
    out.room = over(double(work.write_bytes), rates.reserve);
    const double to_disk = over(double(work.write_bytes), rates.disk);
    if (out.overlaps) {
        out.upload = over(double(work.upload_bytes), rates.upload);
        out.total = std::max({out.pass + out.pack, out.read, out.write, out.upload});
    } else {
        // A thread that reads beside the computation takes its time where processors are few.
        const double waits = work.ops.empty() || !work.reads_beside ? out.read : std::max(0.0, out.read - out.pass);
        out.total = out.pass + waits + out.pack + out.write;
    }
    // The system writes to the disk meanwhile.
    out.disk = std::max(0.0, to_disk - std::max(out.write, out.total));
    out.finish = seconds_of_hashes_left(work, rates, threads, out.total + out.disk);
    out.total = std::max(out.total, out.room) + out.disk + out.finish; // the room is made beside all else
    return out;
}

// "$0.52 at $2.5 an hour"
static std::string money_text(double seconds, double price) {
    constexpr double cent = 0.01;
    const double cost = seconds / 3600 * price;
    return concat(cost < cent ? std::string("less than $0.01") : "$" + fixed_text(cost, 2), " at $",
                  number_text(price, 4), " an hour");
}

std::string estimate_text(const Estimate & e) {
    std::vector<std::vector<std::string>> rows = {{concat("time on ", e.is_measured ? "" : "an ", e.machine,
                                                          e.is_measured ? ", by rates measured now" : ", by records"),
                                                   ""}};
    const auto row = [&](const char * name, double seconds) {
        if (seconds > 0) rows.push_back({std::string("  ") + name, duration_text(seconds)});
    };
    if (e.room >= 0.1) row("room for the result, meanwhile", e.room);
    row("forward pass, by its operations", e.pass);
    row("reading the source", e.read);
    row("uploads to the device", e.upload);
    row("packing", e.pack);
    row("writing", e.write);
    row("waiting for the disk afterwards", e.disk);
    row("hashes for the model card afterwards", e.finish);
    rows.push_back({e.overlaps ? "  in all: the longest, and what follows it" : "  in all", duration_text(e.total)});
    std::string out = format_table(rows, {false, true});
    if (!e.knows_pack) out += "packing is not in it: the search of this method takes as long as the data make it\n";
    if (!e.knows_write) out += "writing is not in it: its folder cannot be written for a test\n";
    out += concat("needs ", bytes_text(e.disk_bytes), " of disk and ", bytes_text(e.host_bytes), " of memory");
    if (e.device_bytes > 0) out += concat(", ", bytes_text(e.device_bytes), " of the device's");
    out += "\n";
    if (e.price > 0) out += concat("cost: ", money_text(e.total, e.price), "\n");
    return out;
}

std::string estimate_error_text(const Estimate & e) {
    const double percent = 100 * e.error();
    std::string out = concat("estimated ", duration_text(e.total), ", took ", duration_text(e.actual), " (",
                             percent >= 0 ? "+" : "", fixed_text(percent, 0), " %)");
    if (e.price > 0) out += "; " + money_text(e.actual, e.price);
    return out;
}

void estimate_json(JsonWriter & json, const Estimate & e) {
    json.begin_object().member("machine", e.machine).member("measured", e.is_measured);
    json.key("seconds").begin_object().member("forward_pass", e.pass).member("read", e.read);
    json.member("upload", e.upload).member("pack", e.pack).member("write", e.write).member("disk", e.disk);
    json.member("finish", e.finish).member("room", e.room).member("total", e.total).end_object();
    json.member("overlaps", e.overlaps).member("knows_pack", e.knows_pack).member("knows_write", e.knows_write);
    json.member("disk_bytes", e.disk_bytes).member("host_bytes", e.host_bytes).member("device_bytes", e.device_bytes);
    json.key("price_per_hour");
    e.price > 0 ? json.value(e.price) : json.value(nullptr);
    json.key("cost");
    e.price > 0 ? json.value(e.cost()) : json.value(nullptr);
    json.key("actual_seconds");
    e.actual > 0 ? json.value(e.actual) : json.value(nullptr);
    json.key("error");
    e.actual > 0 ? json.value(e.error()) : json.value(nullptr);
    json.end_object();
}

} // namespace gnv
