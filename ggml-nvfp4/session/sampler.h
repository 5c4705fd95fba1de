// The choice of the next token: the largest logit, or a draw. The draw is a function of logits, options and seed, the
// same on every machine:
//
//   logits / temperature -> the top_k largest -> softmax -> the fewest of them whose probabilities reach top_p -> draw
//
// Among equal logits the lower id comes first.
#pragma once

#include "core/status.h"

#include <cstdint>
#include <span>
#include <vector>

namespace gnv {

// Steele, Lea and Flood's SplitMix64: 64 bits of state, every seed is good.
class SplitMix64 {
  public:
    explicit SplitMix64(uint64_t seed) : state_(seed) {}
    uint64_t next();
    double next_unit(); // in [0, 1), a multiple of 2^-53

  private:
    uint64_t state_;
};

struct SamplerOptions {
    double temperature = 0; // 0: the largest logit, no draw
    int64_t top_k = 0;      // 0: all
    double top_p = 1;       // above 0, up to 1
    uint64_t seed = 42;
};
// The failure names the option that is not valid.
Status check_sampler_options(const SamplerOptions & options);

// What a choice of the largest logit comes to: the id, or Code::bad_value if the logit is not finite or none (-1) is allowed.
Result<int32_t> checked_choice(int32_t id, float logit);

class Sampler {
  public:
    // `allowed`: by id, 0 for ids that must not be chosen. It must outlive the sampler.
    Sampler(const SamplerOptions & options, std::span<const uint8_t> allowed);
    // As many logits as entries in `allowed`. Code::bad_value if an allowed one is NaN or none is finite.
    Result<int32_t> pick(std::span<const float> logits);

  private:
    struct Candidate {
        float logit;
        int32_t id;
    };
    int32_t draw();
    SamplerOptions options_;
    std::span<const uint8_t> allowed_;
    SplitMix64 random_;
    std::vector<Candidate> candidates_;
    std::vector<double> weights_;
};

} // namespace gnv
