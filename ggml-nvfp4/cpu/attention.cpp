// attention: see graph/ops.h. A task is a few query rows of a segment and the query heads of one key head; its scores
// against all keys that they may see lie in the thread's scratch memory.
#include "cpu/loops.h"
#include "cpu/mixer_kernels.h"
#include "graph/attention_inputs.h"

#include <algorithm>

namespace gnv::cpu {

namespace {

using namespace attention_inputs;

// The rows of a cache that belong to a segment.
struct CacheRows {
    int64_t page = 0;                // positions of one; without pages the capacity
    int64_t most = 0;                // of a segment
    const int32_t * pages = nullptr; // of the segment
    int64_t begin = 0;               // without pages

    CacheRows(const KernelCall & call, int64_t segment) {
        const Tensor &cache = call.inputs[in_cache_k], &table = call.inputs[in_pages];
        const bool paged = table.shape.rank == 2;
        page = cache.shape[1];
        most = paged ? table.shape[1] * page : page;
        if (paged && table.data) pages = table.as<const int32_t>() + segment * table.shape[1];
        begin = paged ? 0 : segment * page;
    }
    int64_t operator[](int64_t row) const { return pages ? pages[row / page] * page + row % page : begin + row; }
};

struct Scratch {
    int64_t head = 0, key_heads = 0, group = 0, rows = 0; // rows of a task
    int64_t most_keys = 0;
    int64_t * tasks = nullptr; // [S + 1]: tasks before each segment
    bool coded = false;        // the cache holds E4M3 codes
    uint64_t shared = 0, each = 0, bytes = 0;

    Scratch(const KernelCall & call, int threads, void * memory) {
        head = call.as<AttentionParams>().head;
        key_heads = call.inputs[in_k].shape[1] / head;
        group = call.inputs[in_q].shape[1] / call.inputs[in_k].shape[1];
        rows = std::clamp<int64_t>(64 / group, 1, 32);
        const Shape & cache = call.inputs[in_cache_k].shape;
        coded = cache.rank == 3 && call.inputs[in_cache_k].dtype == DType::f8_e4m3;
        most_keys = std::max(call.inputs[in_q].shape[0], cache.rank == 3 ? CacheRows(call, 0).most : 0);
        ScratchCursor cursor(memory);
        tasks = cursor.take<int64_t>(call.inputs[in_segments].shape[0]);
        shared = cursor.bytes();
        AttentionBlock block;
        int32_t *counts = nullptr, *keys = nullptr;
        float * queries = nullptr;
        each = carve(nullptr, block, counts, keys, queries);
        bytes = shared + uint64_t(threads) * each;
    }

