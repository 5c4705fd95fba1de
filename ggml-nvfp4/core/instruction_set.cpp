#include "core/instruction_set.h"

#include <cstddef>
#include <iterator>

namespace gnv {

InstructionSet best_instruction_set() {
#ifdef __x86_64__
    __builtin_cpu_init(); // objects that are made before main() may ask
    if (!__builtin_cpu_supports("avx2") || !__builtin_cpu_supports("fma")) return InstructionSet::portable;
    const bool wide = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    return wide ? InstructionSet::avx512 : InstructionSet::avx2;
#else
    return InstructionSet::portable;
#endif
}

const char * instruction_set_name(InstructionSet set) {
    static const char * const names[] = {"portable", "avx2", "avx512"};
    static_assert(std::size(names) == size_t(InstructionSet::count_));
    return names[size_t(set)];
}

} // namespace gnv
