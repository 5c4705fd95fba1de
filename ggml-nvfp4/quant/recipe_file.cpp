#include "quant/recipe_file.h"

#include "formats/file.h"
#include "formats/yaml.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

namespace gnv {

namespace {

using Node = YamlNode;

std::string lower(std::string text) {
    for (char & c : text)
        if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
    return text;
}

// What compressed-tensors calls a boolean, in YAML 1.1.
bool as_boolean(const Node & node, bool & value) {
    if (node.type != Node::Type::scalar || node.quoted) return false;
    const std::string text = lower(node.text);
    value = text == "true" || text == "yes" || text == "on";
    return value || text == "false" || text == "no" || text == "off";
}

bool as_number(const Node & node, double & value) {
    if (node.type != Node::Type::scalar) return false;
    const char * const end = node.text.data() + node.text.size();
    const auto [stopped, error] = std::from_chars(node.text.data(), end, value);
    return error == std::errc() && stopped == end && std::isfinite(value);
}

// A short text of a value for messages.
std::string shown(const Node & node) {
    return node.is_map() ? "a map" : node.is_list() ? "a list" : concat("\"", printable(node.text, 60), "\"");
}

// Observers whose scales are those of the largest magnitude over all data, as this program measures it. Of weights every
// observer of extremes is: they do not change.
constexpr const char * weight_observers[] = {"minmax", "memoryless_minmax", "static_minmax"};
constexpr const char * input_observers[] = {"static_minmax"};

class RecipeReader {
  public:
    RecipeReader(std::string name, RecipeProblems & problems) : name_(printable_line(name)), problems_(problems) {}

    Result<RecipeOptions> read(const Node & root, std::string_view text) {
        read_own_lines(text);
        read_stages(root);
        if (problems_.empty() && !has_modifier_)
            refuse(std::max<int64_t>(root.line, 1), "recipe",
                   "there is no QuantizationModifier or GPTQModifier in a map NAME_modifiers of a map NAME_stage");
        if (problems_.empty()) finish();
        if (problems_.empty()) return std::move(options_);
        if (problems_.size() == 1) return Status(Code::unsupported, problems_.front());
        return fail(Code::unsupported, problems_.size(),
                    " lines of the recipe cannot be met; the first: ", problems_.front());
    }

  private:
    // A key of a map, and the member that takes its value.
    struct Key {
        const char * name;
        void (RecipeReader::*take)(const Node & value, const std::string & key);
        bool of_gptq = false; // GPTQModifier alone has it
    };
    struct Target {
        std::string text;
        const Format * format;
    };

    void refuse(int64_t line, const std::string & key, const std::string & why) {
        problems_.push_back(concat(name_, ":", line, ": ", printable(key), ": ", why));
    }
    void refuse(const Node & node, const std::string & key, const std::string & why) { refuse(node.line, key, why); }
    void note(const Node & node, const std::string & key, const std::string & text) {
        options_.notes.push_back(concat(name_, ":", node.line, ": ", key, ": ", text));
    }
    bool want_map(const Node & node, const std::string & key) {
        if (!node.is_map()) refuse(node, key, concat("a map is wanted here, not ", shown(node)));
        return node.is_map();
    }

    template <size_t n>
    void take_keys(const Node & map, const char * what, const Key (&keys)[n], bool is_gptq) {
        for (size_t i = 0; i < map.keys.size(); i++) {
            const std::string & name = map.keys[i].text;
            const Key * const known = std::find_if(keys, keys + n, [&](const Key & key) { return name == key.name; });
            if (known != keys + n && (is_gptq || !known->of_gptq)) {
                (this->*known->take)(map.items[i], name);
                continue;
            }
            std::string list;
            for (const Key & key : keys)
                if (is_gptq || !key.of_gptq) list += concat(list.empty() ? "" : ", ", key.name);
            refuse(
                map.keys[i].line, name,
                concat("no key of ", what, " that this program knows: leave it out, or correct it to one of ", list));
        }
    }

    // --- Stages and modifiers

