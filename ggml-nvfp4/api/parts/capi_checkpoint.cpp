#include "api/arguments.h"
#include "api/progress.h"
#include "inspect/comparison.h"
#include "inspect/inspect_text.h"
#include "inspect/tensor_statistics.h"

#include <algorithm>
#include <limits>
#include <set>

using namespace gnv;

struct gnv_checkpoint_t : api::Owned {
    Contents contents;
    std::set<std::string> strings; // pointers to them are the caller's
};

struct gnv_comparison_t : api::Owned {
    const Contents *here, *there;
    Comparison comparison;
};

static constexpr uint64_t no_position = std::numeric_limits<uint64_t>::max();

static uint64_t position_or_none(int64_t position) { return position < 0 ? no_position : uint64_t(position); }

// Runs `body` with the contents of a checkpoint that may be NULL.
template <class Body>
static gnv_status call(gnv_checkpoint_t * checkpoint, const Body & body) {
    return api::call(api::engine_of(checkpoint), [&]() -> Status { return body(checkpoint->contents); });
}

// A pattern; NULL: none.
static Result<std::optional<Pattern>> compile_filter(const char * filter) {
    if (!filter) return std::optional<Pattern>();
    GNV_ASSIGN(Pattern pattern, Pattern::compile(filter, true));
    return std::optional<Pattern>(std::move(pattern));
}

// --- Opening and listing ----------------------------------------------------------------------------------------------

gnv_status gnv_checkpoint_open(gnv_engine_t * engine, const char * folder, gnv_checkpoint_t ** out) {
    if (out) *out = nullptr;
    return api::call(engine, [&]() -> Status {
        GNV_TRY(api::check_pointers({folder, out}, "gnv_checkpoint_open"));
        GNV_ASSIGN(Contents contents, Contents::open(folder));
        *out = new gnv_checkpoint_t{{engine}, std::move(contents), {}};
        return {};
    });
}

void gnv_checkpoint_close(gnv_checkpoint_t * checkpoint) { api::destroy(checkpoint); }

uint64_t gnv_checkpoint_tensor_count(const gnv_checkpoint_t * checkpoint) {
    return checkpoint ? checkpoint->contents.checkpoint().tensors().size() : 0;
}

uint64_t gnv_checkpoint_module_count(const gnv_checkpoint_t * checkpoint) {
    return checkpoint ? checkpoint->contents.modules().size() : 0;
}

static Status check_position(uint64_t position, uint64_t count, const char * what) {
    if (position < count) return {};
    return fail(Code::invalid_argument, what, " ", position, " of ", count);
}

gnv_status gnv_checkpoint_tensor_info(gnv_checkpoint_t * checkpoint, uint64_t position, gnv_tensor_info * out) {
    return call(checkpoint, [&](const Contents & contents) -> Status {
        GNV_TRY(check_position(position, contents.checkpoint().tensors().size(), "tensor"));
        const TensorInfo & tensor = contents.tensor(position);
        const Contents::Use & use = contents.use(position);
        gnv_tensor_info info = {};
        info.name = tensor.name.c_str();
        info.dtype = dtype_name(tensor.dtype);
        info.role = checkpoint->strings.insert(contents.role_name(position)).first->c_str();
        info.dimensions = tensor.shape.size();
        info.shape = tensor.shape.data();
        info.shard = contents.checkpoint().shards()[tensor.shard].file_name.c_str();
        info.offset = tensor.offset;
        info.bytes = tensor.bytes;
        info.module = use.module < 0 ? "" : contents.modules()[size_t(use.module)].name.c_str();
        info.part = module_part_name(use.module_part);
        return api::give_struct(info, out, "gnv_tensor_info");
    });
}

gnv_status gnv_checkpoint_module_info(gnv_checkpoint_t * checkpoint, uint64_t position, gnv_module_info * out) {
    return call(checkpoint, [&](const Contents & contents) -> Status {
        GNV_TRY(check_position(position, contents.modules().size(), "module"));
        const QuantizedModule & module = contents.modules()[position];
        gnv_module_info info = {};
        info.name = module.name.c_str();
        info.role = checkpoint->strings.insert(contents.role_name(module.codes())).first->c_str();
        info.scheme = module.scheme();
        info.naming = module.naming->producer;
        info.rows = module.rows, info.columns = module.columns;
        info.codes = module.tensor(ModulePart::codes), info.block_scales = module.tensor(ModulePart::block_scales);
        info.global_scale = module.tensor(ModulePart::global_scale);
        info.input_scale =
            module.format->takes_input_scale() ? module.tensor(ModulePart::input_scale) : position_or_none(-1);
        return api::give_struct(info, out, "gnv_module_info");
    });
}

