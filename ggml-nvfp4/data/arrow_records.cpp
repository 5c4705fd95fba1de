#include "data/files/arrow.h"
#include "data/readers.h"
#include "data/record_forms.h"

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

class ArrowRecords final : public RecordReader {
  public:
    ArrowRecords(ArrowRows rows, std::vector<bool> wanted) : rows_(std::move(rows)), wanted_(std::move(wanted)) {}

    Result<bool> next() override { return rows_.next(); }

    Result<RowFault> read(Record & out) override {
        out.fields.clear();
        for (size_t i = 0; i < rows_.fields().size(); i++) {
            RecordField & field = out.fields.emplace_back();
            field.name = rows_.fields()[i].name;
            if (!wanted_[i]) continue;
            ArrowValue value;
            GNV_TRY(rows_.read(i, value));
            take_value(value, field);
        }
        return RowFault::none;
    }

    std::string where() const override { return concat(rows_.path(), ": row ", rows_.row()); }

  private:
    static void take_value(ArrowValue & value, RecordField & field) {
        if (value.field->kind == Kind::text) {
            field.kind = value.is_null ? RecordField::Kind::null : RecordField::Kind::text;
            field.text = std::move(value.text);
        } else if (value.field->kind == Kind::list ? take_messages(value, field) : take_columns(value, field)) {
            field.kind = RecordField::Kind::messages;
        }
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
