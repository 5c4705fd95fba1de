// The order of attention's inputs (graph/ops.h), for its two twins.
#pragma once

namespace gnv::attention_inputs {

enum {
    in_q,
    in_k,
    in_v,
    in_segments,
    in_key_mask,
    in_cache_k,
    in_cache_v,
    in_past,
    in_pages,
    in_k_scales,
    in_v_scales
};

} // namespace gnv::attention_inputs