// The position that `find` gives for a name.
template <class Find>
static gnv_status find_name(gnv_checkpoint_t * checkpoint, const char * name, uint64_t * out, const char * what,
                            const Find & find) {
    return call(checkpoint, [&](const Contents & contents) -> Status {
        if (!name || !out)
            return Status(Code::invalid_argument, concat("looking for a ", what, ": an argument is NULL"));
        const int64_t position = find(contents, name);
        if (position < 0)
            return fail(Code::not_found, contents.checkpoint().folder(), " has no ", what, " ", printable(name));
        *out = uint64_t(position);
        return {};
    });
}

gnv_status gnv_checkpoint_find_tensor(gnv_checkpoint_t * checkpoint, const char * name, uint64_t * tensor) {
    return find_name(checkpoint, name, tensor, "tensor",
                     [](const Contents & contents, const char * text) { return contents.checkpoint().find(text); });
}

gnv_status gnv_checkpoint_find_module(gnv_checkpoint_t * checkpoint, const char * name, uint64_t * module) {
    return find_name(checkpoint, name, module, "quantized module",
                     [](const Contents & contents, const char * text) { return contents.find_module(text); });
}

// --- Reading ----------------------------------------------------------------------------------------------------------

gnv_status gnv_checkpoint_read(gnv_checkpoint_t * checkpoint, uint64_t position, uint64_t offset, void * data,
                               uint64_t size) {
    return call(checkpoint, [&](const Contents & contents) -> Status {
        GNV_TRY(check_position(position, contents.checkpoint().tensors().size(), "tensor"));
        const TensorInfo & tensor = contents.tensor(position);
        GNV_TRY(api::check_list(data, size, "gnv_checkpoint_read: data", api::most_bytes));
        if (offset > tensor.bytes || size > tensor.bytes - offset)
            return fail(Code::invalid_argument, contents.checkpoint().describe(tensor), " has ", tensor.bytes,
                        " bytes, not ", size, " at ", offset);
        return contents.read(tensor, offset, data, size);
    });
}

gnv_status gnv_checkpoint_values(gnv_checkpoint_t * checkpoint, const char * name, uint64_t first, uint64_t count,
                                 double * values) {
    return call(checkpoint, [&](const Contents & contents) -> Status {
        GNV_TRY(api::check_pointers({name}, "gnv_checkpoint_values"));
        GNV_TRY(api::check_list(values, count, "gnv_checkpoint_values: values", api::most_bytes / sizeof(double)));
        GNV_ASSIGN(const Numbers numbers, numbers_of_name(contents, name));
        const auto available = uint64_t(numbers.count());
        if (first > available || count > available - first)
            return fail(Code::invalid_argument, printable(name), " has ", available, " elements, not ", count, " from ",
                        first);
        NumberBuffers buffers;
        buffers.instructions = checkpoint->engine->threads->instructions();
        for (uint64_t done = 0; done < count; done += uint64_t(piece_elements)) {
            const uint64_t step = std::min(count - done, uint64_t(piece_elements));
            GNV_TRY(numbers.read(int64_t(first + done), int64_t(step), buffers, values + done));
        }
        return {};
    });
}

static gnv_statistics to_public(const WeightStatistics & weight) {
    const Statistics & values = weight.values;
    gnv_statistics out = {};
    out.elements = values.elements, out.zeros = values.zeros, out.nans = values.nans,
    out.infinities = values.infinities;
    out.first_not_finite = position_or_none(values.first_not_finite);
    out.minimum = values.minimum, out.maximum = values.maximum, out.largest = values.largest;
    out.mean = values.mean, out.deviation = values.deviation;
    out.has_codes = weight.codes.has_value(), out.has_block_scales = weight.block_scales.has_value();
    if (weight.codes) std::copy(weight.codes->begin(), weight.codes->end(), out.codes);
    const BlockScaleStatistics scales = weight.block_scales.value_or(BlockScaleStatistics());
    out.block_scale_minimum = scales.minimum, out.block_scale_maximum = scales.maximum;
    out.block_scale_zeros = scales.zeros, out.block_scale_subnormals = scales.subnormals;
    out.block_scale_largest = scales.largest, out.block_scale_nans = scales.nans;
    out.block_scale_negatives = scales.negatives;
    out.global_scale = double(weight.global_scale.value_or(0.0f));
    out.input_scale = double(weight.input_scale.value_or(0.0f));
    return out;
}

