#include "canary/sign_test.h"

#include <cstdlib>
#include <vector>

namespace gnv::canary {

double chance_of_sum(std::span<const int64_t> differences) {
    constexpr int64_t most = int64_t(1) << 20; // entries of the distribution
    int64_t all = 0;
    for (const int64_t difference : differences) all += std::abs(difference);
    const int64_t unit = all / most + 1;
    // The sum with drawn signs is 2 * (sum of the magnitudes that are drawn as positive) - all: the distribution of the former.
    std::vector<double> chances(size_t(all / unit + 1), 0);
    chances[0] = 1;
    int64_t reach = 0, positive = 0;
    for (const int64_t difference : differences) {
        const int64_t size = std::abs(difference) / unit;
        if (size == 0) continue;
        if (difference > 0) positive += size;
        reach += size;
        for (int64_t sum = reach; sum >= 0; sum--) {
            const double without = sum <= reach - size ? chances[size_t(sum)] : 0;
            const double with = sum >= size ? chances[size_t(sum - size)] : 0;
            chances[size_t(sum)] = (without + with) / 2;
        }
    }
    double chance = 0;
    for (int64_t sum = reach; sum >= positive; sum--) chance += chances[size_t(sum)]; // the smallest first
    return chance;
}

} // namespace gnv::canary
