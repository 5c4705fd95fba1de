// The choice of the next token: the largest logit, or a draw. A choice is a function of logits, options, seed and the ids
// counted so far, the same on every machine. The order of operations is that of vLLM:
//
//   1. logit_bias            logit + bias, for the ids that it names
//   2. repetition_penalty    ids of the prompt and chosen ones: logit / penalty if it is positive, else logit * penalty
//   3. frequency_penalty     logit - penalty * how often the id was chosen; the prompt does not count
//   4. presence_penalty      logit - penalty, if the id was chosen at least once
//      temperature 0         the largest logit; what follows has no effect
//   5. temperature           logit / temperature, then softmax
//   6. min_p                 the ids with at least min_p times the probability of the likeliest
//   7. top_k                 the top_k largest
//   8. top_p                 of what is left the fewest, largest first, whose probabilities sum up to top_p
//   9. draw                  one number of the generator is the seed of a noise for each id (core/noise.h); the id with the largest
//                            logit / temperature + noise, the lower one of equal ones
//
// Logits are F32, all arithmetic on them is F64. Among equal logits the lower id comes first, in every step. A logit of
// -Inf is never chosen.
#pragma once

#include "core/noise.h"
#include "core/status.h"
#include "session/sampling/some_logits.h"

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace gnv {

// Steele, Lea and Flood's SplitMix64: 64 bits of state, every seed is good.
class SplitMix64 {
  public:
    explicit SplitMix64(uint64_t seed) : state_(seed) {}
    uint64_t next();

  private:
    uint64_t state_;
};

struct LogitBias {
    int32_t id = 0;
    double bias = 0; // -100 to 100
};

struct SamplerOptions {
    double temperature = 0; // 0: the largest logit, no draw
    int64_t top_k = 0;      // 0: all
    double top_p = 1;       // above 0, up to 1
    uint64_t seed = 42;
    double min_p = 0;                                   // 0 to 1; 0: all
    double repetition_penalty = 1;                      // above 0; 1: none
    double presence_penalty = 0, frequency_penalty = 0; // -2 to 2; 0: none
    std::vector<LogitBias> logit_bias = {};             // an id once
};
// The failure names the option that is not valid. `vocabulary`: ids of logit_bias are below it.
Status check_sampler_options(const SamplerOptions & options, int64_t vocabulary = INT32_MAX);

// What a choice of the largest logit comes to: the id, or Code::bad_value if the logit is not finite or none (-1) is allowed.
Result<int32_t> checked_choice(int32_t id, double logit);

struct TokenProbability {
    int32_t id = 0;
    double probability = 0;
};

class Sampler {
  public:
    // `allowed`: by id, 0 for ids that must not be chosen. It must outlive the sampler. The options are valid.
    Sampler(const SamplerOptions & options, std::span<const uint8_t> allowed);

    // Whether pick() returns the largest of the allowed logits as they are, which a device can find alone.
    bool takes_largest() const;
    // What a device draws with alone, where temperature is the only option; the choice is told to drawn(), which is pick() then.
    std::optional<Draw> next_draw() const;
    Result<int32_t> drawn(int32_t id, float logit);
    // Ids of the prompt, for the repetition penalty; each below allowed.size().
    void count_prompt(std::span<const int32_t> ids);
    // As many logits as entries in `allowed`. Counts its choice. Code::bad_value if an allowed logit is NaN, or the largest is
    // infinite.
    Result<int32_t> pick(std::span<const float> logits);
    // The same choice from the largest logits, of which there are enough. Whether there may be enough is a matter of options:
    // where none raises a logit, and few ids come into question.
    bool may_pick_from_largest() const;
    bool is_enough(const SomeLogits & some) const;
    Result<int32_t> pick(const SomeLogits & some);
    // What pick() would draw from, the likeliest first; with temperature 0 one id. It changes nothing.
    Result<std::vector<TokenProbability>> distribution(std::span<const float> logits);

  private:
    struct Candidate {
        double logit, weight; // weight: its probability over that of the largest; 1 where no option needs it
        int32_t id;
    };
    static bool comes_before(const Candidate & a, const Candidate & b);
    double changed(size_t id, double logit) const; // by bias and penalties
    size_t wanted(size_t vocabulary) const;        // ids that come into question before min_p and top_p
    // Of `count` logits, of which each(i) tells the i-th with its id, ids ascending.
    template <class Each>
    Status collect(size_t count, const Each & each, bool weighs);
    Status collect(std::span<const float> logits, bool weighs);
    bool cuts_by_weight() const { return options_.min_p > 0 || options_.top_p < 1; }
    double drawing_temperature() const {
        return options_.temperature > 1e-30 ? options_.temperature : 1e-30;
    } // finite keys
    int32_t choose();
    void count(int32_t id);
    void sort_first(size_t count);
    size_t keep(double & sum);

    SamplerOptions options_;
    std::span<const uint8_t> allowed_;
    SplitMix64 random_;
    std::vector<double> bias_;     // by id; empty: none
    std::vector<uint8_t> seen_;    // by id, in the prompt or chosen; empty: no penalty
    std::vector<uint32_t> chosen_; // by id, how often; empty: no penalty
    std::vector<Candidate> candidates_;
    size_t sorted_ = 0; // of the candidates, those that are in their final order
};

} // namespace gnv
