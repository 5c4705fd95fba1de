#include "api/arguments.h"
#include "checkpoint/tensor_file.h"

using namespace gnv;

struct gnv_dump_t : api::Owned {
    std::unique_ptr<TensorFileWriter> writer;
};

static constexpr uint64_t most_dimensions = 64; // the limit of readers of safetensors

static Result<TensorFileEntry> translate(const gnv_dump_tensor & given, size_t number) {
    if (!given.name || !given.dtype)
        return fail(Code::invalid_argument, "gnv_dump_create: tensors[", number, "] has a member that is NULL");
    GNV_TRY(api::check_list(given.shape, given.dimensions,
                            concat("gnv_dump_create: tensors[", number, "].shape").c_str(), most_dimensions));
    TensorFileEntry entry;
    entry.name = given.name;
    if (!dtype_from_name(given.dtype, entry.dtype) || dtype_traits(entry.dtype).bits % 8 != 0)
        return fail(Code::invalid_argument, "gnv_dump_create: tensor ", printable(entry.name), " has the dtype ",
                    printable(given.dtype), "; use \"F32\", \"I32\" or another of whole bytes");
    entry.shape.assign(given.shape, given.shape + given.dimensions);
    return entry;
}

gnv_status gnv_dump_create(gnv_engine_t * engine, const char * path, const gnv_dump_tensor * tensors, size_t count,
                           gnv_dump_t ** out) {
    if (out) *out = nullptr;
    return api::call(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({path, out}, "gnv_dump_create"));
        GNV_TRY(api::check_list(tensors, count, "gnv_dump_create: tensors"));
        std::vector<TensorFileEntry> entries;
        for (size_t i = 0; i < count; i++) {
            GNV_ASSIGN(TensorFileEntry entry, translate(tensors[i], i));
            entries.push_back(std::move(entry));
        }
        GNV_ASSIGN(std::unique_ptr<TensorFileWriter> writer, TensorFileWriter::create(path, entries));
        *out = new gnv_dump_t{{engine}, std::move(writer)};
        return {};
    });
}

gnv_status gnv_dump_append(gnv_dump_t * dump, uint64_t tensor, const void * data, uint64_t bytes) {
    return api::call(api::engine_of(dump), [&]() -> Status {
        GNV_TRY(api::check_list(data, bytes, "gnv_dump_append: data", api::most_bytes));
        if (tensor >= dump->writer->size())
            return fail(Code::invalid_argument, "tensor ", tensor, " of ", dump->writer->size());
        return dump->writer->append(size_t(tensor), data, bytes);
    });
}

gnv_status gnv_dump_finish(gnv_dump_t * dump) {
    return api::call(api::engine_of(dump), [&]() -> Status { return dump->writer->finish(); });
}

void gnv_dump_destroy(gnv_dump_t * dump) { api::destroy(dump); }
