// Leftovers of stopped runs beside a destination: found, distinguished from foreign files, and removed.
#pragma once

#include "formats/destination.h"

namespace gnv {

// With `remove`: removes the leftovers, if the destination may be overwritten, and renames a moved old checkpoint back;
// DST.partial and DST.journal then do not exist. Without: fails if the removal would, and changes nothing.
// Code::already_exists: another run is at work, or a file is in the way; the message says which and what to do.
Status clear_leftovers(const GuardedDestination & destination, bool remove);

} // namespace gnv
