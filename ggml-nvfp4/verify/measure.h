// The pass over values: the checkpoint's quantized weights and preserved tensors, and those of the source, if given.
// Work is divided into pieces of fixed size whose results are combined in order, so that every figure is the same for
// any number of threads.
#pragma once

#include "codec/nvfp4_compare.h"
#include "core/thread_pool.h"
#include "verify/plain_values.h"
#include "verify/source.h"
#include "verify/subject.h"

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <tuple>
#include <vector>

namespace gnv::verify {

// Block scales of a weight, by kind of byte.
struct ScaleCensus {
    uint64_t blocks = 0;
    uint64_t nan = 0, negative = 0, zero = 0, subnormal = 0, saturated = 0; // saturated: 448, the largest
    float largest = 0;                                                      // without NaN
    void add(const ScaleCensus & other);
};

// Indexed as Subject::modules; only complete NVFP4 modules are measured.
struct ModuleValues {
    bool measured = false;
    float weight_global_scale = 0;
    bool has_input_scale = false;
    float input_global_scale = 0;
    ScaleCensus scales;
    bool compared = false; // against the source:
    nvfp4::Comparison comparison;
    // Blocks that a Recomputer quantized again, and those of them whose codes and scale equal the stored ones.
    uint64_t recomputed_blocks = 0, recomputed_same = 0;

    // Error energy over weight energy; 0 for a zero weight that stayed zero, infinity if undefined.
    double relative_error() const;
    double sqnr_db() const;
    double cosine() const;
    uint64_t elements() const { return scales.blocks * 16; }
};

enum class Preserved : uint8_t {
    same,      // byte for byte
    converted, // another dtype with the same numbers
    rounded,   // another dtype, numbers rounded to it
    norm_trip, // a norm weight w that became (1 + w) - 1, rounded to its dtype at each step, as llm-compressor writes it
    different,
};

// Indexed as Source::preserved.
struct PreservedValues {
    bool measured = false;
    Preserved kind = Preserved::same;
    std::string sha256;     // of the subject's bytes; empty unless requested
    uint64_t differing = 0; // elements (bytes where sizes differ), for everything but `same`
    uint64_t first_differing = 0;
};

struct Measurements {
    std::vector<ModuleValues> modules;
    std::vector<PreservedValues> preserved;
    std::map<uint32_t, NonFinite> non_finite; // plain tensors of the subject with NaN or Inf, by position
    std::vector<Fp8Values> fp8;               // indexed as Subject::modules
    uint64_t bytes_read = 0;
    std::optional<FetchUse> fetched; // of a source that is streamed
};

struct MeasureProgress {
    uint64_t bytes = 0, bytes_total = 0;
    uint64_t tensors = 0, tensors_total = 0;
};

// Called from one thread at a time, after each piece of work; false stops the run (Code::cancelled).
using ProgressCallback = std::function<bool(const MeasureProgress &)>;

// One block of one part of the model; -1: the tensors outside its blocks.
struct LayerChoice {
    Part part = Part::text;
    int32_t layer = -1;
    bool operator<(const LayerChoice & other) const {
        return std::tie(part, layer) < std::tie(other.part, other.layer);
    }
};

// Quantizes weights again on another device, in a few slots that may work at the same time.
class Recomputer {
  public:
    static constexpr int64_t most_blocks = 1 << 16; // at a time

    virtual ~Recomputer() = default;
    virtual int slots() const = 0;
    virtual std::string device() const = 0;
    // The memory for BF16 weights: 16 x most_blocks of them.
    virtual uint16_t * weights(int slot) = 0;
    // Quantizes `blocks` blocks of it with a positive, finite scale. The results, 8 and 1 bytes for each block, are
    // valid until the slot's next call.
    struct Packed {
        const uint8_t * codes = nullptr;
        const uint8_t * block_scales = nullptr;
    };
    virtual Result<Packed> pack(int slot, int64_t blocks, float global_scale) = 0;
};

struct MeasureOptions {
    std::optional<LayerChoice> only; // reads nothing else
    bool checksums = false;          // SHA-256 of preserved tensors, which are compared byte for byte in any case
    ProgressCallback progress;
    uint64_t bytes_before = 0; // that the caller has read of the files, for `progress`
    // Also quantizes BF16 weights of the source again; null: off. It needs a slot for each thread.
    Recomputer * recomputer = nullptr;
};

// `source` may be null: then scales, plain tensors and FP8 weights are read. Fails when a file cannot be read, or changes.
Result<Measurements> measure(const Subject & subject, const Source * source, ThreadPool & threads,
                             const MeasureOptions & options);

} // namespace gnv::verify
