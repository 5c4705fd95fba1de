#include "data/parquet/parquet_column.h"

#include "data/parquet/parquet_delta.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

namespace gnv {

static uint32_t read_u32(const char * bytes) {
    unsigned char b[4];
    memcpy(b, bytes, 4);
    return b[0] | b[1] << 8 | b[2] << 16 | uint32_t(b[3]) << 24;
}

// --- ParquetHybrid ----------------------------------------------------------------------------------------------------------

bool ParquetHybrid::start_run() {
    uint64_t head = 0;
    for (int shift = 0;; shift += 7) {
        if (at_ == bytes_.size() || shift > 28) return false;
        const auto part = static_cast<unsigned char>(bytes_[at_++]);
        head |= uint64_t(part & 0x7f) << shift;
        if (!(part & 0x80)) break;
    }
    packed_ = head & 1;
    left_ = packed_ ? (head >> 1) * 8 : head >> 1;
    if (packed_) {
        // The last group of a page may be cut short; next() sees where the bytes end.
        bit_ = uint64_t(at_) * 8;
        at_ += size_t(std::min<uint64_t>((head >> 1) * width_, bytes_.size() - at_));
        return true;
    }
    const size_t value_bytes = (width_ + 7) / 8;
    if (bytes_.size() - at_ < value_bytes) return false;
    repeated_ = 0;
    for (size_t i = 0; i < value_bytes; i++)
        repeated_ |= uint32_t(static_cast<unsigned char>(bytes_[at_++])) << (8 * i);
    return true;
}

bool ParquetHybrid::next(uint32_t & value) {
    value = 0;
    if (width_ == 0) return true;
    while (left_ == 0)
        if (!start_run()) return false;
    left_--;
    if (!packed_) {
        value = repeated_;
        return true;
    }
    const uint64_t end = bit_ + width_;
    if (end > uint64_t(bytes_.size()) * 8) return false;
    uint64_t window = 0;
    for (uint64_t byte = bit_ / 8, shift = 0; byte * 8 < end; byte++, shift += 8)
        window |= uint64_t(static_cast<unsigned char>(bytes_[size_t(byte)])) << shift;
    value = uint32_t(window >> (bit_ % 8)) & uint32_t((uint64_t(1) << width_) - 1);
    bit_ = end;
    return true;
}

// --- Pages ------------------------------------------------------------------------------------------------------------------

ParquetColumnReader::ParquetColumnReader(const ParquetFile & file, const ParquetRowGroup & group, uint32_t column)
    : file_(&file), column_(&file.columns[column]), share_(file.control), pages_(file, group.chunks[column]) {}

Status ParquetColumnReader::with_context(Status status) const {
    const bool is_too_large = cell_bytes_ > max_record_bytes;
    return with_remedy(std::move(status), is_too_large ? split_record : damaged_file)
        .add_context(concat(file_->file.path(), ": column ", printable(column_->name())));
}

static Status unsupported_encoding(int64_t encoding) {
    return fail(Code::unsupported, "uses ", encoding_text(encoding),
                ", which this reader does not know: rewrite the file with PLAIN or dictionary encoding, for example in "
                "Python: pyarrow.parquet.write_table(pyarrow.parquet.read_table(\"a.parquet\"), \"b.parquet\")");
}

// Reserves memory for a page's body before it is allocated, beside the `kept` bytes of the other one.
Status ParquetColumnReader::load(const ParquetPage & page, uint64_t kept, std::string & body) {
    GNV_TRY(file_->control.check());
    std::string().swap(body);
    (void)share_.resize(kept);
    // While it is decompressed, the content grows in a string, and once more in the window of the decoder.
    const uint64_t bytes = page.stored_bytes + 4 * page.content_bytes;
    if (!share_.resize(kept + bytes))
        return file_->control.too_small(concat("a page of ", bytes_text(page.content_bytes), " at byte ", page.offset),
                                        bytes);
    GNV_TRY(pages_.load(page, body));
    (void)share_.resize(kept + body.capacity());
    return {};
}

Status ParquetColumnReader::load_dictionary(const ParquetPage & page) {
    if (std::exchange(has_dictionary_, true)) return fail(Code::format, "a second dictionary at byte ", page.offset);
    if (page.encoding != int64_t(ParquetEncoding::plain) && page.encoding != int64_t(ParquetEncoding::plain_dictionary))
        return unsupported_encoding(page.encoding);
    GNV_TRY(load(page, page_.capacity(), dictionary_));
    // A value takes four bytes there at least.
    const uint64_t positions_bytes =
        2 * std::min<uint64_t>(page.entries, dictionary_.size() / 4 + 1) * sizeof(uint32_t);
    if (!share_.resize(share_.bytes() + positions_bytes))
        return file_->control.too_small(concat("a dictionary of ", page.entries, " values"), positions_bytes);
    size_t at = 0;
    for (uint64_t i = 0; i < page.entries; i++) {
        const size_t left = dictionary_.size() - at;
        if (left < 4 || read_u32(&dictionary_[at]) > left - 4)
            return fail(Code::format, "dictionary at byte ", page.offset, " ends inside its value ", i);
        dictionary_at_.push_back(uint32_t(at));
        at += 4 + read_u32(&dictionary_[at]);
    }
    return {};
}

// Puts the values behind the levels in their PLAIN form. Prefixes that values share make any number of bytes of few.
Status ParquetColumnReader::expand_delta(const ParquetPage & page, uint64_t kept) {
    const uint64_t room = file_->control.left() / 3; // it grows in a string
    const uint64_t limit = std::min(max_parquet_page_bytes, room);
    Result<std::string> plain =
        plain_of_delta(std::string_view(page_).substr(plain_at_), ParquetEncoding(page.encoding), limit);
    if (!plain.ok() && limit == room && limit < max_parquet_page_bytes)
        return file_->control.too_small(concat("the values of a page at byte ", page.offset),
                                        3 * max_parquet_page_bytes);
    if (!plain.ok()) return plain.take_status().add_context(concat("page at byte ", page.offset));
    delta_values_ = plain.take();
    if (share_.resize(kept + page_.capacity() + delta_values_.capacity())) {
        plain_at_ = 0;
        return {};
    }
    return file_->control.too_small(concat("the values of a page at byte ", page.offset), delta_values_.capacity());
}

// Cuts the page into levels and values.
Status ParquetColumnReader::load_data(const ParquetPage & page) {
    std::string().swap(delta_values_);
    by_dictionary_ = page.encoding == int64_t(ParquetEncoding::plain_dictionary) ||
                     page.encoding == int64_t(ParquetEncoding::rle_dictionary);
    const bool is_delta = page.encoding == int64_t(ParquetEncoding::delta_length_byte_array) ||
                          page.encoding == int64_t(ParquetEncoding::delta_byte_array);
    if (!by_dictionary_ && !is_delta && page.encoding != int64_t(ParquetEncoding::plain))
        return unsupported_encoding(page.encoding);
    const bool v2 = page.kind == ParquetPage::Kind::data_v2;
    const uint64_t kept = dictionary_.capacity() + dictionary_at_.capacity() * sizeof(uint32_t);
    GNV_TRY(load(page, kept, page_));
    page_offset_ = page.offset;
    std::string_view rest = page_;
    const auto cut_levels = [&](uint32_t max_level, uint64_t v2_bytes, int64_t encoding,
                                ParquetHybrid & levels) -> Status {
        uint64_t size = v2_bytes;
        if (!v2 && max_level > 0) {
            if (encoding != int64_t(ParquetEncoding::rle)) return unsupported_encoding(encoding);
            if (rest.size() < 4) return fail(Code::format, "page at byte ", page.offset, " ends inside its levels");
            size = read_u32(rest.data());
            rest.remove_prefix(4);
        }
        if (size > rest.size()) return fail(Code::format, "page at byte ", page.offset, " ends inside its levels");
        levels = ParquetHybrid(rest.substr(0, size_t(size)), uint32_t(std::bit_width(max_level)));
        rest.remove_prefix(size_t(size));
        return {};
    };
    GNV_TRY(cut_levels(column_->max_repetition, page.repetition_bytes, page.repetition_encoding, repetitions_));
    GNV_TRY(cut_levels(column_->max_definition, page.definition_bytes, page.definition_encoding, definitions_));
    plain_at_ = page_.size() - rest.size();
    if (is_delta) GNV_TRY(expand_delta(page, kept));
    if (by_dictionary_ && !rest.empty()) {
        const auto width = static_cast<unsigned char>(rest[0]);
        if (width > 32)
            return fail(Code::format, "page at byte ", page.offset, ": dictionary positions of ", width, " bits");
        positions_ = ParquetHybrid(rest.substr(1), width);
    } else {
        positions_ = ParquetHybrid({}, 1); // a page of nulls has no positions
    }
    entries_left_ = page.entries;
    return {};
}

// Goes to the next data page, or sets at_end_. Pages of a flat column whose rows are all among the `skippable` next
// ones are passed unread and counted off.
Status ParquetColumnReader::next_page(uint64_t & skippable) {
    ParquetPage page;
    for (;;) {
        GNV_ASSIGN(const bool found, pages_.next(page));
        at_end_ = !found;
        if (!found) return {};
        if (page.kind == ParquetPage::Kind::dictionary) {
            GNV_TRY(load_dictionary(page));
        } else if (page.kind == ParquetPage::Kind::data_v1 || page.kind == ParquetPage::Kind::data_v2) {
            if (column_->max_repetition > 0 || page.entries > skippable) return load_data(page);
            skippable -= page.entries;
        }
    }
}

// --- Entries ----------------------------------------------------------------------------------------------------------------

// Afterwards the reader has an entry, or is at the end of the chunk.
Status ParquetColumnReader::peek_entry() {
    uint64_t none_skippable = 0;
    while (!has_entry_ && entries_left_ == 0 && !at_end_) GNV_TRY(next_page(none_skippable));
    if (has_entry_ || at_end_) return {};
    if (!repetitions_.next(repetition_) || !definitions_.next(definition_) || repetition_ > column_->max_repetition ||
        definition_ > column_->max_definition)
        return fail(Code::format, "page at byte ", page_offset_, ": damaged levels");
    entries_left_--;
    has_entry_ = true;
    return {};
}

Status ParquetColumnReader::take_value(std::string_view & value) {
    const std::string * bytes = delta_values_.empty() ? &page_ : &delta_values_;
    size_t at = plain_at_;
    if (by_dictionary_) {
        uint32_t position;
        if (!positions_.next(position) || position >= dictionary_at_.size())
            return fail(Code::format, "page at byte ", page_offset_, ": a position outside the dictionary of ",
                        dictionary_at_.size(), " values");
        bytes = &dictionary_;
        at = dictionary_at_[position];
    } else if (bytes->size() - at < 4 || read_u32(&(*bytes)[at]) > bytes->size() - at - 4) {
        return fail(Code::format, "page at byte ", page_offset_, ": ends inside a value");
    }
    value = std::string_view(*bytes).substr(at + 4, read_u32(&(*bytes)[at]));
    if (!by_dictionary_) plain_at_ = at + 4 + value.size();
    return {};
}

Status ParquetColumnReader::take_entry(ParquetCell * cell) {
    has_entry_ = false;
    std::optional<std::string_view> value;
    if (definition_ == column_->max_definition) GNV_TRY(take_value(value.emplace()));
    if (!cell) return {};
    const bool is_nested = column_->max_repetition == 2 && definition_ >= column_->outer_definition;
    const bool begins_list = is_nested && (repetition_ <= 1 || cell->ends.empty());
    const bool is_element = value || definition_ >= column_->element_definition;
    // Runs and dictionaries make any number of elements out of few bytes.
    cell_bytes_ += (begins_list ? sizeof cell->ends[0] : 0) + (is_element ? sizeof cell->entries[0] : 0) +
                   (value ? value->size() : 0);
    if (cell_bytes_ > max_record_bytes)
        return fail(Code::format, "page at byte ", page_offset_, ": a row is larger than ",
                    bytes_text(max_record_bytes));
    if (cell_bytes_ > longest_cell_) return {};
    if (is_element) cell->entries.emplace_back(value);
    if (begins_list) cell->ends.push_back(0);
    if (is_nested) cell->ends.back() = uint32_t(cell->entries.size());
    return {};
}

// --- Rows -------------------------------------------------------------------------------------------------------------------

Status ParquetColumnReader::take_row(ParquetCell * cell) {
    GNV_TRY(peek_entry());
    if (!has_entry_) return Status(Code::format, "the column chunk holds fewer rows than its row group");
    do {
        GNV_TRY(take_entry(cell));
        if (column_->max_repetition == 0) return {};
        GNV_TRY(peek_entry());
    } while (has_entry_ && repetition_ > 0);
    return {};
}

Status ParquetColumnReader::pass_rows(uint64_t rows) {
    while (rows > 0) {
        if (!has_entry_ && entries_left_ == 0) GNV_TRY(next_page(rows));
        if (rows == 0) break;
        GNV_TRY(take_row(nullptr));
        rows--;
    }
    return {};
}

Status ParquetColumnReader::skip(uint64_t rows) { return with_context(pass_rows(rows)); }

Status ParquetColumnReader::read(ParquetCell & cell) {
    cell.entries.clear();
    cell.ends.clear();
    cell_bytes_ = 0;
    longest_cell_ = file_->control.longest_record();
    GNV_TRY(with_context(take_row(&cell)));
    return with_context(file_->control.check_record("a row", cell_bytes_));
}

} // namespace gnv
