// The vector instruction sets that the library has code for. All give the same bits.
#pragma once

#include <cstdint>

namespace gnv {

enum class InstructionSet : uint8_t { portable, avx2, avx512, count_ }; // each includes the sets before it

// avx2: with FMA. avx512: F, BW, DQ and VL.
InstructionSet best_instruction_set();                 // of this processor
const char * instruction_set_name(InstructionSet set); // "portable", "avx2", "avx512"

} // namespace gnv
