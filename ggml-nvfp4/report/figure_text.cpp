#include "report/figure_text.h"

#include "core/strings.h"

#include <cmath>

namespace gnv {

std::string figure_text(double value) {
    if (std::isnan(value)) return no_figure;
    if (std::isinf(value)) return value > 0 ? "\u221e" : "\u2212\u221e";
    const double size = std::abs(value);
    constexpr double most = 9e15; // whole numbers that doubles hold
    if (size >= most || (size > 0 && size < 1e-4)) {
        std::string text = number_text(value, 2); // "1.2e-05"
        const size_t e = text.find('e');
        if (e == std::string::npos) return text;
        size_t digit = e + 2;
        while (digit + 1 < text.size() && text[digit] == '0') text.erase(digit, 1);
        if (text[e + 1] == '+') text.erase(e + 1, 1);
        return text;
    }
    if (size >= 999.5) return concat(value < 0 ? "-" : "", count_text(uint64_t(std::llround(size))));
    return number_text(value, 3);
}

std::string percent_text(double share) {
    return std::isnan(share) ? no_figure : concat(figure_text(100 * share), " %");
}

std::string duration_text(double seconds) {
    if (!(seconds >= 0) || seconds > 1e15) return no_figure;
    if (seconds < 59.95) return concat(fixed_text(seconds, seconds < 9.995 ? 2 : 1), " s");
    const auto two = [](uint64_t number) { return concat(number < 10 ? "0" : "", number); };
    const auto whole = uint64_t(std::llround(seconds));
    if (whole < 3600) return concat(whole / 60, " min ", two(whole % 60), " s");
    return concat(whole / 3600, " h ", two(whole % 3600 / 60), " min");
}

std::string size_text(double bytes) {
    return bytes >= 0 && bytes < 1e19 ? bytes_text(uint64_t(bytes)) : std::string(no_figure);
}

std::string byte_rate_text(double per_second) {
    return (per_second < 1e12 ? number_text(per_second / 1e9, 3) : fixed_text(per_second / 1e9, 0)) + " GB/s";
}

std::string flop_rate_text(double per_second) {
    return per_second < 1e12 ? number_text(per_second / 1e9, 3) + " GFLOP/s"
                             : number_text(per_second / 1e12, 3) + " TFLOP/s";
}

} // namespace gnv
