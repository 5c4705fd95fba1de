// The table of faults that the self-test injects: faults of published checkpoints, of disks and of downloads.
#pragma once

#include "verify/damage.h"

#include <array>
#include <vector>

namespace gnv::verify {

struct Fault {
    const char * name;
    std::array<const char *, 3> expected; // at least one of these checks must find it; unused entries are null
    bool needs_source;                    // invisible without the source
    // False if the fault does not apply to the checkpoint.
    Result<bool> (*inject)(Damage & damage);
};
const std::vector<Fault> & faults();

} // namespace gnv::verify
