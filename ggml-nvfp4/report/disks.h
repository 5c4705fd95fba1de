// What a run read from the disk of its source and wrote to that of its result, beside what these disks can do.
#pragma once

#include "core/thread_pool.h"
#include "core/trace.h"
#include "formats/json_writer.h"

#include <string>
#include <vector>

namespace gnv {

// Bytes a second; 0: not measured.
struct DiskLimits {
    double read = 0;           // of the source's own bytes, at other places each time
    bool reads_direct = false; // past the page cache; else the file system has no such reading, as one in memory
    double write = 0;          // of a new file, until its bytes are on the disk
};

// Reads these files for a second at most, on all threads. Measures nothing where that fails, which a run reports itself.
Status measure_reading(const std::vector<std::string> & paths, ThreadPool & threads, DiskLimits & limits);
// Writes scratch files without a name in `folder` for about a second, and syncs them. Measures nothing where the folder cannot
// be written or lacks the room: a run reports this itself.
Status measure_writing(const std::string & folder, ThreadPool & threads, DiskLimits & limits);

// One disk during the work of a run.
struct DiskUse {
    double bytes = 0;
    double waited = 0; // seconds that computing and packing waited for it
    double limit = 0;
};

struct DiskReport {
    double seconds = 0; // from the first read to the last sync
    DiskUse source, result;
    double fetched_bytes = 0; // of the source, which came from a disk and not from the page cache
    bool reads_direct = false;

    double rate(const DiskUse & use) const { return seconds > 0 ? use.bytes / seconds : 0; }
    double share(const DiskUse & use) const { return use.limit > 0 ? rate(use) / use.limit : 0; }
};

struct DiskInput {
    std::vector<Trace::Total> totals;
    DiskLimits limits;
    double seconds = 0;
    double sync_seconds = 0;    // waiting for the disk at the end
    double fetched_bytes = 0;   // by this process from disks
    int workers = 1;            // that read, pack and write
    bool in_background = false; // the workers, behind a device that computes
};
DiskReport make_disk_report(const DiskInput & input);
std::string disks_text(const DiskReport & report, size_t width = 0); // a table; see format_table()
void disks_json(JsonWriter & json, const DiskReport & report);       // the value of "disks": see docs/json.md

} // namespace gnv
