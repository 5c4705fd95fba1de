// The values of a template language with the semantics of Python, and the workspace that owns them.
//
// A Value is small and is copied freely. Strings, containers and other objects belong to the Workspace of one rendering and
// live until it ends, so containers may refer to each other in any way, and no destructor recurses.
#pragma once

#include "core/status.h"

#include <array>
#include <deque>
#include <memory>
#include <string_view>
#include <vector>

namespace gnv::chat {

enum class Kind : uint8_t {
    undefined, // a name or member that does not exist
    none,
    boolean,
    integer,
    real,
    string,
    list,
    tuple,
    range,
    view,      // dict.keys(), values(), items()
    generator, // what map, select, reject and others give: it can be read once, and has no length
    dict,
    name_space,
    loop,
    function, // a global, or a method of a value
    macro,
    cycler,
    joiner,
    count_
};
const char * type_name(Kind kind); // "str", "int": as Python calls it

struct Object {
    virtual ~Object() = default;
};
struct Call;
struct Sequence;
struct Dict;
struct BoundFunction;
struct MacroObject;
struct LoopState;
struct Cycler;
struct Joiner;

struct Value {
    Kind kind = Kind::undefined;
    bool is_markup = false; // a string that `safe` or `escape` gave: text that joins it is escaped for HTML
    union {
        std::string_view text = {}; // string; undefined: the name that was looked for
        bool flag;
        int64_t integer;
        double real;
        Sequence * sequence; // list, tuple, range, view, generator
        Dict * dict;         // dict, name_space
        BoundFunction * function;
        MacroObject * macro;
        LoopState * loop;
        Cycler * cycler;
        Joiner * joiner;
    };

    Value() {}
    static Value none() { return Value(Kind::none); }
    static Value undefined(std::string_view name) { return Value(Kind::undefined).with(&Value::text, name); }
    static Value boolean(bool flag) { return Value(Kind::boolean).with(&Value::flag, flag); }
    static Value number(int64_t integer) { return Value(Kind::integer).with(&Value::integer, integer); }
    static Value number(double real) { return Value(Kind::real).with(&Value::real, real); }
    static Value string(std::string_view text) { return Value(Kind::string).with(&Value::text, text); }
    static Value markup(std::string_view text) { return string(text).marked(true); }
    static Value of(Kind kind, Sequence * sequence) { return Value(kind).with(&Value::sequence, sequence); }
    static Value of(Kind kind, Dict * dict) { return Value(kind).with(&Value::dict, dict); }
    static Value of(BoundFunction * function) { return Value(Kind::function).with(&Value::function, function); }
    static Value of(MacroObject * macro) { return Value(Kind::macro).with(&Value::macro, macro); }
    static Value of(LoopState * loop) { return Value(Kind::loop).with(&Value::loop, loop); }
    static Value of(Cycler * cycler) { return Value(Kind::cycler).with(&Value::cycler, cycler); }
    static Value of(Joiner * joiner) { return Value(Kind::joiner).with(&Value::joiner, joiner); }

    Value marked(bool markup) const {
        Value value = *this;
        value.is_markup = markup;
        return value;
    }
    bool is(Kind other) const { return kind == other; }
    bool is_undefined() const { return kind == Kind::undefined; }
    bool is_string() const { return kind == Kind::string; }
    bool is_sequence() const { return kind >= Kind::list && kind <= Kind::generator; }
    bool is_whole() const { return kind == Kind::integer || kind == Kind::boolean; } // an int for Python
    bool is_number() const { return is_whole() || kind == Kind::real; }
    int64_t as_integer() const { return kind == Kind::boolean ? int64_t(flag) : integer; } // of is_whole()
    double as_real() const { return kind == Kind::real ? real : double(as_integer()); }    // of is_number()
    const void * identity() const { return sequence; }                                     // of objects

