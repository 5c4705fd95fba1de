// Any bytes as an Arrow stream or file: every readable column is read to its end, or refused with a message.
#include "data/arrow/arrow.h"
#include "fuzz/fuzz_rows.h"

using gnv::fuzz::most_rows;

static gnv::Status read_all(const std::string & path, const gnv::ReadControl & control) {
    GNV_ASSIGN(gnv::ArrowRows rows, gnv::ArrowRows::open(path, control));
    for (uint64_t row = 0; row < most_rows; row++) {
        GNV_ASSIGN(const bool found, rows.next());
        if (!found) break;
        if (row % 5 == 3) continue; // skipped
        for (size_t field = 0; field < rows.fields().size(); field++) {
            gnv::ArrowValue value;
            if (rows.fields()[field].kind != gnv::ArrowField::Kind::other) GNV_TRY(rows.read(field, value));
        }
    }
    return {};
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    return gnv::fuzz::fuzz_rows(data, size, read_all);
}
