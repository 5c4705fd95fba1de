#pragma once

#include <stdint.h>

namespace gnv::cpu {

struct MixerLoops {
    int unused; // replaced by the functions of this group
};

} // namespace gnv::cpu
