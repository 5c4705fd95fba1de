// The header of a safetensors file, made before any tensor data exists.
#pragma once

#include "checkpoint/safetensors.h"
#include "formats/json_writer.h"

#include <map>
#include <string>
#include <vector>

namespace gnv {

// The first bytes of a file: u64 length, JSON, blanks up to a multiple of 8, so that the data starts aligned. Order,
// begin and end of the tensors stay as given.
std::string make_header(const std::vector<HeaderTensor> & tensors, const std::map<std::string, std::string> & metadata);

} // namespace gnv
