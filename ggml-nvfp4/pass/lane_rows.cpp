#include "pass/lane_rows.h"

#include "exec/host_tensor.h"

#include <algorithm>

namespace gnv {

static constexpr uint64_t most_read_at_once = 4 << 20; // enough for a copy's full speed

// --- Layout --------------------------------------------------------------------------------------------------------------------

const char * place_name(StorePlace place) {
    static const char * const names[] = {"device", "host", "file"};
    return names[size_t(place)];
}

uint64_t RowLayout::row_bytes(Field field) const {
    return uint64_t(columns[size_t(field)]) * uint64_t(dtype_traits(dtypes[size_t(field)]).bits) / 8;
}

uint64_t RowLayout::field_bytes(Field field) const { return device_aligned(uint64_t(positions) * row_bytes(field)); }

uint64_t RowLayout::offset(Field field) const {
    uint64_t at = 0;
    for (Field before = 0; before < field; before++) at += field_bytes(before);
    return at;
}

RowLayout RowLayout::with_positions(int64_t count) const {
    RowLayout layout = *this;
    layout.positions = count;
    return layout;
}

bool rows_are_aliases(const Backend & device) { return !device.device().has_own_memory(); }

static uint64_t batch_bytes(const LaneRowsSize & size) {
    return std::max(size.store.with_positions(size.positions).bytes(),
                    size.store.with_positions(size.head_positions).field_bytes(hidden_field));
}

static uint64_t kept_bytes(const LaneRowsSize & size) {
    const RowLayout batch = size.store.with_positions(size.positions);
    uint64_t bytes = 0;
    for (Field field = 0; field < max_fields; field++)
        if (size.kept & field_bit(field)) bytes += batch.field_bytes(field);
    return bytes;
}

// Rows in host memory are copied while the device works, those of a file are not.
static uint64_t slots(const LaneRowsSize & size) {
    return size.place == StorePlace::device ? 0 : size.place == StorePlace::host ? 2 : 1;
}

uint64_t LaneRowsSize::device_bytes(const Backend & device) const {
    if (rows_are_aliases(device)) return 0;
    const uint64_t kept_here = place == StorePlace::device ? variants * store.bytes() : 0;
    return kept_here + slots(*this) * batch_bytes(*this) + kept_bytes(*this);
}

uint64_t LaneRowsSize::host_bytes(const Backend & device) const {
    if (place == StorePlace::file) return batch_bytes(*this);
    if (place == StorePlace::host || rows_are_aliases(device)) return variants * store.bytes();
    return std::min(batch_bytes(*this), most_read_at_once);
}

LaneRows::LaneRows(Backend & device, const LaneRowsSize & size)
    : device_(device), size_(size), aliases_(rows_are_aliases(device)),
      place_(aliases_ && size.place == StorePlace::device ? StorePlace::host : size.place) {}

bool LaneRows::in_place() const { return place_ == StorePlace::device || (aliases_ && place_ == StorePlace::host); }

// Fails if a scratch file cannot grow to its size now.
Status LaneRows::add_store(const std::string & scratch_folder) {
    Store & store = stores_.emplace_back();
    if (place_ == StorePlace::device) {
        GNV_ASSIGN(store.on_device, device_.allocate(size_.store.bytes()));
    } else if (place_ == StorePlace::host) {
        GNV_ASSIGN(store.on_host, device_.allocate_host(size_.store.bytes()));
    } else {
        GNV_ASSIGN(File file, File::create_unnamed(scratch_folder));
        GNV_TRY(file.reserve(size_.store.bytes()));
        store.file = std::make_unique<File>(std::move(file));
    }
    return {};
}

Status LaneRows::add_stores(const std::string & scratch_folder) {
    const char * const what = place_ == StorePlace::file ? "scratch file for hidden states" : "hidden states";
    for (size_t v = 0; v < size_.variants; v++) GNV_TRY(add_store(scratch_folder).add_context(what));
    return {};
}

void * LaneRows::rows(size_t variant, Field field, int64_t first) const {
    const Store & store = stores_[variant];
    void * const memory = store.on_device ? store.on_device.get() : store.on_host.get();
    return static_cast<uint8_t *>(memory) + in_file(field, first);
}

uint64_t LaneRows::in_file(Field field, int64_t first) const {
    return size_.store.offset(field) + uint64_t(first) * size_.store.row_bytes(field);
}

Result<std::unique_ptr<LaneRows>> LaneRows::create(Backend & device, const LaneRowsSize & size) {
    std::unique_ptr<LaneRows> rows(new LaneRows(device, size));
    if (rows->aliases_) return rows;
    if (size.place != StorePlace::device) {
        GNV_ASSIGN(rows->batch_, device.allocate(slots(size) * batch_bytes(size)));
    }
    if (size.kept != 0) {
        GNV_ASSIGN(rows->kept_, device.allocate(kept_bytes(size)));
    }
    if (size.place == StorePlace::device) GNV_TRY(rows->add_stores({}));
    return rows;
}

LaneRows::~LaneRows() { // queued work must end before memory is freed
    for (const Queue queue : {Queue::upload, Queue::compute, Queue::download}) (void)device_.synchronize(queue);
}

Status LaneRows::allocate_host(const std::string & scratch_folder) {
    if (place_ != StorePlace::host) {
        GNV_ASSIGN(staging_, device_.allocate_host(size_.host_bytes(device_)));
    }
    return place_ == StorePlace::device ? Status() : add_stores(scratch_folder);
}

// --- A batch ------------------------------------------------------------------------------------------------------------------

template <class Memory>
static uint8_t * at(const Memory & memory, uint64_t offset) {
    return static_cast<uint8_t *>(memory.get()) + offset;
}

BatchFields LaneRows::fields() const {
    BatchFields fields;
    for (size_t f = 0; f < max_fields; f++) fields[f] = rows_[f].memory;
    return fields;
}

uint8_t * LaneRows::in_slot(int slot, uint64_t offset) const {
    return aliases_ ? at(staging_, offset) : at(batch_, uint64_t(slot) * batch_bytes(size_) + offset);
}

void LaneRows::prepare(size_t variant, int64_t begin, int64_t count, const FieldUse & use) {
    if (!through_host()) return;
    // The batch before the present one used this slot: its work and its download must have ended.
    device_.order(Queue::compute, Queue::upload);
    device_.order(Queue::download, Queue::upload);
    const RowLayout largest = size_.store.with_positions(size_.positions);
    uint64_t offset = 0;
    for (Field field = 0; field < max_fields; field++) {
        if (use.reads & field_bit(field))
            device_.upload(in_slot(1 - slot_, offset), rows(variant, field, begin),
                           uint64_t(count) * size_.store.row_bytes(field), Queue::upload);
        offset += largest.field_bytes(field);
    }
    prepared_ = {variant, begin};
}

Result<BatchFields> LaneRows::open(size_t variant, int64_t begin, int64_t count, const FieldUse & use) {
    const bool through_file = place_ == StorePlace::file;
    if (through_host()) {
        if (prepared_.variant != variant || prepared_.begin != begin) prepare(variant, begin, count, use);
        prepared_ = {};
        slot_ = 1 - slot_;
        device_.order(Queue::upload, Queue::compute);
    }
    if (through_file) GNV_TRY(device_.synchronize()); // the last batch may still read staging_
    begin_ = begin, count_ = count;
    const RowLayout largest = size_.store.with_positions(size_.positions);
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
        GNV_CHECK(in_place() || row.staged + row.bytes <= batch_bytes(size_));
        row.memory = in_place() ? rows(variant, field, begin) : in_slot(slot_, row.staged);
        if (!row.reads) continue;
        if (through_file) {
            GNV_TRY(stores_[variant].file->read(at(staging_, row.staged), row.bytes, in_file(field, begin)));
            if (!aliases_) device_.upload(row.memory, at(staging_, row.staged), row.bytes);
        }
        if (!row.makes || !kept_ || !(size_.kept & field_bit(field))) continue;
        row.kept = at(kept_, kept);
        kept += largest.field_bytes(field);
        device_.copy(row.kept, row.memory, row.bytes);
    }
    return fields();
}

