// Python's operators on values.
#pragma once

#include "chat/functions/call.h"

namespace gnv::chat {

enum class Comparison : uint8_t { equal, unequal, less, less_equal, greater, greater_equal, in, not_in };
using BinaryOperator = Result<Value> (*)(Workspace & work, const Value & a, const Value & b);

BinaryOperator find_operator(std::string_view symbol); // + - * / // % **
Result<bool> holds(Workspace & work, Comparison comparison, const Value & a, const Value & b);
Result<Value> negative(const Value & value);
Result<Value> positive(const Value & value);

// object.name: a member of Python's object, else the item; undefined where there is neither.
Result<Value> attribute_of(Engine & engine, const Value & object, std::string_view name);
// object[key]: the item, else the member.
Result<Value> item_of(Engine & engine, const Value & object, const Value & key);
// object[begin:end:step], each None where it is left out.
Result<Value> slice_of(Workspace & work, const Value & object, const Value & begin, const Value & end,
                       const Value & step);

// Parts of sequences as Python counts them: from the end when negative, cut to [0, length].
int64_t clamp_index(int64_t index, int64_t length);

} // namespace gnv::chat
