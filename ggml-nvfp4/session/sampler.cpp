#include "session/sampler.h"

#include <algorithm>
#include <cmath>

namespace gnv {

uint64_t SplitMix64::next() {
    uint64_t z = state_ += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return z ^ z >> 31;
}

double SplitMix64::next_unit() { return double(next() >> 11) * 0x1p-53; }

// exp(x) for x <= 0. The C library's may differ in the last bit between machines; this one uses only operations that
// IEEE 754 defines.
static double exact_exp(double x) {
    if (x < -700) return 0;
    constexpr double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
    const double n = std::floor(x * 0x1.71547652b82fep0 + 0.5);
    const double r = (x - n * ln2_high) - n * ln2_low; // |r| <= ln(2) / 2
    double sum = 1;
    for (int i = 14; i > 0; i--) sum = 1 + sum * r / i; // Taylor: the rest is below 2^-60
    return std::ldexp(sum, int(n));
}

Status check_sampler_options(const SamplerOptions & options) {
    if (!(options.temperature >= 0) || std::isinf(options.temperature))
        return fail(Code::invalid_argument, "a temperature of ", options.temperature,
                    " makes no sense; 0 takes the likeliest token, 1 draws as the model predicts");
    if (options.top_k < 0)
        return fail(Code::invalid_argument, "a top_k of ", options.top_k, " makes no sense; 0 keeps all tokens");
    if (!(options.top_p > 0 && options.top_p <= 1))
        return fail(Code::invalid_argument, "a top_p of ", options.top_p,
                    " makes no sense; it is above 0 and at most 1, which keeps all tokens");
    return {};
}

Sampler::Sampler(const SamplerOptions & options, std::span<const uint8_t> allowed)
    : options_(options), allowed_(allowed), random_(options.seed) {}

Result<int32_t> checked_choice(int32_t id, float logit) {
    if (std::isnan(logit)) return fail(Code::bad_value, "the logit of token ", id, " is NaN");
    if (id < 0 || std::isinf(logit))
        return fail(Code::bad_value,
                    "no token can come next: ", id < 0 ? "none is allowed" : "the largest logit is infinite");
    return id;
}

Result<int32_t> Sampler::pick(std::span<const float> logits) {
    GNV_CHECK(logits.size() == allowed_.size());
    candidates_.clear();
    for (size_t id = 0; id < logits.size(); id++) {
        if (!allowed_[id]) continue;
        if (std::isnan(logits[id])) return fail(Code::bad_value, "the logit of token ", id, " is NaN");
        candidates_.push_back({logits[id], int32_t(id)});
    }
    const auto before = [](const Candidate & a, const Candidate & b) {
        return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
    };
    const bool greedy = options_.temperature == 0;
    const size_t wanted = greedy ? 1 : options_.top_k > 0 ? size_t(options_.top_k) : candidates_.size();
    const auto end = candidates_.begin() + ptrdiff_t(std::min(wanted, candidates_.size()));
    std::partial_sort(candidates_.begin(), end, candidates_.end(), before);
    candidates_.erase(end, candidates_.end());
    const Candidate first = candidates_.empty() ? Candidate{0.0f, -1} : candidates_.front();
    Result<int32_t> likeliest = checked_choice(first.id, first.logit);
    if (greedy || !likeliest.ok()) return likeliest;
    return draw();
}

int32_t Sampler::draw() {
    const double largest = double(candidates_.front().logit);
    weights_.clear();
    double sum = 0;
    for (const Candidate & candidate : candidates_) {
        weights_.push_back(exact_exp((double(candidate.logit) - largest) / options_.temperature));
        sum += weights_.back();
    }
    size_t kept = weights_.size();
    if (options_.top_p < 1) {
        const double enough = options_.top_p * sum;
        sum = 0;
        for (kept = 0; kept < weights_.size() && (kept == 0 || sum < enough); kept++) sum += weights_[kept];
    }
    const double target = random_.next_unit() * sum;
    double reached = 0;
    size_t chosen = 0;
    for (size_t i = 0; i < kept; i++) {
        if (weights_[i] == 0) break;
        chosen = i; // the last one when rounding leaves the target just out of reach
        reached += weights_[i];
        if (target < reached) break;
    }
    return candidates_[chosen].id;
}

} // namespace gnv
