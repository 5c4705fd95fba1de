#include "data/arrow/arrow_metadata.h"

#include <cstring>

namespace gnv {

static constexpr char magic[] = "ARROW1";
static constexpr uint64_t magic_bytes = 6;
static constexpr uint64_t memory_of_field = 600; // in the schema and in a batch

struct ArrowRows::Message {
    std::string metadata;
    std::unique_ptr<FlatBuffer> buffer; // points into metadata
    ArrowHeader kind = ArrowHeader::none;
    FlatTable header;
    uint64_t at = 0; // in the file
    uint64_t body = 0, body_bytes = 0;
};

Status ArrowRows::damage(uint64_t at, const std::string & problem) const {
    return fail(Code::format, path(), ": byte ", at, ": ", problem, damaged_file);
}

Status ArrowRows::locate(Status status, const Message & message) const {
    return with_remedy(std::move(status), damaged_file).add_context(concat(path(), ": byte ", message.at));
}

// Where the messages lie: the whole of a stream, the middle of a file.
Status ArrowRows::find_messages() {
    GNV_ASSIGN(const FileStamp stamp, file_.stamp());
    end_ = stamp.size;
    char head[8] = {};
    if (end_ < sizeof(head)) return fail(Code::format, path(), ": ", end_, " bytes are no Arrow file", damaged_file);
    GNV_TRY(file_.read(head, sizeof(head), 0));
    if (memcmp(head, "FEA1", 4) == 0)
        return fail(Code::unsupported, path(),
                    ": Feather of version 1, which this reader does not know: write it anew, in "
                    "Python: pyarrow.feather.write_feather(pyarrow.feather.read_table(...), ...)");
    if (memcmp(head, magic, magic_bytes) != 0) return {};
    constexpr uint64_t tail_bytes = 4 + magic_bytes;
    unsigned char tail[tail_bytes];
    if (end_ >= sizeof(head) + tail_bytes) GNV_TRY(file_.read(tail, tail_bytes, end_ - tail_bytes));
    if (end_ < sizeof(head) + tail_bytes || memcmp(tail + 4, magic, magic_bytes) != 0)
        return damage(end_, "the file does not end with \"ARROW1\"");
    const uint64_t footer = tail[0] | tail[1] << 8 | tail[2] << 16 | uint64_t(tail[3]) << 24;
    if (footer > end_ - sizeof(head) - tail_bytes)
        return damage(end_ - tail_bytes, concat("a footer of ", footer, " bytes in a file of ", end_));
    at_ = sizeof(head);
    end_ -= tail_bytes + footer;
    return {};
}

// False at the end of the messages.
Result<bool> ArrowRows::next_message(Message & message) {
    GNV_TRY(control_.check());
    message.at = at_;
    const auto cut = [&] { return damage(at_, "the file ends inside a message"); };
    uint64_t left = end_ - at_;
    if (left == 0) return false;
    const auto read_number = [&](uint32_t & value) -> Status {
        unsigned char bytes[4];
        if (left < 4) return cut();
        GNV_TRY(file_.read(bytes, 4, at_));
        value = bytes[0] | bytes[1] << 8 | bytes[2] << 16 | uint32_t(bytes[3]) << 24;
        at_ += 4;
        left -= 4;
        return {};
    };
    uint32_t length = 0;
    GNV_TRY(read_number(length));
    if (length == 0xffffffff) GNV_TRY(read_number(length)); // files before 2019 lack this mark
    if (length == 0) {
        at_ = end_;
        return false;
    }
    if (message.at == 0 && (length < 8 || length > max_arrow_metadata_bytes || length > left))
        return fail(Code::format, path(), ": byte 0: no message of Arrow", damaged_file);
    if (length > max_arrow_metadata_bytes || length > INT32_MAX)
        return damage(message.at, concat("a message with metadata of ", length, " bytes"));
    if (length > left) return cut();
    std::string().swap(message.metadata);
    if (!metadata_.resize(length))
        return control_.too_small(concat(path(), ": metadata of ", bytes_text(length), " at byte ", message.at),
                                  length);
    message.metadata.resize(length);
    GNV_TRY(file_.read(message.metadata.data(), length, at_));
    at_ += length;
    message.buffer = std::make_unique<FlatBuffer>(message.metadata);
    const FlatTable root = message.buffer->root();
    version_ = root.integer(0, 2);
    message.kind = ArrowHeader(root.integer(1, 1));
    message.header = root.table(2);
    const int64_t body_bytes = root.integer(3, 8);
    if (!message.buffer->ok() || !message.header.exists()) return damage(message.at, "the metadata is damaged");
    constexpr int64_t version_4 = 3, version_5 = 4;
    if (version_ < version_4 || version_ > version_5)
        return fail(Code::unsupported, path(), ": version ", version_ + 1,
                    " of Arrow's metadata; known are 4 and 5: write the file anew");
    if (body_bytes < 0) return damage(message.at, concat("a message of ", body_bytes, " bytes"));
    if (uint64_t(body_bytes) > end_ - at_) return cut();
    message.body = at_;
    message.body_bytes = uint64_t(body_bytes);
    at_ += message.body_bytes;
    return true;
}

static size_t count_fields(const ArrowField & field) {
    size_t count = 1;
    for (const ArrowField & child : field.children) count += count_fields(child);
    if (field.dictionary) count += count_fields(*field.dictionary);
    return count;
}

Status ArrowRows::read_schema(Message & message) {
    auto fields = std::make_shared<std::vector<ArrowField>>();
    Status status = parse_arrow_schema(message.header, version_, *fields, dictionary_fields_);
    if (!message.buffer->ok()) return damage(message.at, "the schema is damaged");
    if (!status.ok()) return locate(std::move(status), message);
    size_t count = 0;
    for (const ArrowField & field : *fields) count += count_fields(field);
    if (!schema_.resize(count * memory_of_field))
        return control_.too_small(concat(path(), ": a schema of ", count, " fields"), count * memory_of_field);
    fields_ = std::move(fields);
    return {};
}

Status ArrowRows::read_dictionary(Message & message) {
    const int64_t id = message.header.integer(0, 8);
    const auto field = dictionary_fields_.find(id);
    if (field == dictionary_fields_.end())
        return damage(message.at, concat("dictionary ", id, " belongs to no column"));
    ArrowBatch batch;
    Status status =
        parse_arrow_batch(message.header.table(1), {field->second.get()}, message.body, message.body_bytes, batch);
    if (!message.buffer->ok()) return damage(message.at, "the dictionary's metadata is damaged");
    if (!status.ok()) return locate(std::move(status), message);
    Dictionary & dictionary = dictionaries_[id];
    const bool continues = message.header.integer(2, 1) != 0;
    if (!continues) dictionary.clear();
    const uint64_t bytes = count_fields(*field->second) * memory_of_field;
    if (!schema_.resize(schema_.bytes() + bytes))
        return control_.too_small(concat(path(), ": byte ", message.at, ": a piece of a dictionary"), bytes);
    constexpr size_t most_pieces = 100'000;
    if (dictionary.size() == most_pieces)
        return fail(Code::unsupported, path(), ": byte ", message.at, ": a dictionary of more than ", most_pieces,
                    " pieces; write the file anew with larger batches");
    dictionary.push_back(std::move(batch));
    return {};
}

Result<bool> ArrowRows::next_batch() {
    batch_ = {};
    (void)contents_.resize(0);
    for (;;) {
        Message message;
        GNV_ASSIGN(const bool found, next_message(message));
        if (!found) return false;
        if (message.kind == ArrowHeader::dictionary) {
            GNV_TRY(read_dictionary(message));
            continue;
        }
        if (message.kind != ArrowHeader::batch) return damage(message.at, "neither rows nor a dictionary");
        std::vector<const ArrowField *> fields;
        for (const ArrowField & field : *fields_) fields.push_back(&field);
        Status status = parse_arrow_batch(message.header, fields, message.body, message.body_bytes, batch_);
        if (!message.buffer->ok()) return damage(message.at, "the metadata of a batch is damaged");
        if (!status.ok()) return locate(std::move(status), message);
        return true;
    }
}

Result<ArrowRows> ArrowRows::open(const std::string & path, const ReadControl & control) {
    GNV_ASSIGN(File file, File::open_read(path));
    ArrowRows rows(std::move(file), control);
    rows.schema_ = MemoryShare(control);
    rows.metadata_ = MemoryShare(control);
    rows.contents_ = MemoryShare(control);
    rows.dictionary_contents_ = MemoryShare(control);
    GNV_TRY(rows.find_messages());
    Message message;
    GNV_ASSIGN(const bool found, rows.next_message(message));
    if (!found || message.kind != ArrowHeader::schema) return rows.damage(message.at, "does not begin with a schema");
    GNV_TRY(rows.read_schema(message));
    return rows;
}

Result<bool> ArrowRows::next() {
    while (row_ - batch_begin_ >= batch_.rows) {
        batch_begin_ += batch_.rows;
        GNV_ASSIGN(const bool found, next_batch());
        if (!found) return false;
        if (batch_.rows > max_arrow_rows - batch_begin_)
            return fail(Code::unsupported, path(), ": more than ", max_arrow_rows, " rows: split the file");
    }
    row_++;
    return true;
}

} // namespace gnv
