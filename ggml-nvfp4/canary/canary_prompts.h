// The prompts of the length canary: short questions in 20 languages whose good answers are short.
#pragma once

#include <span>

namespace gnv::canary {

std::span<const char * const> fixed_prompts(); // UTF-8

} // namespace gnv::canary
