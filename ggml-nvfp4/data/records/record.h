// One row of a data set: the named fields that calibration can use.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace gnv {

struct ChatMessage {
    std::string role;
    std::string content;
};

struct RecordField {
    enum class Kind : uint8_t { text, null, messages, other }; // other: numbers, other lists, images
    std::string name;
    Kind kind = Kind::other;
    std::string text;
    std::vector<ChatMessage> messages;
    // Of tools, and of messages with roles: all of it, as a chat template takes it; empty where there is no more than in
    // `messages`.
    std::string json = {};
    std::string parts = {}; // of messages with parts that are pictures: all of it, as the record has it
};

// A picture that a record holds or names.
struct RecordPicture {
    bool is_video = false;
    std::string bytes = {};  // of a file of an image
    std::string source = {}; // where there are no bytes: a path, or a data: URI; a video is a folder of frames
    double frame_rate = 0;   // of a video, frames a second; 0: not said
    bool is_known() const { return !bytes.empty() || !source.empty(); }
};

struct Record {
    std::vector<RecordField> fields;     // in the order of the file
    std::vector<RecordPicture> pictures; // of fields such as "images", in their order

    const RecordField * find(std::string_view name) const {
        for (const RecordField & field : fields)
            if (field.name == name) return &field;
        return nullptr;
    }
};

// A fault of a row in a sound file. Such rows are counted and left out; other rows replace them.
enum class RowFault : uint8_t {
    none,
    no_object,     // no JSON, or JSON of another kind
    twice,         // a key occurs twice in one object: readers disagree about it
    missing_field, // lacks the fields that the rows before it have
    not_text,      // a field that should hold text holds something else (a number, a message with an image)
    empty,         // nothing but blanks
    invalid_utf8,
    lone_surrogate, // half of a pair in a JSON escape: no Unicode text
    nul_byte,       // U+0000: a binary file, or text that was damaged on its way
    long_piece,     // the tokenizer finds no place to cut it: Encoder's longest_piece
    refused,        // the chat template raises an exception: roles that do not alternate, a system message
    bad_picture,    // missing, damaged, too large, of an unknown format
    picture_count,  // placeholders of the text and pictures do not belong together
    blind_model,    // pictures for a model that takes none
    no_room,        // nothing is left before the first picture that does not fit
    count_
};
const char * fault_text(RowFault fault); // "empty texts"

} // namespace gnv
