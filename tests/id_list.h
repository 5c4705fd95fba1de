// Lists of token ids in JSON.
#pragma once

#include "formats/json.h"

#include <cstdint>
#include <doctest/doctest.h>
#include <vector>

namespace gnv::test {

inline std::vector<int32_t> read_id_list(const JsonValue & list) {
    std::vector<int32_t> ids;
    REQUIRE(list.for_each_element([&](size_t, const JsonValue & value) -> Status {
                    ids.push_back(int32_t(value.as_int().take()));
                    return {};
                })
                .ok());
    return ids;
}

} // namespace gnv::test
