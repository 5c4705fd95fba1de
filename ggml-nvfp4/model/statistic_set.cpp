#include "model/statistic_set.h"

#include "model/text_model.h"

#include <algorithm>
#include <cstring>
#include <tuple>

namespace gnv {

bool operator<(const StatisticKey & a, const StatisticKey & b) {
    const auto place = [](const StatisticKey & key) {
        return std::tuple(key.part, key.layer, key.input, key.statistic != &Statistic::maximum,
                          std::string_view(key.statistic->name));
    };
    return place(a) < place(b);
}

// --- Requests -----------------------------------------------------------------------------------------------------------------

static bool asks(const StatisticRequest & request, const Stage & stage, const StageInput & input,
                 const ModelNames & names) {
    if (names.inputs[size_t(input.input)].is_routed && request.input != input.input) return false;
    return request.part == stage.part && (request.layer < 0 || request.layer == stage.layer) &&
           (request.input < 0 || request.input == input.input) &&
           names.inputs[size_t(input.input)].is_choice == (request.statistic == &Statistic::tokens);
}

StatisticSet StatisticSet::plan(const TextModel & model, const std::vector<StatisticRequest> & requests) {
    StatisticSet set;
    set.names_ = &model.names();
    set.layers_ = model.sizes().layers;
    const auto add = [&](const Stage & stage, const StageInput & input, const Statistic & statistic) {
        set.totals_[{stage.part, stage.layer, input.input, &statistic}].shape =
            statistic.total_shape(input.groups, input.width);
    };
    for (int32_t layer = 0; layer < model.sizes().layers; layer++)
        for (const Stage & stage : model.block_stages(layer))
            for (const StageInput & input : model.stage_inputs(stage))
                for (const StatisticRequest & request : requests) {
                    if (!asks(request, stage, input, model.names())) continue;
                    add(stage, input, *request.statistic);
                    const bool is_routed = model.names().inputs[size_t(input.input)].is_routed; // looked at elsewhere
                    if (request.statistic != &Statistic::tokens && !is_routed) add(stage, input, Statistic::maximum);
                }
    return set;
}

std::vector<const Statistic *> StatisticSet::statistics_of(Part part, int32_t layer, int32_t input) const {
    std::vector<const Statistic *> list;
    for (auto at = totals_.lower_bound({part, layer, input, &Statistic::maximum}); at != totals_.end(); at++) {
        if (at->first.part != part || at->first.layer != layer || at->first.input != input) break;
        list.push_back(at->first.statistic);
    }
    return list;
}

bool StatisticSet::is_order_free() const {
    return std::none_of(totals_.begin(), totals_.end(),
                        [](const auto & total) { return total.first.statistic->is_ordered(); });
}

bool StatisticSet::can_be_divided() const {
    return is_order_free() && std::all_of(totals_.begin(), totals_.end(),
                                          [](const auto & total) { return total.first.statistic->is_kept; });
}

// --- Totals -------------------------------------------------------------------------------------------------------------------

static uint64_t bytes_of(const Statistic & statistic, const Shape & shape) {
    return tensor_bytes(statistic.dtype, shape);
}

uint64_t StatisticSet::kept_bytes() const {
    uint64_t bytes = 0;
    for (const auto & [key, total] : totals_)
        if (key.statistic->is_kept) bytes += sizeof key + sizeof total + bytes_of(*key.statistic, total.shape);
    return bytes;
}

void StatisticSet::allocate() {
    for (auto & [key, total] : totals_)
        if (key.statistic->is_kept) insert(key, total.shape);
}

StatisticTotal & StatisticSet::insert(const StatisticKey & key, const Shape & shape) {
    StatisticTotal & total = totals_[key];
    total.shape = shape;
    total.words.assign(size_t((bytes_of(*key.statistic, shape) + 7) / 8), 0);
    return total;
}

// Counts may come from files, so their sum may overflow.
template <class T>
static Status merge_elements(const Statistic & statistic, T * into, const T * from, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (statistic.merge == Statistic::Merge::maximum) {
            into[i] = std::max(into[i], from[i]);
        } else if constexpr (std::is_integral_v<T>) {
            if (T sum = 0; !__builtin_add_overflow(into[i], from[i], &sum)) {
                into[i] = sum;
                continue;
            }
            return fail(Code::format, statistic.file_key ? statistic.file_key : statistic.name, ": ", into[i], " and ",
                        from[i], " exceed 2^63 together: a file is damaged")
                .add_context(concat("expert ", i));
        } else {
            into[i] += from[i];
        }
    }
    return {};
}

Status StatisticSet::add(const StatisticKey & key, int64_t first, int64_t groups, const void * from) {
    StatisticTotal & total = totals_.at(key);
    const int64_t each = total.shape.elements() / total.shape[0];
    GNV_CHECK(first >= 0 && first + groups <= total.shape[0] && !total.words.empty());
    const auto merge = [&](auto * elements) {
        using Element = std::remove_pointer_t<decltype(elements)>;
        return merge_elements(*key.statistic, elements + first * each, static_cast<const Element *>(from),
                              size_t(groups * each))
            .add_context(concat("layer ", key.layer));
    };
    switch (key.statistic->dtype) {
    case DType::f32: return merge(total.as<float>());
    case DType::f64: return merge(total.as<double>());
    default: return merge(total.as<int64_t>());
    }
}

Status StatisticSet::merge(const StatisticSet & other) {
    GNV_CHECK(same_shapes(other));
    for (const auto & [key, total] : other.totals_)
        if (!total.words.empty()) GNV_TRY(add(key, 0, total.shape[0], total.words.data()));
    return {};
}

std::string StatisticSet::packed() const {
    std::string bytes;
    for (const auto & [key, total] : totals_)
        bytes.append(reinterpret_cast<const char *>(total.words.data()), total.words.size() * sizeof(uint64_t));
    return bytes;
}

bool StatisticSet::unpack(std::string_view bytes) {
    size_t at = 0;
    for (const auto & [key, total] : totals_) at += total.words.size() * sizeof(uint64_t);
    if (at != bytes.size()) return false;
    at = 0;
    for (auto & [key, total] : totals_) {
        const size_t size = total.words.size() * sizeof(uint64_t);
        if (size > 0) memcpy(total.words.data(), bytes.data() + at, size);
        at += size;
    }
    return true;
}

bool StatisticSet::same_shapes(const StatisticSet & other) const {
    const auto same = [](const auto & a, const auto & b) {
        return a.first == b.first && a.second.shape == b.second.shape;
    };
    return layers_ == other.layers_ &&
           std::equal(totals_.begin(), totals_.end(), other.totals_.begin(), other.totals_.end(), same);
}

bool operator==(const StatisticSet & a, const StatisticSet & b) {
    return a.same_shapes(b) &&
           std::equal(a.totals_.begin(), a.totals_.end(), b.totals_.begin(),
                      [](const auto & x, const auto & y) { return x.second.words == y.second.words; });
}

} // namespace gnv
