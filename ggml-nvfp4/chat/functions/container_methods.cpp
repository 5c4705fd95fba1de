// Methods of lists, dicts and what is like them.
#include "chat/functions/method_tables.h"
#include "chat/functions/operators.h"

#include <algorithm>

namespace gnv::chat {

namespace {

Status fail_missing(Call & call, const Value & key) {
    GNV_ASSIGN(const std::string text, repr_of(call.work, key));
    return fail(Code::invalid_argument, "there is no ", printable(text, 80));
}

Result<Value> done() { return Value::none(); }

// --- Lists ----------------------------------------------------------------------------------------------------------------

Result<Value> append(Call & call) {
    call.work.took(sizeof(Value));
    call.self.sequence->items.push_back(call.get(0));
    return done();
}

Result<Value> extend(Call & call) {
    GNV_ASSIGN(const std::vector<Value> more, elements_of(call.work, call.get(0)));
    call.work.took(more.size() * sizeof(Value));
    std::vector<Value> & items = call.self.sequence->items;
    items.insert(items.end(), more.begin(), more.end());
    return done();
}

Result<Value> insert(Call & call) {
    GNV_ASSIGN(const int64_t index, call.integer(0));
    std::vector<Value> & items = call.self.sequence->items;
    GNV_TRY(call.work.step(1 + items.size() / 16));
    call.work.took(sizeof(Value));
    items.insert(items.begin() + clamp_index(index, int64_t(items.size())), call.get(1));
    return done();
}

Result<Value> list_pop(Call & call) {
    GNV_ASSIGN(int64_t index, call.integer(0, -1));
    std::vector<Value> & items = call.self.sequence->items;
    GNV_TRY(call.work.step(1 + items.size() / 16));
    if (index < 0) index += int64_t(items.size());
    if (index < 0 || index >= int64_t(items.size()))
        return Status(Code::invalid_argument, "the list is empty, or the index is out of range");
    const Value taken = items[size_t(index)];
    items.erase(items.begin() + index);
    return taken;
}

Result<int64_t> find_item(Call & call) {
    const std::vector<Value> & items = call.self.sequence->items;
    for (size_t i = 0; i < items.size(); i++) {
        GNV_ASSIGN(const bool same, equal(call.work, items[i], call.get(0)));
        if (same) return int64_t(i);
    }
    return fail_missing(call, call.get(0));
}

Result<Value> remove(Call & call) {
    GNV_ASSIGN(const int64_t index, find_item(call));
    call.self.sequence->items.erase(call.self.sequence->items.begin() + index);
    return done();
}

Result<Value> index_of(Call & call) {
    GNV_ASSIGN(const int64_t index, find_item(call));
    return Value::number(index);
}

Result<Value> count_items(Call & call) {
    int64_t count = 0;
    for (const Value & item : call.self.sequence->items) {
        GNV_ASSIGN(const bool same, equal(call.work, item, call.get(0)));
        count += same;
    }
    return Value::number(count);
}

Result<Value> reverse_list(Call & call) {
    std::vector<Value> & items = call.self.sequence->items;
    GNV_TRY(call.work.step(1 + items.size() / 16));
    std::reverse(items.begin(), items.end());
    return done();
}

Result<Value> clear_list(Call & call) {
    call.self.sequence->items.clear();
    return done();
}

Result<Value> copy_list(Call & call) {
    GNV_TRY(call.work.step(1 + call.self.sequence->items.size() / 16));
    return call.work.list(call.self.sequence->items);
}

// --- Dicts ----------------------------------------------------------------------------------------------------------------

Result<Dict::Entry *> find_key(Call & call) {
    GNV_TRY(call.work.step(1 + call.self.dict->entries.size() / 16));
    GNV_ASSIGN(const uint64_t hash, hash_of(call.get(0)));
    return call.self.dict->find_entry(call.get(0), hash);
}

Result<Value> get(Call & call) {
    GNV_ASSIGN(const Dict::Entry * const entry, find_key(call));
    return entry ? entry->value : call.get(1);
}

Result<Value> dict_pop(Call & call) {
    GNV_ASSIGN(Dict::Entry * const entry, find_key(call));
    if (!entry && !call.has(1)) return fail_missing(call, call.get(0));
    if (!entry) return call.get(1);
    const Value taken = entry->value;
    std::vector<Dict::Entry> & entries = call.self.dict->entries;
    entries.erase(entries.begin() + (entry - entries.data()));
    return taken;
}

Result<Value> set_default(Call & call) {
    GNV_ASSIGN(const Dict::Entry * const entry, find_key(call));
    if (entry) return entry->value;
    GNV_ASSIGN(const uint64_t hash, hash_of(call.get(0)));
    call.work.took(sizeof(Dict::Entry));
    call.self.dict->set(call.get(0), hash, call.get(1));
    return call.get(1);
}

Result<Value> update(Call & call) {
    Dict & dict = *call.self.dict;
    for (const Value & source : call.arguments.values) {
        if (!source.is(Kind::dict))
            return fail(Code::invalid_argument, "a dict is needed, not ", type_name(source.kind));
        const std::vector<Dict::Entry> entries = source.dict->entries;
        for (const Dict::Entry & entry : entries) {
            GNV_TRY(call.work.step(1 + dict.entries.size() / 16));
            dict.set(entry.key, entry.hash, entry.value);
        }
        call.work.took(entries.size() * sizeof(Dict::Entry));
    }
    for (const NamedValue & named : call.arguments.named) dict.set(named.first, named.second);
    return done();
}

Result<Value> clear_dict(Call & call) {
    call.self.dict->entries.clear();
    return done();
}

Result<Value> copy_dict(Call & call) {
    GNV_TRY(call.work.step(1 + call.self.dict->entries.size() / 16));
    Dict * const copy = call.work.make<Dict>(*call.self.dict);
    call.work.took(copy->entries.size() * sizeof(Dict::Entry));
    return Value::of(Kind::dict, copy);
}

Value make_view(Call & call, std::vector<Value> items, std::string_view name) {
    const Value view = call.work.list(std::move(items), Kind::view);
    view.sequence->view_name = name;
    return view;
}

Result<Value> keys(Call & call) {
    std::vector<Value> all;
    for (const Dict::Entry & entry : call.self.dict->entries) all.push_back(entry.key);
    GNV_TRY(call.work.step(1 + all.size()));
    return make_view(call, std::move(all), "dict_keys");
}

Result<Value> values(Call & call) {
    std::vector<Value> all;
    for (const Dict::Entry & entry : call.self.dict->entries) all.push_back(entry.value);
    GNV_TRY(call.work.step(1 + all.size()));
    return make_view(call, std::move(all), "dict_values");
}

Result<Value> items(Call & call) {
    GNV_TRY(call.work.step(1 + 2 * call.self.dict->entries.size()));
    return make_view(call, pairs_of(call.work, *call.self.dict), "dict_items");
}

// --- cycler ---------------------------------------------------------------------------------------------------------------

Result<Value> cycler_next(Call & call) {
    Cycler & cycler = *call.self.cycler;
    const Value current = cycler.items[cycler.position];
    cycler.position = (cycler.position + 1) % cycler.items.size();
    return current;
}

Result<Value> cycler_reset(Call & call) {
    call.self.cycler->position = 0;
    return done();
}

constexpr Function list_methods[] = {
    {"append", "object", append},    {"extend", "iterable", extend}, {"insert", "index object", insert},
    {"pop", "index?", list_pop},     {"remove", "value", remove},    {"index", "value", index_of},
    {"count", "value", count_items}, {"reverse", "", reverse_list},  {"clear", "", clear_list},
    {"copy", "", copy_list},
};
constexpr Function tuple_methods[] = {{"index", "value", index_of}, {"count", "value", count_items}};
constexpr Function dict_methods[] = {
    {"get", "key default?", get},
    {"items", "", items},
    {"keys", "", keys},
    {"values", "", values},
    {"pop", "key default?", dict_pop},
    {"update", "*", update},
    {"setdefault", "key default?", set_default},
    {"copy", "", copy_dict},
    {"clear", "", clear_dict},
};
constexpr Function cycler_methods[] = {{"next", "", cycler_next}, {"reset", "", cycler_reset}};

} // namespace

std::vector<Value> pairs_of(Workspace & work, const Dict & dict) {
    std::vector<Value> pairs;
    for (const Dict::Entry & entry : dict.entries) pairs.push_back(work.list({entry.key, entry.value}, Kind::tuple));
    return pairs;
}

const Function * find_method(const Value & self, std::string_view name) {
    switch (self.kind) {
    case Kind::string: return find_string_method(name);
    case Kind::list: return find_function(list_methods, name);
    case Kind::tuple:
    case Kind::range: return find_function(tuple_methods, name);
    case Kind::dict: return find_function(dict_methods, name);
    case Kind::cycler: return find_function(cycler_methods, name);
    default: return nullptr;
    }
}

} // namespace gnv::chat
