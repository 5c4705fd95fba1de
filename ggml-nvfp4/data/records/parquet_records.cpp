#include "data/parquet/parquet.h"
#include "data/records/parquet_messages.h"
#include "data/records/picture_records.h"
#include "data/records/readers.h"
#include "data/records/record_names.h"

#include <algorithm>

namespace gnv {

namespace {

// Which part of a message a column of one level of lists holds; "" for others, such as what lies deeper in a message.
//   messages.list.element.role    a list of structures; also as messages.bag.array.role, and as messages.role, repeated
//   messages.role.list.element    a structure of lists, as older versions of `datasets` write a sequence of structures
const std::string & part_of_message(const ParquetColumn & column) {
    static const std::string none;
    const std::vector<std::string> & path = column.path;
    if (column.max_repetition != 1) return none;
    const bool is_element = path.back() == "element" || path.back() == "item" || path.back() == "array";
    if (is_element && path.size() == 4) return path[1];
    return path.size() <= 4 ? path.back() : none;
}

// Where the content of a field comes from: one column, the two of a list of messages (their roles are absent where questions and
// answers have columns of their own), all columns of messages with more than that, or those of pictures: bytes and paths, alone
// or in lists.
struct FieldColumns {
    static constexpr size_t none = size_t(-1);
    std::string name;
    size_t text = none; // positions among the columns that are read
    size_t role = none, content = none;
    size_t question = none, answer = none;
    size_t bytes = none, path = none;
    const PictureField * pictures = nullptr;
    ParquetMessages messages = {};

    bool has_messages() const { return role != none && content != none; }
    bool has_exchanges() const { return question != none && answer != none; }
    bool is_usable() const {
        return text != none || has_messages() || has_exchanges() || messages.has_more() || bytes != none ||
               path != none;
    }

    // The place for the position of a column, or null.
    size_t * place_of(const ParquetColumn & column) {
        const std::string & leaf = column.path.back();
        if (pictures) {
            const bool is_struct = leaf == "bytes" || leaf == "path";
            return leaf == "path"                                                       ? &path
                   : is_struct || column.path.size() == 1 || column.max_repetition >= 1 ? &bytes
                                                                                        : nullptr;
        }
        if (column.path.size() == 1 && column.max_repetition == 0) return &text;
        const std::string & part = part_of_message(column);
        const struct {
            std::string_view leaf;
            size_t & place;
        } places[] = {{"role", role},     {"from", role},     {"content", content},
                      {"value", content}, {"user", question}, {"assistant", answer}};
        for (const auto & row : places)
            if (part == row.leaf) return &row.place;
        return nullptr;
    }
};

class ParquetRecords final : public RecordReader {
  public:
    ParquetRecords(ParquetRows rows, std::vector<FieldColumns> fields)
        : rows_(std::move(rows)), fields_(std::move(fields)) {}

    Result<bool> next() override { return rows_.next(); }

    Result<RowFault> read(Record & out) override {
        out = Record();
        GNV_TRY(rows_.read(cells_));
        for (const FieldColumns & columns : fields_) {
            RecordField & field = out.fields.emplace_back();
            field.name = columns.name;
            if (columns.text != FieldColumns::none) {
                std::optional<std::string> & value = cells_[columns.text].entries.at(0);
                field.kind = value ? RecordField::Kind::text : RecordField::Kind::null;
                if (value) field.text = std::move(*value);
            } else if (columns.messages.has_more()) {
                GNV_ASSIGN(const RowFault fault, read_nested_messages(columns.messages, field));
                if (fault != RowFault::none) return fault;
            } else if (columns.has_messages()) {
                GNV_TRY(read_messages(cells_[columns.role], cells_[columns.content], field));
            } else if (columns.has_exchanges()) {
                GNV_TRY(read_exchanges(cells_[columns.question], cells_[columns.answer], field));
            } else if (columns.pictures) {
                GNV_TRY(read_column_of_pictures(columns, out.pictures));
            }
        }
        return RowFault::none;
    }

    std::string where() const override { return concat(rows_.file().file.path(), ": row ", rows_.row()); }

  private:
    Status read_messages(ParquetCell & roles, ParquetCell & contents, RecordField & field) {
        if (roles.entries.size() != contents.entries.size())
            return fail(Code::format, where(), ": ", roles.entries.size(), " roles for ", contents.entries.size(),
                        " contents", unequal_columns);
        field.kind = RecordField::Kind::messages;
        for (size_t i = 0; i < roles.entries.size(); i++) {
            if (!roles.entries[i]) field.kind = RecordField::Kind::other;
            field.messages.push_back(
                {chat_role(roles.entries[i].value_or("")), std::move(contents.entries[i]).value_or("")});
        }
        return {};
    }

