// Leftovers of stopped runs beside a destination: found, distinguished from foreign files, and removed.
#pragma once

#include "output/destination.h"

#include <optional>

namespace gnv {

// With `remove`: removes the leftovers, if the destination may be overwritten, and renames a moved old checkpoint back;
// DST.partial and DST.journal then do not exist, except where the run goes on with DST.partial: then the result is its
// journal, locked, and DST.journal is back in it. A leftover without any work is removed as well where the run may go on.
// Without `remove`: fails if the removal would, and changes nothing; the result has no file.
// Code::already_exists: another run is at work, or a file is in the way; the message says which and what to do.
Result<std::optional<FoundJournal>> clear_leftovers(const GuardedDestination & destination, bool remove);

} // namespace gnv