    uint64_t carve(void * memory, AttentionBlock & block, int32_t *& counts, int32_t *& keys, float *& queries) const {
        ScratchCursor cursor(memory);
        const int64_t columns = rows * group;
        counts = cursor.take<int32_t>(rows), keys = cursor.take<int32_t>(most_keys);
        queries = cursor.take<float>(head * columns), block.out = cursor.take<float>(columns * head);
        block.maxima = cursor.take<float>(columns), block.sums = cursor.take<float>(columns);
        block.scores = cursor.take<float>(most_keys * columns);
        if (coded) block.widened = cursor.take<float>(widened_keys * head);
        return cursor.bytes();
    }
};

uint64_t scratch_bytes(const KernelCall & call) { return Scratch(call, call.threads->size(), nullptr).bytes; }

// New rows go into the cache.
Status store(const KernelCall & call, const int32_t * segments, int64_t segment_count) {
    const Tensor & cache = call.inputs[in_cache_k];
    const auto * past = call.inputs[in_past].as<const int32_t>();
    const int64_t width = cache.shape[2];
    return call.threads->parallel_for(segment_count, [&](int64_t s) -> Status {
        const CacheRows rows(call, s);
        for (int64_t t = segments[s]; t < segments[s + 1];) {
            const int64_t row = past[s] + t - segments[s];
            const int64_t count = std::min<int64_t>(segments[s + 1] - t, rows.page - row % rows.page); // of one page
            const size_t bytes = size_t(count * width) * sizeof(float);
            memcpy(cache.as<float>() + rows[row] * width, call.inputs[in_k].as<const float>() + t * width, bytes);
            memcpy(call.inputs[in_cache_v].as<float>() + rows[row] * width,
                   call.inputs[in_v].as<const float>() + t * width, bytes);
            t += count;
        }
        return {};
    });
}

// The same of a cache in E4M3, row by row.
Status pack(const Loops & loops, const KernelCall & call, const int32_t * segments, int64_t segment_count,
            int64_t heads, int64_t head) {
    const auto * past = call.inputs[in_past].as<const int32_t>();
    return call.threads->parallel_for(segments[segment_count], [&](int64_t t) -> Status {
        const int64_t s = std::upper_bound(segments, segments + segment_count + 1, t) - segments - 1;
        const int64_t row = CacheRows(call, s)[past[s] + t - segments[s]];
        for (const bool values : {false, true}) {
            const float * const x = call.inputs[values ? in_v : in_k].as<const float>() + t * heads * head;
            auto * const codes = call.inputs[values ? in_cache_v : in_cache_k].as<uint8_t>() + row * heads * head;
            auto * const scales = call.inputs[values ? in_v_scales : in_k_scales].as<uint8_t>() + row * heads;
            for (int64_t h = 0; h < heads; h++) scales[h] = loops.mixer.pack(head, x + h * head, codes + h * head);
        }
        return {};
    });
}

Status run(KernelCall & call) { return attention_with(loops(call.threads->instructions()), call); }

} // namespace

Status attention_with(const Loops & loops, KernelCall & call) {
    const Scratch scratch(call, call.threads->size(), call.scratch);
    const auto * segments = call.inputs[in_segments].as<const int32_t>();
    const auto * mask = call.inputs[in_key_mask].as<const uint8_t>();
    const int64_t segment_count = call.inputs[in_segments].shape[0] - 1;
    const bool cached = call.inputs[in_cache_k].exists();
    if (cached && scratch.coded)
        GNV_TRY(pack(loops, call, segments, segment_count, scratch.key_heads, scratch.head));
    else if (cached)
        GNV_TRY(store(call, segments, segment_count));

    scratch.tasks[0] = 0;
    for (int64_t s = 0; s < segment_count; s++)
        scratch.tasks[s + 1] = scratch.tasks[s] + (segments[s + 1] - segments[s] + scratch.rows - 1) / scratch.rows;
    const int64_t blocks = scratch.tasks[segment_count], group = scratch.group, head = scratch.head;
    const int64_t key_width = scratch.key_heads * head, query_width = key_width * group;
    char * const own = static_cast<char *>(call.scratch) + scratch.shared;
    return call.threads->parallel_for_thread(blocks * scratch.key_heads, [&](int64_t index, int thread) -> Status {
        AttentionBlock block;
        int32_t *counts = nullptr, *keys = nullptr;
        float * queries = nullptr;
        scratch.carve(own + uint64_t(thread) * scratch.each, block, counts, keys, queries);
        const int64_t task = blocks - 1 - index / scratch.key_heads; // the longest ones first
        const int64_t key_head = index % scratch.key_heads;
        const int64_t s = std::upper_bound(scratch.tasks, scratch.tasks + segment_count + 1, task) - scratch.tasks - 1;
        const int64_t length = segments[s + 1] - segments[s], first = (task - scratch.tasks[s]) * scratch.rows;
        const int64_t rows = std::min(scratch.rows, length - first);
        const int64_t past = cached ? call.inputs[in_past].as<const int32_t>()[s] : 0;
        const bool paged = call.inputs[in_pages].exists();
        const CacheRows cache_rows(call, s); // of a cache
        const int64_t first_row = !cached ? int64_t(segments[s]) : paged ? 0 : cache_rows.begin;
        const int64_t begin = first_row * key_width + key_head * head;

        const bool causal = call.as<AttentionParams>().causal;
        int32_t count = 0;
        for (int64_t key = 0; key < past + (causal ? first + rows : length); key++) {
            if (key < past || !mask || mask[segments[s] + key - past])
                keys[count++] = int32_t(paged ? cache_rows[key] : key);
            if (causal && key >= past + first) counts[key - past - first] = count;
        }
        if (!causal) std::fill_n(counts, rows, count); // every row sees all keys
        block.columns = rows * group, block.group = group, block.head = head;
        block.common = counts[0], block.counts = counts, block.keys = keys;
        block.scale = call.as<AttentionParams>().scale, block.bf16 = call.precision == Precision::bf16;
        if (scratch.coded) {
            const int64_t begin_scales = first_row * scratch.key_heads + key_head;
            block.k_codes = call.inputs[in_cache_k].as<const uint8_t>() + begin;
            block.v_codes = call.inputs[in_cache_v].as<const uint8_t>() + begin;
            block.k_scales = call.inputs[in_k_scales].as<const uint8_t>() + begin_scales;
            block.v_scales = call.inputs[in_v_scales].as<const uint8_t>() + begin_scales;
            block.scale_stride = scratch.key_heads;
        } else {
            block.k = call.inputs[cached ? in_cache_k : in_k].as<const float>() + begin;
            block.v = call.inputs[cached ? in_cache_v : in_v].as<const float>() + begin;
        }
        block.key_stride = key_width, block.queries = queries;
        const int64_t corner = (segments[s] + first) * query_width + key_head * group * head;
        const float * q = call.inputs[in_q].as<const float>() + corner;
        float * out = call.outputs[0].as<float>() + corner;
        for (int64_t c = 0; c < block.columns; c++)
            for (int64_t d = 0; d < head; d++)
                queries[d * block.columns + c] = q[c / group * query_width + c % group * head + d];
        loops.mixer.attend(block);
        for (int64_t r = 0; r < rows; r++) {
            const float * from = block.out + r * group * head;
            if (block.bf16)
                loops.mixer.round(group * head, from, out + r * query_width);
            else
                memcpy(out + r * query_width, from, size_t(group * head) * sizeof(float));
        }
        return {};
    });
}

const KernelEntry attention_entry = {run, scratch_bytes};

} // namespace gnv::cpu
