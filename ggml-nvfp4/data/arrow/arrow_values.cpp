#include "data/arrow/arrow.h"
#include "formats/zstd.h"

#include <algorithm>
#include <cstring>
#include <lz4frame.h>

namespace gnv {

// --- Buffers ------------------------------------------------------------------------------------------------------------------

static uint64_t number_of(const char * bytes, unsigned count) {
    uint64_t value = 0;
    for (unsigned i = 0; i < count; i++) value |= uint64_t(uint8_t(bytes[i])) << (8 * i);
    return value;
}

// One frame that fills `out` exactly; false for damage.
static bool read_lz4_frame(std::string_view stored, std::string & out) {
    LZ4F_dctx * context = nullptr;
    if (LZ4F_isError(LZ4F_createDecompressionContext(&context, LZ4F_VERSION))) return false;
    size_t written = 0, wanted = 1;
    while (wanted != 0 && !LZ4F_isError(wanted)) {
        size_t room = out.size() - written, taken = stored.size();
        wanted = LZ4F_decompress(context, out.data() + written, &room, stored.data(), &taken, nullptr);
        if (!LZ4F_isError(wanted) && wanted != 0 && room == 0 && taken == 0) break;
        written += room;
        stored.remove_prefix(taken);
    }
    LZ4F_freeDecompressionContext(context);
    return wanted == 0 && written == out.size();
}

// A compressed buffer begins with the size of its content, -1 where that stands in the file as it is.
Status ArrowRows::decompress(ArrowBuffer & buffer, ArrowCodec codec) {
    constexpr uint64_t head_bytes = 8;
    char head[head_bytes];
    if (buffer.bytes < head_bytes) return damage(buffer.offset, "a compressed buffer without its size");
    GNV_TRY(file_.read(head, head_bytes, buffer.offset));
    const int64_t size = int64_t(number_of(head, head_bytes));
    const uint64_t stored_bytes = buffer.bytes - head_bytes;
    if (size == -1) {
        buffer.offset += head_bytes;
        buffer.bytes = stored_bytes;
        buffer.is_plain = true;
        return {};
    }
    if (size < 0) return damage(buffer.offset, concat("a compressed buffer of ", size, " bytes"));
    if (uint64_t(size) > max_arrow_buffer_bytes || stored_bytes > max_arrow_buffer_bytes)
        return fail(Code::unsupported, path(), ": byte ", buffer.offset, ": a compressed buffer of ",
                    bytes_text(uint64_t(size)), "; at most ", bytes_text(max_arrow_buffer_bytes),
                    " are read: write smaller batches");
    constexpr uint64_t most_expansion = 256; // of LZ4
    if (codec == ArrowCodec::lz4 && uint64_t(size) / most_expansion > stored_bytes)
        return damage(buffer.offset, "the LZ4 data does not have the size that the buffer says");
    // While it is decompressed, the content grows in a string beside the stored bytes.
    MemoryShare & share = reads_dictionary_ ? dictionary_contents_ : contents_;
    const uint64_t kept = share.bytes(), working = stored_bytes + 3 * uint64_t(size);
    if (!share.resize(kept + working))
        return control_.too_small(
            concat(path(), ": byte ", buffer.offset, ": a buffer of ", bytes_text(uint64_t(size))), working);
    std::string stored(size_t(stored_bytes), '\0');
    GNV_TRY(file_.read(stored.data(), stored_bytes, buffer.offset + head_bytes));
    auto content = std::make_unique<std::string>();
    bool sound = false;
    if (codec == ArrowCodec::lz4) {
        content->resize(size_t(size));
        sound = read_lz4_frame(stored, *content);
    } else {
        Result<std::string> out = zstd_decompress_all(stored, uint64_t(size), "");
        sound = out.ok() && out.value().size() == uint64_t(size);
        if (sound) *content = out.take();
    }
    if (!sound) {
        (void)share.resize(kept);
        return damage(buffer.offset, concat("the ", codec == ArrowCodec::lz4 ? "LZ4" : "Zstd",
                                            " data is damaged, or not of the size that the buffer says"));
    }
    (void)share.resize(kept + content->capacity());
    buffer.content = std::move(content);
    return {};
}

Status ArrowRows::fetch(ArrowBuffer & buffer, ArrowCodec codec, uint64_t at, void * out, uint64_t bytes) {
    if (codec != ArrowCodec::none && !buffer.content && !buffer.is_plain && buffer.bytes > 0)
        GNV_TRY(decompress(buffer, codec));
    const uint64_t size = buffer.content ? buffer.content->size() : buffer.bytes;
    if (at > size || bytes > size - at)
        return damage(buffer.offset,
                      concat("a buffer of ", size, " bytes, of which ", bytes, " from ", at, " are needed"));
    if (!buffer.content) return bytes ? file_.read(out, bytes, buffer.offset + at) : Status();
    memcpy(out, buffer.content->data() + at, size_t(bytes));
    return {};
}

Status ArrowRows::fetch_number(ArrowBuffer & buffer, ArrowCodec codec, uint64_t index, unsigned bytes,
                               uint64_t & value) {
    char number[8];
    GNV_TRY(fetch(buffer, codec, index * bytes, number, bytes));
    value = number_of(number, bytes);
    return {};
}

// --- Values -------------------------------------------------------------------------------------------------------------------

Status ArrowRows::count(uint64_t bytes) {
    row_bytes_ += bytes;
    if (row_bytes_ > max_record_bytes)
        return fail(Code::format, path(), ": row ", row_ - 1, " is larger than ", bytes_text(max_record_bytes),
                    split_record);
    if (row_bytes_ <= longest_row_) return {};
    return control_.check_record(concat(path(), ": row ", row_ - 1), row_bytes_);
}

Status ArrowRows::is_valid(ArrowArray & array, ArrowCodec codec, uint64_t index, bool & valid) {
    valid = true;
    if (array.nulls == 0 || array.buffers.empty() || array.buffers[0].bytes == 0) return {};
    uint64_t bits = 0;
    GNV_TRY(fetch_number(array.buffers[0], codec, index / 8, 1, bits));
    valid = bits >> (index % 8) & 1;
    return {};
}

Status ArrowRows::take_text(ArrowBuffer & buffer, ArrowCodec codec, uint64_t at, uint64_t bytes, std::string & text) {
    GNV_TRY(count(bytes));
    text.resize(size_t(bytes));
    return fetch(buffer, codec, at, text.data(), bytes);
}

Status ArrowRows::read_text(ArrowArray & array, ArrowCodec codec, uint64_t index, std::string & text) {
    const unsigned width = array.field->place_bytes;
    ArrowBuffer & places = array.buffers[1];
    if (!array.field->by_view) {
        uint64_t begin = 0, end = 0;
        GNV_TRY(fetch_number(places, codec, index, width, begin));
        GNV_TRY(fetch_number(places, codec, index + 1, width, end));
        if (begin > end)
            return damage(places.offset, concat("value ", index, " ends at ", end, ", before it begins at ", begin));
        return take_text(array.buffers[2], codec, begin, end - begin, text);
    }
    // A view: the length; the bytes of a short string, or four of them, the number of a buffer and the place in it.
    constexpr uint64_t view_bytes = 16, longest_inline = 12;
    char view[view_bytes];
    GNV_TRY(fetch(places, codec, index * view_bytes, view, view_bytes));
    const uint64_t bytes = number_of(view, 4), buffer = number_of(view + 8, 4);
    if (bytes <= longest_inline) {
        text.assign(view + 4, size_t(bytes));
        return count(bytes);
    }
    if (buffer >= array.buffers.size() - 2)
        return damage(places.offset,
                      concat("value ", index, " lies in buffer ", buffer, " of ", array.buffers.size() - 2));
    return take_text(array.buffers[size_t(buffer) + 2], codec, number_of(view + 12, 4), bytes, text);
}

Status ArrowRows::read_by_dictionary(ArrowArray & array, ArrowCodec codec, uint64_t index, ArrowValue & value) {
    const ArrowField & field = *array.field;
    uint64_t position = 0;
    GNV_TRY(fetch_number(array.buffers[1], codec, index, field.place_bytes, position));
    for (ArrowBatch & piece : dictionaries_[field.dictionary_id]) {
        if (position >= piece.rows) {
            position -= piece.rows;
            continue;
        }
        reads_dictionary_ = true;
        Status status = read_value(piece.arrays[0], piece.codec, position, value);
        reads_dictionary_ = false;
        value.field = &field;
        return status;
    }
    return damage(array.buffers[1].offset,
                  concat("value ", index, " lies behind the end of dictionary ", field.dictionary_id));
}

Status ArrowRows::read_list(ArrowArray & array, ArrowCodec codec, uint64_t index, ArrowValue & value) {
    const ArrowField & field = *array.field;
    uint64_t begin = 0, end = 0;
    if (field.is_fixed) {
        if (field.fixed_length && index >= array.children[0].length / field.fixed_length)
            return fail(Code::format, path(), ": column ", printable(field.name), " has no elements of value ", index,
                        damaged_file);
        begin = field.fixed_length * index;
        end = begin + field.fixed_length;
    } else {
        GNV_TRY(fetch_number(array.buffers[1], codec, index, field.place_bytes, begin));
        GNV_TRY(field.by_view ? fetch_number(array.buffers[2], codec, index, field.place_bytes, end)
                              : fetch_number(array.buffers[1], codec, index + 1, field.place_bytes, end));
        if (field.by_view) end = end > UINT64_MAX - begin ? UINT64_MAX : begin + end;
    }
    ArrowArray & elements = array.children[0];
    if (begin > end || end > elements.length)
        return damage(array.buffers[field.is_fixed ? 0 : 1].offset,
                      concat("value ", index, " is a list of elements ", begin, " to ", end, " of ", elements.length));
    for (uint64_t i = begin; i < end; i++) GNV_TRY(read_value(elements, codec, i, value.items.emplace_back()));
    return {};
}

Status ArrowRows::read_value(ArrowArray & array, ArrowCodec codec, uint64_t index, ArrowValue & value) {
    constexpr uint64_t memory_of_value = sizeof(ArrowValue) / 8; // record_memory() has room for the rest
    GNV_TRY(count(memory_of_value));
    const ArrowField & field = *array.field;
    value.field = &field;
    if (index >= array.length)
        return fail(Code::format, path(), ": column ", printable(field.name), " has only ", array.length, " values",
                    damaged_file);
    bool valid = true;
    GNV_TRY(is_valid(array, codec, index, valid));
    value.is_null = !valid;
    if (!valid) return {};
    if (field.dictionary) return read_by_dictionary(array, codec, index, value);
    switch (field.kind) {
    case ArrowField::Kind::text: return read_text(array, codec, index, value.text);
    case ArrowField::Kind::list: return read_list(array, codec, index, value);
    case ArrowField::Kind::structure:
        for (ArrowArray & child : array.children)
            if (child.field->kind != ArrowField::Kind::other)
                GNV_TRY(read_value(child, codec, index, value.items.emplace_back()));
        return {};
    case ArrowField::Kind::other: break;
    }
    return {};
}

Status ArrowRows::read(size_t field, ArrowValue & value) {
    if (counted_row_ != row_) row_bytes_ = 0;
    counted_row_ = row_;
    longest_row_ = control_.longest_record();
    value = {};
    return read_value(batch_.arrays[field], batch_.codec, row_ - 1 - batch_begin_, value);
}

} // namespace gnv
