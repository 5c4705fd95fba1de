// Plans of the small checkpoint.
#pragma once

#include "quant/plan.h"

#include <string>

namespace gnv::test {

inline const std::string tiny = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";

inline Result<Plan> plan_with(const RecipeOptions & recipe) {
    PlanOptions options;
    options.recipe = recipe;
    return make_plan(tiny, options);
}

} // namespace gnv::test
