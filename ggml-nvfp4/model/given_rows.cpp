#include "model/given_rows.h"

#include <algorithm>

namespace gnv {

GivenRows GivenRows::part(int64_t first, int64_t count, int64_t columns) const {
    if (!memory_.empty()) return memory_.subspan(size_t(first * columns), size_t(count * columns));
    const Writer whole = writer_;
    return {count, columns,
            [whole, first](int64_t begin, int64_t rows, float * to) { return whole(first + begin, rows, to); }};
}

Status GivenRows::write(int64_t first, int64_t count, int64_t columns, float * to) const {
    if (memory_.empty()) return writer_(first, count, to);
    std::copy_n(memory_.begin() + ptrdiff_t(first * columns), count * columns, to);
    return {};
}

} // namespace gnv
