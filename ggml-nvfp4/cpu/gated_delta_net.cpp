// gated_delta_net: see graph/ops.h. A task is a segment and the value heads of one key head, which share the products
// of its keys, or one of these heads where threads would be idle otherwise; 64 positions at a time.
#include "cpu/exact_math.h"
#include "cpu/loops.h"
#include "cpu/mixer_kernels.h"

#include <algorithm>
#include <cmath>

namespace gnv::cpu {

namespace {

enum { in_qkv, in_a, in_b, in_a_log, in_dt_bias, in_segments, in_memory, in_slots };

constexpr int64_t chunk = delta_chunk;

// Of one thread.
struct Workspace {
    float *q = nullptr, *k = nullptr, *transposed = nullptr; // [64, Dk] twice, [Dk, 64]
    float *kk = nullptr, *qk = nullptr;                      // [64, 64]
    float *within = nullptr, *weights = nullptr;             // [64, 64]
    float *news = nullptr, *out = nullptr;                   // [64, Dv]
    float *beta = nullptr, *g = nullptr;                     // [64]
    float * memory = nullptr;                                // [Hv / Hk, Dk, Dv]

    static uint64_t carve(const GatedDeltaNetParams & params, void * begin, Workspace & out) {
        ScratchCursor cursor(begin);
        const int64_t keys = chunk * params.key_head, values = chunk * params.value_head;
        out.q = cursor.take<float>(keys), out.k = cursor.take<float>(keys), out.transposed = cursor.take<float>(keys);
        for (float ** square : {&out.kk, &out.qk, &out.within, &out.weights})
            *square = cursor.take<float>(chunk * chunk);
        out.news = cursor.take<float>(values), out.out = cursor.take<float>(values);
        out.beta = cursor.take<float>(chunk), out.g = cursor.take<float>(chunk);
        out.memory = cursor.take<float>(params.value_heads / params.key_heads * params.key_head * params.value_head);
        return cursor.bytes();
    }
};

uint64_t scratch_bytes(const KernelCall & call) {
    Workspace workspace;
    return uint64_t(call.threads->size()) * Workspace::carve(call.as<GatedDeltaNetParams>(), nullptr, workspace);
}

struct Problem {
    const Loops & loops;
    const KernelCall & call;
    const GatedDeltaNetParams & params;
    int64_t group, key_width, width; // value heads of a key head; columns of q and of all of qkv
    float root;                      // sqrt(Dk)
};

struct Heads {                    // of one key head
    int64_t key_head, first, end; // value heads
};

// Positions [first, first + rows); memory is that of the first value head.
void run_rows(const Problem & problem, int64_t first, int64_t rows, const Heads & which, bool chunked, float * memory,
              Workspace & work) {
    const GatedDeltaNetParams & params = problem.params;
    const DeltaLoops & loops = problem.loops.delta;
    const bool bf16 = problem.call.precision == Precision::bf16;
    const float * qkv = problem.call.inputs[in_qkv].as<const float>() + first * problem.width;
    const float * q = qkv + which.key_head * params.key_head;
    loops.normalize_queries(rows, params.key_head, q, problem.width, problem.root, work.q, work.transposed);
    loops.normalize_keys(rows, params.key_head, q + problem.key_width, problem.width, work.k, work.transposed);
    if (chunked) {
        loops.products(rows, params.key_head, work.k, work.transposed, work.kk);
        loops.products(rows, params.key_head, work.q, work.transposed, work.qk);
    }
    for (int64_t head = which.first; head < which.end; head++) {
        const int64_t heads = params.value_heads;
        const float a_log = weight_element(problem.call.inputs[in_a_log], head);
        loops.gates(rows, problem.call.inputs[in_a].as<const float>() + first * heads + head,
                    problem.call.inputs[in_b].as<const float>() + first * heads + head, heads,
                    -float(exact::exp(double(a_log))), weight_element(problem.call.inputs[in_dt_bias], head), bf16,
                    work.beta, work.g);
        DeltaRows in;
        in.rows = rows, in.key_head = params.key_head, in.value_head = params.value_head;
        in.q = work.q, in.k = work.k, in.beta = work.beta, in.g = work.g;
        in.v = qkv + 2 * problem.key_width + head * params.value_head, in.v_stride = problem.width;
        in.memory = memory + (head - which.first) * params.key_head * params.value_head, in.out = work.out;
        in.kk = work.kk, in.qk = work.qk, in.within = work.within, in.weights = work.weights, in.news = work.news;
        (chunked ? loops.chunk : loops.recur)(in);
        float * out = problem.call.outputs[0].as<float>() + (first * heads + head) * params.value_head;
        for (int64_t r = 0; r < rows; r++, out += heads * params.value_head) {
            const float * from = work.out + r * params.value_head;
            if (bf16)
                problem.loops.mixer.round(params.value_head, from, out);
            else
                memcpy(out, from, size_t(params.value_head) * sizeof(float));
        }
    }
}

Status run(KernelCall & call) { return gated_delta_net_with(loops(call.threads->instructions()), call); }

} // namespace

Status gated_delta_net_with(const Loops & loops, KernelCall & call) {
    const auto & params = call.as<GatedDeltaNetParams>();
    const auto * segments = call.inputs[in_segments].as<const int32_t>();
    const int64_t segment_count = call.inputs[in_segments].shape[0] - 1;
    auto * memory = call.inputs[in_memory].as<float>();
    const auto * slots = call.inputs[in_slots].as<const int32_t>();
    const int64_t group = params.value_heads / params.key_heads, key_width = params.key_heads * params.key_head;
    const Problem problem = {loops,
                             call,
                             params,
                             group,
                             key_width,
                             2 * key_width + params.value_heads * params.value_head,
                             std::sqrt(float(params.key_head))};
    Workspace sizes;
    const uint64_t each = Workspace::carve(params, nullptr, sizes);
    const int64_t each_heads = segment_count * params.key_heads < call.threads->size() ? 1 : group;
    const int64_t tasks = params.value_heads / each_heads; // of a segment
    const int64_t head_elements = params.key_head * params.value_head;
    return call.threads->parallel_for_thread(segment_count * tasks, [&](int64_t task, int thread) -> Status {
        Workspace work;
        Workspace::carve(params, static_cast<char *>(call.scratch) + uint64_t(thread) * each, work);
        const int64_t s = task / tasks, head = task % tasks * each_heads;
        const Heads which = {head / group, head, head + each_heads};
        const int64_t begin = segments[s], end = segments[s + 1];
        float * const own =
            memory ? memory + ((slots ? slots[s] : s) * params.value_heads + head) * head_elements : work.memory;
        if (!memory) memset(own, 0, size_t(each_heads * head_elements) * sizeof(float));
        using Form = GatedDeltaNetParams::Form;
        const bool chunked = params.form == Form::chunked || (params.form == Form::automatic && end - begin > 1);
        for (int64_t first = begin; first < end; first += chunk)
            run_rows(problem, first, std::min(chunk, end - first), which, chunked, own, work);
        return {};
    });
}

const KernelEntry gated_delta_net_entry = {run, scratch_bytes};

} // namespace gnv::cpu
