#include "run/hidden_store.h"

namespace gnv {

const char * place_name(StorePlace place) {
    static const char * const names[] = {"device", "host", "file"};
    return names[size_t(place)];
}

uint64_t HiddenStore::Layout::row_bytes(Field field) const {
    return uint64_t(columns[size_t(field)]) * uint64_t(dtype_traits(dtypes[size_t(field)]).bits) / 8;
}

uint64_t HiddenStore::Layout::field_bytes(Field field) const {
    return device_aligned(uint64_t(positions) * row_bytes(field));
}

uint64_t HiddenStore::Layout::bytes() const {
    uint64_t sum = 0;
    for (Field field = 0; field < max_fields; field++) sum += field_bytes(field);
    return sum;
}

HiddenStore::Layout HiddenStore::Layout::with_positions(int64_t count) const {
    Layout layout = *this;
    layout.positions = count;
    return layout;
}

Result<HiddenStore> HiddenStore::create(const Layout & layout, StorePlace place, Backend & device,
                                        const std::string & scratch_folder) {
    HiddenStore store;
    store.layout_ = layout;
    store.place_ = place;
    const auto in_words = [](Status status) {
        status.add_context("hidden states");
        return status;
    };
    if (place == StorePlace::device) {
        Result<DeviceMemory> memory = device.allocate(layout.bytes());
        if (!memory.ok()) return in_words(memory.take_status());
        store.on_device_ = memory.take();
    } else if (place == StorePlace::host) {
        Result<HostMemory> memory = device.allocate_host(layout.bytes());
        if (!memory.ok()) return in_words(memory.take_status());
        store.on_host_ = memory.take();
    } else {
        GNV_ASSIGN(File file, File::create_unnamed(scratch_folder));
        GNV_TRY(file.reserve(layout.bytes()).add_context("scratch file for hidden states"));
        store.file_ = std::make_unique<File>(std::move(file));
    }
    return store;
}

uint64_t HiddenStore::offset(Field field, int64_t row) const {
    uint64_t at = 0;
    for (Field before = 0; before < field; before++) at += layout_.field_bytes(before);
    return at + uint64_t(row) * layout_.row_bytes(field);
}

void * HiddenStore::rows(Field field, int64_t first) const {
    void * const memory = on_device_ ? on_device_.get() : on_host_.get();
    return memory ? static_cast<uint8_t *>(memory) + offset(field, first) : nullptr;
}

Status HiddenStore::read(Field field, int64_t first, int64_t count, void * to) const {
    return file_->read(to, uint64_t(count) * layout_.row_bytes(field), offset(field, first));
}

Status HiddenStore::write(Field field, int64_t first, int64_t count, const void * from) {
    return file_->write(from, uint64_t(count) * layout_.row_bytes(field), offset(field, first));
}

} // namespace gnv
