// What the graph checks of each op: one row for every Op, beside the contract in graph/ops.h.
#pragma once

#include "core/status.h"
#include "graph/graph.h"

namespace gnv {

// An output to be. Most are activations, in the dtype of the graph's; others say theirs.
struct OutputSpec {
    Shape shape;
    bool activation = true;
    DType dtype = DType::f32; // when it is none
};

// What a rule sees: the op's inputs, null where absent.
struct RuleInputs {
    const Value * const * values;
    const Value & operator[](int i) const { return *values[i]; }
    bool has(int i) const { return values[i] != nullptr; }
};

struct OpRule {
    const char * name;
    int inputs;        // with the optional ones
    uint32_t optional; // bit i: input i may be absent
    uint32_t states;   // bit i: input i is written in place
    int outputs;
    // Fails with a few words when the inputs do not fit the contract; fills the outputs otherwise.
    const char * (*check)(const OpParams & params, const RuleInputs & inputs, OutputSpec * outputs);
    double (*flops)(const OpParams & params, const RuleInputs & inputs); // null: one a result
    // Read and written; `made`: those of the outputs. Null: all tensors, once.
    double (*bytes)(const OpParams & params, const RuleInputs & inputs, double made) = nullptr;
    int in_place = -1; // the input in whose memory the output is made where nobody reads that input later; -1: none
};

const OpRule & op_rule(Op op);

} // namespace gnv