    Result<RowFault> read_nested_messages(const ParquetMessages & messages, RecordField & field) {
        std::string json;
        GNV_ASSIGN(const RowFault fault, messages.text(cells_, where(), json));
        field.kind = RecordField::Kind::messages;
        if (fault != RowFault::none || json.empty()) return fault;
        field.kind = RecordField::Kind::other;
        GNV_TRY(parse_json_messages(json, where(), rows_.file().control, field));
        if (messages.has_roles() || field.name == "tools") field.json = std::move(json);
        return fault;
    }

    Status read_exchanges(ParquetCell & questions, ParquetCell & answers, RecordField & field) {
        if (questions.entries.size() != answers.entries.size())
            return fail(Code::format, where(), ": ", questions.entries.size(), " questions for ",
                        answers.entries.size(), " answers", unequal_columns);
        field.kind = RecordField::Kind::messages;
        for (size_t i = 0; i < questions.entries.size(); i++) {
            field.messages.push_back({"user", std::move(questions.entries[i]).value_or("")});
            field.messages.push_back({"assistant", std::move(answers.entries[i]).value_or("")});
        }
        return {};
    }

    Status read_column_of_pictures(const FieldColumns & columns, std::vector<RecordPicture> & out) {
        const auto entries = [&](size_t column) {
            return column == FieldColumns::none ? nullptr : &cells_[column].entries;
        };
        auto *const bytes = entries(columns.bytes), *const paths = entries(columns.path);
        if (bytes && paths && bytes->size() != paths->size())
            return fail(Code::format, where(), ": ", bytes->size(), " pictures and ", paths->size(), " paths",
                        unequal_columns);
        for (size_t i = 0; i < (bytes ? bytes->size() : paths ? paths->size() : 0); i++) {
            std::string content = bytes ? std::move((*bytes)[i]).value_or("") : "";
            std::string path = paths ? std::move((*paths)[i]).value_or("") : "";
            if (content.empty() && path.empty()) continue;
            out.push_back(make_record_picture(columns.pictures->is_video, std::move(content), std::move(path)));
        }
        return {};
    }

    ParquetRows rows_;
    std::vector<FieldColumns> fields_;
    std::vector<ParquetCell> cells_;
};

} // namespace

OpenedRecords open_parquet_records(const std::string & path, const std::vector<std::string> & wanted,
                                   const ReadControl & control) {
    GNV_ASSIGN(ParquetFile file, ParquetFile::open(path, control));
    std::vector<FieldColumns> fields; // one for each top-level field
    std::vector<uint32_t> read;       // columns
    std::string lost, unreadable;     // why a conversation, or a field, cannot be read
    for (uint32_t i = 0; i < file.columns.size(); i++) {
        const ParquetColumn & column = file.columns[i];
        const std::string & name = column.path.front();
        if (fields.empty() || fields.back().name != name) {
            fields.push_back({name});
            fields.back().pictures = find_picture_field(name);
        }
        if (std::find(wanted.begin(), wanted.end(), name) == wanted.end()) continue;
        FieldColumns & field = fields.back();
        if (!column.is_readable_text()) {
            if (!field.pictures && lost.empty()) lost = lost_of_message(column);
            if (unreadable.empty() || field.pictures)
                unreadable = concat("column ", printable(column.name()), " holds ", column.form());
            if (field.pictures && column.type == ParquetType::byte_array)
                return fail(
                    Code::unsupported, path, ": ", unreadable,
                    "; pictures are taken of strings, and of lists of them: write them so, or the rows as JSON lines");
            continue;
        }
        size_t * const place = field.place_of(column);
        const bool is_placed = place && *place == FieldColumns::none;
        if (is_placed) *place = read.size();
        const bool is_of_messages = !field.pictures && field.messages.add(column, read.size());
        if (is_placed || is_of_messages) {
            read.push_back(i);
        } else if (unreadable.empty()) {
            unreadable = concat("column ", printable(column.name()), " holds ", column.form());
        }
    }
    if (!lost.empty()) return fail(Code::unsupported, path, ": ", lost);
    bool any_usable = false;
    for (const FieldColumns & field : fields) any_usable = any_usable || field.is_usable();
    if (!any_usable && !unreadable.empty())
        return fail(Code::unsupported, path, ": ", unreadable,
                    ", and no other column holds texts or conversations that this "
                    "reader takes: strings, lists of structures with role and content; write the rows as JSON lines");
    GNV_ASSIGN(ParquetRows rows, ParquetRows::open(std::move(file), std::move(read)));
    return std::unique_ptr<RecordReader>(std::make_unique<ParquetRecords>(std::move(rows), std::move(fields)));
}

} // namespace gnv
