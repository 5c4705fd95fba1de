// The products of all pairs are those of cuda/expert_inputs_hopper.cu. What the router chose is stored as gate and up, and becomes
// activations with the screening, or at the end.
#include "cuda/expert_inputs.cuh"

#include "cuda/expert_inputs_hopper.cuh"
#include "cuda/kernels.cuh"

namespace gnv::cuda {

namespace {

enum { in_x, in_gate, in_up, in_slots, in_offsets, in_maxima };

ExpertInputs inputs_of(const KernelCall & call) {
    const Tensor &x = call.inputs[in_x], &gate = call.inputs[in_gate], &slots = call.inputs[in_slots];
    ExpertInputs in = {};
    in.x = x.as<const bf16>();
    in.gate = gate.as<const bf16>();
    in.up = call.inputs[in_up].as<const bf16>();
    in.rows = x.shape[0], in.k = x.shape[1], in.columns = gate.shape[1];
    in.experts = int(gate.shape[0]);
    in.slots = slots.as<const int32_t>();
    in.offsets = call.inputs[in_offsets].as<const int32_t>();
    in.slot_count = slots.shape[0];
    in.slots_per_token = call.as<ExpertInputsParams>().slots_per_token;
    in.maxima = call.inputs[in_maxima].as<float>();
    return in;
}

struct Scratch { // offsets; of Screening::check also those of a second result
    uint64_t gate = 0, up = 0, work = 0, second_gate = 0, second_up = 0, second_maxima = 0, total = 0;
    explicit Scratch(const KernelCall & call) {
        const ExpertInputs in = inputs_of(call);
        const Screening screening = call.as<ExpertInputsParams>().screening;
        const auto place = [&](uint64_t & at, uint64_t bytes) { at = total, total += aligned(bytes); };
        const uint64_t chosen = uint64_t(in.slot_count * in.columns) * sizeof(bf16);
        place(gate, chosen);
        place(up, chosen);
        if (screening == Screening::check) {
            place(second_gate, chosen);
            place(second_up, chosen);
            place(second_maxima, uint64_t(in.experts) * sizeof(float));
        }
        const uint64_t places = uint64_t(in.rows) * uint64_t(in.experts) * sizeof(int32_t);
        const uint64_t screened = screening == Screening::off ? 0 : screening_bytes(in);
        place(work, screening == Screening::on && screened > 0 ? screened : std::max(places, screened));
    }
};

Status run(KernelCall & call) {
    CudaContext & context = context_of(call);
    if (!context.hopper) return Status(Code::unsupported, "expert_inputs is for devices of compute capability 9.0");
    ExpertInputs in = inputs_of(call);
    const Scratch at(call);
    auto * const scratch = static_cast<uint8_t *>(call.scratch);
    const auto numbers = [&](uint64_t offset) { return reinterpret_cast<bf16 *>(scratch + offset); };
    in.chosen_gate = numbers(at.gate);
    in.chosen_up = numbers(at.up);
    auto * const out = call.outputs[0].as<bf16>();
    auto * const places = reinterpret_cast<int32_t *>(scratch + at.work);
    const Screening screening = screening_bytes(in) > 0 ? call.as<ExpertInputsParams>().screening : Screening::off;
    if (screening == Screening::check) {
        ExpertInputs second = in;
        second.chosen_gate = numbers(at.second_gate);
        second.chosen_up = numbers(at.second_up);
        second.maxima = reinterpret_cast<float *>(scratch + at.second_maxima);
        (void)cudaMemcpyAsync(second.maxima, in.maxima, size_t(in.experts) * sizeof(float), cudaMemcpyDeviceToDevice,
                              context.stream);
        GNV_TRY(launched("expert_inputs"));
        GNV_TRY(exact_experts(context, in, places));
        GNV_TRY(screened_experts(context, second, out, scratch + at.work, context.screened));
        GNV_TRY(compare_experts(context, in, second, context.screened));
    } else if (screening == Screening::on) {
        return screened_experts(context, in, out, scratch + at.work, context.screened);
    } else {
        GNV_TRY(exact_experts(context, in, places));
    }
    return activate(context, in.chosen_gate, in.chosen_up, out, in.slot_count * in.columns);
}

Status supports(const KernelCall & call) {
    const ExpertInputs in = inputs_of(call);
    if (in.k % 8 == 0 && in.columns % 2 == 0) return {};
    return fail(Code::unsupported, "expert_inputs takes K that 8 divides and even I, not ", in.k, " and ", in.columns);
}

uint64_t scratch_bytes(const KernelCall & call) { return Scratch(call).total; }

} // namespace

#ifndef GNV_HAVE_HOPPER
// A build without code for compute capability 9.0 never gets here.
uint64_t screening_bytes(const ExpertInputs &) { return 0; }
static Status missing() { return Status(Code::unsupported, "this build has no kernels for compute capability 9.0"); }
Status exact_experts(const CudaContext &, const ExpertInputs &, int32_t *) { return missing(); }
Status screened_experts(const CudaContext &, const ExpertInputs &, bf16 *, void *, ScreeningCounts *) {
    return missing();
}
Status compare_experts(const CudaContext &, const ExpertInputs &, const ExpertInputs &, ScreeningCounts *) {
    return missing();
}
#endif

const KernelEntry expert_inputs_entry = {run, scratch_bytes, supports};

} // namespace gnv::cuda
