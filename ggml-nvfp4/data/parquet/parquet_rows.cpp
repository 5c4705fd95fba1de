#include "data/parquet/parquet_column.h"

namespace gnv {

Result<ParquetRows> ParquetRows::open(ParquetFile file, std::vector<uint32_t> columns) {
    for (const uint32_t index : columns) {
        const ParquetColumn & column = file.columns[index];
        if (!column.is_readable_text())
            return fail(
                Code::unsupported, file.file.path(), ": column ", printable(column.name()), " holds ", column.form(),
                ": this reader takes strings (BYTE_ARRAY), lists of them, and lists inside lists; write the rows as "
                "JSON lines");
    }
    ParquetRows rows(std::move(file));
    rows.columns_ = std::move(columns);
    return rows;
}

ParquetRows::ParquetRows(ParquetFile file) : file_(std::make_unique<const ParquetFile>(std::move(file))) {}
ParquetRows::ParquetRows(ParquetRows &&) noexcept = default;
ParquetRows & ParquetRows::operator=(ParquetRows &&) noexcept = default;
ParquetRows::~ParquetRows() = default;

bool ParquetRows::next() {
    if (row_ == file_->rows) return false;
    row_++;
    while (row_ - 1 - group_begin_ >= file_->row_groups[group_].rows) {
        group_begin_ += file_->row_groups[group_++].rows;
        readers_.clear();
        consumed_ = 0;
    }
    return true;
}

Status ParquetRows::read(std::vector<ParquetCell> & cells) {
    if (readers_.empty()) {
        readers_.reserve(columns_.size());
        for (const uint32_t column : columns_) readers_.emplace_back(*file_, file_->row_groups[group_], column);
    }
    const uint64_t skipped = row_ - 1 - group_begin_ - consumed_;
    consumed_ += skipped + 1;
    cells.resize(columns_.size());
    for (size_t i = 0; i < columns_.size(); i++) {
        GNV_TRY(readers_[i].skip(skipped));
        GNV_TRY(readers_[i].read(cells[i]));
    }
    return {};
}

} // namespace gnv
