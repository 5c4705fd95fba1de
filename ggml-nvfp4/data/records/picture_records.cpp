#include "data/records/picture_records.h"

#include "core/utf8.h"
#include "data/records/record_names.h"
#include "formats/json_writer.h"

#include <array>

namespace gnv {

namespace {

constexpr std::string_view markers[] = {"<image>", "<video>"}; // of an image, of a video
constexpr const char * kind_names[] = {"image", "video"};

Result<std::string> text_or_empty(const JsonValue & value) {
    if (!value.is_string()) return std::string();
    GNV_ASSIGN(const std::string_view text, value.as_string());
    return std::string(text);
}

// A text, or an object with one of the keys.
Result<std::string> find_source(const JsonValue & value) {
    JsonValue inner;
    if (!value.is_object()) return text_or_empty(value);
    if (value.find("bytes", inner) && inner.is_string()) {
        GNV_ASSIGN(const std::string text, text_or_empty(inner));
        return "data:;base64," + text;
    }
    for (const char * const key : {"path", "url"})
        if (value.find(key, inner) && inner.is_string()) return text_or_empty(inner);
    return std::string();
}

// Whether a part of a message is a picture, and which.
Result<bool> read_part(const JsonValue & part, RecordPicture & out) {
    if (!part.is_object()) return false;
    JsonValue value;
    std::string type;
    if (part.find("type", value)) {
        GNV_ASSIGN(type, text_or_empty(value));
    }
    const auto is = [&](const char * name) { return type.empty() ? part.find(name, value) : type == name; };
    const bool is_image = is("image") || is("image_url") || is("input_image");
    out.is_video = !is_image && (is("video") || is("video_url") || is("input_video"));
    if (!is_image && !out.is_video) return false;
    const std::string kind = kind_names[out.is_video];
    for (const std::string & key : {kind, kind + "_url", std::string("path"), std::string("url")}) {
        if (out.is_known() || !part.find(key, value)) continue;
        GNV_ASSIGN(out.source, find_source(value));
    }
    for (const char * const key : {"frame_rate", "fps"})
        if (part.find(key, value) && (value.type() == JsonType::integer || value.type() == JsonType::real)) {
            GNV_ASSIGN(out.frame_rate, value.as_double());
        }
    return true;
}

struct Part {
    std::string json; // of what is no picture
    std::string text; // of a text: where markers are looked for
    bool is_picture = false;
    RecordPicture picture = {};
};

struct Turn {
    std::string members; // JSON of all but the content, with a comma behind each
    bool is_user = false;
    std::vector<Part> parts;
    std::string plain; // JSON of a content without parts
};

Part text_part(const std::string & text) {
    return {concat("{\"type\":\"text\",\"text\":", json_quote(text), "}"), text};
}

Turn make_turn(const ChatMessage & message) {
    Turn turn;
    turn.members = concat("\"role\":", json_quote(message.role), ",");
    turn.is_user = message.role == "user";
    turn.plain = json_quote(message.content);
    turn.parts.push_back(text_part(message.content));
    return turn;
}

Result<Turn> read_turn(const JsonValue & message) {
    Turn turn;
    GNV_TRY(message.for_each_member([&](std::string_view name, const JsonValue & value) -> Status {
        if (name == "role" || name == "from") {
            GNV_ASSIGN(const std::string author, text_or_empty(value));
            const std::string role = chat_role(author);
            turn.is_user = role == "user";
            turn.members += concat("\"role\":", json_quote(role), ",");
            return {};
        }
        if (name != "content" && name != "value") {
            turn.members += concat(json_quote(name), ":", value.text(), ",");
            return {};
        }
        turn.plain = value.text();
        if (value.is_string()) {
            GNV_ASSIGN(const std::string text, text_or_empty(value));
            turn.parts.push_back(text_part(text));
        }
        if (!value.is_array()) return {};
        return value.for_each_element([&](size_t, const JsonValue & item) -> Status {
            Part part;
            GNV_ASSIGN(part.is_picture, read_part(item, part.picture));
            JsonValue text;
            if (item.is_string()) {
                GNV_ASSIGN(const std::string content, text_or_empty(item));
                part = text_part(content);
            } else if (item.is_object() && item.find("text", text)) {
                GNV_ASSIGN(part.text, text_or_empty(text));
            }
            if (part.json.empty() && !part.is_picture) part.json = item.text();
            turn.parts.push_back(std::move(part));
            return {};
        });
    }));
    return turn;
}

// The marker that comes first from `at` on: its place, and whether it is one of a video.
size_t find_marker(std::string_view text, size_t at, bool & is_video) {
    const size_t image = text.find(markers[0], at), video = text.find(markers[1], at);
    is_video = video < image;
    return std::min(image, video);
}

// A text with markers as parts.
void split_at_markers(const Part & part, std::vector<Part> & out) {
    size_t at = 0;
    for (bool is_video = false;;) {
        const size_t found = find_marker(part.text, at, is_video);
        if (found == std::string::npos) break;
        if (found > at) out.push_back(text_part(part.text.substr(at, found - at)));
        out.push_back({{}, {}, true, {is_video}});
        at = found + markers[is_video].size();
    }
    if (at == 0) return out.push_back(part);
    if (at < part.text.size()) out.push_back(text_part(part.text.substr(at)));
}

bool any_picture(const std::vector<Turn> & turns) {
    for (const Turn & turn : turns)
        for (const Part & part : turn.parts)
            if (part.is_picture) return true;
    return false;
}

// The pictures of a record's fields, which placeholders take in order.
class OwnPictures {
  public:
    explicit OwnPictures(std::vector<RecordPicture> all) {
        for (RecordPicture & picture : all) lists_[picture.is_video].push_back(std::move(picture));
    }
    bool take(RecordPicture & out) {
        std::vector<RecordPicture> & list = lists_[out.is_video];
        size_t & next = next_[out.is_video];
        asked_[out.is_video]++;
        if (next == list.size()) return false;
        out = std::move(list[next++]);
        return true;
    }
    // "" where all were taken and no more were asked for.
    std::string mismatch() const {
        for (const bool video : {false, true})
            if (asked_[video] != lists_[video].size())
                return concat("the record has ", lists_[video].size(), " ", kind_names[video],
                              "s, and its text asks for ", asked_[video]);
        return {};
    }
    std::vector<Part> as_parts() const { // one placeholder for each
        std::vector<Part> parts;
        for (const bool video : {false, true})
            for (size_t i = 0; i < lists_[video].size(); i++) parts.push_back({{}, {}, true, {video}});
        return parts;
    }

