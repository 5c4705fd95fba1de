// Rows of a batch as a device with memory of its own computes on them, wherever they wait between groups of stages: on the
// device, in host memory, or in a scratch file. What is computed is the same.
#pragma once

#include "core/thread_pool.h"
#include "run/hidden_store.h"
#include "run/stage_runner.h"

#include <array>
#include <memory>

namespace gnv {

struct DeviceRowsSize {
    HiddenStore::Layout store;
    StorePlace place = StorePlace::device;
    int64_t positions = 0;  // of the largest batch
    bool keeps = false;     // what a batch reads and writes over is kept until the next one, for reopen()
    FieldSet rewritten = 0; // fields that some group reads and writes over

    uint64_t device_bytes() const;
    uint64_t host_bytes() const;
};

class DeviceRows {
  public:
    static Result<std::unique_ptr<DeviceRows>> create(Backend & device, const DeviceRowsSize & size);
    ~DeviceRows();
    Status allocate_host(); // after create(); apart, because who is short of which memory makes a difference

    // Rows [begin, begin + count) will be opened next: where they come from host memory they are on their way while the
    // device computes. May be left out.
    void prepare(const HiddenStore & store, int64_t begin, int64_t count, const FieldUse & use);
    // Rows [begin, begin + count): what is queued after this finds there what the stages read.
    Result<BatchFields> open(const HiddenStore & store, int64_t begin, int64_t count, const FieldUse & use);
    // What the stages made goes to the store, once it is made.
    Status close(HiddenStore & store);
    // The rows that open() gave last, as they were then.
    BatchFields reopen();

    // Rows of a field in host memory, F32 or I32. Waits for what is queued.
    Status read(const HiddenStore & store, Field field, int64_t first, int64_t count, void * to, ThreadPool & threads);

  private:
    DeviceRows(Backend & device, const DeviceRowsSize & size) : device_(device), size_(size) {}
    struct Row {
        bool reads = false, makes = false;
        uint64_t bytes = 0, staged = 0;          // staged: offset in staging_ of a file's rows
        void *memory = nullptr, *kept = nullptr; // on the device; kept: null where nothing writes over them
    };
    BatchFields fields() const;
    uint8_t * in_slot(int slot, uint64_t offset) const;

    Backend & device_;
    const DeviceRowsSize size_;
    DeviceMemory batch_, kept_; // batch_: of two batches where rows are in host memory, of one where they are in a file
    HostMemory staging_;
    std::array<Row, max_fields> rows_;
    int64_t begin_ = 0, count_ = 0;
    int slot_ = 0; // of batch_, of the batch that computes
    struct {
        const HiddenStore * store = nullptr;
        int64_t begin = 0;
    } prepared_; // in the other slot; null: nothing
};

} // namespace gnv
