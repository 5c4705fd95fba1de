// The recipe gives each Linear module a format, or keeps it, by ordered rules with Python re.match patterns on module
// names.
//
//   keep     stays in the source's precision in any case
//   include  is quantized although the ignore list names it
//   ignore   stays in the source's precision: the default list, the preset's, the caller's
//   (rest)   every other Linear is quantized
//
// The default list is that of the reference recipe: lm_head, embeddings, routers, norms, vision tower, linear
// attention; plus the draft head, which the reference copies unchanged, unless the caller gives it a format. A recipe.yaml
// (quant/recipe_file.h) has a list of its own in its place, and may name targets: then modules that match none stay as they are.
#pragma once

#include "codec/format.h"
#include "core/status.h"
#include "formats/pattern.h"
#include "model/model_def.h"
#include "quant/quantizers/quantizer.h"

#include <string>
#include <vector>

namespace gnv {

enum class Preset : uint8_t {
    recipe,       // attention, shared experts and routed experts
    experts_only, // routed experts alone
    file,         // the list of a recipe.yaml alone
};
const char * preset_name(Preset preset);

// Of quantizers other than round-to-nearest. Inputs up to four times the largest that was measured are not cut off; up to 1,000
// times cost nothing measurable.
inline constexpr float default_headroom = 4;

struct RecipeOptions {
    const Format * scheme = &formats::nvfp4; // of every quantized module without a format in `formats`
    const Quantizer * quantizer = &round_to_nearest();
    // Of input scales: they are those of inputs so many times as large, and all experts of a layer have the same. 0: as large as
    // measured, expert by expert, as the reference recipe has it.
    float headroom = 0;
    Preset preset = Preset::recipe;
    std::vector<std::string> ignore, include, keep; // regular expressions, "re:" optional
    // A quantized module that matches gets this format; the first match counts. In a recipe.yaml "Linear" is every module.
    struct FormatChoice {
        std::string pattern;
        const Format * format = nullptr;
        friend bool operator==(const FormatChoice &, const FormatChoice &) = default;
    };
    std::vector<FormatChoice> formats;
    // Of the draft head's modules, whatever `scheme` and `formats` say; null keeps them. Its inputs are not measured, so the
    // format must do without an input scale.
    const Format * draft_head = nullptr;
    // The recipe.yaml that these are from; empty: none. Then texts without "re:" are names, and a pattern to ignore that matches
    // no module is worth a note, as recipes name modules of many models. Targets that match none are an error all the same.
    std::string file;
    std::vector<std::string> notes; // what has no effect here, by line
    bool targets_only = false;      // modules that no pattern of `formats` matches stay as they are
};

struct Rule {
    enum class Kind : uint8_t { keep, include, ignore } kind;
    Pattern pattern;
    bool from_caller; // a pattern that matches nothing is then an error
};

inline constexpr int16_t no_target = -2;

struct Selection {
    std::vector<const Format *> format; // per module of the layout: null keeps the source's precision
    std::vector<int16_t> rule;      // per module: position in Recipe::rules(), -1 when no rule matched, or no_target
    int64_t count = 0;              // modules to quantize
    int64_t draft_count = 0;        // of these, those of the draft head
    std::vector<std::string> notes; // patterns of a recipe.yaml that match no module
    // The formats in use, the recipe's scheme first; it alone if nothing is quantized.
    std::vector<const Format *> formats(const Format * scheme) const;
};

// The rule that keeps the draft head, and the one that keeps of a quantized head what engines build plain beside routers.
inline constexpr const char * draft_head_pattern = "re:.*mtp.*";
inline constexpr const char * draft_fc_pattern = "re:.*mtp\\.fc$";

class Recipe {
  public:
    static Result<Recipe> create(const RecipeOptions & options);
    const RecipeOptions & options() const { return options_; }
    const std::vector<Rule> & rules() const { return rules_; }

    // Fails, naming the modules, when loaders could not build what the rules ask for: a fused group (q/k/v, gate/up,
    // in_proj_qkv/z) or the routed experts of a layer treated differently, a module that must stay as it is, in_features that the
    // format cannot block, nothing to quantize at all, a draft head that is not there or of which the rules keep all, or a
    // pattern of the caller that matches no module: what it was meant to change would stay as it is in silence.
    Result<Selection> select(const ModelLayout & layout) const;

    // "ignore re:.*norm.*", "target Linear" for -1, "no target" for no_target
    std::string describe_rule(int rule) const;
    // The method for a part of the model: the caller's, and for a draft head, of whose inputs there are no statistics, the best
    // one that needs none.
    const Quantizer & quantizer_of(Part part) const;

  private:
    RecipeOptions options_;
    std::vector<Rule> rules_;              // in order of precedence
    std::vector<Pattern> format_patterns_; // beside RecipeOptions::formats
};

// The patterns of the default list without that of the draft head, and those that experts_only adds.
std::vector<std::string> default_ignore();
std::vector<std::string> experts_only_ignore();

// recipe.yaml in the form of llm-compressor for the same rules. It says what the form has no words for in comments "#
// ggml-nvfp4: KEY: VALUE", which read_recipe() takes back.
std::string recipe_yaml(const Recipe & recipe);

} // namespace gnv
