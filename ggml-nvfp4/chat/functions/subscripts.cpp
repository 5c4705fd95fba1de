#include "chat/functions/operators.h"

#include "chat/values/unicode_text.h"

#include <algorithm>

namespace gnv::chat {

int64_t clamp_index(int64_t index, int64_t length) {
    if (index < 0) index += length;
    return std::clamp<int64_t>(index, 0, length);
}

namespace {

// A member of Python's object; undefined where there is none.
Result<Value> member_of(Engine & engine, const Value & object, std::string_view name) {
    if (object.is(Kind::loop)) return engine.loop_member(*object.loop, name);
    if (object.is(Kind::name_space)) {
        const Value * const found = object.dict->find(name);
        return found ? *found : Value::undefined(name);
    }
    if (object.is(Kind::range) && (name == "start" || name == "stop" || name == "step")) {
        const Sequence & range = *object.sequence;
        return Value::number(name == "start" ? range.start : name == "stop" ? range.stop : range.step);
    }
    if (object.is(Kind::macro) && name == "name") return Value::string(object.macro->name);
    if (object.is(Kind::cycler) && name == "current") return object.cycler->items[object.cycler->position];
    const Function * const method = find_method(object, name);
    if (!method) return Value::undefined(name);
    BoundFunction * const bound = engine.work().make<BoundFunction>();
    bound->function = method;
    bound->self = object;
    return Value::of(bound);
}

// An item; undefined where there is none.
Result<Value> element_of(Workspace & work, const Value & object, const Value & key) {
    const Value missing = Value::undefined(key.is_string() ? key.text : std::string_view());
    if (object.is(Kind::dict)) {
        if (key.is(Kind::list) || key.is(Kind::dict)) return missing;
        GNV_TRY(work.step(1 + object.dict->entries.size() / 16));
        GNV_ASSIGN(const uint64_t hash, hash_of(key));
        const Dict::Entry * const entry = object.dict->find_entry(key, hash);
        return entry ? entry->value : missing;
    }
    if (!key.is_whole()) return missing;
    int64_t index = key.as_integer();
    if (object.is_string()) {
        GNV_TRY(work.step_bytes(object.text.size()));
        if (index < 0) index += int64_t(count_code_points(object.text));
        const size_t at = index < 0 ? object.text.size() : offset_of_code_point(object.text, size_t(index));
        if (at == object.text.size()) return missing;
        return Value::string(object.text.substr(at, bytes_of_code_point(object.text, at))).marked(object.is_markup);
    }
    if (!(object.is(Kind::list) || object.is(Kind::tuple) || object.is(Kind::range))) return missing;
    const std::vector<Value> & items = object.sequence->items;
    if (index < 0) index += int64_t(items.size());
    return index < 0 || index >= int64_t(items.size()) ? missing : items[size_t(index)];
}

} // namespace

Result<Value> attribute_of(Engine & engine, const Value & object, std::string_view name) {
    if (object.is_undefined()) return fail_undefined(object);
    GNV_ASSIGN(const Value member, member_of(engine, object, name));
    if (!member.is_undefined() || !object.is(Kind::dict)) return member;
    const Value * const item = object.dict->find(name);
    return item ? *item : member;
}

Result<Value> item_of(Engine & engine, const Value & object, const Value & key) {
    if (object.is_undefined()) return fail_undefined(object);
    GNV_ASSIGN(const Value item, element_of(engine.work(), object, key));
    if (!item.is_undefined() || !key.is_string()) return item;
    return member_of(engine, object, key.text);
}

// --- Slices ---------------------------------------------------------------------------------------------------------------

namespace {

Result<int64_t> slice_limit(const Value & limit, int64_t otherwise) {
    if (limit.is(Kind::none)) return otherwise;
    if (limit.is_whole()) return limit.as_integer();
    if (limit.is_undefined()) return fail_undefined(limit);
    return fail(Code::invalid_argument, "the limits of a slice are int or None, not ", type_name(limit.kind));
}

// The positions that [begin:end:step] takes of `length`, as Python counts them.
struct Slice {
    int64_t begin, end, step;
    int64_t count() const {
        if (step > 0) return begin < end ? (end - begin - 1) / step + 1 : 0;
        return begin > end ? (begin - end - 1) / -step + 1 : 0;
    }
};

Result<Slice> resolve(int64_t length, const Value & begin, const Value & end, const Value & step) {
    Slice slice{};
    GNV_ASSIGN(slice.step, slice_limit(step, 1));
    if (slice.step == 0) return Status(Code::invalid_argument, "the step of a slice cannot be zero");
    slice.step = std::clamp<int64_t>(slice.step, -INT64_MAX, INT64_MAX);
    const bool backward = slice.step < 0;
    const auto place = [&](int64_t limit) {
        if (limit < 0) limit += length;
        return std::clamp<int64_t>(limit, backward ? -1 : 0, backward ? length - 1 : length);
    };
    GNV_ASSIGN(slice.begin, slice_limit(begin, 0));
    GNV_ASSIGN(slice.end, slice_limit(end, 0));
    slice.begin = begin.is(Kind::none) ? (backward ? length - 1 : 0) : place(slice.begin);
    slice.end = end.is(Kind::none) ? (backward ? -1 : length) : place(slice.end);
    return slice;
}

} // namespace

Result<Value> slice_of(Workspace & work, const Value & object, const Value & begin, const Value & end,
                       const Value & step) {
    if (object.is_undefined()) return fail_undefined(object);
    if (object.is(Kind::dict)) return Status(Code::invalid_argument, "a dict has no slices");
    const bool is_text = object.is_string();
    if (!is_text && !(object.is(Kind::list) || object.is(Kind::tuple) || object.is(Kind::range)))
        return Value::undefined({});
    GNV_ASSIGN(const int64_t length, length_of(object));
    GNV_ASSIGN(const Slice slice, resolve(length, begin, end, step));
    const int64_t count = slice.count();
    if (!is_text) {
        GNV_TRY(work.step(1 + uint64_t(count)));
        std::vector<Value> items;
        for (int64_t i = 0; i < count; i++)
            items.push_back(object.sequence->items[size_t(slice.begin + i * slice.step)]);
        const Value part = work.list(std::move(items), object.kind);
        const Sequence & whole = *object.sequence;
        part.sequence->start = whole.start + slice.begin * whole.step; // of a range
        part.sequence->stop = whole.start + slice.end * whole.step;
        part.sequence->step = whole.step * slice.step;
        return part;
    }
    GNV_TRY(work.step_bytes(object.text.size()));
    if (slice.step == 1) {
        const size_t from = offset_of_code_point(object.text, size_t(slice.begin));
        const std::string_view rest = object.text.substr(from);
        return Value::string(rest.substr(0, offset_of_code_point(rest, size_t(count)))).marked(object.is_markup);
    }
    GNV_ASSIGN(const std::vector<Value> characters, elements_of(work, object));
    std::string text;
    for (int64_t i = 0; i < count; i++) text += characters[size_t(slice.begin + i * slice.step)].text;
    return work.keep_text(std::move(text)).marked(object.is_markup);
}

} // namespace gnv::chat
