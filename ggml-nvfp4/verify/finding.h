// The findings of verify about a checkpoint, each with its check, the effect in a loader, and the repair.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace gnv::verify {

enum class Severity : uint8_t {
    error,   // a loader refuses the checkpoint, or computes with wrong numbers
    warning, // works in some loaders, or is probably not intended
    note,    // information; not a fault
    count_
};
const char * severity_name(Severity severity);

struct Finding {
    std::string check; // "L3"
    Severity severity = Severity::error;
    std::string subject; // a tensor, module, file or config key
    std::string what;
    std::string effect; // in a loader; empty for notes
    std::string repair;
};

// Collects findings in the order of the checks. Keeps the first `kept_per_check` of every check and severity and counts
// the rest, so that the report of a badly damaged checkpoint takes bounded memory.
class Findings {
  public:
    static constexpr uint64_t kept_per_check = 1000;

    void add(Finding finding);
    const std::vector<Finding> & all() const { return findings_; }
    uint64_t count(Severity severity) const { return totals_[size_t(severity)]; }
    uint64_t count(const std::string & check, Severity severity) const;
    bool has(const std::string & check) const; // a finding of any severity

  private:
    std::vector<Finding> findings_;
    std::array<uint64_t, size_t(Severity::count_)> totals_{};
    std::map<std::string, std::array<uint64_t, size_t(Severity::count_)>> by_check_;
};

} // namespace gnv::verify
