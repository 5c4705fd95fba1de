// What the files of methods and filters share.
#pragma once

#include "chat/functions/call.h"

namespace gnv::chat {

const Function * find_string_method(std::string_view name);
const Function * find_text_filter(std::string_view name);
const Function * find_list_filter(std::string_view name);
const Function * find_choice_filter(std::string_view name);

// A text that a method or filter made: counted as steps, kept by the rendering's workspace.
inline Result<Value> kept(Call & call, std::string text) {
    GNV_TRY(call.work.step_bytes(2 * text.size()));
    return call.work.keep_text(std::move(text));
}

std::vector<Value> pairs_of(Workspace & work, const Dict & dict); // tuples of key and value

// text.replace(old, new, count); all of them when count is negative.
Result<Value> replace_text(Workspace & work, std::string_view text, std::string_view old, std::string_view with,
                           int64_t count);
// The texts one after another, with `separator` between them.
Result<Value> join_texts(Workspace & work, std::string_view separator, const std::vector<std::string_view> & texts);
// `text` between blanks that make it `width` code points wide; `left` of them, in shares of the blanks, stand before it.
enum class Align : uint8_t { left, right, center };
Result<Value> pad_text(Workspace & work, std::string_view text, int64_t width, Align align, std::string_view fill);

std::string escaped_text(std::string_view text); // for HTML

// int(text) and float(text) of Python; false where they fail. An int beyond 64 bits is a failure of its own.
Result<bool> parse_int(std::string_view text, int64_t base, int64_t & out);
bool parse_real(std::string_view text, double & out);

} // namespace gnv::chat
