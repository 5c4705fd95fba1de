#include "session/sampling/sampler.h"

#include <algorithm>
#include <bit>
#include <cfloat>
#include <cmath>
#include <optional>
#include <utility>

namespace gnv {

uint64_t SplitMix64::next() { return splitmix_mixed(state_ += splitmix_step); }

// exp(x) for x <= 0. The C library's may differ in the last bit between machines; this one uses only operations that
// IEEE 754 defines.
static double exact_exp(double x) {
    if (x < -700) return 0;
    static constexpr double coefficients[] = {
        1,          1,           1 / 2.0,      1 / 6.0,       1 / 24.0,       1 / 120.0,       1 / 720.0,
        1 / 5040.0, 1 / 40320.0, 1 / 362880.0, 1 / 3628800.0, 1 / 39916800.0, 1 / 479001600.0, 1 / 6227020800.0};
    constexpr double ln2_high = 0x1.62e42fee00000p-1, ln2_low = 0x1.a39ef35793c76p-33;
    const double n = std::floor(x * 0x1.71547652b82fep0 + 0.5);
    const double r = (x - n * ln2_high) - n * ln2_low; // |r| <= ln(2) / 2: the rest of the series is below 2^-57
    double sum = 0;
    for (size_t i = std::size(coefficients); i-- > 0;) sum = sum * r + coefficients[i];
    return sum * std::bit_cast<double>(uint64_t(int64_t(n) + 1023) << 52); // 2^n, a normal number
}

// --- Options ----------------------------------------------------------------------------------------------------------

struct Range {
    const char * name;
    double SamplerOptions::*value;
    double least, most;
    bool includes_least;
    const char * advice;
};
static constexpr Range ranges[] = {
    {"temperature", &SamplerOptions::temperature, 0, DBL_MAX, true,
     "0 takes the likeliest token, 1 draws as the model predicts"},
    {"top_p", &SamplerOptions::top_p, 0, 1, false, "it is above 0 and at most 1, which keeps all tokens"},
    {"min_p", &SamplerOptions::min_p, 0, 1, true, "it is from 0, which keeps all tokens, to 1"},
    {"repetition_penalty", &SamplerOptions::repetition_penalty, 0, DBL_MAX, false, "it is above 0; 1 changes nothing"},
    {"presence_penalty", &SamplerOptions::presence_penalty, -2, 2, true, "it is from -2 to 2; 0 changes nothing"},
    {"frequency_penalty", &SamplerOptions::frequency_penalty, -2, 2, true, "it is from -2 to 2; 0 changes nothing"},
};

static Status check_logit_bias(const std::vector<LogitBias> & list, int64_t vocabulary) {
    std::vector<int32_t> ids;
    for (const auto & [id, bias] : list) {
        if (id < 0 || id >= vocabulary)
            return fail(Code::invalid_argument, "logit_bias: ", id, " is no id of the vocabulary of ", vocabulary);
        if (!(bias >= -100 && bias <= 100))
            return fail(Code::invalid_argument, "logit_bias: the bias of token ", id, " is ", bias,
                        "; it is from -100 to 100");
        ids.push_back(id);
    }
    std::sort(ids.begin(), ids.end());
    const auto twice = std::adjacent_find(ids.begin(), ids.end());
    if (twice == ids.end()) return {};
    return fail(Code::invalid_argument, "logit_bias: token ", *twice, " has two entries");
}

Status check_sampler_options(const SamplerOptions & options, int64_t vocabulary) {
    for (const Range & range : ranges) {
        const double value = options.*range.value;
        if (value >= range.least && value <= range.most && (range.includes_least || value > range.least)) continue;
        return fail(Code::invalid_argument, "a ", range.name, " of ", value, " makes no sense; ", range.advice);
    }
    if (options.top_k < 0)
        return fail(Code::invalid_argument, "a top_k of ", options.top_k, " makes no sense; 0 keeps all tokens");
    return check_logit_bias(options.logit_bias, vocabulary);
}

// --- Choosing ---------------------------------------------------------------------------------------------------------

Sampler::Sampler(const SamplerOptions & options, std::span<const uint8_t> allowed)
    : options_(options), allowed_(allowed), random_(options.seed) {
    if (!options.logit_bias.empty()) bias_.resize(allowed.size());
    for (const auto & [id, bias] : options.logit_bias) bias_[size_t(id)] = bias;
    if (options.repetition_penalty != 1) seen_.resize(allowed.size());
    if (options.presence_penalty != 0 || options.frequency_penalty != 0) chosen_.resize(allowed.size());
}

bool Sampler::takes_largest() const {
    return options_.temperature == 0 && bias_.empty() && seen_.empty() && chosen_.empty();
}

void Sampler::count_prompt(std::span<const int32_t> ids) {
    if (seen_.empty()) return;
    for (const int32_t id : ids) {
        GNV_CHECK(id >= 0 && size_t(id) < seen_.size());
        seen_[size_t(id)] = 1;
    }
}

Result<int32_t> checked_choice(int32_t id, double logit) {
    if (std::isnan(logit)) return fail(Code::bad_value, "the logit of token ", id, " is NaN");
    if (id < 0 || std::isinf(logit))
        return fail(Code::bad_value,
                    "no token can come next: ", id < 0 ? "none is allowed" : "the largest logit is infinite");
    return id;
}

double Sampler::changed(size_t id, double logit) const {
    if (!bias_.empty()) logit += bias_[id];
    if (!seen_.empty() && seen_[id])
        logit = logit > 0 ? logit / options_.repetition_penalty : logit * options_.repetition_penalty;
    if (!chosen_.empty() && chosen_[id] > 0)
        logit = logit - options_.frequency_penalty * chosen_[id] - options_.presence_penalty;
    return logit;
}

bool Sampler::comes_before(const Candidate & a, const Candidate & b) {
    return a.logit != b.logit ? a.logit > b.logit : a.id < b.id;
}

size_t Sampler::wanted(size_t vocabulary) const {
    if (options_.temperature == 0) return 1;
    return options_.top_k > 0 ? std::min(size_t(options_.top_k), vocabulary) : vocabulary;
}

bool Sampler::may_pick_from_largest() const {
    const bool lowers = options_.repetition_penalty >= 1 && options_.presence_penalty >= 0 &&
                        options_.frequency_penalty >= 0 &&
                        std::all_of(options_.logit_bias.begin(), options_.logit_bias.end(),
                                    [](const LogitBias & one) { return one.bias <= 0; });
    return lowers && (options_.temperature == 0 || options_.top_k > 0 || (options_.min_p > 0 && options_.top_p == 1));
}

// A logit that is not here is below the smallest one here, and stays there: as many as come into question must still be above
// it, or min_p must leave out all that is below.
bool Sampler::is_enough(const SomeLogits & some) const {
    if (some.all()) return true;
    if (!may_pick_from_largest()) return false;
    const float least = *std::min_element(some.logits.begin(), some.logits.end());
    size_t above = 0;
    double largest = -INFINITY;
    for (size_t i = 0; i < some.ids.size(); i++) {
        if (std::isnan(some.logits[i])) return true; // it ends the text, and so would any
        const double logit = changed(size_t(some.ids[i]), double(some.logits[i]));
        above += logit >= double(least);
        largest = std::max(largest, logit);
    }
    if (above >= wanted(allowed_.size())) return true;
    if (above == 0 || !(options_.min_p > 0 && options_.top_p == 1 && std::isfinite(largest))) return false;
    return exact_exp((double(least) - largest) / options_.temperature) < options_.min_p * (1 - 1e-12);
}

// Puts the first `count` candidates, or all, into their order.
void Sampler::sort_first(size_t count) {
    count = std::min(count, candidates_.size());
    if (count <= sorted_) return;
    std::partial_sort(candidates_.begin() + ptrdiff_t(sorted_), candidates_.begin() + ptrdiff_t(count),
                      candidates_.end(), comes_before);
    sorted_ = count;
}

// The candidates that the options up to top_k leave, the largest first and the others in any order; with weights if there is a
// draw.
template <class Each>
Status Sampler::collect(size_t count, const Each & each, bool weighs) {
    candidates_.clear();
    sorted_ = 0;
    const bool draws = options_.temperature > 0;
    const size_t most_wanted = wanted(allowed_.size());
    // Where few are wanted, those that cannot be among them go as they come: a vocabulary is large.
    const size_t most = most_wanted < count / 4 ? std::max<size_t>(4 * most_wanted, 64) : SIZE_MAX;
    const bool changes = !bias_.empty() || !seen_.empty() || !chosen_.empty();
    std::optional<Candidate> last; // of the wanted ones so far
    for (size_t i = 0; i < count; i++) {
        const auto [id, raw] = each(i);
        if (!allowed_[id]) continue;
        if (std::isnan(raw)) return fail(Code::bad_value, "the logit of token ", id, " is NaN");
        const double logit = changes ? changed(id, double(raw)) : double(raw);
        const Candidate candidate = {logit, 1, int32_t(id)};
        if (last && !comes_before(candidate, *last)) continue;
        candidates_.push_back(candidate);
        if (candidates_.size() < most) continue;
        std::nth_element(candidates_.begin(), candidates_.begin() + ptrdiff_t(most_wanted - 1), candidates_.end(),
                         comes_before);
        candidates_.resize(most_wanted);
        last = candidates_.back();
    }
    if (last || most_wanted < allowed_.size()) { // min_p commutes with top_k: both cut the order of the logits
        sort_first(most_wanted);
        candidates_.resize(std::min(most_wanted, candidates_.size()));
    } else {
        sort_first(1);
    }
    const Candidate first = candidates_.empty() ? Candidate{0, 0, -1} : candidates_.front();
    GNV_TRY(checked_choice(first.id, first.logit).take_status());
    if (!draws || !weighs) return {};
    size_t kept = 0;
    for (Candidate candidate : candidates_) {
        candidate.weight = exact_exp((candidate.logit - first.logit) / options_.temperature);
        if (candidate.weight > 0 && candidate.weight >= options_.min_p) candidates_[kept++] = candidate;
    }
    candidates_.resize(kept); // the order is kept, so those that are sorted stay first
    sorted_ = std::min(sorted_, kept);
    return {};
}

Status Sampler::collect(std::span<const float> logits, bool weighs) {
    GNV_CHECK(logits.size() == allowed_.size());
    return collect(
        logits.size(), [&](size_t i) { return std::pair(i, logits[i]); }, weighs);
}

// How many candidates top_p leaves, and the sum of their weights. Of a vocabulary few come into question, so the others stay
// unsorted.
size_t Sampler::keep(double & sum) {
    sum = 0;
    for (const Candidate & candidate : candidates_) sum += candidate.weight;
    if (options_.top_p == 1) return candidates_.size();
    const double enough = options_.top_p * sum;
    size_t kept = 0;
    for (sum = 0; kept < candidates_.size() && (kept == 0 || sum < enough); kept++) {
        if (kept == sorted_) sort_first(std::max<size_t>(64, 4 * sorted_));
        sum += candidates_[kept].weight;
    }
    return kept;
}

Result<int32_t> Sampler::pick(std::span<const float> logits) {
    GNV_TRY(collect(logits, cuts_by_weight()));
    return choose();
}

Result<int32_t> Sampler::pick(const SomeLogits & some) {
    if (some.all()) return pick(std::span(some.logits));
    std::vector<std::pair<size_t, float>> list;
    for (size_t i = 0; i < some.ids.size(); i++) list.emplace_back(size_t(some.ids[i]), some.logits[i]);
    std::sort(list.begin(), list.end(), [](const auto & a, const auto & b) { return a.first < b.first; });
    GNV_TRY(collect(
        list.size(), [&](size_t i) { return list[i]; }, cuts_by_weight()));
    return choose();
}

// Of the candidates.
int32_t Sampler::choose() {
    int32_t id = candidates_.front().id;
    if (options_.temperature > 0) {
        double sum = 0;
        const size_t kept = options_.top_p < 1 ? keep(sum) : candidates_.size();
        const Draw draw = {random_.next(), drawing_temperature()};
        Drawn best;
        for (size_t i = 0; i < kept; i++) best.take(draw, candidates_[i].id, candidates_[i].logit);
        id = best.id;
    }
    count(id);
    return id;
}

void Sampler::count(int32_t id) {
    if (!seen_.empty()) seen_[size_t(id)] = 1;
    if (!chosen_.empty()) chosen_[size_t(id)]++;
}

std::optional<Draw> Sampler::next_draw() const {
    const bool is_plain = options_.temperature > 0 && options_.top_k == 0 && options_.top_p == 1 &&
                          options_.min_p == 0 && bias_.empty() && seen_.empty() && chosen_.empty();
    if (!is_plain) return {};
    SplitMix64 random = random_;
    return Draw{random.next(), drawing_temperature()};
}

Result<int32_t> Sampler::drawn(int32_t id, float logit) {
    GNV_CHECK(next_draw());
    GNV_TRY(checked_choice(id, double(logit)).take_status());
    random_.next();
    return id;
}

Result<std::vector<TokenProbability>> Sampler::distribution(std::span<const float> logits) {
    GNV_TRY(collect(logits, true));
    double sum = 1;
    const size_t kept = options_.temperature > 0 ? keep(sum) : 1;
    sort_first(kept);
    std::vector<TokenProbability> result;
    for (size_t i = 0; i < kept; i++) result.push_back({candidates_[i].id, candidates_[i].weight / sum});
    return result;
}

} // namespace gnv