    void read_stages(const Node & root) {
        if (root.type == Node::Type::scalar && root.is_null()) return; // reported as without modifiers
        if (!want_map(root, "recipe")) return;
        for (size_t i = 0; i < root.keys.size(); i++) {
            const std::string & key = root.keys[i].text;
            const Node & stage = root.items[i];
            if (key == "args" && (stage.is_null() || (stage.is_map() && stage.items.empty()))) continue;
            if (ends_with(key, "Modifier")) {
                refuse(root.keys[i].line, key,
                       "write it into the maps default_stage: default_modifiers:, where llm-compressor looks for it");
            } else if (!ends_with(key, "_stage")) {
                refuse(root.keys[i].line, key, "stages have names that end with _stage, such as default_stage");
            } else if (want_map(stage, key)) {
                read_groups(stage);
            }
        }
    }

    void read_groups(const Node & stage) {
        for (size_t i = 0; i < stage.keys.size(); i++) {
            const std::string & key = stage.keys[i].text;
            const Node & group = stage.items[i];
            if (key == "run_type" && group.type == Node::Type::scalar && group.text == "oneshot") continue;
            if (!ends_with(key, "_modifiers")) {
                refuse(stage.keys[i].line, key,
                       "a stage holds maps with names that end with _modifiers, such as default_modifiers");
            } else if (want_map(group, key)) {
                for (size_t m = 0; m < group.keys.size(); m++) read_modifier(group.keys[m], group.items[m]);
            }
        }
    }

    void read_modifier(const Node::Key & name, const Node & modifier) {
        const bool is_gptq = name.text == "GPTQModifier";
        if (!is_gptq && name.text != "QuantizationModifier")
            return refuse(
                name.line, name.text,
                "this program runs QuantizationModifier and GPTQModifier alone: leave it out, or make this step "
                "with llm-compressor and quantize its result");
        if (has_modifier_)
            return refuse(name.line, name.text,
                          "a run has one such modifier: put the rules of both into its config_groups");
        has_modifier_ = true;
        modifier_line_ = name.line;
        if (is_gptq) {
            options_.quantizer = &gptq();
            options_.notes.push_back(
                concat(name_, ":", name.line,
                       ": GPTQModifier: this program's method gptq, which chooses other codes than llm-compressor's "
                       "(docs/quality.md)"));
        }
        if (modifier.is_null()) return refuse(name.line, name.text, "it has no scheme: write NVFP4 or NVFP4A16");
        if (!want_map(modifier, name.text)) return;
        static constexpr Key keys[] = {
            {"targets", &RecipeReader::take_targets},
            {"ignore", &RecipeReader::take_ignore},
            {"scheme", &RecipeReader::take_scheme},
            {"config_groups", &RecipeReader::take_groups},
            {"kv_cache_scheme", &RecipeReader::take_nothing},
            {"observer", &RecipeReader::take_observers},
            {"weight_observer", &RecipeReader::take_weight_observer},
            {"input_observer", &RecipeReader::take_input_observer},
            {"output_observer", &RecipeReader::take_nothing},
            {"bypass_divisibility_checks", &RecipeReader::take_no_bypass},
            {"requires_calibration_data", &RecipeReader::take_boolean},
            {"group", &RecipeReader::take_name},
            {"start", &RecipeReader::take_nothing},
            {"end", &RecipeReader::take_nothing},
            {"update", &RecipeReader::take_nothing},
            {"block_size", &RecipeReader::take_block_size, true},
            {"dampening_frac", &RecipeReader::take_dampening, true},
            {"actorder", &RecipeReader::take_order, true},
            {"offload_hessians", &RecipeReader::take_without_effect, true},
            {"sequential_targets", &RecipeReader::take_without_effect, true},
            {"sequential_update", &RecipeReader::take_without_effect, true},
        };
        take_keys(modifier, name.text.c_str(), keys, is_gptq);
    }

    // --- Values of a modifier

