// JSON files that notice damage: the last member of the document, "checksums", lists the SHA-256 of each 16 KiB of the bytes
// before its own key, as 64 lower-case hex digits. Every bit of the file counts, blanks included, and a message tells where
// it is damaged.
#pragma once

#include "core/status.h"

#include <string>

namespace gnv {

// `document`: an object as JsonWriter::Form::indented writes it, with a line feed behind it.
std::string seal_json(std::string document);

// False: there are no checksums. Fails with Code::format where the text is not what seal_json() made; the message names the
// first bytes that differ. `name` is the file's.
Result<bool> check_sealed_json(const std::string & text, const std::string & name);

} // namespace gnv
