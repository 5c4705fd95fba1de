#include "verify/finding.h"

namespace gnv::verify {

const char * severity_name(Severity severity) {
    static const char * const names[] = {"error", "warning", "note"};
    return names[size_t(severity)];
}

void Findings::add(Finding finding) {
    totals_[size_t(finding.severity)]++;
    uint64_t & count = by_check_[finding.check][size_t(finding.severity)];
    if (count++ < kept_per_check) findings_.push_back(std::move(finding));
}

uint64_t Findings::count(const std::string & check, Severity severity) const {
    const auto found = by_check_.find(check);
    return found == by_check_.end() ? 0 : found->second[size_t(severity)];
}

bool Findings::has(const std::string & check) const { return by_check_.count(check) != 0; }

} // namespace gnv::verify
