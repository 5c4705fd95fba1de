#include "run/device_rows.h"

#include "exec/host_tensor.h"

#include <algorithm>

namespace gnv {

static constexpr uint64_t most_read_at_once = 4 << 20; // enough for a copy's full speed

// --- Sizes --------------------------------------------------------------------------------------------------------------------

static uint64_t kept_bytes(const DeviceRowsSize & size) {
    if (!size.keeps) return 0;
    const HiddenStore::Layout batch = size.store.with_positions(size.positions);
    uint64_t bytes = 0;
    for (Field field = 0; field < max_fields; field++)
        if (size.rewritten & field_bit(field)) bytes += batch.field_bytes(field);
    return bytes;
}

// Rows in host memory come and go beside the work of the device, those of a file do not.
static uint64_t slots(const DeviceRowsSize & size) {
    return size.place == StorePlace::device ? 0 : size.place == StorePlace::host ? 2 : 1;
}

uint64_t DeviceRowsSize::device_bytes() const {
    return slots(*this) * store.with_positions(positions).bytes() + kept_bytes(*this);
}

uint64_t DeviceRowsSize::host_bytes() const {
    if (place == StorePlace::host) return 0;
    const uint64_t batch = store.with_positions(positions).bytes();
    return place == StorePlace::file ? batch : std::min(batch, most_read_at_once);
}

Result<std::unique_ptr<DeviceRows>> DeviceRows::create(Backend & device, const DeviceRowsSize & size) {
    std::unique_ptr<DeviceRows> rows(new DeviceRows(device, size));
    if (size.place != StorePlace::device) {
        GNV_ASSIGN(rows->batch_, device.allocate(slots(size) * size.store.with_positions(size.positions).bytes()));
    }
    if (size.keeps) {
        GNV_ASSIGN(rows->kept_, device.allocate(kept_bytes(size)));
    }
    return rows;
}

DeviceRows::~DeviceRows() { // nothing may be under way when memory goes
    for (const Queue queue : {Queue::upload, Queue::compute, Queue::download}) (void)device_.synchronize(queue);
}

Status DeviceRows::allocate_host() {
    if (size_.place == StorePlace::host) return {};
    GNV_ASSIGN(staging_, device_.allocate_host(size_.host_bytes()));
    return {};
}

// --- A batch ------------------------------------------------------------------------------------------------------------------

static uint8_t * at(const DeviceMemory & memory, uint64_t offset) {
    return static_cast<uint8_t *>(memory.get()) + offset;
}
static uint8_t * at(const HostMemory & memory, uint64_t offset) {
    return static_cast<uint8_t *>(memory.get()) + offset;
}

BatchFields DeviceRows::fields() const {
    BatchFields fields;
    for (size_t f = 0; f < max_fields; f++) fields[f] = rows_[f].memory;
    return fields;
}

uint8_t * DeviceRows::in_slot(int slot, uint64_t offset) const {
    return at(batch_, uint64_t(slot) * size_.store.with_positions(size_.positions).bytes() + offset);
}

void DeviceRows::prepare(const HiddenStore & store, int64_t begin, int64_t count, const FieldUse & use) {
    if (store.place() != StorePlace::host) return;
    // The batch before the one that computes was in that slot: its work and its way back must have ended.
    device_.order(Queue::compute, Queue::upload);
    device_.order(Queue::download, Queue::upload);
    const HiddenStore::Layout largest = size_.store.with_positions(size_.positions);
    uint64_t offset = 0;
    for (Field field = 0; field < max_fields; field++) {
        if (use.reads & field_bit(field))
            device_.upload(in_slot(1 - slot_, offset), store.rows(field, begin),
                           uint64_t(count) * size_.store.row_bytes(field), Queue::upload);
        offset += largest.field_bytes(field);
    }
    prepared_ = {&store, begin};
}

Result<BatchFields> DeviceRows::open(const HiddenStore & store, int64_t begin, int64_t count, const FieldUse & use) {
    GNV_CHECK(count <= size_.positions);
    const bool in_place = store.place() == StorePlace::device, in_file = store.place() == StorePlace::file;
    if (store.place() == StorePlace::host) {
        if (prepared_.store != &store || prepared_.begin != begin) prepare(store, begin, count, use);
        prepared_ = {};
        slot_ = 1 - slot_;
        device_.order(Queue::upload, Queue::compute);
    }
    if (in_file) GNV_TRY(device_.synchronize()); // the last batch may still read staging_
    begin_ = begin, count_ = count;
    const HiddenStore::Layout largest = size_.store.with_positions(size_.positions);
    uint64_t offset = 0, kept = 0;
    for (Field field = 0; field < max_fields; field++) {
        Row & row = rows_[size_t(field)];
        row = {};
        row.reads = (use.reads & field_bit(field)) != 0;
        row.makes = (use.makes & field_bit(field)) != 0;
        row.bytes = uint64_t(count) * size_.store.row_bytes(field);
        row.staged = offset;
        offset += largest.field_bytes(field);
        if (!row.reads && !row.makes) continue;
        row.memory = in_place ? store.rows(field, begin) : in_slot(slot_, row.staged);
        if (!row.reads) continue;
        if (in_file) {
            GNV_TRY(store.read(field, begin, count, at(staging_, row.staged)));
            device_.upload(row.memory, at(staging_, row.staged), row.bytes);
        }
        if (!row.makes || !size_.keeps) continue;
        row.kept = at(kept_, kept);
        kept += largest.field_bytes(field);
        device_.copy(row.kept, row.memory, row.bytes);
    }
    return fields();
}

Status DeviceRows::close(HiddenStore & store) {
    if (store.place() == StorePlace::device) return {};
    const bool in_file = store.place() == StorePlace::file;
    if (!in_file) device_.order(Queue::compute, Queue::download);
    for (Field field = 0; field < max_fields; field++) {
        const Row & row = rows_[size_t(field)];
        if (!row.makes) continue;
        if (in_file) {
            device_.download(at(staging_, row.staged), row.memory, row.bytes);
        } else {
            device_.download(store.rows(field, begin_), row.memory, row.bytes, Queue::download);
        }
    }
    if (!in_file) return {};
    GNV_TRY(device_.synchronize());
    for (Field field = 0; field < max_fields; field++) {
        const Row & row = rows_[size_t(field)];
        if (row.makes) GNV_TRY(store.write(field, begin_, count_, at(staging_, row.staged)));
    }
    return {};
}

BatchFields DeviceRows::reopen() {
    for (Row & row : rows_)
        if (row.kept) device_.copy(row.memory, row.kept, row.bytes);
    return fields();
}

// --- Reading ------------------------------------------------------------------------------------------------------------------

Status DeviceRows::read(const HiddenStore & store, Field field, int64_t first, int64_t count, void * to,
                        ThreadPool & threads) {
    const uint64_t row_bytes = size_.store.row_bytes(field);
    const int64_t columns = size_.store.columns[size_t(field)];
    const DType kept = size_.store.dtypes[size_t(field)];
    const DType dtype = kept == DType::bf16 ? kept : DType::f32; // of the size, for integers
    const bool on_host = store.place() == StorePlace::host;
    GNV_TRY(device_.synchronize(on_host ? Queue::download : Queue::compute));
    const int64_t step = on_host ? count : std::max<int64_t>(1, int64_t(size_.host_bytes() / row_bytes));
    for (int64_t done = 0; done < count; done += step) {
        const int64_t rows = std::min(step, count - done);
        const void * from = staging_.get();
        if (on_host) {
            from = store.rows(field, first);
        } else if (store.place() == StorePlace::device) {
            device_.download(staging_.get(), store.rows(field, first + done), uint64_t(rows) * row_bytes);
            GNV_TRY(device_.synchronize());
        } else {
            GNV_TRY(store.read(field, first + done, rows, staging_.get()));
        }
        uint8_t * const here = static_cast<uint8_t *>(to) + done * columns * 4;
        GNV_TRY(widen_to_float(dtype, from, rows * columns, reinterpret_cast<float *>(here), threads));
    }
    return {};
}

} // namespace gnv