    void take_nothing(const Node & value, const std::string & key) {
        if (!value.is_null()) refuse(value, key, "this program cannot do that: leave it out, or write null");
    }
    void take_name(const Node & value, const std::string & key) {
        if (value.type != Node::Type::scalar) refuse(value, key, "a name is wanted here");
    }
    void take_boolean(const Node & value, const std::string & key) {
        bool ignored = false;
        if (!as_boolean(value, ignored)) refuse(value, key, concat(shown(value), " is neither true nor false"));
    }
    void take_no_bypass(const Node & value, const std::string & key) {
        bool bypass = false;
        if (!as_boolean(value, bypass)) return take_boolean(value, key);
        if (bypass)
            refuse(value, key, "columns that 16 does not divide cannot be stored: write false, and ignore them");
    }
    void take_without_effect(const Node & value, const std::string & key) {
        if (!value.is_null())
            note(value, key, "no effect: the plan of memory decides, and blocks run one after another");
    }
    void take_block_size(const Node & value, const std::string & key) {
        double number = 0;
        if (!as_number(value, number) || number < 1 || number != std::floor(number))
            return refuse(value, key, concat(shown(value), " is no number of columns"));
        note(value, key, "no effect: it changes the time of llm-compressor's GPTQ alone");
    }
    void take_dampening(const Node & value, const std::string & key) {
        constexpr double usual = 0.01;
        double number = 0;
        if (value.is_null()) return;
        if (!as_number(value, number)) return refuse(value, key, concat(shown(value), " is no number"));
        if (number != usual)
            return refuse(value, key,
                          "method gptq damps by 0.03 to 0.1 of the mean, by the number of positions: leave it out");
        note(value, key, "no effect: method gptq damps by 0.03 to 0.1 of the mean, by the number of positions");
    }
    void take_order(const Node & value, const std::string & key) {
        const std::string text = lower(value.text);
        if (value.type == Node::Type::scalar && (value.is_null() || text == "static" || text == "weight")) {
            if (!value.is_null()) note(value, key, "no effect on groups of 16 with a scale of the tensor");
            return;
        }
        refuse(value, key,
               concat(shown(value), " would store an order of columns, which NVFP4 has no place for: write null"));
    }

    // A text, or a list of texts.
    bool take_texts(const Node & value, const std::string & key, std::vector<std::string> & out) {
        const auto is_text = [](const Node & node) { return node.type == Node::Type::scalar && !node.text.empty(); };
        if (is_text(value) && !value.is_null()) {
            out.push_back(value.text);
            return true;
        }
        if (!value.is_list() || !std::all_of(value.items.begin(), value.items.end(), is_text)) {
            refuse(value, key, "a list of names is wanted, or of regular expressions that begin with re:");
            return false;
        }
        for (const Node & item : value.items) {
            const Result<Pattern> pattern = Pattern::compile(item.text, false);
            if (!pattern.ok()) refuse(item, key, pattern.status().message());
            out.push_back(item.text);
        }
        return true;
    }

    void take_targets(const Node & value, const std::string & key) {
        has_targets_ = take_texts(value, key, targets_);
        if (has_targets_ && targets_.empty()) refuse(value, key, "there are none: write [Linear]");
    }

    void take_ignore(const Node & value, const std::string & key) {
        if (value.is_null() || !take_texts(value, key, ignore_)) return;
        for (const std::string & text : ignore_)
            if (text == "Linear") refuse(value, key, "Linear is every module, and none would be left to quantize");
    }

    const Format * format_of_preset(const Node & at, const std::string & key, const std::string & name) {
        for (const Format * const format : all_formats())
            if (lower(format->preset) == lower(name)) return format;
        refuse(at, key,
               concat("\"", printable(name, 60),
                      "\" is no scheme of this program: write NVFP4 (needs data) or "
                      "NVFP4A16 (weights alone)"));
        return nullptr;
    }

    void take_scheme(const Node & value, const std::string & key) {
        if (value.is_null()) return;
        if (value.type == Node::Type::scalar) {
            scheme_ = format_of_preset(value, key, value.text);
            has_scheme_ = true;
            return;
        }
        if (!want_map(value, key)) return;
        for (size_t i = 0; i < value.keys.size(); i++) {
            Node at;
            at.line = value.keys[i].line;
            const Format * const format = format_of_preset(at, key, value.keys[i].text);
            add_group(value.items[i], value.keys[i].text, format);
        }
    }

