// Names that data sets use for authors and pictures.
#pragma once

#include <string>
#include <string_view>

namespace gnv {

// "user" for "human", "assistant" for "gpt": the roles of ShareGPT and OASST1 in the names of chat templates.
std::string chat_role(std::string_view author);

// Fields that hold pictures, one or a list: paths, data: URIs, {bytes, path}.
struct PictureField {
    const char * name;
    bool is_video;
};
inline constexpr PictureField picture_fields[] = {
    {"image", false}, {"images", false}, {"video", true}, {"videos", true}};
const PictureField * find_picture_field(std::string_view name); // null: no such field

} // namespace gnv