Status LaneRows::close(size_t variant) {
    if (in_place()) return {};
    const bool through_file = place_ == StorePlace::file;
    if (!through_file) device_.order(Queue::compute, Queue::download);
    for (Field field = 0; field < max_fields; field++) {
        const Row & row = rows_[size_t(field)];
        if (!row.makes || aliases_) continue;
        if (through_file) {
            device_.download(at(staging_, row.staged), row.memory, row.bytes);
        } else {
            device_.download(rows(variant, field, begin_), row.memory, row.bytes, Queue::download);
        }
    }
    if (!through_file) return {};
    GNV_TRY(device_.synchronize());
    for (Field field = 0; field < max_fields; field++) {
        const Row & row = rows_[size_t(field)];
        if (row.makes)
            GNV_TRY(stores_[variant].file->write(at(staging_, row.staged), row.bytes, in_file(field, begin_)));
    }
    return {};
}

BatchFields LaneRows::reopen() {
    for (Row & row : rows_)
        if (row.kept) device_.copy(row.memory, row.kept, row.bytes);
    return fields();
}

// --- All rows -----------------------------------------------------------------------------------------------------------------

Status LaneRows::for_pieces(size_t variant, Field field,
                            const std::function<Status(uint64_t at, void * host, uint64_t bytes)> & work) {
    for (const Queue queue : {Queue::upload, Queue::compute, Queue::download}) GNV_TRY(device_.synchronize(queue));
    const uint64_t begin = in_file(field, 0),
                   end = begin + uint64_t(size_.store.positions) * size_.store.row_bytes(field);
    const bool on_host = place_ == StorePlace::host;
    const uint64_t step = on_host ? most_read_at_once : size_.host_bytes(device_);
    for (uint64_t at = begin; at < end; at += step) {
        void * const host = on_host ? static_cast<uint8_t *>(stores_[variant].on_host.get()) + at : staging_.get();
        GNV_TRY(work(at, host, std::min(step, end - at)));
    }
    return {};
}

