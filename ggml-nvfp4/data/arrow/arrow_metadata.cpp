#include "data/arrow/arrow_metadata.h"

namespace gnv {

namespace {

enum Type : int64_t {
    type_null = 1,
    type_int,
    type_float,
    type_binary,
    type_text,
    type_bool,
    type_decimal,
    type_date,
    type_time,
    type_timestamp,
    type_interval,
    type_list,
    type_struct,
    type_union,
    type_fixed_binary,
    type_fixed_list,
    type_map,
    type_duration,
    type_large_binary,
    type_large_text,
    type_large_list,
    type_run_ends,
    type_binary_view,
    type_text_view,
    type_list_view,
    type_large_list_view,
    type_count
};

struct TypeRow {
    ArrowField::Kind kind;
    uint8_t buffers, place_bytes;
    bool by_view, has_counted_buffers, is_fixed;
};
using Kind = ArrowField::Kind;
constexpr TypeRow plain = {Kind::other, 2, 4, false, false, false};
constexpr TypeRow types[type_count] = {
    plain, // no type
    {Kind::other, 0, 4, false, false, false},
    plain, // int
    plain, // float
    {Kind::text, 3, 4, false, false, false},
    {Kind::text, 3, 4, false, false, false},
    plain, // bool
    plain, // decimal
    plain, // date
    plain, // time
    plain, // timestamp
    plain, // interval
    {Kind::list, 2, 4, false, false, false},
    {Kind::structure, 1, 4, false, false, false},
    {Kind::other, 1, 4, false, false, false},
    plain, // fixed binary
    {Kind::list, 1, 4, false, false, true},
    {Kind::list, 2, 4, false, false, false}, // a map: a list of key and value
    plain,                                   // duration
    {Kind::text, 3, 8, false, false, false},
    {Kind::text, 3, 8, false, false, false},
    {Kind::list, 2, 8, false, false, false},
    {Kind::other, 0, 4, false, false, false}, // run ends: all in its children
    {Kind::text, 2, 4, true, true, false},
    {Kind::text, 2, 4, true, true, false},
    {Kind::list, 3, 4, true, false, false},
    {Kind::list, 3, 8, true, false, false},
};

constexpr int deepest_schema = 16;
constexpr size_t most_fields = 20'000;
constexpr int64_t most_values = int64_t(1) << 40; // of an array: places in it fit into 64 bits
constexpr size_t most_name_bytes = 4096;          // tables of a few bytes can share a name

struct SchemaWalk {
    int64_t version;
    std::map<int64_t, std::shared_ptr<const ArrowField>> & dictionaries;
    size_t fields = 0;
};

// A field whose values stand in a dictionary: the batches have positions there.
Status take_dictionary(const FlatTable & encoding, SchemaWalk & walk, ArrowField & field) {
    ArrowField values = std::move(field);
    field = {};
    field.name = values.name;
    field.dictionary_id = encoding.integer(0, 8);
    const FlatTable index = encoding.table(1); // without one: 32 bits
    const int64_t bits = index.exists() ? index.integer(0, 4) : 32;
    if (bits != 8 && bits != 16 && bits != 32 && bits != 64)
        return fail(Code::format, "a dictionary with positions of ", bits, " bits");
    field.place_bytes = uint8_t(bits / 8);
    field.places_signed = !index.exists() || index.integer(1, 1) != 0;
    if (values.kind == Kind::text) field.kind = Kind::text;
    auto & known = walk.dictionaries[field.dictionary_id];
    if (!known) known = std::make_shared<const ArrowField>(std::move(values));
    if (known->kind != field.kind) field.kind = Kind::other;
    field.dictionary = known;
    return {};
}

Status parse_field(const FlatTable & table, int depth, SchemaWalk & walk, ArrowField & field) {
    if (depth > deepest_schema || ++walk.fields > most_fields)
        return fail(Code::unsupported, "a schema of more than ", most_fields, " fields or ", deepest_schema,
                    " levels; write fewer columns");
    field.name = table.text(0);
    if (field.name.size() > most_name_bytes)
        return fail(Code::unsupported, "a column's name has ", field.name.size(), " bytes; at most ", most_name_bytes,
                    " are accepted: give it a shorter one");
    const int64_t type = table.integer(2, 1);
    if (type <= 0 || type >= type_count)
        return fail(Code::unsupported, "column ", printable(field.name), " has type ", type,
                    " of Arrow, which this reader does not know; write the rows as JSON lines");
    const TypeRow & row = types[type];
    field.kind = row.kind;
    field.buffers = row.buffers;
    field.place_bytes = row.place_bytes;
    field.by_view = row.by_view;
    field.has_counted_buffers = row.has_counted_buffers;
    field.is_fixed = row.is_fixed;
    if (row.is_fixed) field.fixed_length = uint64_t(std::max<int64_t>(0, table.table(3).integer(0, 4)));
    constexpr int64_t version_5 = 4;
    if (type == type_union) { // types, with offsets where it is dense; before version 5 also validity
        const bool is_dense = table.table(3).integer(0, 2) == 1;
        field.buffers = uint8_t(1 + is_dense + (walk.version < version_5));
    }
    const FlatVector children = table.vector(5, 4);
    bool any_readable = false;
    for (size_t i = 0; i < children.size(); i++) {
        GNV_TRY(parse_field(children.table(i), depth + 1, walk, field.children.emplace_back()));
        any_readable = any_readable || field.children.back().kind != Kind::other;
    }
    const bool is_nested = field.kind == Kind::list || field.kind == Kind::structure;
    if (field.kind == Kind::list && children.size() != 1)
        return fail(Code::format, "column ", printable(field.name), ": a list of ", children.size(), " fields");
    if (is_nested && !any_readable) field.kind = Kind::other;
    const FlatTable encoding = table.table(4);
    return encoding.exists() ? take_dictionary(encoding, walk, field) : Status();
}

// Deals the nodes and buffers of a batch out to its fields, depth first.
struct BatchWalk {
    FlatVector nodes, buffers, counts;
    uint64_t body, body_bytes;
    size_t node = 0, buffer = 0, counted = 0;

