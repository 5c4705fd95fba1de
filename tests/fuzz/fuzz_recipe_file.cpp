// recipe.yaml of anybody: refused with lines, or rules that this program writes and reads again.
#include "fuzz/fuzz_input.h"
#include "quant/recipe_file.h"

using namespace gnv;
using namespace gnv::fuzz;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    const std::string_view text(reinterpret_cast<const char *>(data), size);
    RecipeProblems problems;
    const Result<RecipeOptions> read = parse_recipe(text, "recipe.yaml", problems);
    require_message(read.status());
    if (!read.ok()) return 0;
    require(problems.empty());
    const Result<Recipe> recipe = Recipe::create(read.value());
    require_message(recipe.status());
    if (!recipe.ok()) return 0;
    (void)recipe_yaml(recipe.value());
    return 0;
}
