// The work of a pass, cut into groups and batches and dealt out to lanes: what its planner (run/pass_plan.cpp) chooses from.
#pragma once

#include "run/pass_plan.h"

namespace gnv {

// One group a block, or, with several ranges of experts: everything before them, each range, everything after.
Result<std::vector<PassGroup>> cut_groups(const PassRequest & request, int64_t expert_ranges);
// Whole sequences, of up to `wanted` positions together.
std::vector<PassBatch> cut_batches(const PassRequest & request, int64_t wanted);
// Each lane gets a stretch of about as many positions as every other; the first gets the first batch.
std::vector<LaneShare> deal_batches(const std::vector<PassBatch> & batches, size_t devices);
// The shape of no batch, but large enough for each of the share.
BatchShape largest_shape(const PassRequest & request, const std::vector<PassBatch> & batches, const LaneShare & share);
RowLayout store_layout(const std::vector<PassGroup> & groups, const TextModel & model, int64_t positions,
                       DType activation);
// Blocks of one kind have the same activations: one of each is enough to know the arena.
bool same_activations(const PassGroup & a, const PassGroup & b, const TextModel & model);

} // namespace gnv
