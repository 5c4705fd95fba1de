#include "core/utf8.h"
#include "data/arrow/arrow.h"
#include "data/records/picture_loader.h"
#include "data/records/picture_records.h"
#include "data/records/readers.h"
#include "data/records/record_names.h"
#include "formats/json_writer.h"

#include <algorithm>

namespace gnv {

namespace {

using Kind = ArrowField::Kind;

bool is_author(const std::string & name) { return name == "role" || name == "from"; }
bool is_content(const std::string & name) { return name == "content" || name == "value"; }

const ArrowValue * find_item(const ArrowValue & value, bool (*wanted)(const std::string &)) {
    for (const ArrowValue & item : value.items)
        if (wanted(item.field->name)) return &item;
    return nullptr;
}

bool is_text(const std::string & name) { return name == "text"; }

// A message's content: a text, or a list of texts and of structures with one, as data with pictures have it. False for others.
bool append_content(const ArrowValue & content, std::string & out) {
    if (content.field->kind == Kind::text) {
        out += content.text;
        return true;
    }
    if (content.field->kind != Kind::list) return false;
    bool any_text = false;
    for (const ArrowValue & item : content.items) {
        const ArrowValue * const text = item.field->kind == Kind::structure ? find_item(item, is_text) : &item;
        if (!text || text->field->kind != Kind::text) continue;
        any_text = any_text || !text->is_null;
        out += text->text;
    }
    return any_text || content.items.empty();
}

// A list of structures of author and content.
bool take_messages(ArrowValue & list, RecordField & field) {
    for (ArrowValue & item : list.items) {
        const ArrowValue * const author = find_item(item, is_author);
        const ArrowValue * const content = find_item(item, is_content);
        ChatMessage message;
        if (!author || author->is_null || author->field->kind != Kind::text || !content ||
            !append_content(*content, message.content))
            return false;
        message.role = chat_role(author->text);
        field.messages.push_back(std::move(message));
    }
    return true;
}

// A structure of a list of authors and one of contents, as older versions of `datasets` keep a sequence of structures.
bool take_columns(ArrowValue & columns, RecordField & field) {
    const ArrowValue * const authors = find_item(columns, is_author);
    const ArrowValue * const contents = find_item(columns, is_content);
    if (!authors || !contents || authors->field->kind != Kind::list || contents->field->kind != Kind::list ||
        authors->items.size() != contents->items.size())
        return false;
    for (size_t i = 0; i < authors->items.size(); i++) {
        const ArrowValue &author = authors->items[i], &content = contents->items[i];
        if (author.is_null || author.field->kind != Kind::text || content.field->kind != Kind::text) return false;
        field.messages.push_back({chat_role(author.text), content.text});
    }
    return true;
}

// Whether a message has more than an author and a text: parts, calls of tools, names.
bool has_more(const ArrowValue & message) {
    return std::any_of(message.items.begin(), message.items.end(), [](const ArrowValue & item) {
        const bool is_usual = is_author(item.field->name) || is_content(item.field->name);
        return !item.is_null && (!is_usual || item.field->kind != Kind::text);
    });
}

// As JSON, without the null members that structures of different members are full of; "bytes" as Base64. False: no UTF-8.
bool append_json(const ArrowValue & value, std::string & out) {
    if (value.is_null) {
        out += "null";
        return true;
    }
    if (value.field->kind == Kind::text) {
        const bool is_binary = value.field->name == "bytes";
        out += json_quote(is_binary ? encode_base64(value.text) : value.text);
        return is_binary || utf8_valid_prefix(value.text) == value.text.size();
    }
    const bool is_list = value.field->kind == Kind::list;
    bool is_first = true, is_valid = true;
    out += is_list ? '[' : '{';
    for (const ArrowValue & item : value.items) {
        const bool is_content = !is_list && item.field->name == "content";
        if (item.is_null && !is_list && !is_content) continue;
        out += is_first ? "" : ",";
        if (!is_list) out += json_quote(item.field->name) + ":";
        if (item.is_null && is_content)
            out += "\"\"";
        else
            is_valid = append_json(item, out) && is_valid;
        is_first = false;
    }
    out += is_list ? ']' : '}';
    return is_valid;
}

// A path or the bytes of a file, a structure of both, or a list of those.
void take_pictures(ArrowValue & value, bool is_video, std::vector<RecordPicture> & out) {
    std::string bytes, path;
    if (value.field->kind == Kind::list) {
        for (ArrowValue & item : value.items) take_pictures(item, is_video, out);
        return;
    }
    if (value.field->kind == Kind::text) bytes = std::move(value.text);
    for (ArrowValue & item : value.items) {
        if (item.field->kind != Kind::text) continue;
        if (item.field->name == "bytes") bytes = std::move(item.text);
        if (item.field->name == "path") path = std::move(item.text);
    }
    if (!bytes.empty() || !path.empty())
        out.push_back(make_record_picture(is_video, std::move(bytes), std::move(path)));
}

class ArrowRecords final : public RecordReader {
  public:
    ArrowRecords(ArrowRows rows, std::vector<bool> wanted) : rows_(std::move(rows)), wanted_(std::move(wanted)) {}

