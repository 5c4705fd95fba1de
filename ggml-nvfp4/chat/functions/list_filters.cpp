// Filters that put elements in order, take some of them or make one value of all.
#include "chat/functions/member_path.h"
#include "chat/functions/method_tables.h"
#include "chat/functions/operators.h"
#include "chat/values/unicode_text.h"

#include <algorithm>

namespace gnv::chat {

namespace {

Result<Value> length(Call & call) {
    GNV_ASSIGN(const int64_t count, length_of(call.self));
    return Value::number(count);
}

Result<Value> join(Call & call) {
    GNV_ASSIGN(std::vector<Value> items, elements_of(call.work, call.self));
    const MemberPath path(call.get(1));
    GNV_ASSIGN(const std::string_view separator, text_of(call.work, call.has(0) ? call.get(0) : Value::string({})));
    std::vector<std::string_view> texts;
    for (const Value & item : items) {
        GNV_ASSIGN(const Value member, path.of(call.engine, item));
        GNV_ASSIGN(const std::string_view text, text_of(call.work, member));
        texts.push_back(text);
    }
    return join_texts(call.work, separator, texts);
}

Result<Value> first(Call & call) {
    if (call.self.is(Kind::generator)) {
        Sequence & source = *call.self.sequence;
        return source.left() ? source.items[source.taken++] : Value::undefined("first");
    }
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
    return items.empty() ? Value::undefined("first") : items.front();
}

Result<Value> last(Call & call) {
    if (call.self.is(Kind::generator)) return Status(Code::invalid_argument, "'generator' object is not reversible");
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
    return items.empty() ? Value::undefined("last") : items.back();
}

Result<Value> list(Call & call) {
    GNV_ASSIGN(std::vector<Value> items, elements_of(call.work, call.self));
    return call.work.list(std::move(items));
}

Result<Value> items(Call & call) {
    if (call.self.is_undefined()) return call.work.list({}, Kind::generator);
    if (!call.self.is(Kind::dict))
        return fail(Code::invalid_argument, "items come from a mapping, not from ", type_name(call.self.kind));
    GNV_TRY(call.work.step(1 + 2 * call.self.dict->entries.size()));
    return call.work.list(pairs_of(call.work, *call.self.dict), Kind::generator);
}

Result<Value> reverse(Call & call) {
    if (call.self.is_string())
        return slice_of(call.work, call.self, Value::none(), Value::none(), Value::number(int64_t(-1)));
    const bool is_lazy = !call.self.is(Kind::generator);
    GNV_ASSIGN(std::vector<Value> items, elements_of(call.work, call.self));
    std::reverse(items.begin(), items.end());
    return call.work.list(std::move(items), is_lazy ? Kind::generator : Kind::list);
}

// --- Order ----------------------------------------------------------------------------------------------------------------

struct Keyed {
    Value key, item;
};

// Text in small letters, where case is not to count.
Value folded(Workspace & work, const Value & value, bool case_sensitive) {
    return case_sensitive || !value.is_string() ? value : work.keep_text(to_lower(value.text));
}

Status sort_keyed(Workspace & work, std::vector<Keyed> & all, bool reverse) {
    Status failure;
    const auto before = [&](const Keyed & a, const Keyed & b) {
        if (!failure.ok()) return false;
        Result<int> order = compare(work, a.key, b.key);
        if (!order.ok()) failure = order.take_status();
        return failure.ok() && order.value() < 0;
    };
    if (reverse) std::reverse(all.begin(), all.end()); // equal elements keep their order
    std::stable_sort(all.begin(), all.end(), before);
    if (reverse) std::reverse(all.begin(), all.end());
    return failure;
}

Result<Value> sort(Call & call) {
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
    const std::vector<MemberPath> paths = MemberPath::several(call.get(2));
    std::vector<Keyed> all;
    for (const Value & item : items) {
        std::vector<Value> keys;
        for (const MemberPath & path : paths) {
            GNV_ASSIGN(const Value key, path.of(call.engine, item));
            keys.push_back(folded(call.work, key, call.flag(1)));
        }
        all.push_back({call.work.list(std::move(keys)), item});
    }
    GNV_TRY(sort_keyed(call.work, all, call.flag(0)));
    std::vector<Value> sorted;
    for (const Keyed & keyed : all) sorted.push_back(keyed.item);
    return call.work.list(std::move(sorted));
}

Result<Value> sort_dict(Call & call) {
    GNV_ASSIGN(const std::string_view by, call.text(1, "key"));
    if (by != "key" && by != "value") return Status(Code::invalid_argument, "a dict is sorted by \"key\" or \"value\"");
    if (call.self.is_undefined()) return fail_undefined(call.self);
    if (!call.self.is(Kind::dict))
        return fail(Code::invalid_argument, "a dict is needed, not ", type_name(call.self.kind));
    std::vector<Keyed> all;
    for (const Value & pair : pairs_of(call.work, *call.self.dict))
        all.push_back({folded(call.work, pair.sequence->items[by == "value"], call.flag(0)), pair});
    GNV_TRY(sort_keyed(call.work, all, call.flag(2)));
    std::vector<Value> sorted;
    for (const Keyed & keyed : all) sorted.push_back(keyed.item);
    return call.work.list(std::move(sorted));
}

Result<Value> unique(Call & call) {
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
    const MemberPath path(call.get(1));
    Dict * const seen = call.work.make<Dict>();
    std::vector<Value> kept;
    for (const Value & item : items) {
        GNV_ASSIGN(Value key, path.of(call.engine, item));
        key = folded(call.work, key, call.flag(0));
        GNV_TRY(call.work.step(1 + seen->entries.size() / 16));
        GNV_ASSIGN(const uint64_t hash, hash_of(key));
        if (seen->find_entry(key, hash)) continue;
        seen->set(key, hash, Value::none());
        kept.push_back(item);
    }
    return call.work.list(std::move(kept), Kind::generator);
}

template <int wanted> // sign of the order of a better element to the best so far
Result<Value> extreme(Call & call) {
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
    const MemberPath path(call.get(1));
    Keyed best;
    for (size_t i = 0; i < items.size(); i++) {
        GNV_ASSIGN(Value key, path.of(call.engine, items[i]));
        key = folded(call.work, key, call.flag(0));
        if (i > 0) {
            GNV_ASSIGN(const int order, compare(call.work, key, best.key));
            if (order != wanted) continue;
        }
        best = {key, items[i]};
    }
    return items.empty() ? Value::undefined("the extreme of nothing") : best.item;
}

Result<Value> sum(Call & call) {
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
    const MemberPath path(call.get(0));
    Value total = call.has(1) ? call.get(1) : Value::number(int64_t(0));
    if (total.is_string()) return Status(Code::invalid_argument, "strings are joined, not summed");
    for (const Value & item : items) {
        GNV_ASSIGN(const Value member, path.of(call.engine, item));
        GNV_ASSIGN(total, find_operator("+")(call.work, total, member));
    }
    return total;
}

// --- Parts ----------------------------------------------------------------------------------------------------------------

Result<Value> batch(Call & call) {
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
    GNV_ASSIGN(const int64_t size, call.integer(0));
    std::vector<Value> rows, row;
    for (const Value & item : items) {
        if (!row.empty() && int64_t(row.size()) == size) rows.push_back(call.work.list(std::exchange(row, {})));
        row.push_back(item);
    }
    if (!row.empty()) {
        const uint64_t missing = int64_t(row.size()) < size ? uint64_t(size) - row.size() : 0;
        if (call.has_value(1)) {
            GNV_TRY(call.work.room(std::min<uint64_t>(missing, UINT64_MAX / 64) * sizeof(Value)));
            row.insert(row.end(), missing, call.get(1));
        }
        rows.push_back(call.work.list(std::move(row)));
    }
    return call.work.list(std::move(rows), Kind::generator);
}

Result<Value> slices(Call & call) {
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
    GNV_ASSIGN(const int64_t count, call.integer(0));
    if (count == 0) return Status(Code::invalid_argument, "division by zero");
    GNV_TRY(call.work.step(uint64_t(std::max<int64_t>(count, 0))));
    std::vector<Value> columns;
    size_t at = 0;
    for (int64_t i = 0; i < count; i++) {
        const bool extra = i < int64_t(items.size()) % count;
        const size_t size = items.size() / size_t(count) + extra;
        std::vector<Value> column(items.begin() + ptrdiff_t(at), items.begin() + ptrdiff_t(at + size));
        if (call.has_value(1) && !extra) column.push_back(call.get(1));
        columns.push_back(call.work.list(std::move(column)));
        at += size;
    }
    return call.work.list(std::move(columns), Kind::generator);
}

Result<Value> group_by(Call & call) {
    GNV_ASSIGN(const std::vector<Value> items, elements_of(call.work, call.self));
    const MemberPath path(call.get(0), call.get(1));
    std::vector<Keyed> all;
    for (const Value & item : items) {
        GNV_ASSIGN(const Value key, path.of(call.engine, item));
        all.push_back({folded(call.work, key, call.flag(2)), item});
    }
    GNV_TRY(sort_keyed(call.work, all, false));
    std::vector<Value> groups;
    for (size_t begin = 0, end = 0; begin < all.size(); begin = end) {
        std::vector<Value> members;
        for (bool same = true; end < all.size(); end++) {
            GNV_ASSIGN(same, equal(call.work, all[end].key, all[begin].key));
            if (!same) break;
            members.push_back(all[end].item);
        }
        GNV_ASSIGN(const Value key, path.of(call.engine, members.front()));
        groups.push_back(call.work.list({key, call.work.list(std::move(members))}, Kind::tuple));
    }
    return call.work.list(std::move(groups));
}

constexpr Function list_filters[] = {
    {"batch", "linecount fill_with?", batch},
    {"count", "", length},
    {"dictsort", "case_sensitive? by? reverse?", sort_dict},
    {"first", "", first},
    {"groupby", "attribute default? case_sensitive?", group_by},
    {"items", "", items},
    {"join", "d? attribute?", join},
    {"last", "", last},
    {"length", "", length},
    {"list", "", list},
    {"max", "case_sensitive? attribute?", extreme<1>},
    {"min", "case_sensitive? attribute?", extreme<-1>},
    {"reverse", "", reverse},
    {"slice", "slices fill_with?", slices},
    {"sort", "reverse? case_sensitive? attribute?", sort},
    {"sum", "attribute? start?", sum},
    {"unique", "case_sensitive? attribute?", unique},
};

} // namespace

const Function * find_list_filter(std::string_view name) { return find_function(list_filters, name); }

} // namespace gnv::chat
