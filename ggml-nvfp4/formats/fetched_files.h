// Files of a folder that lie on another machine and are here only while they are read, within a limit of disk space.
#pragma once

#include "core/status.h"
#include "formats/json_writer.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace gnv {

// So many bytes of a file, read once.
struct FileRead {
    std::string file;
    uint64_t bytes = 0;
};

struct FetchPlan {
    uint64_t files = 0, bytes = 0; // to fetch; a file that is needed again later counts again
    uint64_t again = 0;            // of the files: for a second time or later
    uint64_t disk_bytes = 0;       // the limit
    uint64_t smallest_bytes = 0;   // of disk space: the largest file
};

struct FetchUse {
    uint64_t files = 0, bytes = 0, again = 0; // fetched so far
    uint64_t most_bytes = 0;                  // of disk space
    double waited = 0;                        // seconds of readers, summed over threads
};

// "26 files, 71.9 GB, at most 11.5 GB on the disk at a time; threads waited 12.00 s for them"
std::string fetch_use_text(const FetchUse & use);
// The member "streamed" of a report: null for a source that was here.
void write_fetch_use(JsonWriter & json, const std::optional<FetchUse> & use);

// Safe to use from several threads.
class FetchedFiles {
  public:
    virtual ~FetchedFiles() = default;
    // What is going to be read from now on, in this order; it replaces an earlier list. Files are fetched ahead in this
    // order and removed after their last read. Reads may come in another order, or be others: that costs time alone. An
    // empty list: nothing is read any more, and nothing stays on the disk.
    virtual void expect(const std::vector<FileRead> & reads) const = 0;
    virtual FetchPlan plan(const std::vector<FileRead> & reads) const = 0; // what these reads would fetch
    virtual FetchUse use() const = 0;
    // The disk space without which nothing can be fetched, if the files go to the file system of `folder`; else 0.
    virtual uint64_t smallest_bytes_at(const std::string & folder) const = 0;
};

} // namespace gnv