  private:
    explicit Value(Kind of_kind) : kind(of_kind) {}
    template <class Member, class Content>
    Value with(Member member, Content content) && {
        this->*member = content;
        return *this;
    }
};

struct Sequence final : Object {
    std::vector<Value> items;
    size_t taken = 0;             // generator: items that were read
    int64_t start = 0, step = 1;  // range
    int64_t stop = 0;             // range
    std::string_view view_name{}; // view: "dict_items"

    size_t left() const { return items.size() - taken; }
};

// Keys are unique and stay in the order in which they came, as in Python.
struct Dict final : Object {
    struct Entry {
        uint64_t hash;
        Value key, value;
    };
    std::vector<Entry> entries;

    const Value * find(std::string_view key) const;
    Entry * find_entry(const Value & key, uint64_t hash); // nullptr when there is none
    void set(std::string_view key, const Value & value);  // `key` lives as long as the dict
    void set(const Value & key, uint64_t hash, const Value & value);
};

struct Cycler final : Object {
    std::vector<Value> items;
    size_t position = 0;
};
struct Joiner final : Object {
    std::string_view separator;
    bool used = false;
};

// A filter, test, method or global: a row of a table (chat/functions/call.h).
struct Function {
    const char * name;
    const char * parameters; // "old new count?": ? marks those that need not be given; "*": any, which are not bound
    Result<Value> (*run)(Call & call);
};
struct BoundFunction final : Object {
    const Function * function = nullptr;
    Value self;
};
struct MacroObject : Object {
    std::string_view name;
};

struct Limits {
    uint64_t steps = 20'000'000;       // expressions, statements, elements, and 256 bytes of text each
    uint64_t output_bytes = 64 << 20;  // of the rendered text
    uint64_t memory_bytes = 512 << 20; // of everything that is made on the way
    uint32_t depth = 600;              // of statements, expressions and calls inside each other; of values, a third
};

// Owns what one rendering makes, and counts what it costs.
class Workspace {
  public:
    explicit Workspace(const Limits & limits = {}) : limits_(limits) {}
    Workspace(const Workspace &) = delete;

    const Limits & limits() const { return limits_; }
    // Fails when the work or the memory of the rendering is above its limit.
    Status step(uint64_t count = 1);
    Status step_bytes(uint64_t bytes) { return step(1 + bytes / 256); }
    // Asked before something is made that may be much larger than what it is made from.
    Status room(uint64_t bytes);

    std::string_view keep(std::string text);
    Value keep_text(std::string text) { return Value::string(keep(std::move(text))); }
    // The two one after the other. Text that grows piece by piece is not copied each time.
    std::string_view joined(std::string_view left, std::string_view right);

    Value list(std::vector<Value> items, Kind kind = Kind::list);
    template <class T, class... Parts>
    T * make(Parts &&... parts) {
        auto object = std::make_unique<T>(std::forward<Parts>(parts)...);
        T * const made = object.get();
        objects_.push_back(std::move(object));
        bytes_ += sizeof(T) + 32;
        return made;
    }
    void took(uint64_t bytes) { bytes_ += bytes; }

  private:
    Limits limits_;
    uint64_t steps_ = 0, bytes_ = 0;
    std::deque<std::string> texts_;
    std::string * growing_ = nullptr;
    std::vector<std::unique_ptr<Object>> objects_;
};

// --- What Python's operators and built-in functions say of values ---------------------------------------------------------

bool truth(const Value & value);
Result<bool> equal(Workspace & work, const Value & a, const Value & b, uint32_t depth = 0);
// -1, 0, 1; fails for values without an order.
Result<int> compare(Workspace & work, const Value & a, const Value & b, uint32_t depth = 0);
Result<bool> contains(Workspace & work, const Value & container, const Value & item);
Result<uint64_t> hash_of(const Value & value, uint32_t depth = 0);
Result<int64_t> length_of(const Value & value);

// The elements that iterating over a value gives: of a list, keys of a dict, characters of a string. Reads up a generator.
Result<std::vector<Value>> elements_of(Workspace & work, const Value & value);

Status fail_undefined(const Value & value);
// "unsupported operand types for +: 'int' and 'str'"
Status fail_operands(const char * op, const Value & a, const Value & b);

} // namespace gnv::chat
