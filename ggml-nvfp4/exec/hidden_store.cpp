#include "exec/hidden_store.h"

#include <cstdlib>

namespace gnv {

void HiddenStore::Free::operator()(uint8_t * memory) const { std::free(memory); }

static uint64_t field_bytes(const HiddenStore::Layout & layout, size_t field) {
    return (uint64_t(layout.positions) * uint64_t(layout.columns[field]) * 4 + 63) / 64 * 64;
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
        const uint64_t bytes = std::max<uint64_t>(64, layout.bytes());
        store.memory_.reset(static_cast<uint8_t *>(std::aligned_alloc(64, bytes)));
        if (!store.memory_)
            return fail(Code::out_of_memory, "cannot allocate ", bytes_text(bytes), " for hidden states");
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
