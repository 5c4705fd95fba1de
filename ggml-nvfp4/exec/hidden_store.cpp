#include "exec/hidden_store.h"

namespace gnv {

static uint64_t field_bytes(const HiddenStore::Layout & layout, size_t field) {
    return rounded_to_64(uint64_t(layout.positions) * uint64_t(layout.columns[field]) * 4);
}

uint64_t HiddenStore::Layout::bytes() const {
    uint64_t sum = 0;
    for (size_t field = 0; field < columns.size(); field++) sum += field_bytes(*this, field);
    return sum;
}

Result<HiddenStore> HiddenStore::create(const Layout & layout, const std::string & scratch_folder) {
    HiddenStore store;
    store.layout_ = layout;
    if (scratch_folder.empty()) {
        GNV_ASSIGN(store.memory_, allocate_block(layout.bytes(), "hidden states"));
        return store;
    }
    GNV_ASSIGN(File file, File::create_unnamed(scratch_folder));
    GNV_TRY(file.reserve(layout.bytes()).add_context("scratch file for hidden states"));
    store.file_ = std::make_unique<File>(std::move(file));
    return store;
}

uint64_t HiddenStore::offset(Field field, int64_t row) const {
    uint64_t at = 0;
    for (size_t before = 0; before < size_t(field); before++) at += field_bytes(layout_, before);
    return at + uint64_t(row) * uint64_t(layout_.columns[size_t(field)]) * 4;
}

void * HiddenStore::rows(Field field, int64_t first) const {
    return memory_ ? memory_.get() + offset(field, first) : nullptr;
}

Status HiddenStore::read(Field field, int64_t first, int64_t count, void * to) const {
    return file_->read(to, uint64_t(count * layout_.columns[size_t(field)]) * 4, offset(field, first));
}

Status HiddenStore::write(Field field, int64_t first, int64_t count, const void * from) {
    return file_->write(from, uint64_t(count * layout_.columns[size_t(field)]) * 4, offset(field, first));
}

} // namespace gnv
