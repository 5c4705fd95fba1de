#include "cpu/loops.h"

namespace gnv::cpu {

#ifdef __x86_64__
extern const Loops loops_avx2, loops_avx512;
#endif
extern const Loops loops_portable;

const std::vector<const Loops *> & all_loops() {
    static const std::vector<const Loops *> list = [] {
        std::vector<const Loops *> found;
#ifdef __x86_64__
        __builtin_cpu_init();
        const bool fused = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
        if (fused && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
            __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
            found.push_back(&loops_avx512);
        if (fused) found.push_back(&loops_avx2);
#endif
        found.push_back(&loops_portable);
        return found;
    }();
    return list;
}

} // namespace gnv::cpu
