#include "exec/lone_product.h"

namespace gnv {

Result<LoneProduct> LoneProduct::create(Backend & device, int64_t positions, int64_t columns, int64_t rows) {
    LoneProduct product;
    const DType dtype = device.activation_dtype();
    product.graph_ = std::make_unique<Graph>(Precision::bf16, dtype);
    Graph & graph = *product.graph_;
    const ValueId x = graph.input("x", dtype, {positions, columns});
    const ValueId w = graph.weight("w", DType::bf16, {rows, columns});
    graph.keep(graph.add(LinearParams{}, {x, w}, "y"));
    GNV_TRY(copy_of(graph.status()));
    GNV_ASSIGN(product.prepared_, PreparedGraph::create(device, graph));
    GNV_ASSIGN(product.arena_, device.allocate(product.prepared_->plan().bytes));
    product.prepared_->bind_arena(product.arena_.get());
    const ValueId ids[] = {x, w};
    for (size_t i = 0; i < product.inputs_.size(); i++) {
        Tensor & tensor = product.inputs_[i];
        tensor.dtype = graph.value(ids[i]).dtype;
        tensor.shape = graph.value(ids[i]).shape;
        GNV_ASSIGN(product.memory_[i], device.allocate(tensor_bytes(tensor.dtype, tensor.shape)));
        tensor.data = product.memory_[i].get();
        product.prepared_->bind(ids[i], tensor);
    }
    return product;
}

double LoneProduct::flops() const { return node_flops(*graph_, graph_->nodes().front()); }

} // namespace gnv
