// expert_inputs on compute capability 9.0.
#pragma once

#include "cuda/expert_inputs.cuh"

#include <limits>

namespace gnv::cuda {

// places: scratch memory, [experts, rows].
Status exact_experts(const CudaContext & context, const ExpertInputs & in, int32_t * places);

// Raises maxima to those of the pairs of a row and an expert that a list names, with the bits of exact_experts.
struct ListedPairs {
    const int32_t * rows;    // row rows[j] of x, offsets[e] <= j < offsets[e + 1], for expert e
    const int32_t * offsets; // [experts + 1]
    int32_t * first_tiles;   // scratch memory, [experts + 1]
};
constexpr int listed_rows = 128; // of a tile: fewer take as long
Status listed_experts(const CudaContext & context, const ExpertInputs & in, const ListedPairs & pairs);

// Raises maxima to those of all pairs whose bound exceeds them, the most promising ones first. bounds [experts, rows]: bits of
// numbers that the results of a pair do not exceed, at least where those may exceed the maximum, else 0; becomes 0.
// scratch: candidate_bytes(rows, experts). `found`: may be null.
constexpr int no_bound = std::numeric_limits<int>::max(); // above all numbers
uint64_t candidate_bytes(int64_t rows, int64_t experts);
Status compute_candidates(const CudaContext & context, const ExpertInputs & in, int * bounds, void * scratch,
                          ScreeningCounts * found);

// Scratch memory of screened_experts; 0: it does not take this shape.
uint64_t screening_bytes(const ExpertInputs & in);
// The same maxima and chosen rows as exact_experts, which also become activations in out [slot_count, columns]. `counts`: may be null.
Status screened_experts(const CudaContext & context, const ExpertInputs & in, bf16 * out, void * scratch,
                        ScreeningCounts * counts);

// Adds to counts->different the experts whose maxima or chosen products differ.
Status compare_experts(const CudaContext & context, const ExpertInputs & a, const ExpertInputs & b,
                       ScreeningCounts * counts);

} // namespace gnv::cuda