    void add_group(const Node & targets, const std::string & key, const Format * format) {
        std::vector<std::string> texts;
        if (!take_texts(targets, key, texts)) return;
        if (texts.empty()) refuse(targets, key, "the group has no targets: write [Linear]");
        for (const std::string & text : texts) groups_.push_back({text, format});
    }

    void check_observer(const Node & value, const std::string & key, const char * const * first,
                        const char * const * last, const char * instead) {
        if (value.is_null()) return;
        const std::string text = lower(value.text);
        const bool known = std::any_of(first, last, [&](const char * name) { return text == name; });
        if (value.type != Node::Type::scalar || !known) refuse(value, key, concat(shown(value), " ", instead));
    }
    void take_weight_observer(const Node & value, const std::string & key) {
        check_observer(
            value, key, std::begin(weight_observers), std::end(weight_observers),
            "chooses scales as this program does not: write memoryless_minmax; this program's search is the line "
            "\"# ggml-nvfp4: method: mse\"");
    }
    void take_input_observer(const Node & value, const std::string & key) {
        check_observer(value, key, std::begin(input_observers), std::end(input_observers),
                       "does not take the largest input of all data, as this program does: write static_minmax");
    }
    void take_observers(const Node & value, const std::string & key) {
        if (value.is_null() || !want_map(value, key)) return;
        static constexpr Key keys[] = {
            {"weights", &RecipeReader::take_weight_observer},
            {"input", &RecipeReader::take_input_observer},
            {"output", &RecipeReader::take_nothing},
        };
        take_keys(value, "observer", keys, false);
    }

    // --- Groups

    void take_groups(const Node & value, const std::string & key) {
        if (value.is_null() || !want_map(value, key)) return;
        if (value.items.empty()) refuse(value, key, "there are no groups: write scheme: NVFP4 instead");
        for (size_t i = 0; i < value.items.size(); i++)
            if (want_map(value.items[i], value.keys[i].text)) read_group(value.keys[i], value.items[i]);
    }

    void take_group_part(const Node &, const std::string &) {} // read_group() reads them together
    void take_group_format(const Node & value, const std::string & key) {
        for (const Format * const format : all_formats())
            if (value.is_null() || value.text == format->group_format) return;
        refuse(value, key, concat(shown(value), " is not the form that this program writes: leave it out"));
    }

    void read_group(const Node::Key & name, const Node & group) {
        static constexpr Key keys[] = {
            {"targets", &RecipeReader::take_group_part},           {"weights", &RecipeReader::take_group_part},
            {"input_activations", &RecipeReader::take_group_part}, {"output_activations", &RecipeReader::take_nothing},
            {"format", &RecipeReader::take_group_format},
        };
        take_keys(group, "a group", keys, false);
        const size_t problems = problems_.size();
        const Node * const weights = group.find("weights");
        const Node * const inputs = group.find("input_activations");
        const bool takes_inputs = inputs && !inputs->is_null();
        if (!weights || weights->is_null())
            return refuse(name.line, name.text,
                          "the group leaves weights as they are: give it weights, or ignore its targets");
        const Format * const format = takes_inputs ? &formats::nvfp4 : &formats::nvfp4a16;
        check_arguments(*weights, "weights", *format->weights);
        if (takes_inputs) check_arguments(*inputs, "input_activations", *format->inputs);
        const Node * const targets = group.find("targets");
        if (!targets) return refuse(name.line, name.text, "the group has no targets: write targets: [Linear]");
        add_group(*targets, "targets", problems == problems_.size() ? format : nullptr);
    }