  private:
    std::array<std::vector<RecordPicture>, 2> lists_; // images, videos
    std::array<size_t, 2> next_{}, asked_{};
};

std::string turn_json(const Turn & turn) {
    bool has_picture = false;
    std::string parts;
    for (const Part & part : turn.parts) {
        const char * const kind = kind_names[part.picture.is_video];
        parts += parts.empty() ? "" : ",";
        parts += part.is_picture ? concat("{\"type\":\"", kind, "\",\"", kind, "\":\"\"}") : part.json;
        has_picture = has_picture || part.is_picture;
    }
    std::string json = "{" + turn.members;
    if (has_picture) return concat(json, "\"content\":[", parts, "]}");
    if (!turn.plain.empty()) return concat(json, "\"content\":", turn.plain, "}");
    json.back() = '}';
    return json;
}

RecordField * find_field(Record & record, std::string_view name) {
    for (RecordField & field : record.fields)
        if (field.name == name) return &field;
    return nullptr;
}

// The messages of a record, or of an exchange that it has in their place.
Result<std::vector<Turn>> read_turns(Record & record) {
    std::vector<Turn> turns;
    const RecordField * const messages = find_field(record, "messages");
    const std::string & json = !messages ? std::string() : !messages->parts.empty() ? messages->parts : messages->json;
    if (!json.empty()) {
        GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(json, "messages", JsonKeys::last_wins));
        GNV_TRY(document.root().for_each_element([&](size_t, const JsonValue & message) -> Status {
            if (!message.is_object()) return {};
            GNV_ASSIGN(Turn turn, read_turn(message));
            turns.push_back(std::move(turn));
            return {};
        }));
        return turns;
    }
    if (messages)
        for (const ChatMessage & message : messages->messages) turns.push_back(make_turn(message));
    constexpr const char * exchanges[][3] = {{"question", "", "answer"}, {"instruction", "input", "output"}};
    for (const auto & names : exchanges) {
        const RecordField * const prompt = find_field(record, names[0]);
        if (messages || !prompt || !turns.empty()) continue;
        const RecordField *const more = find_field(record, names[1]), *const answer = find_field(record, names[2]);
        const bool has_more = more && !more->text.empty();
        turns.push_back(make_turn({"user", has_more ? concat(prompt->text, "\n\n", more->text) : prompt->text}));
        if (answer && !answer->text.empty()) turns.push_back(make_turn({"assistant", answer->text}));
    }
    return turns;
}

// A text with markers, or none: the pictures then come before it.
void mark_text(RecordField & field, OwnPictures & own, const PictureWords & words,
               std::vector<RecordPicture> & pictures) {
    std::vector<Part> parts;
    split_at_markers({{}, field.text}, parts);
    bool any = false;
    for (const Part & part : parts) any = any || part.is_picture;
    if (!any) parts = own.as_parts(), parts.push_back({{}, field.text});
    std::string text;
    for (Part & part : parts) {
        if (!part.is_picture) {
            text += part.text;
            continue;
        }
        text += words.start + (part.picture.is_video ? words.video : words.image) + words.end;
        if (own.take(part.picture)) pictures.push_back(std::move(part.picture));
    }
    field.text = std::move(text);
}

} // namespace

