// A trace as a file for a timeline viewer (Chrome's chrome://tracing, Perfetto).
#pragma once

#include "core/status.h"
#include "core/trace.h"

#include <string>

namespace gnv {

// The largest number of spans in a file: 16 MB of memory during the run, some 80 MB of text.
inline constexpr size_t trace_file_events = size_t(1) << 19;

// A JSON array of events: the name of each row, every span with flops and bytes, and the number of spans left out. The
// file gets its name when it is complete.
Status write_trace(const std::string & path, const Trace & trace);

} // namespace gnv