gnv_status gnv_checkpoint_measure(gnv_checkpoint_t * checkpoint, const char * name, gnv_statistics * statistics,
                                  gnv_text_format format, gnv_text_t ** text) {
    if (text) *text = nullptr;
    return api::run(api::engine_of(checkpoint), [&]() -> Status {
        const Contents & contents = checkpoint->contents;
        GNV_TRY(api::check_pointers({name}, "gnv_checkpoint_measure"));
        GNV_TRY(api::check_format(format, "gnv_checkpoint_measure"));
        if (statistics) GNV_TRY(api::check_struct(statistics, "gnv_statistics"));
        GNV_ASSIGN(const WeightStatistics weight, measure_name(contents, name, *checkpoint->engine->threads));
        if (statistics) GNV_TRY(api::give_struct(to_public(weight), statistics, "gnv_statistics"));
        if (text)
            *text = api::make_text(format == GNV_TEXT_JSON ? statistics_json(contents, weight)
                                                           : statistics_text(contents, weight));
        return {};
    });
}

gnv_status gnv_checkpoint_text(gnv_checkpoint_t * checkpoint, const gnv_contents_options * given,
                               gnv_text_format wanted, gnv_text_t ** out) {
    return api::give_text(
        checkpoint, wanted, out, "gnv_checkpoint_text", [&](gnv_text_format format) -> Result<std::string> {
            gnv_contents_options options;
            gnv_contents_options_init(&options);
            GNV_TRY(api::take_options(given, options, "gnv_contents_options"));
            GNV_ASSIGN(const std::optional<Pattern> filter, compile_filter(options.filter));
            const Pattern * const pattern = filter ? &*filter : nullptr;
            return format == GNV_TEXT_JSON ? contents_json(checkpoint->contents, pattern)
                                           : contents_text(checkpoint->contents, pattern, options.list_tensors != 0);
        });
}

// --- Comparing --------------------------------------------------------------------------------------------------------

gnv_status gnv_checkpoint_compare(gnv_checkpoint_t * here, gnv_checkpoint_t * there, const gnv_compare_options * given,
                                  gnv_comparison_t ** out) {
    if (out) *out = nullptr;
    return api::run(api::engine_of(here), [&]() -> Status {
        gnv_compare_options options;
        gnv_compare_options_init(&options);
        GNV_TRY(api::check_pointers({there, out}, "gnv_checkpoint_compare"));
        GNV_TRY(api::check_engine(here->engine, there, "gnv_checkpoint_compare: the second checkpoint"));
        GNV_TRY(api::take_options(given, options, "gnv_compare_options"));
        GNV_ASSIGN(const std::optional<Pattern> filter, compile_filter(options.filter));
        ComparisonOptions run;
        run.filter = filter ? &*filter : nullptr;
        api::Progress progress(*here->engine->threads, options.progress, options.user);
        if (progress) {
            run.progress = [&](uint64_t bytes, uint64_t bytes_total, uint64_t items, uint64_t items_total) {
                gnv_progress now = {};
                now.bytes = bytes, now.bytes_total = bytes_total;
                now.tensors = items, now.tensors_total = items_total;
                return progress.report(now, items == items_total);
            };
        }
        GNV_ASSIGN(Comparison comparison, compare(here->contents, there->contents, *here->engine->threads, run));
        *out = new gnv_comparison_t{{here->engine}, &here->contents, &there->contents, std::move(comparison)};
        return {};
    });
}

void gnv_comparison_destroy(gnv_comparison_t * comparison) { api::destroy(comparison); }

gnv_status gnv_comparison_get_info(const gnv_comparison_t * handle, gnv_comparison_info * out) {
    return api::call(api::engine_of(handle), [&]() -> Status {
        const Comparison & comparison = handle->comparison;
        gnv_comparison_info info = {};
        info.equal = comparison.equal;
        info.values = comparison.count(Difference::values);
        info.form = comparison.count(Difference::form);
        info.quantized = comparison.count(Difference::quantized);
        info.only_here = comparison.count(Difference::only_here);
        info.only_there = comparison.count(Difference::only_there);
        NumberErrors sum;
        for (const ComparedItem & item : comparison.items) {
            if (item.difference != Difference::quantized || !item.errors) continue;
            sum.error_squares += item.errors->error_squares;
            sum.reference_squares += item.errors->reference_squares;
            info.worst_relative_squared_error =
                std::max(info.worst_relative_squared_error, item.errors->relative_squared_error());
        }
        info.relative_squared_error = sum.relative_squared_error();
        return api::give_struct(info, out, "gnv_comparison_info");
    });
}

gnv_status gnv_comparison_text(const gnv_comparison_t * handle, gnv_text_format wanted, gnv_text_t ** out) {
    return api::give_text(handle, wanted, out, "gnv_comparison_text", [&](gnv_text_format format) {
        const Contents &here = *handle->here, &there = *handle->there;
        return format == GNV_TEXT_JSON ? comparison_json(here, there, handle->comparison)
                                       : comparison_text(here, there, handle->comparison);
    });
}
