// Numbers of reports as text: one form for one kind of quantity.
#pragma once

#include <string>

namespace gnv {

inline constexpr const char * no_figure = "\u2013"; // a dash: not measured, or not a number

// Three significant digits, "0.0123"; "1,234" from 1,000 on; "1.2e-5" far from 1. no_figure for NaN, "\u221e" for Inf.
std::string figure_text(double value);
std::string percent_text(double share);        // "12.3 %"
std::string duration_text(double seconds);     // "0.42 s", "3 min 20 s", "2 h 05 min"
std::string size_text(double bytes);           // "1.50 GB"
std::string byte_rate_text(double per_second); // "12.3 GB/s"
std::string flop_rate_text(double per_second); // "12.3 GFLOP/s", "456 TFLOP/s"

} // namespace gnv
