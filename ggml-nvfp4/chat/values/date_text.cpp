#include "chat/values/date_text.h"

#include <cstdio>

namespace gnv::chat {

namespace {

constexpr const char * days[] = {"Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"};
constexpr const char * months[] = {"January", "February", "March",     "April",   "May",      "June",
                                   "July",    "August",   "September", "October", "November", "December"};

struct Date {
    int64_t year = 1970;
    int month = 1, day = 1, weekday = 4, day_of_year = 1;
    int hour = 0, minute = 0, second = 0;
};

// The Gregorian calendar, counted from March so that leap days come last (the usual algorithm of days from civil).
Date make_date(int64_t time) {
    Date date;
    const int64_t second = ((time % 86400) + 86400) % 86400;
    const int64_t day_number = (time - second) / 86400;
    date.hour = int(second / 3600);
    date.minute = int(second / 60 % 60);
    date.second = int(second % 60);
    date.weekday = int(((day_number + 4) % 7 + 7) % 7);
    const int64_t shifted = day_number + 719468;
    const int64_t era = (shifted >= 0 ? shifted : shifted - 146096) / 146097;
    const int64_t day_of_era = shifted - era * 146097;
    const int64_t year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36524 - day_of_era / 146096) / 365;
    const int64_t from_march = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    const int64_t month = (5 * from_march + 2) / 153;
    date.day = int(from_march - (153 * month + 2) / 5 + 1);
    date.month = int(month < 10 ? month + 3 : month - 9);
    date.year = year_of_era + era * 400 + (date.month <= 2);
    const bool leap = date.year % 4 == 0 && (date.year % 100 != 0 || date.year % 400 == 0);
    date.day_of_year = int(from_march + (date.month > 2 ? 60 + leap : -305));
    return date;
}

std::string padded(int64_t number, int width, char flag, char fill = '0') {
    const std::string digits = std::to_string(number);
    if (flag == '-' || int(digits.size()) >= width) return digits;
    return std::string(size_t(width) - digits.size(), flag == '_' ? ' ' : fill) + digits;
}

Result<std::string> part(char letter, char flag, const Date & date, int64_t time) {
    const int hour12 = date.hour % 12 ? date.hour % 12 : 12;
    switch (letter) {
    case 'a': return std::string(days[date.weekday]).substr(0, 3);
    case 'A': return std::string(days[date.weekday]);
    case 'b':
    case 'h': return std::string(months[date.month - 1]).substr(0, 3);
    case 'B': return std::string(months[date.month - 1]);
    case 'd': return padded(date.day, 2, flag);
    case 'e': return padded(date.day, 2, flag, ' ');
    case 'D': return date_text("%m/%d/%y", time);
    case 'x': return date_text("%m/%d/%y", time);
    case 'F': return date_text("%Y-%m-%d", time);
    case 'T':
    case 'X': return date_text("%H:%M:%S", time);
    case 'R': return date_text("%H:%M", time);
    case 'c': return date_text("%a %b %e %H:%M:%S %Y", time);
    case 'H': return padded(date.hour, 2, flag);
    case 'I': return padded(hour12, 2, flag);
    case 'j': return padded(date.day_of_year, 3, flag);
    case 'm': return padded(date.month, 2, flag);
    case 'M': return padded(date.minute, 2, flag);
    case 'p': return std::string(date.hour < 12 ? "AM" : "PM");
    case 'S': return padded(date.second, 2, flag);
    case 'f': return std::string("000000");
    case 'U': return padded((date.day_of_year + 6 - date.weekday) / 7, 2, flag);
    case 'W': return padded((date.day_of_year + 6 - (date.weekday + 6) % 7) / 7, 2, flag);
    case 'u': return std::to_string(date.weekday ? date.weekday : 7);
    case 'w': return std::to_string(date.weekday);
    case 'y': return padded(date.year % 100, 2, flag);
    case 'Y': return std::to_string(date.year);
    case 'n': return std::string("\n");
    case 't': return std::string("\t");
    case 'z':
    case 'Z': return std::string(); // a time without a zone
    case '%': return std::string("%");
    default:
        return fail(Code::unsupported, "%", printable(std::string_view(&letter, 1)), " of a date is not supported");
    }
}

} // namespace

Result<std::string> date_text(std::string_view format, int64_t local_time) {
    const Date date = make_date(local_time);
    std::string out;
    for (size_t at = 0; at < format.size(); at++) {
        if (format[at] != '%' || at + 1 == format.size()) {
            out += format[at];
            continue;
        }
        char flag = '\0';
        if ((format[at + 1] == '-' || format[at + 1] == '_') && at + 2 < format.size()) flag = format[++at];
        GNV_ASSIGN(const std::string text, part(format[++at], flag, date, local_time));
        out += text;
    }
    return out;
}

} // namespace gnv::chat