    // Numbers and names that NVFP4 has, where they are given; num_bits, type, strategy and group_size must be.
    void check_arguments(const Node & given, const char * name, const QuantizationArgs & wanted) {
        if (!want_map(given, name)) return;
        const bool of_inputs = wanted.dynamic != nullptr;
        const auto expect = [&](const Node & value, const std::string & key, const std::string & text) {
            if (value.type == Node::Type::scalar && lower(value.text) == text) return;
            refuse(value, concat(name, ".", key), concat(shown(value), " is not NVFP4: write ", text));
        };
        for (size_t i = 0; i < given.keys.size(); i++) {
            const std::string & key = given.keys[i].text;
            const Node & value = given.items[i];
            if (key == "num_bits") {
                expect(value, key, std::to_string(wanted.num_bits));
            } else if (key == "type") {
                expect(value, key, wanted.type);
            } else if (key == "strategy") {
                expect(value, key, wanted.strategy);
            } else if (key == "group_size") {
                expect(value, key, std::to_string(wanted.group_size));
            } else if (key == "symmetric") {
                expect(value, key, "true");
            } else if (key == "dynamic") {
                expect(value, key, wanted.dynamic ? wanted.dynamic : "false");
            } else if (key == "scale_dtype") {
                if (!value.is_null() && value.text != wanted.scale_dtype && value.text != "float8_e4m3fn")
                    expect(value, key, "torch.float8_e4m3fn");
            } else if (key == "observer") {
                of_inputs ? take_input_observer(value, concat(name, ".", key))
                          : take_weight_observer(value, concat(name, ".", key));
            } else if (key == "actorder" || key == "block_structure") {
                take_nothing(value, concat(name, ".", key));
            } else if (key == "zp_dtype") {
                if (!value.is_null() && value.text != "torch.float8_e4m3fn" && value.text != "float8_e4m3fn")
                    refuse(value, concat(name, ".", key), "NVFP4 has no zero points: leave it out");
            } else if (key == "observer_kwargs") {
                if (!value.is_null() && !(value.is_map() && value.items.empty()))
                    refuse(value, concat(name, ".", key), "observers have no arguments here: leave it out");
            } else {
                refuse(given.keys[i].line, concat(name, ".", key),
                       "no key of quantization arguments that this program knows: leave it out, or correct it");
            }
        }
        for (const char * key : {"num_bits", "type", "strategy", "group_size", "dynamic"})
            if (!given.find(key) && (of_inputs || strcmp(key, "dynamic") != 0))
                refuse(given, concat(name, ".", key), "it is missing, and its default is not NVFP4's");
    }

    // --- Our own lines

    void read_own_lines(std::string_view text) {
        int64_t line = 0;
        while (!text.empty()) {
            const size_t end = text.find('\n');
            std::string_view words = text.substr(0, end);
            text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
            line++;
            if (!words.empty() && words.back() == '\r') words.remove_suffix(1);
            if (!starts_with(words, own_comment)) continue;
            words.remove_prefix(strlen(own_comment));
            const size_t colon = words.find(": ");
            const std::string key(words.substr(0, colon));
            take_own_line(line, key, colon == std::string_view::npos ? "" : std::string(words.substr(colon + 2)));
        }
    }

    void take_own_line(int64_t line, const std::string & key, const std::string & value) {
        if (key == "include") {
            const Result<Pattern> pattern = Pattern::compile(value, false);
            if (!pattern.ok()) return refuse(line, key, pattern.status().message());
            options_.include.push_back(value);
        } else if (key == "method") {
            for (const Quantizer * const quantizer : all_quantizers())
                if (value == quantizer->name()) own_method_ = quantizer;
            if (!own_method_) refuse(line, key, "it is none of rtn, mse, hessian, gptq");
        } else if (key == "headroom") {
            Node node;
            node.text = value;
            double number = 0;
            if (!as_number(node, number) || number < 1 || number > 1024)
                return refuse(line, key, concat(shown(node), " is not between 1 and 1024"));
            options_.headroom = float(number);
        } else if (key == "draft-head") {
            if (value != formats::nvfp4a16.name)
                return refuse(line, key,
                              concat("it is not ", formats::nvfp4a16.name, ": leave the line out to keep it"));
            options_.draft_head = &formats::nvfp4a16;
        } else {
            refuse(line, key, "no setting of ggml-nvfp4: it has include, method, headroom and draft-head");
        }
    }