    Status take(const ArrowField & field, ArrowArray & array) {
        array.field = &field;
        if (node == nodes.size()) return fail(Code::format, "the batch has only ", node, " arrays");
        const int64_t length = nodes.integer(node, 0, 8), nulls = nodes.integer(node, 8, 8);
        node++;
        if (length < 0 || length > most_values || nulls < 0 || nulls > length)
            return fail(Code::format, "column ", printable(field.name), ": ", nulls, " nulls of ", length, " values");
        array.length = uint64_t(length);
        array.nulls = uint64_t(nulls);
        uint64_t count = field.buffers;
        if (field.has_counted_buffers) {
            const int64_t more = counted < counts.size() ? counts.integer(counted++, 0, 8) : -1;
            if (more < 0 || uint64_t(more) > buffers.size())
                return fail(Code::format, "column ", printable(field.name), ": ", more, " buffers of strings");
            count += uint64_t(more);
        }
        if (count > buffers.size() - buffer)
            return fail(Code::format, "the batch has only ", buffers.size(), " buffers");
        for (uint64_t i = 0; i < count; i++, buffer++) {
            const int64_t at = buffers.integer(buffer, 0, 8), bytes = buffers.integer(buffer, 8, 8);
            if (at < 0 || bytes < 0 || uint64_t(at) > body_bytes || uint64_t(bytes) > body_bytes - uint64_t(at))
                return fail(Code::format, "column ", printable(field.name), ": a buffer at ", at, " + ", bytes,
                            " reaches beyond the batch, ", body_bytes, " bytes from byte ", body);
            array.buffers.push_back({body + uint64_t(at), uint64_t(bytes)});
        }
        for (const ArrowField & child : field.children) GNV_TRY(take(child, array.children.emplace_back()));
        return {};
    }
};

} // namespace

Status parse_arrow_schema(const FlatTable & schema, int64_t version, std::vector<ArrowField> & fields,
                          std::map<int64_t, std::shared_ptr<const ArrowField>> & dictionaries) {
    if (schema.integer(0, 2) != 0) return Status(Code::unsupported, "the data is big endian");
    SchemaWalk walk{version, dictionaries};
    const FlatVector list = schema.vector(1, 4);
    for (size_t i = 0; i < list.size(); i++) GNV_TRY(parse_field(list.table(i), 0, walk, fields.emplace_back()));
    return {};
}

Status parse_arrow_batch(const FlatTable & table, const std::vector<const ArrowField *> & fields, uint64_t body,
                         uint64_t body_bytes, ArrowBatch & batch) {
    const int64_t rows = table.integer(0, 8);
    if (rows < 0) return fail(Code::format, "a batch of ", rows, " rows");
    batch.rows = uint64_t(rows);
    if (const FlatTable compression = table.table(3); compression.exists()) {
        const int64_t codec = compression.integer(0, 1);
        if (codec != 0 && codec != 1)
            return fail(Code::unsupported, "buffers are compressed with codec ", codec,
                        " of Arrow; known are LZ4 and Zstd: write the file anew with one of them");
        batch.codec = codec == 0 ? ArrowCodec::lz4 : ArrowCodec::zstd;
    }
    BatchWalk walk{table.vector(1, 16), table.vector(2, 16), table.vector(4, 8), body, body_bytes};
    for (const ArrowField * field : fields) {
        ArrowArray & array = batch.arrays.emplace_back();
        GNV_TRY(walk.take(*field, array));
        if (array.length != batch.rows)
            return fail(Code::format, "column ", printable(field->name), " has ", array.length, " values for ",
                        batch.rows, " rows");
    }
    return {};
}

} // namespace gnv
