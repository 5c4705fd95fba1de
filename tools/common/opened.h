// What `run` says of a model when it has opened it; and the option for its caches.
#pragma once

#include "args.h"

namespace tools {

// --kv-cache-dtype, as vLLM names it.
inline void add_cache_dtype(CLI::App & app, gnv_cache_dtype & dtype) {
    const Choices<gnv_cache_dtype> dtypes = {{"auto", GNV_CACHE_AUTO}, {"fp8", GNV_CACHE_FP8}};
    add_choice(app, "--kv-cache-dtype", dtype, dtypes,
               "how keys and values are kept: auto (as activations; default) or fp8 (E4M3 with scales: half of the "
               "bytes of BF16, slightly other results)");
}

inline void print_opened(const gnv_model_info & info, gnv_cache_dtype dtype) {
    const auto mebibytes = [](uint64_t bytes) { return double(bytes) / 1048576; };
    fprintf(stderr, "%s; %llu modules in NVFP4%s%s\n", info.description,
            static_cast<unsigned long long>(info.quantized_modules), info.quantizes_inputs ? ", inputs too (W4A4)" : "",
            info.weights_stay || info.cached_experts > 0
                ? ""
                : "; weights do not fit the memory and are read for every call");
    if (dtype != GNV_CACHE_AUTO)
        fprintf(stderr, "caches of %llu positions take %.1f MiB of memory\n",
                static_cast<unsigned long long>(info.capacity), mebibytes(info.cache_bytes));
    if (info.draft_bytes > 0) fprintf(stderr, "drafting takes %.1f MiB of memory\n", mebibytes(info.draft_bytes));
}

} // namespace tools
