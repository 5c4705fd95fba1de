// The table of files in a model card, as it is written and as it is found in a text that anything may have written.
#include "formats/file_list.h"

#include <doctest/doctest.h>

using namespace gnv;

TEST_CASE("a table of files is found as it was written") {
    const std::string hash(64, 'a'), other(64, '0');
    const std::vector<ListedFile> files = {{"config.json", 7, hash}, {"a|b \\x.safetensors", 4'999'999'999, other}};
    const std::string table = file_list_text(files);
    CHECK(table == "| file | bytes | SHA-256 |\n|---|---:|---|\n| config.json | 7 | `" + hash +
                       "` |\n| a\\|b \\x.safetensors | 4,999,999,999 | `" + other + "` |\n");
    std::string with_carriage_returns;
    for (const char c : "# Title\n\n" + table + "\nMore.\n")
        with_carriage_returns += c == '\n' ? std::string("\r\n") : std::string(1, c);
    for (const std::string & text : {table, "# Title\n\n" + table + "\nMore.\n", with_carriage_returns}) {
        const std::vector<ListedFile> found = find_file_list(text);
        REQUIRE(found.size() == 2);
        for (size_t i = 0; i < 2; i++) {
            CHECK(found[i].name == files[i].name);
            CHECK(found[i].size == files[i].size);
            CHECK(found[i].sha256 == files[i].sha256);
        }
    }
}

TEST_CASE("other tables hold no files, and a row of another form ends the list") {
    const std::string head = "| file | bytes | SHA-256 |\n|---|---:|---|\n", hash(64, 'a');
    const std::string row = "| a | 1 | `" + hash + "` |\n";
    for (const std::string & text :
         {std::string(), std::string("| file | bytes |\n|---|---|\n| a | 1 |\n"), head,
          "| file | bytes | SHA-256 |\n|---|---|---|\n" + row, "| file | bytes | SHA-256 |\n" + row})
        CHECK(find_file_list(text).empty());
    for (const std::string & bad :
         {std::string("| | 1 | `") + hash + "` |\n", "| b | 1 | " + hash + " |\n", "| b | 1x | `" + hash + "` |\n",
          "| b | | `" + hash + "` |\n", "| b | 1 | `" + hash.substr(1) + "` |\n",
          "| b | 1 | `" + std::string(64, 'A') + "` |\n", "| b | 99999999999999999999 | `" + hash + "` |\n",
          "| `" + hash + "` |\n", std::string("| b\n"), std::string("\n")}) {
        CAPTURE(bad);
        CHECK(find_file_list(head + row + bad + row).size() == 1);
        CHECK(find_file_list(head + bad).empty());
    }
}
