// A recipe of llm-compressor (recipe.yaml) as the rules of a run: docs/recipe.md says what is read. Every key either means
// something here, or is refused: none is passed over.
#pragma once

#include "quant/recipe.h"

#include <string>
#include <vector>

namespace gnv {

// Lines of our own recipe.yaml that llm-compressor takes for comments: "# ggml-nvfp4: method: gptq".
inline constexpr const char * own_comment = "# ggml-nvfp4: ";

// What cannot be met, as "FILE:LINE: key: why and what to do", one text for each line. Empty after other failures.
using RecipeProblems = std::vector<std::string>;

// The recipe.yaml of a run of this program gives the options of that run. Code::format: no YAML; Code::unsupported: `problems`
// has a text for each line that cannot be met, and the message is the first.
Result<RecipeOptions> read_recipe(const std::string & path, RecipeProblems & problems);
Result<RecipeOptions> parse_recipe(std::string_view text, const std::string & name, RecipeProblems & problems);

} // namespace gnv
