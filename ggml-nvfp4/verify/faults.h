// The table of faults that the self-test injects: what producers have shipped and what disks and downloads do.
#pragma once

#include "verify/damage.h"

#include <array>
#include <vector>

namespace gnv::verify {

struct Fault {
    const char * name;
    std::array<const char *, 3> expected; // checks of which at least one must find it; unused entries are null
    bool needs_source;                    // cannot show in the checkpoint alone
    // False when the checkpoint has nothing this fault could happen to.
    Result<bool> (*inject)(Damage & damage);
};
const std::vector<Fault> & faults();

} // namespace gnv::verify
