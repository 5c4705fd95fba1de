// The checks and counts of a graph: one rule for every Op, beside the contract in graph/ops.h.
#pragma once

#include "core/status.h"
#include "graph/graph.h"

namespace gnv {

// An output before it exists. Activations have the graph's activation dtype; other outputs name theirs.
struct OutputSpec {
    Shape shape;
    bool activation = true;
    DType dtype = DType::f32; // unless activation
};

// The op's inputs as a rule sees them, null where absent.
struct RuleInputs {
    const Value * const * values;
    const Value & operator[](int i) const { return *values[i]; }
    bool has(int i) const { return values[i] != nullptr; }
};

struct OpRule {
    int inputs;            // optional ones included
    uint32_t optional = 0; // bit i: input i may be absent
    uint32_t states = 0;   // bit i: input i is written in place
    uint32_t caches = 0;   // bit i: input i may be a state that this op only reads
    int outputs = 1;
    int in_place = -1; // the input whose memory the output takes when no later node reads that input; -1: none
    // Returns null and fills the outputs, or says in a few words why the inputs do not fit the contract.
    const char * (*check)(const OpParams & params, const RuleInputs & inputs, OutputSpec * outputs);
    // Floating-point operations. Null: one for each element of the result.
    double (*flops)(const OpParams & params, const RuleInputs & inputs) = nullptr;
    // Bytes read and written; `made`: those of the outputs. Null: all tensors, once.
    double (*bytes)(const OpParams & params, const RuleInputs & inputs, double made) = nullptr;
};

const OpRule & op_rule(Op op);

} // namespace gnv
