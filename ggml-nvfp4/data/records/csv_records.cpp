#include "data/files/csv.h"
#include "data/records/readers.h"

namespace gnv {

namespace {

class CsvRecords final : public RecordReader {
  public:
    explicit CsvRecords(CsvReader reader) : reader_(std::move(reader)) {}

    Result<bool> next() override { return reader_.next(fields_); }

    Result<RowFault> read(Record & out) override {
        GNV_TRY(reader_.check_memory());
        out.fields.clear();
        for (size_t i = 0; i < fields_.size(); i++)
            out.fields.push_back({reader_.header()[i], RecordField::Kind::text, std::move(fields_[i]), {}});
        return RowFault::none;
    }

    std::string where() const override { return concat(reader_.path(), ":", reader_.line()); }

  private:
    CsvReader reader_;
    std::vector<std::string> fields_;
};

} // namespace

static OpenedRecords open_separated(const std::string & path, char separator, const ReadControl & control) {
    GNV_ASSIGN(CsvReader reader, CsvReader::open(path, max_record_bytes, control, separator));
    return std::unique_ptr<RecordReader>(std::make_unique<CsvRecords>(std::move(reader)));
}

OpenedRecords open_csv_records(const std::string & path, const std::vector<std::string> &,
                               const ReadControl & control) {
    return open_separated(path, ',', control);
}

OpenedRecords open_tsv_records(const std::string & path, const std::vector<std::string> &,
                               const ReadControl & control) {
    return open_separated(path, '\t', control);
}

} // namespace gnv
