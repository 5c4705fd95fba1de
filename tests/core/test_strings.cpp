#include "core/strings.h"

#include <doctest/doctest.h>

using namespace gnv;

TEST_CASE("numbers as people write them") {
    CHECK(number_text(1234567, 3) == "1.23e+06");
    CHECK(number_text(0.1) == "0.1");
    CHECK(fixed_text(2.5, 3) == "2.500");
    CHECK(fixed_text(-1e300, 0).size() == 302);
    CHECK(bytes_text(0) == "0 B");
    CHECK(bytes_text(999) == "999 B");
    CHECK(bytes_text(1000) == "1.00 kB");
    CHECK(bytes_text(71903645408) == "71.9 GB");
    CHECK(bytes_text(999600) == "1.00 MB");
    CHECK(bytes_text(UINT64_MAX) == "18.4 EB");
    CHECK(count_text(7) == "7");
    CHECK(count_text(124306) == "124,306");
    CHECK(count_text(71903645408) == "71,903,645,408");
    CHECK(shape_text({}) == "[]");
    CHECK(shape_text({256, 1024}) == "[256, 1024]");
}

TEST_CASE("parts of a message") {
    CHECK(concat("layer ", 3, ' ', int64_t(-5), ' ', 0.1) == "layer 3 -5 0.1");
    CHECK(printable("a\x1b[31mb\n\xff") == "a\\x1b[31mb\\x0a\\xff");
    CHECK(printable("abcdef", 3) == "abc...");
    CHECK(printable_line("/home/jürgen/模型 a\\b") == "/home/jürgen/模型 a\\b");
    CHECK(printable_line("a\x1b[31m\r\n\t\x7f") == "a\\x1b[31m\\x0d\\x0a\\x09\\x7f");
    CHECK(printable_line("é\xff\xc3") == "é\\xff\\xc3"); // no UTF-8, and cut off
    CHECK(printable_line("\u009b1m\u202e\ufeff") == "\\xc2\\x9b1m\\xe2\\x80\\xae\\xef\\xbb\\xbf");
    CHECK(printable_line(std::string(1, '\0')) == "\\x00");
    CHECK(starts_with("model.x", "model."));
    CHECK_FALSE(starts_with("mod", "model."));
    CHECK(ends_with("a.weight", ".weight"));
    CHECK_FALSE(ends_with("weight", ".weight"));
}
