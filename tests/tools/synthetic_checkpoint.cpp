#include "tools/synthetic_checkpoint.h"

#include "checkpoint/safetensors.h"
#include "checkpoint/safetensors_header.h"
#include "core/thread_pool.h"
#include "formats/file.h"
#include "tools/synthetic_values.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <unistd.h>

namespace gnv::test {

static constexpr int64_t piece_elements = 1 << 21; // 4 MiB of BF16, or one row where that is longer

// --- What a tensor holds -------------------------------------------------------------------------------------------

static int64_t product(const std::vector<int64_t> & shape) {
    int64_t count = 1;
    for (const int64_t extent : shape) count *= extent;
    return count;
}

// Around what the reference's layers start from, as wide as in trained models.
struct RoleSpread {
    Role role;
    double center, width;
    bool uniform = false;
};
static constexpr RoleSpread role_spreads[] = {
    {Role::input_norm, 0, 0.1}, // most norms are stored as an offset from one
    {Role::post_attention_norm, 0, 0.1},
    {Role::final_norm, 0, 0.1},
    {Role::attention_q_norm, 0, 0.1},
    {Role::attention_k_norm, 0, 0.1},
    {Role::mtp_norm, 0, 0.1},
    {Role::linear_attention_norm, 1, 0.1},
    {Role::linear_attention_a_log, 1.4, 1.4, true},    // decay rates between 1 and 16
    {Role::linear_attention_dt_bias, -4.6, 2.3, true}, // step sizes between 0.001 and 0.1 after softplus
    {Role::embedding, 0, 0.02},
};

static Spread spread_of(const TensorSpec & spec, uint64_t key) {
    Spread spread;
    const bool is_vision_vector = spec.part == Part::vision && !role_traits(spec.role).is_linear; // or a table
    const auto fan_in = double(is_vision_vector ? product(spec.shape) / spec.shape[0] : spec.shape.back());
    // Every matrix has a width of its own, so that no two experts share a largest value.
    spread.width = (0.75 + 0.5 * double(key >> 40) / double(1 << 24)) / std::sqrt(fan_in);
    spread.outlier_columns = role_traits(spec.role).can_quantize;
    spread.skewed_rows = spec.role == Role::router;
    for (const RoleSpread & fixed : role_spreads) {
        if (fixed.role != spec.role) continue;
        spread.center = fixed.center, spread.width = fixed.width, spread.uniform = fixed.uniform;
    }
    // The patch embedding is a matrix.
    if (is_vision_vector && spec.shape.size() <= 2)
        spread.center = spec.role == Role::vision_norm1 || spec.role == Role::vision_norm2 ? 1 : 0, spread.width = 0.02;
    return spread;
}

// One matrix with a key of its own: a whole tensor, or one projection of one expert in a fused tensor.
struct Segment {
    uint64_t key = 0;
    Spread spread;
    int64_t rows = 0, columns = 0;
    uint32_t shard = 0;
    uint64_t offset = 0; // in the shard's file
};

static std::string name_without_prefix(const TensorSpec & spec) {
    if (spec.part == Part::text)
        for (const std::string prefix : {"model.language_model.", "model."})
            if (starts_with(spec.name, prefix)) return spec.name.substr(prefix.size());
    return spec.name;
}

static void append_segments(const TensorSpec & spec, uint64_t seed, uint32_t shard, uint64_t offset,
                            std::vector<Segment> & out) {
    const std::string name = name_without_prefix(spec);
    const int64_t columns = spec.shape.back();
    const auto add = [&](const std::string & segment_name, int64_t rows) {
        const uint64_t key = value_key(seed, segment_name);
        out.push_back(Segment{key, spread_of(spec, key), rows, columns, shard, offset});
        offset += uint64_t(rows * columns) * 2;
    };
    const std::vector<const char *> projections = spec.role == Role::experts_gate_up
                                                      ? std::vector<const char *>{"gate_proj", "up_proj"}
                                                      : std::vector<const char *>{"down_proj"};
    if (spec.role != Role::experts_gate_up && spec.role != Role::experts_down) {
        add(name, product(spec.shape) / columns);
        return;
    }
    const std::string folder = name.substr(0, name.rfind('.') + 1); // "layers.3.mlp.experts."
    for (int64_t expert = 0; expert < spec.shape[0]; expert++)
        for (const char * projection : projections)
            add(concat(folder, expert, ".", projection, ".weight"), spec.shape[1] / int64_t(projections.size()));
}

// --- Files -----------------------------------------------------------------------------------------------------------

struct PlannedShard {
    std::string file_name, header;
    std::vector<HeaderTensor> tensors;
    uint64_t data_bytes = 0;
};

// Consecutive tensors, cut at equal shares of the bytes.
static std::vector<PlannedShard> plan_shards(const std::vector<TensorSpec> & specs, int wanted) {
    uint64_t total = 0, at = 0;
    for (const TensorSpec & spec : specs) total += uint64_t(product(spec.shape)) * 2;
    std::vector<PlannedShard> shards;
    uint64_t last_share = 0;
    for (const TensorSpec & spec : specs) {
        const uint64_t bytes = uint64_t(product(spec.shape)) * 2, share = at / (total / uint64_t(wanted) + 1);
        if (shards.empty() || share != last_share) shards.emplace_back();
        last_share = share;
        PlannedShard & shard = shards.back();
        shard.tensors.push_back({spec.name, DType::bf16, spec.shape, shard.data_bytes, shard.data_bytes + bytes});
        shard.data_bytes += bytes;
        at += bytes;
    }
    for (size_t i = 0; i < shards.size(); i++) {
        char name[64] = "model.safetensors";
        if (shards.size() > 1) snprintf(name, sizeof name, "model-%05zu-of-%05zu.safetensors", i + 1, shards.size());
        shards[i].file_name = name;
        shards[i].header = make_header(shards[i].tensors, {{"format", "pt"}});
    }
    return shards;
}

static std::string index_text(const std::vector<PlannedShard> & shards) {
    uint64_t total = 0;
    std::string map;
    for (const PlannedShard & shard : shards) {
        total += shard.data_bytes;
        for (const HeaderTensor & tensor : shard.tensors)
            map += concat(map.empty() ? "" : ",\n", "    ", json_quote(tensor.name), ": ", json_quote(shard.file_name));
    }
    return concat("{\n  \"metadata\": {\n    \"total_size\": ", total, "\n  },\n  \"weight_map\": {\n", map,
                  "\n  }\n}\n");
}

static Result<std::vector<File>> create_shards(const std::vector<PlannedShard> & shards, const std::string & folder,
                                               bool headers_only) {
    std::vector<File> files;
    for (const PlannedShard & shard : shards) {
        GNV_ASSIGN(File file, File::create(join_path(folder, shard.file_name)));
        const uint64_t size = shard.header.size() + shard.data_bytes;
        if (!headers_only) GNV_TRY(file.reserve(size));
        if (headers_only && truncate(file.path().c_str(), off_t(size)) != 0)
            return system_failure(errno, "cannot make ", file.path(), " ", size, " bytes long");
        GNV_TRY(file.write(shard.header.data(), shard.header.size(), 0));
        files.push_back(std::move(file));
    }
    return files;
}

// --- Data ------------------------------------------------------------------------------------------------------------

// Rows of a segment that one task makes and writes.
struct Piece {
    uint32_t segment;
    int64_t first_row, rows;
};

static Status write_segments(const std::vector<Segment> & segments, const std::vector<File> & files, int threads) {
    std::vector<Piece> pieces;
    int64_t largest = 0;
    for (uint32_t i = 0; i < segments.size(); i++) {
        const int64_t step = std::max<int64_t>(piece_elements / segments[i].columns, 1);
        for (int64_t row = 0; row < segments[i].rows; row += step)
            pieces.push_back({i, row, std::min(step, segments[i].rows - row)});
        largest = std::max(largest, std::min(step, segments[i].rows) * segments[i].columns);
    }
    const ValueMaker maker;
    GNV_ASSIGN(const std::unique_ptr<ThreadPool> pool, ThreadPool::create(threads));
    std::vector<std::vector<uint16_t>> buffers(size_t(pool->size()), std::vector<uint16_t>(size_t(largest)));
    return pool->parallel_for_thread(int64_t(pieces.size()), [&](int64_t index, int thread) -> Status {
        const Piece & piece = pieces[size_t(index)];
        const Segment & segment = segments[piece.segment];
        uint16_t * const values = buffers[size_t(thread)].data();
        maker.fill(segment.key, segment.spread, segment.columns, piece.first_row, piece.rows, values);
        const uint64_t row_bytes = uint64_t(segment.columns) * 2;
        return files[segment.shard].write(values, uint64_t(piece.rows) * row_bytes,
                                          segment.offset + uint64_t(piece.first_row) * row_bytes);
    });
}

Result<SyntheticResult> write_synthetic_checkpoint(const std::string & config_text, const std::string & folder,
                                                   const SyntheticOptions & options) {
    if (options.shards < 1) return fail(Code::invalid_argument, "shard count ", options.shards, " is not positive");
    GNV_ASSIGN(const JsonDocument config, JsonDocument::parse(config_text, "config.json"));
    GNV_ASSIGN(const std::vector<TensorSpec> specs, list_tensors(config.root(), options.layout));
    const std::vector<PlannedShard> shards = plan_shards(specs, options.shards);

    GNV_TRY(make_directory(folder));
    GNV_TRY(write_file_synced(join_path(folder, "config.json"), config_text));
    if (shards.size() > 1) GNV_TRY(write_file_synced(join_path(folder, index_file_name), index_text(shards)));
    GNV_ASSIGN(std::vector<File> files, create_shards(shards, folder, options.headers_only));

    SyntheticResult result;
    result.tensors = specs.size();
    result.shards = shards.size();
    std::vector<Segment> segments;
    size_t next = 0;
    for (uint32_t shard = 0; shard < shards.size(); shard++) {
        result.bytes += shards[shard].data_bytes;
        for (const HeaderTensor & tensor : shards[shard].tensors)
            append_segments(specs[next++], options.seed, shard, shards[shard].header.size() + tensor.begin, segments);
    }
    if (!options.headers_only) GNV_TRY(write_segments(segments, files, options.threads));
    for (File & file : files) GNV_TRY(file.close());
    return result;
}

} // namespace gnv::test
