// gnv_report_t, and what a report tells of gates.
#pragma once

#include "api/handles.h"
#include "verify/verify.h"

struct gnv_report_t : gnv::api::Owned {
    gnv::verify::VerifyReport report;
};

namespace gnv::api {

// Of an evaluation or a canary.
template <class Gated>
verify::GateSummary summary_of_gates(const Gated & gated) {
    verify::GateSummary out = {gated.failed_gates(), gated.suspicions(), ""};
    for (const auto & gate : gated.gates) {
        const bool counts = out.failed > 0 ? !gate.passed : gate.flagged;
        if (counts && out.first.empty()) out.first = concat(gate.gate, ": ", gate.text);
    }
    return out;
}

} // namespace gnv::api
