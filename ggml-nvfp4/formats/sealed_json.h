// JSON files with checksums: the last member of the document, "checksums", lists the SHA-256 of each 16 KiB of the
// bytes before its own key, as 64 lower-case hex digits. They cover every bit of the file, blanks included; a message
// names the damaged bytes.
#pragma once

#include "core/status.h"

#include <string>

namespace gnv {

// `document`: an object in the form of JsonWriter::Form::indented, and a line feed.
std::string seal_json(std::string document);

// False: the text has no checksums. Fails with Code::format if the text is not the output of seal_json(); the message
// names the first bytes that differ. `name` is the file's.
Result<bool> check_sealed_json(const std::string & text, const std::string & name);

} // namespace gnv