    Result<bool> next() override { return rows_.next(); }

    Result<RowFault> read(Record & out) override {
        out = Record();
        for (size_t i = 0; i < rows_.fields().size(); i++) {
            RecordField & field = out.fields.emplace_back();
            field.name = rows_.fields()[i].name;
            if (!wanted_[i]) continue;
            ArrowValue value;
            GNV_TRY(rows_.read(i, value));
            if (const PictureField * const pictures = find_picture_field(field.name)) {
                take_pictures(value, pictures->is_video, out.pictures);
                continue;
            }
            GNV_ASSIGN(const RowFault fault, take_value(value, field));
            if (fault != RowFault::none) return fault;
        }
        return RowFault::none;
    }

    std::string where() const override { return concat(rows_.path(), ": row ", rows_.row()); }

  private:
    Result<RowFault> take_value(ArrowValue & value, RecordField & field) {
        if (value.field->kind == Kind::text) {
            field.kind = value.is_null ? RecordField::Kind::null : RecordField::Kind::text;
            field.text = std::move(value.text);
        } else if (value.field->kind == Kind::list && std::any_of(value.items.begin(), value.items.end(), has_more)) {
            return take_nested_messages(value, field);
        } else if (value.field->kind == Kind::list ? take_messages(value, field) : take_columns(value, field)) {
            field.kind = RecordField::Kind::messages;
        }
        return RowFault::none;
    }

    Result<RowFault> take_nested_messages(const ArrowValue & list, RecordField & field) {
        std::string json;
        if (!append_json(list, json)) return RowFault::invalid_utf8;
        GNV_TRY(parse_json_messages(json, where(), rows_.control(), field));
        const auto has_role = [](const ArrowValue & message) {
            return std::any_of(message.items.begin(), message.items.end(),
                               [](const ArrowValue & item) { return item.field->name == "role"; });
        };
        const bool is_for_template = std::all_of(list.items.begin(), list.items.end(), has_role);
        if (is_for_template || field.name == "tools") field.json = std::move(json);
        return RowFault::none;
    }

    ArrowRows rows_;
    std::vector<bool> wanted_; // fields whose values are read
};

} // namespace

OpenedRecords open_arrow_records(const std::string & path, const std::vector<std::string> & wanted,
                                 const ReadControl & control) {
    GNV_ASSIGN(ArrowRows rows, ArrowRows::open(path, control));
    std::vector<bool> read;
    for (const ArrowField & field : rows.fields())
        read.push_back(field.kind != Kind::other &&
                       std::find(wanted.begin(), wanted.end(), field.name) != wanted.end());
    return std::unique_ptr<RecordReader>(std::make_unique<ArrowRecords>(std::move(rows), std::move(read)));
}

} // namespace gnv
