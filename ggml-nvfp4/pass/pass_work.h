// The division of a pass into groups, batches and shares of lanes, among which the planner (pass/pass_plan.cpp) chooses.
#pragma once

#include "pass/pass_plan.h"

namespace gnv {

// One group for a block, or, with several ranges of experts: the stages before them, each range, the stages after.
Result<std::vector<PassGroup>> cut_groups(const PassRequest & request, int64_t expert_ranges);
// Whole sequences, of up to `wanted` positions together.
std::vector<PassBatch> cut_batches(const PassRequest & request, int64_t wanted);
// Lanes get stretches of about equally many positions; the first lane gets the first batch.
std::vector<LaneShare> deal_batches(const std::vector<PassBatch> & batches, size_t devices);
// A shape large enough for each batch of the share.
BatchShape largest_shape(const PassRequest & request, const std::vector<PassBatch> & batches, const LaneShare & share);
RowLayout store_layout(const std::vector<PassGroup> & groups, const TextModel & model, int64_t positions,
                       DType activation);
// Blocks of one kind have the same activations: one block of each kind gives the size of the arena.
bool same_activations(const PassGroup & a, const PassGroup & b, const TextModel & model);
// The first of `groups` that is like group `at`; `at` itself if there is none before it.
size_t first_alike(const std::vector<PassGroup> & groups, size_t at, const TextModel & model);

} // namespace gnv
