// What runs that were stopped left beside a destination: found, told from what nobody knows, and taken away.
#pragma once

#include "formats/destination.h"

namespace gnv {

// With `remove`: takes away what a stopped run left, if the destination may be overwritten, and puts back an old checkpoint
// that it had moved. Afterwards nothing is at DST.partial or DST.journal. Without: fails where that would, and changes
// nothing. Code::already_exists: another run is at work, or something is in the way; the message says which and what to do.
Status clear_leftovers(const GuardedDestination & destination, bool remove);

} // namespace gnv
