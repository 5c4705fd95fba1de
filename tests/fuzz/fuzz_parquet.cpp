// Any bytes as a Parquet file: every readable column is read to its end, or refused with a message.
#include "data/parquet/parquet.h"
#include "fuzz/fuzz_rows.h"

using gnv::fuzz::most_rows;

static gnv::Status read_all(const std::string & path, const gnv::ReadControl & control) {
    GNV_ASSIGN(gnv::ParquetFile file, gnv::ParquetFile::open(path, control));
    std::vector<uint32_t> columns;
    for (uint32_t i = 0; i < file.columns.size(); i++)
        if (file.columns[i].is_readable_text()) columns.push_back(i);
    GNV_ASSIGN(gnv::ParquetRows rows, gnv::ParquetRows::open(std::move(file), std::move(columns)));
    std::vector<gnv::ParquetCell> cells;
    for (uint64_t row = 0; row < most_rows && rows.next(); row++)
        if (row % 5 != 3) GNV_TRY(rows.read(cells)); // others are skipped
    return {};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    return gnv::fuzz::fuzz_rows(data, size, read_all);
}
