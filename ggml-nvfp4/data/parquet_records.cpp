#include "data/files/parquet.h"
#include "data/readers.h"
#include "data/record_forms.h"

#include <algorithm>

namespace gnv {

namespace {

// Where the content of a field comes from: one column, or the two of a list of messages.
struct FieldColumns {
    static constexpr size_t none = size_t(-1);
    std::string name;
    size_t text = none; // positions among the columns that are read
    size_t role = none, content = none;
};

class ParquetRecords final : public RecordReader {
  public:
    ParquetRecords(ParquetRows rows, std::vector<FieldColumns> fields)
        : rows_(std::move(rows)), fields_(std::move(fields)) {}

    Result<bool> next() override { return rows_.next(); }

    Result<RowFault> read(Record & out) override {
        out.fields.clear();
        GNV_TRY(rows_.read(cells_));
        for (const FieldColumns & columns : fields_) {
            RecordField & field = out.fields.emplace_back();
            field.name = columns.name;
            if (columns.text != FieldColumns::none) {
                std::optional<std::string> & value = cells_[columns.text].entries.at(0);
                field.kind = value ? RecordField::Kind::text : RecordField::Kind::null;
                if (value) field.text = std::move(*value);
            } else if (columns.role != FieldColumns::none && columns.content != FieldColumns::none) {
                GNV_TRY(read_messages(cells_[columns.role], cells_[columns.content], field));
            }
        }
        return RowFault::none;
    }

    std::string where() const override { return concat(rows_.file().file.path(), ": row ", rows_.row()); }

  private:
    Status read_messages(ParquetCell & roles, ParquetCell & contents, RecordField & field) {
        if (roles.entries.size() != contents.entries.size())
            return fail(Code::format, where(), ": ", roles.entries.size(), " roles for ", contents.entries.size(),
                        " contents");
        field.kind = RecordField::Kind::messages;
        for (size_t i = 0; i < roles.entries.size(); i++) {
            if (!roles.entries[i]) field.kind = RecordField::Kind::other;
            field.messages.push_back(
                {chat_role(roles.entries[i].value_or("")), std::move(contents.entries[i]).value_or("")});
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
    for (uint32_t i = 0; i < file.columns.size(); i++) {
        const ParquetColumn & column = file.columns[i];
        const std::string & name = column.path.front();
        if (fields.empty() || fields.back().name != name) fields.push_back({name});
        if (!column.is_readable_text() || std::find(wanted.begin(), wanted.end(), name) == wanted.end()) continue;
        const std::string & leaf = column.path.back();
        size_t * place = nullptr;
        if (column.path.size() == 1 && column.max_repetition == 0) place = &fields.back().text;
        if (column.max_repetition == 1 && (leaf == "role" || leaf == "from")) place = &fields.back().role;
        if (column.max_repetition == 1 && (leaf == "content" || leaf == "value")) place = &fields.back().content;
        if (!place) continue;
        *place = read.size();
        read.push_back(i);
    }
    GNV_ASSIGN(ParquetRows rows, ParquetRows::open(std::move(file), std::move(read)));
    return std::unique_ptr<RecordReader>(std::make_unique<ParquetRecords>(std::move(rows), std::move(fields)));
}

} // namespace gnv
