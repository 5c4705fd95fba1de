// Any bytes as a JSON document: parsed or refused with a message, never more.
#include "formats/json.h"
#include "formats/json_fault.h"

#include <cstdlib>
#include <string>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const std::string text(reinterpret_cast<const char *>(data), size);
    const auto document = gnv::JsonDocument::parse(text, "input.json");
    if (!document.ok() && document.status().message().empty()) abort();
    if (document.ok() && !gnv::describe_json_fault(text).empty()) abort();
    return 0;
}
