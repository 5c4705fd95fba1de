#include "data/parquet/parquet.h"
#include "data/parquet/thrift.h"

#include <algorithm>
#include <cstring>

namespace gnv {

// Field numbers and enumerations are those of parquet.thrift in the format's specification.
namespace {

using Type = ThriftReader::Type;
using Field = ThriftReader::StructScope;

constexpr size_t most_schema_elements = 20'000; // every column holds up to max_parquet_name_bytes
constexpr int deepest_schema = 16;
constexpr uint64_t memory_of_footer_byte = 12; // elements, columns and chunks are some bytes there

enum class Repetition : uint8_t { required = 0, optional = 1, repeated = 2 };

struct SchemaElement {
    std::string name;
    int64_t type = -1; // a group has none
    int64_t repetition = 0;
    int64_t children = 0;
};

struct Footer {
    std::vector<SchemaElement> schema; // depth first
    int64_t rows = 0;
    std::vector<ParquetRowGroup> row_groups;
    std::string writer; // "parquet-mr version 1.8.0 (build ...)"
    Status problem;     // well-formed, but unsupported
};

SchemaElement read_schema_element(ThriftReader & in) {
    SchemaElement element;
    for (Field field; in.next_field(field);) {
        switch (field.id) {
        case 1: element.type = in.integer(field); break;
        case 3: element.repetition = in.integer(field); break;
        case 4: element.name = in.binary(field); break;
        case 5: element.children = in.integer(field); break;
        default: in.skip(field);
        }
    }
    return element;
}

// ColumnMetaData
void read_chunk_meta(ThriftReader & in, ParquetChunk & chunk, Footer & footer) {
    int64_t codec = -1, entries = -1, bytes = -1, data_begin = -1, dictionary_begin = -1;
    for (Field field; in.next_field(field);) {
        switch (field.id) {
        case 4: codec = in.integer(field); break;
        case 5: entries = in.integer(field); break;
        case 7: bytes = in.integer(field); break;
        case 9: data_begin = in.integer(field); break;
        case 11: dictionary_begin = in.integer(field); break;
        default: in.skip(field);
        }
    }
    // Some writers write 0 without a dictionary.
    const bool has_dictionary = dictionary_begin > 0 && dictionary_begin < data_begin;
    const int64_t begin = has_dictionary ? dictionary_begin : data_begin;
    if (codec < 0 || codec >= int64_t(ParquetCodec::count_) || entries < 0 || bytes < 0 || begin < 0) {
        if (footer.problem.ok()) footer.problem = Status(Code::format, "a column chunk lacks its place, size or codec");
        return;
    }
    chunk.codec = ParquetCodec(codec);
    chunk.entries = uint64_t(entries);
    chunk.bytes = uint64_t(bytes);
    chunk.offset = uint64_t(begin);
}

ParquetChunk read_chunk(ThriftReader & in, Footer & footer) {
    ParquetChunk chunk;
    bool has_meta = false;
    for (Field field; in.next_field(field);) {
        if (field.id == 3 && in.structure(field)) {
            has_meta = true;
            read_chunk_meta(in, chunk, footer);
        } else if (field.id == 1) {
            in.skip(field);
            footer.problem = Status(Code::unsupported, "a column chunk lies in another file");
        } else {
            in.skip(field);
        }
    }
    if (!has_meta && footer.problem.ok())
        footer.problem = Status(Code::unsupported, "a column chunk without metadata: is the file encrypted?");
    return chunk;
}

ParquetRowGroup read_row_group(ThriftReader & in, Footer & footer) {
    ParquetRowGroup group;
    for (Field field; in.next_field(field);) {
        if (field.id == 1) {
            const uint64_t count = in.list(field, Type::structure);
            for (uint64_t i = 0; i < count && in.ok() && footer.problem.ok(); i++)
                group.chunks.push_back(read_chunk(in, footer));
        } else if (field.id == 3) {
            group.rows = uint64_t(in.integer(field)); // checked against the sum
        } else {
            in.skip(field);
        }
    }
    if (group.chunks.empty() && footer.problem.ok())
        footer.problem = Status(Code::format, "a row group without columns");
    return group;
}

// FileMetaData
Footer read_footer(ThriftReader & in) {
    Footer footer;
    for (Field field; footer.problem.ok() && in.next_field(field);) {
        if (field.id == 2) {
            const uint64_t count = in.list(field, Type::structure);
            if (count > most_schema_elements)
                footer.problem = fail(Code::unsupported, "a schema of ", count, " elements; at most ",
                                      most_schema_elements, " are read: write fewer columns");
            for (uint64_t i = 0; i < count && in.ok() && footer.problem.ok(); i++)
                footer.schema.push_back(read_schema_element(in));
        } else if (field.id == 3) {
            footer.rows = in.integer(field);
        } else if (field.id == 4) {
            const uint64_t count = in.list(field, Type::structure);
            for (uint64_t i = 0; i < count && in.ok() && footer.problem.ok(); i++)
                footer.row_groups.push_back(read_row_group(in, footer));
        } else if (field.id == 6) {
            footer.writer = in.binary(field).substr(0, max_parquet_name_bytes);
        } else {
            in.skip(field);
        }
    }
    return footer;
}

// Walks the depth-first list of schema elements and collects the leaves below the element at `at`.
Status collect_columns(const std::vector<SchemaElement> & schema, size_t & at, const ParquetColumn & parent, int depth,
                       std::vector<ParquetColumn> & columns) {
    if (at >= schema.size() || depth > deepest_schema)
        return Status(Code::format, "the schema's tree is broken or too deep");
    const SchemaElement & element = schema[at++];
    ParquetColumn column = parent;
    if (depth > 0) {
        column.path.push_back(element.name);
        size_t name_bytes = 0;
        for (const std::string & part : column.path) name_bytes += part.size();
        if (name_bytes > max_parquet_name_bytes) // every column repeats the names of the groups around it
            return fail(Code::unsupported, "a column's name has ", name_bytes, " bytes; at most ",
                        max_parquet_name_bytes, " are accepted: give it a shorter one");
        if (element.repetition < 0 || element.repetition > 2)
            return fail(Code::format, "column ", printable(column.name()), " has an unknown repetition type");
        const auto repetition = Repetition(element.repetition);
        if (repetition != Repetition::required) column.max_definition++;
        if (repetition == Repetition::repeated) {
            if (column.max_repetition++ == 0) column.outer_definition = column.max_definition;
            column.element_definition = column.max_definition;
            column.repeated.push_back(column.path.size() - 1);
        }
    }
    if (element.children <= 0 && depth > 0) {
        if (element.type < 0 || element.type >= int64_t(ParquetType::count_))
            return fail(Code::format, "column ", printable(column.name()), " has no type that this reader knows");
        column.type = ParquetType(element.type);
        columns.push_back(std::move(column));
        return {};
    }
    for (int64_t i = 0; i < element.children; i++) GNV_TRY(collect_columns(schema, at, column, depth + 1, columns));
    return {};
}

// Before its version 1.2.9 parquet-mr left the header of the dictionary's page out of a chunk's size (PARQUET-816).
bool writes_short_chunks(std::string_view writer) {
    for (const std::string_view version : {"parquet-mr version 1.0.", "parquet-mr version 1.1."})
        if (writer.starts_with(version)) return true;
    constexpr std::string_view version_1_2 = "parquet-mr version 1.2.";
    if (!writer.starts_with(version_1_2)) return false;
    const std::string_view patch = writer.substr(version_1_2.size());
    return !patch.empty() && patch[0] >= '0' && patch[0] < '9' &&
           (patch.size() == 1 || patch[1] < '0' || patch[1] > '9');
}

// Lets the pages of such a chunk reach over the end that it says, by more than any header has.
void pad_chunks(std::vector<ParquetRowGroup> & groups, uint64_t data_end) {
    constexpr uint64_t longest_header = 100;
    for (ParquetRowGroup & group : groups)
        for (ParquetChunk & chunk : group.chunks) {
            chunk.bytes += std::min(longest_header, data_end - chunk.offset - chunk.bytes);
            chunk.is_padded = true;
        }
}

Status check_row_groups(const Footer & footer, ParquetFile & out, uint64_t data_end) {
    for (const ParquetRowGroup & group : footer.row_groups) {
        const size_t index = size_t(&group - footer.row_groups.data());
        if (group.chunks.size() != out.columns.size())
            return fail(Code::format, "row group ", index, " has ", group.chunks.size(), " columns, the schema ",
                        out.columns.size());
        for (const ParquetChunk & chunk : group.chunks) {
            const ParquetColumn & column = out.columns[size_t(&chunk - group.chunks.data())];
            if (chunk.offset > data_end || chunk.bytes > data_end - chunk.offset)
                return fail(Code::format, "row group ", index, ", column ", printable(column.name()), ": bytes ",
                            chunk.offset, " + ", chunk.bytes, " reach beyond the data, which ends at byte ", data_end);
            if (column.max_repetition == 0 && chunk.entries != group.rows)
                return fail(Code::format, "row group ", index, ", column ", printable(column.name()), ": ",
                            chunk.entries, " values for ", group.rows, " rows");
        }
        out.rows += group.rows;
        if (group.rows > uint64_t(footer.rows) || out.rows > uint64_t(footer.rows)) break; // and before it overflows
    }
    if (out.rows != uint64_t(footer.rows))
        return fail(Code::format, "the row groups hold ", out.rows, " rows, the footer says ", footer.rows);
    return {};
}

Status parse_footer(std::string_view bytes, uint64_t data_end, ParquetFile & out) {
    ThriftReader in(bytes);
    Footer footer = read_footer(in);
    GNV_TRY(std::move(footer.problem));
    if (!in.ok()) return fail(Code::format, "the footer is damaged at its byte ", in.position());
    if (footer.rows < 0) return fail(Code::format, "the footer says ", footer.rows, " rows");
    size_t at = 0;
    GNV_TRY(collect_columns(footer.schema, at, {}, 0, out.columns));
    if (at != footer.schema.size()) return Status(Code::format, "the schema's tree does not hold all of its elements");
    GNV_TRY(check_row_groups(footer, out, data_end));
    if (out.rows > max_parquet_rows)
        return fail(Code::unsupported, "the footer says ", out.rows, " rows; at most ", max_parquet_rows,
                    " are read of one file: split it");
    if (writes_short_chunks(footer.writer)) pad_chunks(footer.row_groups, data_end);
    out.row_groups = std::move(footer.row_groups);
    return {};
}

} // namespace

std::string ParquetColumn::name() const {
    std::string name;
    for (const std::string & part : path) name += (name.empty() ? "" : ".") + part;
    return name;
}

std::string ParquetColumn::form() const {
    static constexpr const char * names[] = {"BOOLEAN", "INT32",  "INT64",      "INT96",
                                             "FLOAT",   "DOUBLE", "BYTE_ARRAY", "FIXED_LEN_BYTE_ARRAY"};
    static_assert(std::size(names) == size_t(ParquetType::count_));
    std::string form = names[size_t(type)];
    for (uint32_t level = 0; level < max_repetition; level++) form += level == 0 ? " in lists" : " inside lists";
    return form;
}

Result<ParquetFile> ParquetFile::open(const std::string & path, const ReadControl & control) {
    GNV_ASSIGN(File file, File::open_read(path));
    GNV_ASSIGN(const FileStamp stamp, file.stamp());
    constexpr uint64_t tail_bytes = 8;
    if (stamp.size < 4 + tail_bytes)
        return fail(Code::format, path, ": ", stamp.size, " bytes are no Parquet file", damaged_file);
    unsigned char tail[tail_bytes];
    GNV_TRY(file.read(tail, tail_bytes, stamp.size - tail_bytes));
    if (memcmp(tail + 4, "PARE", 4) == 0)
        return fail(Code::unsupported, path, ": the footer is encrypted; write the file without encryption");
    if (memcmp(tail + 4, "PAR1", 4) != 0) return fail(Code::format, path, ": does not end with \"PAR1\"", damaged_file);
    const uint64_t footer_bytes = tail[0] | tail[1] << 8 | tail[2] << 16 | uint64_t(tail[3]) << 24;
    if (footer_bytes > stamp.size - 4 - tail_bytes || footer_bytes > max_parquet_footer_bytes)
        return fail(Code::format, path, ": a footer of ", footer_bytes, " bytes in a file of ", stamp.size,
                    damaged_file);
    MemoryShare share(control);
    if (!share.resize(memory_of_footer_byte * footer_bytes))
        return control.too_small(concat(path, ": a footer of ", bytes_text(footer_bytes)),
                                 memory_of_footer_byte * footer_bytes);
    std::string bytes(size_t(footer_bytes), '\0');
    const uint64_t data_end = stamp.size - tail_bytes - footer_bytes;
    GNV_TRY(file.read(bytes.data(), bytes.size(), data_end));
    ParquetFile out{std::move(file), control, std::move(share), {}, {}, 0};
    Status status = parse_footer(bytes, data_end, out);
    if (!status.ok()) return with_remedy(std::move(status), damaged_file).add_context(path);
    return out;
}

} // namespace gnv
