// The contract as plain loops, an oracle for other devices: graphs of the CPU have the parts of this op
// (exec/backend.h).
#include "codec/nvfp4.h"
#include "cpu/coded_rows.h"
#include "cpu/row_kernels.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <utility>

namespace gnv::cpu {

namespace {

enum { in_x, in_gate, in_up, in_slots, in_offsets, in_maxima };

// A magnitude as a number whose order is that of its bits, NaN and Inf above all.
uint32_t bits_of(float number) {
    uint32_t bits;
    memcpy(&bits, &number, sizeof bits);
    return bits & 0x7fffffff;
}

constexpr uint32_t no_bound = 0x7fffffff; // above all numbers

class Expert {
  public:
    Expert(const KernelCall & call, int64_t group)
        : call_(call), x_(call.inputs[in_x].as<const float>()), k_(call.inputs[in_x].shape[1]),
          columns_(call.inputs[in_gate].shape[1]), screening_(call.as<ExpertInputsParams>().screening) {
        for (size_t side : {size_t(0), size_t(1)}) {
            const auto * const from = call.inputs[in_gate + side].as<const uint16_t>() + group * columns_ * k_;
            weights_[side].resize(size_t(columns_ * k_));
            for (size_t i = 0; i < weights_[side].size(); i++) weights_[side][i] = nvfp4::bf16_to_float(from[i]);
            if (screening_ == Screening::off) continue;
            for (int64_t c = 0; c < columns_; c++)
                coded_[side].push_back(coded_weight(weights_[side].data() + c * k_, k_));
        }
        memcpy(&most_, call.inputs[in_maxima].as<float>() + group, sizeof most_);
    }

    // y [columns] of one token.
    void compute(int64_t token, float * y) {
        std::vector<float> sums[2];
        for (size_t side : {size_t(0), size_t(1)})
            for (int64_t c = 0; c < columns_; c++) {
                float sum = 0;
                for (int64_t i = 0; i < k_; i++)
                    sum = std::fma(x_[token * k_ + i], weights_[side][size_t(c * k_ + i)], sum);
                sums[side].push_back(rounds(call_) ? nvfp4::bf16_to_float(nvfp4::bf16_from_float(sum)) : sum);
            }
        loops(call_).rows.silu_mul(sums[0].data(), sums[1].data(), columns_, rounds(call_), y);
        for (int64_t c = 0; c < columns_; c++) most_ = std::max(most_, bits_of(y[c]));
    }
    // Bits of a number that no result of a token exceeds; above all numbers where there is none.
    uint32_t bound_of(const CodedRow & x) const {
        uint32_t most = 0;
        for (int64_t c = 0; c < columns_; c++) {
            const float bound = activation_bound(x, coded_[0][size_t(c)], coded_[1][size_t(c)]);
            most = std::max(most, std::isnan(bound) ? no_bound : bits_of(bound));
        }
        return most;
    }
    // All tokens that may raise the maximum, the most promising first: of equal ones the first.
    void compute_candidates(const std::vector<CodedRow> & rows) {
        std::vector<std::pair<uint32_t, int64_t>> candidates;
        for (const CodedRow & row : rows) candidates.emplace_back(bound_of(row), &row - rows.data());
        std::stable_sort(candidates.begin(), candidates.end(),
                         [](const auto & a, const auto & b) { return a.first > b.first; });
        std::vector<float> y(size_t(columns_), 0.0f);
        for (const auto & [bound, token] : candidates) {
            if (bound <= most_) break;
            compute(token, y.data());
        }
    }
    void take_most(float & maximum) const { memcpy(&maximum, &most_, sizeof most_); }

  private:
    const KernelCall & call_;
    const float * x_;
    const int64_t k_, columns_;
    const Screening screening_;
    std::vector<float> weights_[2]; // gate, up
    std::vector<CodedRow> coded_[2];
    uint32_t most_ = 0;
};

Status run(KernelCall & call) {
    const auto & params = call.as<ExpertInputsParams>();
    const Tensor &x = call.inputs[in_x], &gate = call.inputs[in_gate];
    const auto * const slots = call.inputs[in_slots].as<const int32_t>();
    const auto * const offsets = call.inputs[in_offsets].as<const int32_t>();
    const int64_t k = x.shape[1], columns = gate.shape[1];
    return guard_exceptions([&]() -> Status {
        std::vector<CodedRow> rows;
        if (params.screening != Screening::off)
            for (int64_t t = 0; t < x.shape[0]; t++) rows.push_back(coded_activation(x.as<const float>() + t * k, k));
        return call.threads->parallel_for_thread(gate.shape[0], [&](int64_t group, int) -> Status {
            return guard_exceptions([&]() -> Status {
                Expert expert(call, group);
                for (int32_t j = offsets[group]; j < offsets[group + 1]; j++)
                    expert.compute(slots[j] / params.slots_per_token, call.outputs[0].as<float>() + j * columns);
                if (params.screening != Screening::off) {
                    expert.compute_candidates(rows);
                } else {
                    std::vector<float> y(size_t(columns), 0.0f);
                    for (int64_t t = 0; t < x.shape[0]; t++) expert.compute(t, y.data());
                }
                expert.take_most(call.inputs[in_maxima].as<float>()[group]);
                return {};
            });
        });
    });
}

} // namespace

const KernelEntry expert_inputs_entry = {run};

} // namespace gnv::cpu