    // --- The whole

    void finish() {
        RecipeOptions & options = options_;
        if (own_method_) {
            if (options.quantizer == &gptq() && own_method_ != options.quantizer)
                return refuse(modifier_line_, "GPTQModifier", "the line # ggml-nvfp4: method: names another method");
            options.quantizer = own_method_;
        }
        if (options.headroom == 0 && options.quantizer != &round_to_nearest()) options.headroom = default_headroom;
        if (has_scheme_ && !groups_.empty())
            return refuse(modifier_line_, "config_groups", "scheme says the same: leave one of them out");
        if (!has_scheme_ && groups_.empty())
            return refuse(modifier_line_, "scheme",
                          "it is missing: write NVFP4 (needs data) or NVFP4A16 (weights alone)");
        if (has_targets_ && !groups_.empty() && targets_ != std::vector<std::string>{"Linear"})
            return refuse(modifier_line_, "targets", "groups have their own: leave these out");
        options.file = name_;
        set_targets();
        set_ignore();
    }

    // Names decide before expressions, and these before the class, as compressed-tensors has it; equal ones in their order.
    void set_targets() {
        RecipeOptions & options = options_;
        if (has_scheme_) {
            options.scheme = scheme_;
            if (!has_targets_) return;
            for (const std::string & text : targets_) groups_.push_back({text, scheme_});
        } else {
            options.scheme = groups_.front().format;
        }
        const auto kind = [](const Target & target) {
            return target.text == "Linear" ? 2 : starts_with(target.text, "re:");
        };
        std::stable_sort(groups_.begin(), groups_.end(),
                         [&](const Target & a, const Target & b) { return kind(a) < kind(b); });
        for (const Target & target : groups_) options.formats.push_back({target.text, target.format});
        options.targets_only = true;
        // Every module alike: no choice.
        if (options.formats.size() == 1 && options.formats.front().pattern == "Linear") {
            options.formats.clear();
            options.targets_only = false;
        }
    }

    // The default list inside the given one is the preset's, so that the recipe.yaml of a run gives its options.
    void set_ignore() {
        RecipeOptions & options = options_;
        const std::vector<std::string> usual = default_ignore(), experts = experts_only_ignore();
        const auto found = std::search(ignore_.begin(), ignore_.end(), usual.begin(), usual.end());
        if (found == ignore_.end()) {
            options.preset = Preset::file;
            options.ignore = ignore_;
            return;
        }
        options.keep.assign(ignore_.begin(), found);
        auto rest = found + ptrdiff_t(usual.size());
        if (size_t(ignore_.end() - rest) >= experts.size() && std::equal(experts.begin(), experts.end(), rest)) {
            options.preset = Preset::experts_only;
            rest += ptrdiff_t(experts.size());
        }
        options.ignore.assign(rest, ignore_.end());
    }

    const std::string name_;
    RecipeProblems & problems_;
    RecipeOptions options_;
    bool has_modifier_ = false, has_targets_ = false, has_scheme_ = false;
    int64_t modifier_line_ = 1;
    const Format * scheme_ = nullptr;
    const Quantizer * own_method_ = nullptr;
    std::vector<std::string> targets_, ignore_;
    std::vector<Target> groups_;
};

} // namespace

Result<RecipeOptions> parse_recipe(std::string_view text, const std::string & name, RecipeProblems & problems) {
    problems.clear();
    GNV_ASSIGN(const YamlNode root, parse_yaml(text, name));
    return RecipeReader(name, problems).read(root, text);
}

Result<RecipeOptions> read_recipe(const std::string & path, RecipeProblems & problems) {
    constexpr uint64_t most_bytes = 1 << 20;
    problems.clear();
    GNV_ASSIGN(const std::string text, read_file(path, most_bytes));
    GNV_ASSIGN(RecipeOptions options, parse_recipe(text, path, problems));
    options.file = path;
    return options;
}

} // namespace gnv
