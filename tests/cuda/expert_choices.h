// Choices of experts for tests: what a router gives, and the slots of a range of experts in order.
#pragma once

#include <algorithm>
#include <cstdint>
#include <numeric>
#include <random>
#include <vector>

namespace gnv::test {

// k distinct experts for each of T positions.
inline std::vector<int32_t> random_choices(std::mt19937 & random, int64_t tokens, int chosen, int experts) {
    std::vector<int32_t> out, all(static_cast<size_t>(experts));
    std::iota(all.begin(), all.end(), 0);
    for (int64_t t = 0; t < tokens; t++) {
        std::shuffle(all.begin(), all.end(), random);
        out.insert(out.end(), all.begin(), all.begin() + chosen);
    }
    return out;
}

struct Order {
    std::vector<int32_t> slots, offsets;
};
inline Order order_of(const std::vector<int32_t> & choices, int first, int count, size_t room) {
    Order order;
    for (int e = first; e < first + count; e++) {
        order.offsets.push_back(int32_t(order.slots.size()));
        for (size_t i = 0; i < choices.size(); i++)
            if (choices[i] == e) order.slots.push_back(int32_t(i));
    }
    order.offsets.push_back(int32_t(order.slots.size()));
    order.slots.resize(room, 0);
    return order;
}

} // namespace gnv::test