Status LaneRows::save(size_t variant, Field field, const std::function<Status(const void *, uint64_t)> & take) {
    return for_pieces(variant, field, [&](uint64_t at, void * host, uint64_t bytes) -> Status {
        const Store & store = stores_[variant];
        if (place_ == StorePlace::file) GNV_TRY(store.file->read(host, bytes, at));
        if (place_ == StorePlace::device) {
            device_.download(host, static_cast<uint8_t *>(store.on_device.get()) + at, bytes);
            GNV_TRY(device_.synchronize());
        }
        return take(host, bytes);
    });
}

Status LaneRows::restore(size_t variant, Field field, const std::function<Status(void *, uint64_t)> & give) {
    return for_pieces(variant, field, [&](uint64_t at, void * host, uint64_t bytes) -> Status {
        const Store & store = stores_[variant];
        GNV_TRY(give(host, bytes));
        if (place_ == StorePlace::file) return store.file->write(host, bytes, at);
        if (place_ == StorePlace::host) return {};
        device_.upload(static_cast<uint8_t *>(store.on_device.get()) + at, host, bytes);
        return device_.synchronize();
    });
}

// --- Reading ------------------------------------------------------------------------------------------------------------------

const void * LaneRows::in_host_memory(size_t variant, Field field, int64_t first) const {
    return aliases_ && in_place() ? rows(variant, field, first) : nullptr;
}

Status LaneRows::read(size_t variant, Field field, int64_t first, int64_t count, void * to, ThreadPool & threads) {
    const uint64_t row_bytes = size_.store.row_bytes(field);
    const int64_t columns = size_.store.columns[size_t(field)];
    const DType kept = size_.store.dtypes[size_t(field)];
    const DType dtype = kept == DType::bf16 ? kept : DType::f32; // of the size, for integers
    const bool on_host = place_ == StorePlace::host;
    GNV_TRY(device_.synchronize(on_host ? Queue::download : Queue::compute));
    const int64_t step = on_host ? count : std::max<int64_t>(1, int64_t(size_.host_bytes(device_) / row_bytes));
    for (int64_t done = 0; done < count; done += step) {
        const int64_t here = std::min(step, count - done);
        const uint64_t bytes = uint64_t(here) * row_bytes;
        const void * from = staging_.get();
        if (on_host) {
            from = rows(variant, field, first);
        } else if (place_ == StorePlace::device) {
            device_.download(staging_.get(), rows(variant, field, first + done), bytes);
            GNV_TRY(device_.synchronize());
        } else {
            GNV_TRY(stores_[variant].file->read(staging_.get(), bytes, in_file(field, first + done)));
        }
        float * const place = static_cast<float *>(to) + done * columns;
        GNV_TRY(widen_to_float(dtype, from, here * columns, place, threads));
    }
    return {};
}

} // namespace gnv
