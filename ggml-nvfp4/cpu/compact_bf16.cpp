#include "cpu/compact_bf16.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <numeric>
#include <vector>

namespace gnv::cpu {

namespace {

constexpr int64_t window_bytes = 16 << 20; // of numbers, which wait in other memory until all of them are read
constexpr int64_t most_listed = 16;        // one of so many groups at most, in the mean
constexpr uint8_t not_in_table = 0x80;

using Counts = std::array<uint64_t, 256>; // by upper byte

Result<Counts> count_upper_bytes(const uint16_t * numbers, int64_t count, ThreadPool & threads) {
    constexpr int64_t piece = 1 << 20;
    std::vector<Counts> counts(size_t(threads.size()), Counts{});
    GNV_TRY(threads.parallel_for_thread((count + piece - 1) / piece, [&](int64_t i, int thread) -> Status {
        uint32_t found[4][256] = {}; // neighbours are often alike: an increment should not wait for the last one
        const int64_t end = std::min(count, (i + 1) * piece);
        for (int64_t at = i * piece; at < end; at++) found[at % 4][numbers[at] >> 8]++;
        for (size_t byte = 0; byte < 256; byte++)
            for (const auto & part : found) counts[size_t(thread)][byte] += part[byte];
        return {};
    }));
    for (size_t thread = 1; thread < counts.size(); thread++)
        for (size_t byte = 0; byte < 256; byte++) counts[0][byte] += counts[thread][byte];
    return counts[0];
}

struct Table {
    uint8_t upper[16];
    uint8_t codes[256]; // not_in_table for others
    uint64_t missing = 0;

    explicit Table(const Counts & counts) {
        std::array<int, 256> order;
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](int a, int b) { return counts[size_t(a)] > counts[size_t(b)]; });
        std::fill(std::begin(codes), std::end(codes), not_in_table);
        for (size_t i = 0; i < 16; i++) {
            upper[i] = uint8_t(order[i]);
            codes[order[i]] = uint8_t(i);
        }
        for (size_t i = 16; i < 256; i++) missing += counts[size_t(order[i])];
    }
};

// 64 columns of two rows that are k numbers apart; false if the table lacks one of them.
bool pack_group(const uint16_t * numbers, int64_t k, const Table & table, uint8_t * out) {
    static constexpr auto places = [] {
        std::array<uint8_t, compact_columns> list{};
        for (int column = 0; column < compact_columns; column++) list[size_t(column)] = uint8_t(compact_place(column));
        return list;
    }();
    uint8_t all = 0;
    for (size_t column = 0; column < compact_columns; column++) {
        const uint16_t first = numbers[column], second = numbers[size_t(k) + column];
        const uint8_t code = table.codes[first >> 8], other = table.codes[second >> 8];
        all |= code | other;
        const size_t place = places[column];
        out[place] = uint8_t(first);
        out[compact_columns + place] = uint8_t(second);
        out[2 * compact_columns + place] = uint8_t((code & 15) | other << 4);
    }
    return !(all & not_in_table);
}

template <class T>
uint8_t * place_of(uint8_t *& at, int64_t count) {
    at += (alignof(T) - reinterpret_cast<uintptr_t>(at) % alignof(T)) % alignof(T);
    uint8_t * const place = at;
    at += count * int64_t(sizeof(T));
    return place;
}

Status rearrange(Tensor & weight, ThreadPool & threads) {
    const int64_t k = weight.shape.last(), pairs = weight.shape.rows() / 2, groups = k / compact_columns;
    auto * const memory = weight.as<uint8_t>();
    const auto * const numbers = weight.as<const uint16_t>();
    GNV_ASSIGN(const Counts counts, count_upper_bytes(numbers, 2 * pairs * k, threads));
    const Table table(counts);
    // What is listed, at most, and what else is behind the codes, must have room in what the codes save.
    const uint64_t tail = 16 + uint64_t(pairs + 1) * sizeof(uint32_t) + table.missing * sizeof(CompactWhole) + 64;
    if (table.missing > uint64_t(pairs * groups / most_listed) || tail > uint64_t(pairs * k)) return {};

    std::vector<uint32_t> first(size_t(pairs) + 1);
    std::vector<CompactWhole> whole;
    const int64_t window = std::clamp<int64_t>(window_bytes / (4 * k), 1, pairs);
    const int64_t task_pairs = std::max<int64_t>(1, window / (4 * threads.size()));
    std::vector<uint8_t> packed(size_t(window * 3 * k));
    for (int64_t begin = 0; begin < pairs; begin += window) {
        const int64_t count = std::min(window, pairs - begin), tasks = (count + task_pairs - 1) / task_pairs;
        std::vector<std::vector<CompactWhole>> listed(static_cast<size_t>(tasks));
        GNV_TRY(threads.parallel_for(tasks, [&](int64_t task) -> Status {
            const int64_t end = std::min(count, (task + 1) * task_pairs);
            for (int64_t pair = task * task_pairs; pair < end; pair++) {
                const size_t before = listed[size_t(task)].size();
                for (int64_t g = 0; g < groups; g++) {
                    const uint16_t * const from = numbers + (begin + pair) * 2 * k + g * compact_columns;
                    uint8_t * const to = packed.data() + pair * 3 * k + g * compact_group_bytes;
                    if (pack_group(from, k, table, to)) continue;
                    CompactWhole & entry = listed[size_t(task)].emplace_back();
                    entry.group = uint32_t(g);
                    for (int row = 0; row < 2; row++)
                        memcpy(entry.numbers[row], from + row * k, sizeof entry.numbers[row]);
                }
                first[size_t(begin + pair) + 1] = uint32_t(listed[size_t(task)].size() - before);
            }
            return {};
        }));
        for (const std::vector<CompactWhole> & part : listed) whole.insert(whole.end(), part.begin(), part.end());
        GNV_TRY(threads.parallel_for(tasks, [&](int64_t task) -> Status {
            const int64_t pair = task * task_pairs, end = std::min(count, pair + task_pairs);
            memcpy(memory + (begin + pair) * 3 * k, packed.data() + pair * 3 * k, size_t((end - pair) * 3 * k));
            return {};
        }));
    }
    std::partial_sum(first.begin(), first.end(), first.begin());

    uint8_t * at = memory + pairs * 3 * k;
    uint8_t * const upper = place_of<uint8_t>(at, 16);
    uint8_t * const starts = place_of<uint32_t>(at, pairs + 1);
    uint8_t * const entries = place_of<CompactWhole>(at, int64_t(whole.size()));
    memcpy(upper, table.upper, sizeof table.upper);
    memcpy(starts, first.data(), first.size() * sizeof(uint32_t));
    if (!whole.empty()) memcpy(entries, whole.data(), whole.size() * sizeof(CompactWhole));
    weight.compact = {upper, reinterpret_cast<const uint32_t *>(starts), entries};
    return {};
}

} // namespace

Status make_compact(Tensor & weight, ThreadPool & threads) {
    const Shape & shape = weight.shape;
    if (weight.dtype != DType::bf16 || weight.is_compact() || shape.rank < 2 || shape.elements() == 0) return {};
    if (shape[shape.rank - 2] % 2 != 0 || shape.last() % compact_columns != 0) return {};
    return guard_exceptions([&] { return rearrange(weight, threads); });
}

CompactBf16 compact_view(const Tensor & weight) {
    const CompactRows & rows = weight.compact;
    return {weight.as<const uint8_t>(), weight.shape.last(), rows.table, rows.first,
            static_cast<const CompactWhole *>(rows.whole)};
}

} // namespace gnv::cpu
