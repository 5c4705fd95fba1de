// The vector instructions of the processor, as far as there is code for them. Every one of them gives the same bits.
#pragma once

#include <cstdint>

namespace gnv {

enum class InstructionSet : uint8_t { portable, avx2, avx512, count_ }; // each has the ones before it

// avx2: with FMA. avx512: F, BW, DQ and VL.
InstructionSet best_instruction_set();                 // of this processor
const char * instruction_set_name(InstructionSet set); // "portable", "avx2", "avx512"

} // namespace gnv
