#include "data/records/parquet_messages.h"

#include "core/utf8.h"
#include "data/records/picture_loader.h"
#include "formats/json_writer.h"

#include <algorithm>
#include <span>

namespace gnv {

namespace {

using Names = std::vector<std::string>;

bool is_one_of(const std::string & name, std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

// The names of a column's fields, in pieces that end at repeated fields, without the groups that only make a list:
//   messages.list.element.content.list.element.text      {messages} {content} {text}
std::vector<Names> split_at_lists(const ParquetColumn & column) {
    std::vector<Names> pieces(1);
    for (size_t at = 0; at < column.path.size(); at++) {
        const std::string & name = column.path[at];
        const bool is_repeated = std::find(column.repeated.begin(), column.repeated.end(), at) != column.repeated.end();
        const bool is_group = is_repeated && at > 0 && is_one_of(name, {"list", "bag", "array"});
        if (!is_group) pieces.back().push_back(name);
        if (!is_repeated) continue;
        pieces.emplace_back();
        const bool has_element = at + 1 < column.path.size() &&
                                 is_one_of(column.path[at + 1], {"element", "item", "array", "array_element"});
        if (is_group && has_element) at++;
    }
    return pieces;
}

struct Member {
    std::span<const std::string> path;
    std::string json;
};

// Members of one structure follow each other.
std::string object_text(std::span<const Member> members, size_t depth = 0) {
    std::string out;
    for (size_t i = 0, end = 0; i < members.size(); i = end) {
        const std::string & name = members[i].path[depth];
        const auto is_inside = [&](const Member & member) {
            return member.path.size() > depth + 1 && member.path[depth] == name;
        };
        for (end = i; end < members.size() && is_inside(members[end]);) end++;
        const bool is_structure = end > i;
        out += concat(out.empty() ? "" : ",", json_quote(name), ":",
                      is_structure ? object_text(members.subspan(i, end - i), depth + 1) : members[i].json);
        if (!is_structure) end = i + 1;
    }
    return "{" + out + "}";
}

std::string value_text(const std::string & name, const std::string & value) {
    return json_quote(name == "bytes" ? encode_base64(value) : value);
}

} // namespace

bool ParquetMessages::add(const ParquetColumn & column, size_t cell) {
    const std::vector<Names> pieces = split_at_lists(column);
    if (column.max_repetition == 0 || pieces.size() != column.max_repetition + 1 || pieces[0].size() != 1 ||
        pieces[1].empty())
        return false;
    Leaf leaf{pieces[1], {}, pieces.size() == 3, cell};
    if (leaf.is_list) leaf.inner = pieces[2];
    const bool is_usual = !leaf.is_list && leaf.path.size() == 1 &&
                          is_one_of(leaf.path[0], {"role", "from", "content", "value", "user", "assistant"});
    has_more_ = has_more_ || !is_usual;
    has_roles_ = has_roles_ || (is_usual && leaf.path[0] == "role");
    leaves_.push_back(std::move(leaf));
    return true;
}

std::string ParquetMessages::list_text(const std::vector<ParquetCell> & cells, size_t first, size_t last,
                                       size_t index) const {
    const std::vector<uint32_t> & ends = cells[leaves_[first].cell].ends;
    std::string out;
    for (size_t i = index ? ends[index - 1] : 0; i < ends[index]; i++) {
        std::vector<Member> members;
        std::string text = "null";
        for (size_t at = first; at < last; at++) {
            const Leaf & leaf = leaves_[at];
            const std::optional<std::string> & value = cells[leaf.cell].entries[i];
            if (!value) continue;
            text = value_text(leaf.inner.empty() ? "" : leaf.inner.back(), *value);
            if (!leaf.inner.empty()) members.push_back({leaf.inner, text});
        }
        out += (out.empty() ? "" : ",") + (leaves_[first].inner.empty() ? text : object_text(members));
    }
    return "[" + out + "]";
}

std::string ParquetMessages::message_text(const std::vector<ParquetCell> & cells, size_t index) const {
    std::vector<Member> members;
    for (size_t first = 0, last = 0; first < leaves_.size(); first = last) {
        const Leaf & leaf = leaves_[first];
        const ParquetCell & cell = cells[leaf.cell];
        for (last = first + 1;
             leaf.is_list && last < leaves_.size() && leaves_[last].is_list && leaves_[last].path == leaf.path;)
            last++;
        if (leaf.is_list && cell.ends[index] > (index ? cell.ends[index - 1] : 0)) {
            members.push_back({leaf.path, list_text(cells, first, last, index)});
        } else if (!leaf.is_list && cell.entries[index]) {
            members.push_back({leaf.path, value_text(leaf.path.back(), *cell.entries[index])});
        } else if (leaf.path.size() == 1 && leaf.path[0] == "content") {
            members.push_back({leaf.path, "\"\""});
        }
    }
    return object_text(members);
}

Result<RowFault> ParquetMessages::text(const std::vector<ParquetCell> & cells, const std::string & where,
                                       std::string & json) const {
    const auto count = [&](const Leaf & leaf) {
        return leaf.is_list ? cells[leaf.cell].ends.size() : cells[leaf.cell].entries.size();
    };
    for (size_t i = 0; i < leaves_.size(); i++) {
        const Leaf & leaf = leaves_[i];
        const bool same_list = i > 0 && leaf.is_list && leaves_[i - 1].is_list && leaf.path == leaves_[i - 1].path;
        if (count(leaf) != count(leaves_[0]) || (same_list && cells[leaf.cell].ends != cells[leaves_[i - 1].cell].ends))
            return fail(Code::format, where, ": the columns of the messages do not have the same number of elements",
                        unequal_columns);
        for (const std::optional<std::string> & value : cells[leaf.cell].entries) {
            const std::string & name = (leaf.is_list && !leaf.inner.empty() ? leaf.inner : leaf.path).back();
            if (value && name != "bytes" && utf8_valid_prefix(*value) != value->size()) return RowFault::invalid_utf8;
        }
    }
    json.clear();
    const size_t messages = leaves_.empty() ? 0 : count(leaves_[0]);
    for (size_t i = 0; i < messages; i++) json += (i ? "," : "[") + message_text(cells, i);
    if (messages) json += "]";
    return RowFault::none;
}

std::string lost_of_message(const ParquetColumn & column) {
    const std::vector<Names> pieces = split_at_lists(column);
    const bool is_tools = column.path[0] == "tools";
    if (pieces[0].size() != 1 || pieces.size() < 2 || pieces[1].empty() || column.is_readable_text()) return {};
    if (pieces.size() < 3 && !is_tools) return {};
    const std::string & member = is_tools ? column.path[0] : pieces[1][0];
    const bool is_call = is_tools || member == "tool_calls";
    const bool is_text = column.type == ParquetType::byte_array && is_one_of(member, {"content", "value"});
    if (!is_call && !is_text) return {};
    return concat("column ", printable(column.name()), " holds ", column.form(), "; of ", printable(member),
                  " this reader takes strings in a list, alone or in structures: write the rows as JSON lines");
}

} // namespace gnv
