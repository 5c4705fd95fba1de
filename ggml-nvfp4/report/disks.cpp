#include "report/disks.h"

#include "core/clock.h"
#include "core/memory.h"
#include "core/strings.h"
#include "core/table.h"
#include "formats/direct_file.h"
#include "formats/file.h"
#include "report/figure_text.h"

#include <algorithm>
#include <atomic>

namespace gnv {

namespace {

constexpr double enough_seconds = 1;
constexpr uint64_t piece_bytes = 4 << 20; // a multiple of what reading past the page cache asks for
constexpr uint64_t most_read = uint64_t(2) << 30, most_written = 512 << 20;
constexpr int most_writers = 4;

struct OpenFile {
    DirectFile file;
    uint64_t pieces = 0;
};

} // namespace

// --- What disks can do ------------------------------------------------------------------------------------------------------

Status measure_reading(const std::vector<std::string> & paths, ThreadPool & threads, DiskLimits & limits) {
    std::vector<OpenFile> files;
    uint64_t all = 0;
    limits.reads_direct = true;
    for (const std::string & path : paths) {
        GNV_ASSIGN(DirectFile file, DirectFile::open(path));
        limits.reads_direct = limits.reads_direct && file.is_direct();
        const uint64_t pieces = file.size() / piece_bytes;
        files.push_back({std::move(file), pieces});
        all += pieces;
    }
    if (all == 0) return {};
    // Spread over all files, at other places than in the run before.
    const uint64_t count = std::min(all, most_read / piece_bytes);
    const auto start = Clock::now();
    const uint64_t shift = uint64_t(start.time_since_epoch().count()) % all;
    std::atomic<uint64_t> bytes{0};
    std::atomic<bool> failed{false}; // the run that follows has the message
    std::vector<AlignedBlock> blocks(size_t(threads.size()));
    for (AlignedBlock & block : blocks) {
        GNV_ASSIGN(block, allocate_block(piece_bytes + DirectFile::alignment, "measuring the disk of the source"));
    }
    Status done = threads.parallel_for_thread(int64_t(count), [&](int64_t i, int thread) -> Status {
        if (seconds_since(start) > enough_seconds) return {};
        uint64_t piece = (uint64_t(i) * all / count + shift) % all;
        size_t f = 0;
        for (; piece >= files[f].pieces; f++) piece -= files[f].pieces;
        uint8_t * const memory = DirectFile::align(blocks[size_t(thread)].get());
        const bool is_read = files[f].file.read(memory, piece_bytes, piece * piece_bytes).ok();
        if (is_read) bytes += piece_bytes;
        failed = failed || !is_read;
        return {};
    });
    GNV_TRY(std::move(done));
    if (!failed) limits.read = double(bytes) / std::max(seconds_since(start), 1e-6);
    return {};
}

Status measure_writing(const std::string & folder, ThreadPool & threads, DiskLimits & limits) {
    constexpr uint64_t chunk = 16 << 20; // until a sync
    const int writers = std::min(threads.size(), most_writers);
    const Result<uint64_t> free = free_disk_bytes(folder);
    if (!free.ok() || free.value() < 4 * most_written) return {};
    std::vector<File> files;
    for (int i = 0; i < writers; i++) {
        Result<File> file = File::create_unnamed(folder);
        if (!file.ok()) return {};
        files.push_back(file.take());
    }
    // Bytes that no disk can leave out or pack.
    std::vector<uint64_t> noise(chunk / sizeof(uint64_t));
    uint64_t state = 1;
    for (uint64_t & word : noise) word = state = state * 6364136223846793005 + 1442695040888963407;
    std::atomic<uint64_t> bytes{0};
    std::atomic<bool> failed{false};
    const auto start = Clock::now();
    GNV_TRY(threads.parallel_for(writers, [&](int64_t i) -> Status {
        const File & file = files[size_t(i)];
        for (uint64_t at = 0; at < most_written / uint64_t(writers); at += chunk) {
            if (seconds_since(start) > enough_seconds || failed) return {};
            failed = failed || !file.write(noise.data(), chunk, at).ok() || !file.sync().ok();
            if (!failed) bytes += chunk;
        }
        return {};
    }));
    if (!failed) limits.write = double(bytes) / std::max(seconds_since(start), 1e-6);
    return {};
}

// --- What a run did -----------------------------------------------------------------------------------------------------------

DiskReport make_disk_report(const DiskInput & input) {
    DiskReport report;
    report.seconds = input.seconds;
    report.fetched_bytes = input.fetched_bytes;
    report.reads_direct = input.limits.reads_direct;
    report.source.limit = input.limits.read, report.result.limit = input.limits.write;
    report.result.waited = input.sync_seconds;
    for (const Trace::Total & total : input.totals) {
        const std::string_view lane = total.lane, name = total.name;
        const bool is_worker = lane == "worker", reads = name == "read" && (is_worker || lane == "reader");
        const bool writes = name == "write" && is_worker;
        if (reads) report.source.bytes += total.work.bytes;
        if (writes) report.result.bytes += total.work.bytes;
        // Without a device a worker computes nothing while it reads or writes.
        const double waits = is_worker && !input.in_background ? total.seconds / std::max(1, input.workers) : 0;
        if (reads || (lane == "host" && name == "wait for weights"))
            report.source.waited += lane == "host" ? total.seconds : waits;
        if (writes || (lane == "host" && name == "wait for writers"))
            report.result.waited += lane == "host" ? total.seconds : waits;
    }
    return report;
}

std::string disks_text(const DiskReport & report, size_t width) {
    std::vector<std::vector<std::string>> rows = {
        {concat("disks, over ", fixed_text(report.seconds, 2), " s"), "bytes", "rate", "limit", "share", "waited"}};
    const auto row = [&](const char * name, const DiskUse & use) {
        if (use.bytes <= 0) return;
        rows.push_back({name, size_text(use.bytes), byte_rate_text(report.rate(use)),
                        use.limit > 0 ? byte_rate_text(use.limit) : "",
                        use.limit > 0 ? fixed_text(100 * report.share(use), 0) + " %" : "",
                        fixed_text(use.waited, 2) + " s"});
    };
    row("  source, read", report.source);
    row("  result, written", report.result);
    if (rows.size() == 1) return "";
    std::string out = format_table(rows, {false, true, true, true, true, true}, width);
    if (report.source.bytes > 0)
        out += concat(size_text(std::min(report.fetched_bytes, report.source.bytes)),
                      " of the source came from a disk, the rest from memory\n");
    if (report.source.limit > 0)
        out += concat("limits: reading the source ",
                      report.reads_direct ? "past the page cache" : "as its file system does",
                      report.result.limit > 0 ? ", writing and syncing new files," : "", " alone before the run\n");
    return out;
}

static void use_json(JsonWriter & json, const DiskReport & report, const DiskUse & use) {
    json.member("bytes", use.bytes).member("per_second", report.rate(use));
    json.key("limit");
    use.limit > 0 ? json.value(use.limit) : json.value(nullptr);
    json.key("share");
    use.limit > 0 ? json.value(report.share(use)) : json.value(nullptr);
    json.member("waited_seconds", use.waited);
}

void disks_json(JsonWriter & json, const DiskReport & report) {
    json.begin_object().member("seconds", report.seconds);
    json.key("source").begin_object();
    use_json(json, report, report.source);
    json.member("disk_bytes", report.fetched_bytes).member("past_page_cache", report.reads_direct).end_object();
    json.key("result").begin_object();
    use_json(json, report, report.result);
    json.end_object().end_object();
}

} // namespace gnv