bool has_picture_parts(const JsonValue & content) {
    bool any = false;
    if (!content.is_array()) return false;
    (void)content
        .for_each_element([&](size_t, const JsonValue & item) -> Status {
            RecordPicture picture;
            GNV_ASSIGN(const bool is_picture, read_part(item, picture));
            any = any || is_picture;
            return {};
        })
        .ok();
    return any;
}

Status read_pictures(const JsonValue & value, bool is_video, std::vector<RecordPicture> & out) {
    if (value.is_array())
        return value.for_each_element(
            [&](size_t, const JsonValue & item) -> Status { return read_pictures(item, is_video, out); });
    RecordPicture picture;
    picture.is_video = is_video;
    GNV_ASSIGN(picture.source, find_source(value));
    if (picture.is_known()) out.push_back(std::move(picture));
    return {};
}

RecordPicture make_record_picture(bool is_video, std::string bytes, std::string path) {
    constexpr size_t longest_path = 4096;
    RecordPicture picture;
    picture.is_video = is_video;
    const bool is_path = path.empty() && bytes.size() < longest_path && utf8_valid_prefix(bytes) == bytes.size() &&
                         bytes.find('\0') == std::string::npos;
    if (bytes.empty() || is_path) {
        picture.source = bytes.empty() ? std::move(path) : std::move(bytes);
    } else {
        picture.bytes = std::move(bytes);
    }
    return picture;
}

bool has_pictures(const Record & record) {
    const RecordField * const messages = record.find("messages");
    return !record.pictures.empty() || (messages && !messages->parts.empty());
}

Result<RowFault> arrange_pictures(Record & record, const PictureWords & words, std::vector<RecordPicture> & pictures,
                                  std::string & why) {
    OwnPictures own(std::move(record.pictures));
    GNV_ASSIGN(std::vector<Turn> turns, read_turns(record));
    RecordField * const text = find_field(record, "text");
    if (turns.empty() && !find_field(record, "messages") && text && text->kind == RecordField::Kind::text) {
        mark_text(*text, own, words, pictures);
        why = own.mismatch();
        return why.empty() ? RowFault::none : RowFault::picture_count;
    }
    if (turns.empty()) return RowFault::empty;
    if (!any_picture(turns)) {
        for (Turn & turn : turns) {
            std::vector<Part> parts;
            for (const Part & part : turn.parts) split_at_markers(part, parts);
            turn.parts = std::move(parts);
        }
    }
    if (!any_picture(turns)) {
        size_t first = 0;
        while (first + 1 < turns.size() && !turns[first].is_user) first++;
        if (!turns[first].is_user) first = 0;
        const std::vector<Part> parts = own.as_parts();
        turns[first].parts.insert(turns[first].parts.begin(), parts.begin(), parts.end());
    }
    std::string json;
    for (Turn & turn : turns) {
        for (Part & part : turn.parts)
            if (part.is_picture && (part.picture.is_known() || own.take(part.picture)))
                pictures.push_back(part.picture);
        json += (json.empty() ? "[" : ",") + turn_json(turn);
    }
    why = own.mismatch();
    if (!why.empty()) return RowFault::picture_count;
    RecordField * messages = find_field(record, "messages");
    if (!messages) {
        messages = &record.fields.emplace_back();
        messages->name = "messages";
    }
    messages->kind = RecordField::Kind::messages;
    messages->json = json + "]";
    if (messages->messages.empty()) messages->messages.push_back({"user", {}}); // the template takes the JSON
    return RowFault::none;
}

} // namespace gnv
