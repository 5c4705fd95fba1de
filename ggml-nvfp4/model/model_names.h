// The names of a model family: sites (outputs of modules, for taps) and inputs of Linears (for statistics). They are
// tables of the family; the rest of the library passes positions in them.
#pragma once

#include "core/status.h"
#include "graph/graph.h"
#include "model/model_def.h"

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace gnv {

// The output of a module, by the name that the reference implementation gives to the module. A tap is called
// "layer.3.self_attn.q_norm", "embed", "logits" or "layer.3" (a block's output: the empty name); in the draft head, which has
// the text's modules, "draft.layer.0.mlp"; in the vision tower, which has its own, "block.3.attn.qkv" or "merger".
struct SiteName {
    const char * name;
    bool in_block = true;
    bool of_vision = false;
};

// The input of one or several Linears that read the same activation.
struct ModuleInput {
    const char * name;       // in statistics files and messages
    bool per_expert = false; // a group of rows for each expert
    // Not an input of a Linear but the router's choices, which Statistic::tokens counts.
    bool is_choice = false;
    // The rows that a router chose, with its weights, of what another input has for all tokens: only for statistics of such
    // rows (Statistic::Rows), which name it.
    bool is_routed = false;
};

struct ModelNames {
    std::span<const SiteName> sites;     // Tap::site is a position here
    std::span<const ModuleInput> inputs; // StatisticKey::input is a position here; the order of files and reports
    int32_t (*input_of)(Role role);      // the input of a Linear of this role; -1 if no stage observes it
    int32_t chosen_experts = -1;         // the site of the router's choices, i32 [T, k]
    // Instead of input_of for statistics of some rows: of experts an input that is_routed. Null: there are none.
    int32_t (*routed_input_of)(Role role) = nullptr;

    int32_t find_input(std::string_view name) const; // -1: no such input
    int32_t choices() const;                         // the input with is_choice; -1: none
};

std::string tap_name(const ModelNames & names, const Tap & tap);
// Code::invalid_argument, with the names that exist, when `name` is none. `layers`: of the part that the name is in; of a
// vision tower `blocks`.
Result<Tap> parse_tap(const ModelNames & names, const std::string & name, int64_t layers, int64_t blocks = 0);

// The names of the family that has an input of this name; null without one. Defined in models/registry.cpp.
const ModelNames * find_names_with_input(std::string_view name);

} // namespace gnv
