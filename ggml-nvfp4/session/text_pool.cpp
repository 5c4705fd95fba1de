#include "session/text_pool.h"

#include <algorithm>

namespace gnv {

static int64_t pages_of(int64_t positions) { return (positions + cache_page - 1) / cache_page; }

StateExtents TextPool::extents(int64_t texts, int64_t positions, int64_t capacity) {
    return {texts, pages_of(capacity) * cache_page, pages_of(positions)};
}

Result<TextPool> TextPool::create(const TextStates::Specs & specs, const std::vector<Backend *> & devices,
                                  const StateExtents & extents) {
    TextPool pool;
    GNV_ASSIGN(pool.states_, TextStates::create(specs, devices, extents));
    pool.bytes_ = TextStates::bytes(specs, devices.front()->activation_dtype(), extents);
    for (int64_t i = extents.texts; i-- > 0;) pool.free_slots_.push_back(int32_t(i));
    for (int64_t i = extents.pages; i-- > 0;) pool.free_pages_.push_back(int32_t(i));
    pool.holders_.resize(size_t(extents.pages));
    return pool;
}

PoolUse TextPool::use() const {
    const StateExtents & all = extents();
    return {all.texts - int64_t(free_slots_.size()), (all.pages - int64_t(free_pages_.size())) * cache_page, all.texts,
            all.pages * cache_page, bytes_};
}

Status TextPool::refuse_pages(int64_t wanted) const {
    const PoolUse now = use();
    return fail(Code::out_of_memory, "the caches of texts hold ", now.most_positions, " positions, ", now.positions,
                " are taken, and ", wanted * cache_page, " more are needed (pages of ", cache_page,
                "): close or restart a text, or open the model for more positions");
}

int32_t TextPool::take_page() {
    const int32_t page = free_pages_.back();
    free_pages_.pop_back();
    holders_[size_t(page)] = 1;
    return page;
}

void TextPool::release_pages(PooledText & text) {
    for (auto page = text.pages.rbegin(); page != text.pages.rend(); ++page)
        if (--holders_[size_t(*page)] == 0) free_pages_.push_back(*page);
    text.pages.clear();
    text.past = 0;
}

Result<PooledText> TextPool::open() {
    if (free_slots_.empty())
        return fail(Code::out_of_memory, "all ", extents().texts,
                    " texts that the model was opened for exist: close one, or open the model for more");
    PooledText text;
    text.slot = free_slots_.back();
    free_slots_.pop_back();
    states_.clear_entry(text.slot);
    return text;
}

Status TextPool::reserve(PooledText & text, int64_t positions) {
    const int64_t missing = pages_of(positions) - int64_t(text.pages.size());
    if (missing > int64_t(free_pages_.size())) return refuse_pages(missing);
    text.pages.reserve(size_t(pages_of(positions))); // no page is lost to a failure
    for (int64_t i = 0; i < missing; i++) text.pages.push_back(take_page());
    return {};
}

void TextPool::take_copy(PooledText & to, const PooledText & from) {
    const auto full = size_t(from.past / cache_page);
    to.pages.reserve(full + 1);
    states_.copy_entry(to.slot, from.slot);
    to.past = from.past;
    to.pages.assign(from.pages.begin(), from.pages.begin() + ptrdiff_t(full));
    for (const int32_t page : to.pages) holders_[size_t(page)]++;
    if (from.past % cache_page == 0) return;
    to.pages.push_back(take_page()); // both go on to write in the last one
    states_.copy_page(to.pages.back(), from.pages[full]);
}

Result<PooledText> TextPool::copy(const PooledText & text) {
    if (text.past % cache_page != 0 && free_pages_.empty()) return refuse_pages(1);
    GNV_ASSIGN(PooledText made, open());
    take_copy(made, text);
    return made;
}

Status TextPool::assign(PooledText & to, const PooledText & from) {
    const bool gives_back =
        std::any_of(to.pages.begin(), to.pages.end(), [&](int32_t page) { return holders_[size_t(page)] == 1; });
    if (from.past % cache_page != 0 && free_pages_.empty() && !gives_back) return refuse_pages(1);
    release_pages(to);
    take_copy(to, from);
    return {};
}

void TextPool::restart(PooledText & text) {
    release_pages(text);
    states_.clear_entry(text.slot);
}

void TextPool::close(PooledText & text) {
    release_pages(text);
    free_slots_.push_back(text.slot);
    text.slot = -1;
}

} // namespace gnv
