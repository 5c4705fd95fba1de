#include "data/records/record.h"

#include <iterator>

namespace gnv {

const char * fault_text(RowFault fault) {
    static const char * const texts[] = {"sound rows",
                                         "rows that are no JSON object",
                                         "rows with a key twice in one object",
                                         "rows without the fields of the others",
                                         "rows whose field holds no text",
                                         "empty texts",
                                         "invalid UTF-8",
                                         "lone surrogates in JSON escapes",
                                         "NUL bytes",
                                         "texts with a piece above 1 MiB",
                                         "conversations that the chat template refuses",
                                         "records with a picture that cannot be read",
                                         "records whose placeholders and pictures do not belong together",
                                         "records with pictures, of which this model takes none",
                                         "records whose first picture does not fit into a sequence"};
    static_assert(std::size(texts) == size_t(RowFault::count_));
    return texts[size_t(fault)];
}

} // namespace gnv
