// Graph: the computation for one batch, as a list of ops on values. Shapes are numbers: a graph is built for a batch
// shape and checked while it is built. The first op that does not fit leaves a failure in status(), with the names and
// shapes of its inputs; later additions are ignored, so that a model file needs no checks between its formulas.
#pragma once

#include "core/status.h"
#include "graph/ops.h"

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace gnv {

using ValueId = int32_t;
inline constexpr ValueId no_value = -1; // an optional input that is absent

struct Value {
    enum class Kind : uint8_t {
        input,      // of the batch: bound by the caller, read only
        weight,     // bound by the caller, read only
        state,      // bound by the caller, read and written in place
        activation, // made by a node; memory of the arena, or bound by the caller
    };
    Kind kind = Kind::activation;
    DType dtype = DType::f32;
    Shape shape;
    std::string name;  // for messages; activations have the model's names
    bool keep = false; // an activation that stays readable until the end of the run
};

struct Node {
    static constexpr int max_inputs = 11, max_outputs = 2;
    OpParams params;
    std::array<ValueId, max_inputs> inputs; // no_value behind the last
    std::array<ValueId, max_outputs> outputs;
    const char * label = nullptr; // name in reports of time; null: the op's name
};

// The identity of an activation that a caller may see: a part of the model, a block in it and a place in the block. The
// model defines the numbers (model/model_names.h).
struct Tap {
    int32_t layer = -1; // -1: outside the blocks
    int32_t site = 0;
    int32_t part = 0; // 0: the text
    friend bool operator==(const Tap &, const Tap &) = default;
};

class Graph {
  public:
    // `activation`: the dtype in which the backend keeps activations (Backend::activation_dtype).
    explicit Graph(Precision precision, DType activation = DType::f32)
        : precision_(precision), activation_(activation) {}

    ValueId input(std::string name, DType dtype, Shape shape);
    ValueId weight(std::string name, DType dtype, Shape shape);
    ValueId state(std::string name, DType dtype, Shape shape);

    // Appends an op; `inputs` as its contract lists them, no_value for absent ones. Returns its first output.
    ValueId add(const OpParams & params, const std::vector<ValueId> & inputs, std::string name);
    // The second output of the node that made `first`.
    ValueId second(ValueId first) const;
    // The same elements in another shape; an activation only.
    ValueId reshape(ValueId value, Shape shape);

    // `text`, a literal, is the name in reports of time of the node that made `value`.
    void label(ValueId value, const char * text);
    void keep(ValueId value) { values_[size_t(value)].keep = true; }
    void tap(ValueId value, Tap tap);
    // Records a failure of the code that builds the graph.
    void refuse(Status status);

    const Status & status() const { return status_; }
    Precision precision() const { return precision_; }
    DType activation_dtype() const { return activation_; }
    const std::vector<Value> & values() const { return values_; }
    const Value & value(ValueId id) const { return values_[size_t(id)]; }
    const std::vector<Node> & nodes() const { return nodes_; } // in the order in which they run
    // The value that owns the memory: `id` itself, or the source of a reshape.
    ValueId owner(ValueId id) const { return owners_[size_t(id)]; }
    struct Tapped {
        ValueId value;
        Tap tap;
    };
    const std::vector<Tapped> & taps() const { return taps_; }

  private:
    friend void fuse(Graph & graph); // graph/fuse.h
    ValueId add_value(Value value);
    Precision precision_;
    DType activation_;
    Status status_;
    std::vector<Value> values_;
    std::vector<ValueId> owners_;
    std::vector<Node> nodes_;
    std::vector<Tapped> taps_;
};

// A node's work, for reports: floating-point operations, and bytes of its tensors.
double node_flops(const Graph & graph, const Node & node);
double node_bytes(const Graph & graph, const Node & node);
// Whether all nodes that read a weight are products with it.
bool is_only_multiplied(const Graph & graph, ValueId weight);
const char * op_name(Op op);

} // namespace gnv
