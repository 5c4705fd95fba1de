#include "data/tokens_file.h"

#include "formats/file.h"
#include "formats/json.h"

#include <algorithm>
#include <limits>

namespace gnv {

static constexpr uint64_t largest_tokens_file = uint64_t(1) << 30;

// --- Writing --------------------------------------------------------------------------------------------------------------

// [[a, b], [c]] with one inner list for each sequence.
template <class Write>
static void append_lists(std::string & out, const std::vector<CalibrationSequence> & sequences, const Write & write) {
    out += '[';
    for (size_t i = 0; i < sequences.size(); i++) {
        out += i ? ", [" : "[";
        const char * separator = "";
        write(sequences[i], [&](const auto & item) {
            out += separator;
            append_part(out, item);
            separator = ", ";
        });
        out += ']';
    }
    out += ']';
}

std::string tokens_file_text(const std::vector<CalibrationSequence> & sequences, const std::string & sha256) {
    std::string out = "{\"input_ids\": ";
    append_lists(out, sequences, [](const CalibrationSequence & sequence, const auto & append) {
        for (const TokenId id : sequence.ids) append(id);
    });
    out += ", \"attention_mask\": ";
    append_lists(out, sequences, [](const CalibrationSequence & sequence, const auto & append) {
        for (size_t i = 0; i < sequence.ids.size(); i++) append(sequence.mask.empty() ? 1 : int(sequence.mask[i]));
    });
    out += ", \"documents\": ";
    append_lists(out, sequences, [](const CalibrationSequence & sequence, const auto & append) {
        for (const CalibrationDocument & document : sequence.documents)
            append(concat("[", document.begin, ", ", document.source, ", ", document.row, "]"));
    });
    return out + ", \"sha256\": \"" + sha256 + "\"}\n";
}

// --- Reading --------------------------------------------------------------------------------------------------------------

static Status read_ids(const JsonValue & list, const Tokenizer & tokenizer, std::vector<TokenId> & ids) {
    GNV_TRY(list.for_each_element([&](size_t, const JsonValue & item) -> Status {
        GNV_ASSIGN(const int64_t id, item.as_int());
        if (id < 0 || id >= tokenizer.vocab_size() || !tokenizer.is_token(TokenId(id)))
            return fail(Code::format, item.where(), ": ", id, " is no token of this tokenizer, whose ids end at ",
                        tokenizer.vocab_size() - 1, "; make the file with this model's tokenizer");
        ids.push_back(TokenId(id));
        return {};
    }));
    if (ids.empty()) return fail(Code::format, list.where(), ": an empty sequence; leave it out");
    return {};
}

static constexpr const char * form_of_mask = "; a mask has a 1 for each id that counts and a 0 for each other";

static Status read_mask(const JsonValue & list, CalibrationSequence & sequence) {
    GNV_TRY(list.for_each_element([&](size_t, const JsonValue & item) -> Status {
        GNV_ASSIGN(const int64_t flag, item.as_int());
        if (flag != 0 && flag != 1)
            return fail(Code::format, item.where(), ": ", flag, " in a mask of 0 and 1", form_of_mask);
        sequence.mask.push_back(uint8_t(flag));
        return {};
    }));
    if (sequence.mask.size() != sequence.ids.size())
        return fail(Code::format, list.where(), ": a mask of ", sequence.mask.size(), " for ", sequence.ids.size(),
                    " ids", form_of_mask);
    const auto ones = std::count(sequence.mask.begin(), sequence.mask.end(), 1);
    if (ones == 0) return fail(Code::format, list.where(), ": a mask without a 1; leave the sequence out");
    if (size_t(ones) == sequence.mask.size()) sequence.mask.clear();
    return {};
}

static Status read_documents(const JsonValue & list, CalibrationSequence & sequence) {
    constexpr int64_t most = std::numeric_limits<int64_t>::max();
    const auto read_document = [&](size_t index, const JsonValue & item) -> Status {
        int64_t numbers[3] = {};
        size_t count = 0;
        const auto read_number = [&](size_t at, const JsonValue & number) -> Status {
            count++;
            if (at >= 3) return {};
            GNV_ASSIGN(numbers[at], number.as_int());
            return {};
        };
        GNV_TRY(item.for_each_element(read_number));
        const int64_t least = index == 0 ? 0 : int64_t(sequence.documents.back().begin) + 1;
        const int64_t end = index == 0 ? 1 : int64_t(sequence.ids.size());
        const auto within = [](int64_t value, int64_t from, int64_t to) { return value >= from && value < to; };
        if (count != 3 || !within(numbers[0], least, end) || !within(numbers[1], 0, int64_t(1) << 32) ||
            !within(numbers[2], 0, most))
            return fail(Code::format, item.where(),
                        ": expected [begin, source, row] with begins that rise from 0 inside the sequence");
        sequence.documents.push_back({uint32_t(numbers[0]), uint32_t(numbers[1]), uint64_t(numbers[2])});
        return {};
    };
    GNV_TRY(list.for_each_element(read_document));
    if (sequence.documents.empty()) return fail(Code::format, list.where(), ": no document; leave \"documents\" out");
    return {};
}

// Visits the list under `key` that belongs to each sequence; false when the key is absent.
template <class Visit>
static Result<bool> for_each_list(const JsonValue & root, const char * key, size_t sequences, const Visit & visit) {
    JsonValue lists;
    if (!root.find(key, lists)) return false;
    GNV_ASSIGN(const size_t count, lists.array_size());
    if (count != sequences)
        return fail(Code::format, lists.where(), ": ", count, " lists for ", sequences,
                    " sequences of input_ids; give one for each");
    GNV_TRY(lists.for_each_element(visit));
    return true;
}

// The text, the parser's copies, and every value on its tape, as an id and in a mask.
static Status check_memory(const std::string & path, const ReadControl & control) {
    GNV_ASSIGN(const File file, File::open_read(path));
    GNV_ASSIGN(const FileStamp stamp, file.stamp());
    constexpr uint64_t of_byte = 3, of_value = 40, most_values = 10'000'000;
    const uint64_t bytes = std::min(stamp.size, largest_tokens_file);
    const uint64_t memory = of_byte * bytes + of_value * std::min(bytes / 2 + 1, most_values);
    return control.fits(memory) ? Status() : control.too_small(path, memory);
}

Result<std::vector<CalibrationSequence>> read_tokens_file(const std::string & path, const Tokenizer & tokenizer,
                                                          const ReadControl & control) {
    GNV_TRY(check_memory(path, control));
    GNV_ASSIGN(const JsonDocument document, JsonDocument::read(path, largest_tokens_file));
    const JsonValue root = document.root();
    JsonValue lists;
    if (!root.is_object() || !root.find("input_ids", lists))
        return fail(Code::format, path, ": has no \"input_ids\"; expected {\"input_ids\": [[ID, ..], ..]}");
    std::vector<CalibrationSequence> sequences;
    const auto read_sequence = [&](size_t, const JsonValue & list) -> Status {
        GNV_TRY(control.check());
        return read_ids(list, tokenizer, sequences.emplace_back().ids);
    };
    GNV_TRY(lists.for_each_element(read_sequence));
    if (sequences.empty()) return fail(Code::format, path, ": input_ids: no sequences; expected [[ID, ..], ..]");
    if (sequences.size() > std::numeric_limits<uint32_t>::max())
        return fail(Code::unsupported, path, ": ", sequences.size(), " sequences; split the file");
    GNV_TRY(for_each_list(root, "attention_mask", sequences.size(), [&](size_t i, const JsonValue & list) {
                return read_mask(list, sequences[i]);
            }).take_status());
    GNV_ASSIGN(const bool has_documents,
               for_each_list(root, "documents", sequences.size(),
                             [&](size_t i, const JsonValue & list) { return read_documents(list, sequences[i]); }));
    for (size_t i = 0; !has_documents && i < sequences.size(); i++) sequences[i].documents = {{0, 0, i}};
    JsonValue stated;
    if (root.find("sha256", stated)) {
        GNV_ASSIGN(const std::string_view text, stated.as_string());
        const std::string hash = hash_sequences(sequences);
        if (text != hash)
            return fail(Code::format, stated.where(), ": not the hash of this content, which is ", hash,
                        "; if the change was meant, remove \"sha256\"");
    }
    return sequences;
}

} // namespace gnv
