// Files with checksums: every bit counts, and the message says where the wrong one is.
#include "core/sha256.h"
#include "formats/json.h"
#include "formats/sealed_json.h"

#include <doctest/doctest.h>
#include <string>

using namespace gnv;

namespace {

std::string document(size_t numbers) {
    std::string text = "{\n  \"numbers\": [";
    for (size_t i = 0; i < numbers; i++) text += (i ? ", " : "") + std::to_string(i * 7 % 1000);
    return text + "]\n}\n";
}

// Refused with a message, or no JSON, or without checksums, which the readers of such files refuse.
bool is_noticed(const std::string & text) {
    const Result<bool> sealed = check_sealed_json(text, "f");
    if (!sealed.ok()) return sealed.status().code() == Code::format && !sealed.status().message().empty();
    return !sealed.value();
}

} // namespace

TEST_CASE("a sealed document is JSON with its checksums as the last member") {
    const std::string text = document(9000); // three blocks
    const std::string sealed = seal_json(text);
    CHECK(check_sealed_json(sealed, "f").value());
    CHECK_FALSE(check_sealed_json(text, "f").value());
    const JsonDocument parsed = JsonDocument::parse(sealed, "f").take();
    const JsonValue list = parsed.root().get("checksums").take();
    REQUIRE(list.array_size().value() == 3);
    const size_t size = sealed.find("\"checksums\"");
    REQUIRE(list.for_each_element([&](size_t i, const JsonValue & item) -> Status {
                    const size_t begin = i * 16384, bytes = std::min<size_t>(16384, size - begin);
                    CHECK(std::string(item.as_string().value()) == sha256_hex(sealed.data() + begin, bytes));
                    return {};
                })
                .ok());
}

TEST_CASE("one turned bit anywhere") {
    const std::string sealed = seal_json(document(20));
    for (size_t i = 0; i < sealed.size(); i++) {
        for (int bit = 0; bit < 8; bit++) {
            std::string turned = sealed;
            turned[i] = char(turned[i] ^ 1 << bit);
            CAPTURE(i);
            REQUIRE(is_noticed(turned));
        }
    }
    for (size_t size = 1; size < sealed.size(); size++) REQUIRE(is_noticed(sealed.substr(0, size)));
    REQUIRE(is_noticed(sealed + " "));
}

TEST_CASE("the message names the block") {
    const std::string sealed = seal_json(document(9000));
    const size_t size = sealed.find("\"checksums\"");
    const auto message = [&](size_t at) {
        std::string turned = sealed;
        turned[at] ^= 1;
        return check_sealed_json(turned, "stats.json").status().message();
    };
    CHECK(message(100).find("stats.json: bytes 0 to 16383, or their checksum, are not as written") == 0);
    CHECK(message(16384).find("bytes 16384 to 32767,") != std::string::npos);
    CHECK(message(size - 1).find("bytes 32768 to " + std::to_string(size - 1)) != std::string::npos);
    CHECK(message(sealed.rfind("\"\n") - 3).find("bytes 32768 to") != std::string::npos); // of the last digest
    CHECK(message(sealed.size() - 2).find("the list of checksums at byte " + std::to_string(size)) !=
          std::string::npos);
}
