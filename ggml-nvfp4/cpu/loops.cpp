#include "cpu/loops.h"

namespace gnv::cpu {

#ifdef __x86_64__
extern const Loops loops_avx2, loops_avx512;
#endif
extern const Loops loops_portable;

const Loops & loops(InstructionSet set) {
#ifdef __x86_64__
    static const Loops * const table[] = {&loops_portable, &loops_avx2, &loops_avx512};
    return *table[int(set)];
#else
    (void)set;
    return loops_portable;
#endif
}

const std::vector<const Loops *> & all_loops() {
    static const std::vector<const Loops *> list = [] {
        std::vector<const Loops *> found;
        for (int set = int(best_instruction_set()); set >= 0; set--) found.push_back(&loops(InstructionSet(set)));
        return found;
    }();
    return list;
}

} // namespace gnv::cpu
