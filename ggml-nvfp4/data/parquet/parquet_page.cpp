#include "data/parquet/parquet_page.h"

#include "data/parquet/parquet_codecs.h"
#include "data/parquet/thrift.h"

#include <algorithm>
#include <zlib.h>

namespace gnv {

using Type = ThriftReader::Type;
using Field = ThriftReader::StructScope;

// Headers hold statistics, which may hold whole strings.
static constexpr uint64_t first_header_guess = 4 << 10, max_header_bytes = 16 << 20;

std::string encoding_text(int64_t encoding) {
    static const char * const names[] = {"PLAIN",
                                         nullptr,
                                         "PLAIN_DICTIONARY",
                                         "RLE",
                                         "BIT_PACKED",
                                         "DELTA_BINARY_PACKED",
                                         "DELTA_LENGTH_BYTE_ARRAY",
                                         "DELTA_BYTE_ARRAY",
                                         "RLE_DICTIONARY",
                                         "BYTE_STREAM_SPLIT"};
    const bool named = encoding >= 0 && encoding < int64_t(std::size(names)) && names[encoding];
    return named ? names[encoding] : concat("encoding ", encoding);
}

// --- Headers --------------------------------------------------------------------------------------------------------------

// DataPageHeader, DictionaryPageHeader and DataPageHeaderV2 differ only in the meaning of the numbers.
static void read_data_header_v1(ThriftReader & in, ParquetPage & page, int64_t & entries) {
    for (Field field; in.next_field(field);) {
        switch (field.id) {
        case 1: entries = in.integer(field); break;
        case 2: page.encoding = in.integer(field); break;
        case 3: page.definition_encoding = in.integer(field); break;
        case 4: page.repetition_encoding = in.integer(field); break;
        default: in.skip(field);
        }
    }
}

static void read_dictionary_header(ThriftReader & in, ParquetPage & page, int64_t & entries) {
    for (Field field; in.next_field(field);) {
        switch (field.id) {
        case 1: entries = in.integer(field); break;
        case 2: page.encoding = in.integer(field); break;
        default: in.skip(field);
        }
    }
}

static void read_data_header_v2(ThriftReader & in, ParquetPage & page, int64_t & entries) {
    for (Field field; in.next_field(field);) {
        switch (field.id) {
        case 1: entries = in.integer(field); break;
        case 4: page.encoding = in.integer(field); break;
        case 5: page.definition_bytes = uint64_t(in.integer(field)); break;
        case 6: page.repetition_bytes = uint64_t(in.integer(field)); break;
        case 7: page.values_compressed = in.boolean(field); break;
        default: in.skip(field);
        }
    }
}

// `complete` stays false when `bytes` ends inside the header.
Status ParquetPages::parse_header(const std::string & bytes, ParquetPage & page, bool & complete) {
    ThriftReader in(bytes);
    page = {};
    int64_t kind = -1, entries = -1, content = -1, stored = -1;
    bool has_details = false;
    for (Field field; in.next_field(field);) {
        switch (field.id) {
        case 1: kind = in.integer(field); break;
        case 2: content = in.integer(field); break;
        case 3: stored = in.integer(field); break;
        case 4: page.crc = uint32_t(in.integer(field)); break;
        case 5:
        case 7:
        case 8:
            has_details = in.structure(field);
            if (field.id == 5) read_data_header_v1(in, page, entries);
            if (field.id == 7) read_dictionary_header(in, page, entries);
            if (field.id == 8) read_data_header_v2(in, page, entries);
            break;
        default: in.skip(field);
        }
    }
    complete = in.ok();
    if (!complete) return {};
    const auto damaged = [&](const auto &... what) { return fail(Code::format, "page at byte ", at_, ": ", what...); };
    page.kind = kind >= 0 && kind <= 3 ? ParquetPage::Kind(kind) : ParquetPage::Kind::other;
    page.offset = at_ + in.position();
    const uint64_t left = chunk_->offset + chunk_->bytes - page.offset;
    if (stored < 0 || uint64_t(stored) > left)
        return damaged(stored, " bytes, where the column chunk has ", left, " left");
    if (content < 0 || uint64_t(content) > max_parquet_page_bytes)
        return damaged(content, " bytes of content; at most ", max_parquet_page_bytes, " are expected");
    page.stored_bytes = uint64_t(stored);
    page.content_bytes = uint64_t(content);
    if (page.kind == ParquetPage::Kind::index || page.kind == ParquetPage::Kind::other) return {};
    if (!has_details || entries < 0) return damaged("the header lacks the number of values");
    page.entries = uint64_t(entries);
    const uint64_t shorter = std::min(page.stored_bytes, page.content_bytes);
    if (page.definition_bytes > shorter || page.repetition_bytes > shorter - page.definition_bytes)
        return damaged("the levels are longer than the page");
    return {};
}

Result<bool> ParquetPages::next(ParquetPage & page) {
    const uint64_t left = chunk_->offset + chunk_->bytes - at_;
    if (left == 0 || (chunk_->is_padded && entries_ >= chunk_->entries)) return false;
    bool complete = false;
    for (uint64_t guess = std::min(first_header_guess, left); !complete; guess = std::min(8 * guess, left)) {
        std::string bytes(size_t(guess), '\0');
        GNV_TRY(file_->file.read(bytes.data(), bytes.size(), at_));
        GNV_TRY(parse_header(bytes, page, complete));
        if (!complete && (guess == left || guess > max_header_bytes))
            return fail(Code::format, "page at byte ", at_, ": the header is damaged");
    }
    at_ = page.offset + page.stored_bytes;
    if (page.kind == ParquetPage::Kind::data_v1 || page.kind == ParquetPage::Kind::data_v2) entries_ += page.entries;
    return true;
}

// --- Bodies ---------------------------------------------------------------------------------------------------------------

// CRC-32 over the stored bytes, levels of version 2 included.
static Status check_crc(const ParquetPage & page, std::string_view stored) {
    if (!page.crc || crc32_z(0, reinterpret_cast<const Bytef *>(stored.data()), stored.size()) == *page.crc) return {};
    return fail(Code::format, "page body at byte ", page.offset, ": the checksum does not fit");
}

Status ParquetPages::load(const ParquetPage & page, std::string & body) const {
    std::string stored(size_t(page.stored_bytes), '\0');
    GNV_TRY(file_->file.read(stored.data(), stored.size(), page.offset));
    GNV_TRY(check_crc(page, stored));
    const uint64_t levels = page.definition_bytes + page.repetition_bytes;
    if (chunk_->codec == ParquetCodec::none || !page.values_compressed) {
        if (page.stored_bytes != page.content_bytes)
            return fail(Code::format, "page body at byte ", page.offset,
                        ": an uncompressed page with two different sizes");
        body = std::move(stored);
        return {};
    }
    body.assign(stored, 0, size_t(levels));
    // A version 2 page of nulls may have no values to decompress.
    if (page.stored_bytes == levels && page.content_bytes == levels) return {};
    return decompress_page(chunk_->codec, std::string_view(stored).substr(size_t(levels)), page.content_bytes - levels,
                           body)
        .add_context(concat("page body at byte ", page.offset + levels));
}

} // namespace gnv
