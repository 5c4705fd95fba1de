// What Arrow's messages say, as Message.fbs and Schema.fbs of its specification have it.
#pragma once

#include "data/arrow/arrow.h"
#include "data/arrow/flatbuffer.h"

namespace gnv {

enum class ArrowHeader : int64_t { none = 0, schema = 1, dictionary = 2, batch = 3 };

// The fields of a Schema table. Code::unsupported and Code::format without the file.
Status parse_arrow_schema(const FlatTable & schema, int64_t version, std::vector<ArrowField> & fields,
                          std::map<int64_t, std::shared_ptr<const ArrowField>> & dictionaries);

// A RecordBatch table of these fields, whose body is the file's bytes from `body` on.
Status parse_arrow_batch(const FlatTable & table, const std::vector<const ArrowField *> & fields, uint64_t body,
                         uint64_t body_bytes, ArrowBatch & batch);

} // namespace gnv
