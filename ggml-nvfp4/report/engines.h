// What inference engines make of NVFP4 modules: the kernels that they choose, by device. The statements and their sources
// are the table "Kernels" of docs/engines.md.
#pragma once

#include "formats/json_writer.h"

#include <cstdint>
#include <string>
#include <vector>

namespace gnv {

// Modules of a checkpoint by scheme.
struct StoredModules {
    uint64_t w4a4 = 0, w4a16 = 0; // with an input scale, without
};

// An array: for each engine, kind of device and scheme that occurs {engine, devices, scheme, modules, kernel, effect,
// basis}. `stopped_by`: ids of checks that found errors in what engines load; it becomes the same member of every entry.
void engines_json(JsonWriter & json, const StoredModules & modules, const std::vector<std::string> & stopped_by);

} // namespace gnv
