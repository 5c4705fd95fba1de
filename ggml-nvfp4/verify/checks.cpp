#include "verify/checks.h"

namespace gnv::verify {

const std::vector<Check> & checks() {
    constexpr unsigned model = needs_headers | needs_model;
    static const std::vector<Check> table = {
        {"L1", "index and shards agree, headers are in order", needs_nothing, check_files},
        {"L2", "every tensor has the name, dtype and shape that config.json calls for", model, check_tensor_forms},
        {"L3", "what is quantized is declared, and the reverse, in every loader's names", model, check_declared},
        {"L4", "fused parameters are quantized as one", model, check_fused_parameters},
        {"L5", "all experts of all layers are there, in one scheme", model, check_experts},
        {"L6", "global scales are finite, positive and equal in fused parameters", model | needs_values,
         check_global_scales},
        {"L7", "weight global scales are divisors that fit the weights", model | needs_values, check_orientation},
        {"L8", "input global scales of a layer's experts are of one size", model | needs_values, check_input_scales},
        {"L9", "block scales are finite and not negative", model | needs_values, check_block_scales},
        {"L10", "config.json says what loaders need", needs_nothing, check_config},
        {"L11", "draft head and vision tower are complete and declared", model, check_parts},
        {"L12", "names carry their prefix once", model, check_prefixes},
        {"L13", "sizes divide for tensor parallelism", model, check_tensor_parallel},
        {"L14", "tokenizer, template, preprocessor and generation config", needs_nothing, check_auxiliary_files},
        {"L15", "no names or configs of other formats", needs_nothing, check_foreign_format},
        {"L16", "what is not NVFP4 holds numbers: no NaN, no Inf, no empty FP8 weight", model | needs_values,
         check_plain_values},
        {"S1", "preserved tensors are the source's", model | needs_values | needs_source, check_preserved},
        {"S2", "quantized weights are close to the source's", model | needs_values | needs_source, check_weights},
        {"S3", "codes and block scales against round-to-nearest", model | needs_values | needs_source, check_rounding},
        {"S4", "config.json against the source's", needs_source, check_source_config},
        {"F1", "files have the sizes and SHA-256 that README.md lists", needs_listed, check_listed_files},
    };
    return table;
}

} // namespace gnv::verify
