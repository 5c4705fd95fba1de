// Names on the Hugging Face hub: repositories, revisions and the files in them. Names of files come from a server and are
// checked before they become paths here.
#pragma once

#include "core/status.h"

#include <cstdint>
#include <string>
#include <string_view>

namespace gnv {

enum class RepositoryKind : uint8_t { model, dataset };

struct RepositoryName {
    RepositoryKind kind = RepositoryKind::model;
    std::string organization, name;
    std::string revision = "main"; // a branch, a tag or a commit

    std::string text() const;         // "org/name"
    std::string cache_folder() const; // "models--org--name"
    std::string api_path() const;     // "/api/models/org/name"
    std::string web_path() const;     // "/org/name", "/datasets/org/name"
};

// "ORG/NAME" or "ORG/NAME@REVISION".
Result<RepositoryName> parse_repository_name(RepositoryKind kind, const std::string & text);

// Code::format for a name that is no relative path of ordinary parts: "..", "/etc/x", "a//b", control characters, ...
// `repository` is for the message.
Status check_remote_name(const std::string & repository, std::string_view name);

bool is_hex(std::string_view text, size_t digits); // lower case
// Letters, digits and "._-", as parts of repository names have.
bool is_hub_word(std::string_view text);
// Everything that a path of a URL may not hold becomes %XX; "/" stays.
std::string escape_path(std::string_view path);
std::string escape_word(std::string_view word); // "/" becomes %2F

} // namespace gnv
