#include "data/records/record_names.h"

namespace gnv {

namespace {

struct RoleName {
    std::string_view author, role;
};
constexpr RoleName roles[] = {
    {"human", "user"},        {"prompter", "user"},          {"gpt", "assistant"},
    {"chatgpt", "assistant"}, {"bard", "assistant"},         {"bing", "assistant"},
    {"model", "assistant"},   {"function_response", "tool"}, {"observation", "tool"},
};

} // namespace

const PictureField * find_picture_field(std::string_view name) {
    for (const PictureField & field : picture_fields)
        if (name == field.name) return &field;
    return nullptr;
}

std::string chat_role(std::string_view author) {
    for (const RoleName & row : roles)
        if (author == row.author) return std::string(row.role);
    return std::string(author);
}

} // namespace gnv
