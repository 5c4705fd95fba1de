// The rows of hidden states of one lane. Between groups of stages they wait on the device, in host memory or in a
// scratch file; the rows of a batch are copied to the memory that the device computes in. If the device's memory is the
// host's, rows in host memory are used in place. Results do not depend on the place.
#pragma once

#include "core/thread_pool.h"
#include "formats/file.h"
#include "run/stage_runner.h"

#include <array>
#include <functional>
#include <memory>
#include <vector>

namespace gnv {

enum class StorePlace : uint8_t { device, host, file };
const char * place_name(StorePlace place); // "device", "host", "file"

// The fields of a model, one row for each position, field after field.
struct RowLayout {
    int64_t positions = 0;
    std::array<int64_t, max_fields> columns{}; // 0: the field is not kept
    std::array<DType, max_fields> dtypes{};

    uint64_t row_bytes(Field field) const;
    uint64_t field_bytes(Field field) const; // of all positions
    uint64_t offset(Field field) const;      // of its first row
    uint64_t bytes() const { return offset(max_fields); }
    RowLayout with_positions(int64_t count) const;
};

// Whether the device's memory is the host's: rows there need no copy.
bool rows_are_aliases(const Backend & device);

struct LaneRowsSize {
    RowLayout store; // of this lane's positions
    StorePlace place = StorePlace::device;
    size_t variants = 1;                       // a store each
    int64_t positions = 0, head_positions = 0; // of the largest batch; of the head, which reads hidden states only
    // Fields that a batch reads and overwrites; their old rows are kept until the next batch, for reopen(). None in
    // host memory.
    FieldSet kept = 0;

    uint64_t device_bytes(const Backend & device) const;
    uint64_t host_bytes(const Backend & device) const;
};

class LaneRows {
  public:
    static Result<std::unique_ptr<LaneRows>> create(Backend & device, const LaneRowsSize & size);
    ~LaneRows();
    // After create(); separate, so that callers know which of the two memories is short.
    Status allocate_host(const std::string & scratch_folder);

    // Rows of all batches are counted from the first of this lane.

    // Optional: rows [begin, begin + count) will be opened next. Rows in host memory are uploaded while the device
    // computes.
    void prepare(size_t variant, int64_t begin, int64_t count, const FieldUse & use);
    // Rows [begin, begin + count): work queued after this finds the fields that the stages read.
    Result<BatchFields> open(size_t variant, int64_t begin, int64_t count, const FieldUse & use);
    // The fields that the stages set go to the store, after the queued work.
    Status close(size_t variant);
    // The rows of the last open(), with their content of then.
    BatchFields reopen();

    // All rows of a field as they are kept, piece by piece in order: `take` gets them, `give` sets them. Wait for the
    // queues.
    Status save(size_t variant, Field field, const std::function<Status(const void *, uint64_t)> & take);
    Status restore(size_t variant, Field field, const std::function<Status(void *, uint64_t)> & give);

    // Rows of a field in host memory, F32 or I32. Waits for the queues.
    Status read(size_t variant, Field field, int64_t first, int64_t count, void * to, ThreadPool & threads);
    // The same in place; null if they are not in host memory as F32.
    const void * in_host_memory(size_t variant, Field field, int64_t first) const;

  private:
    LaneRows(Backend & device, const LaneRowsSize & size);
    struct Row {
        bool reads = false, makes = false;
        uint64_t bytes = 0, staged = 0;          // staged: offset of a file's rows in staging_
        void *memory = nullptr, *kept = nullptr; // on the device; kept: null if no stage overwrites them
    };
    BatchFields fields() const;
    uint8_t * in_slot(int slot, uint64_t offset) const;
    // Rows from `first` in memory of the store.
    void * rows(size_t variant, Field field, int64_t first) const;
    uint64_t in_file(Field field, int64_t first) const; // offset of a row
    bool in_place() const;
    // Calls `work` with pieces of a field: their place in the store, and memory of the host with or for them.
    Status for_pieces(size_t variant, Field field,
                      const std::function<Status(uint64_t at, void * host, uint64_t bytes)> & work);
    bool through_host() const { return place_ == StorePlace::host && !in_place(); }
    Status add_stores(const std::string & scratch_folder);
    Status add_store(const std::string & scratch_folder);
    struct Store {
        DeviceMemory on_device;
        HostMemory on_host;
        std::unique_ptr<File> file; // has no name, and vanishes with the store
    };

    Backend & device_;
    const LaneRowsSize size_;
    const bool aliases_;
    const StorePlace place_;
    std::vector<Store> stores_; // by variant
    DeviceMemory batch_, kept_; // batch_: of two batches for rows in host memory, of one for rows in a file
    HostMemory staging_;        // also batch_, if the device's memory is the host's
    std::array<Row, max_fields> rows_;
    int64_t begin_ = 0, count_ = 0;
    int slot_ = 0; // in batch_, of the batch that computes
    struct {
        size_t variant = SIZE_MAX; // none
        int64_t begin = 0;
    } prepared_; // in the other slot
};

} // namespace gnv
