// gated_delta_net against the recurrence in double, its two forms against each other, and a recorded layer.
#include "checkpoint/elements.h"
#include "checkpoint_files.h"
#include "golden_file.h"
#include "mixer_fixture.h"

using namespace gnv;
using namespace gnv::test;
using Form = GatedDeltaNetParams::Form;

namespace {

struct Case {
    GatedDeltaNetParams params;
    Floats qkv, a, b, a_log, dt_bias;
    Integers segments = {0};
    Floats memory = {};  // [S, Hv, Dk, Dv]
    Integers slots = {}; // the memory's entry of each segment

    Case(std::initializer_list<int32_t> lengths, int64_t key_heads, int64_t value_heads, int64_t key_head,
         int64_t value_head, uint32_t seed = 1) {
        params.key_heads = key_heads, params.value_heads = value_heads;
        params.key_head = key_head, params.value_head = value_head;
        for (const int32_t length : lengths) segments.push_back(segments.back() + length);
        qkv = random_floats(count() * width(), 2, seed);
        a = random_floats(count() * value_heads, 4, seed + 1), b = random_floats(count() * value_heads, 4, seed + 2);
        a_log = random_floats(value_heads, 2, seed + 3), dt_bias = random_floats(value_heads, 3, seed + 4);
    }
    int64_t count() const { return segments.back(); }
    int64_t segment_count() const { return int64_t(segments.size()) - 1; }
    int64_t width() const { return 2 * params.key_heads * params.key_head + out_width(); }
    int64_t out_width() const { return params.value_heads * params.value_head; }
    int64_t memory_size() const { return params.key_head * out_width(); } // of a segment
    Case & add_memory() {
        memory = random_floats(segment_count() * memory_size(), 1, 77);
        return *this;
    }

    Case part(int32_t begin, int32_t end) const { // as one segment, without memory
        Case one({end - begin}, params.key_heads, params.value_heads, params.key_head, params.value_head);
        const auto cut = [&](const Floats & from, int64_t columns) {
            return Floats(from.begin() + begin * columns, from.begin() + end * columns);
        };
        one.qkv = cut(qkv, width()), one.a = cut(a, params.value_heads), one.b = cut(b, params.value_heads);
        one.a_log = a_log, one.dt_bias = dt_bias;
        return one;
    }

    Floats run(Form form = Form::automatic, Precision precision = Precision::f32, const Way & way = {}) {
        Floats out(size_t(count() * out_width()), 99);
        GatedDeltaNetParams used = params;
        used.form = form;
        const int64_t heads = params.value_heads;
        run_kernel(cpu::gated_delta_net_entry, cpu::gated_delta_net_with, used, precision,
                   {view(qkv, {count(), width()}), view(a, {count(), heads}), view(b, {count(), heads}),
                    view(a_log, {heads}), view(dt_bias, {heads}), view(segments, {segment_count() + 1}),
                    memory.empty() ? Tensor{}
                                   : view(memory, {int64_t(memory.size()) / memory_size(), heads, params.key_head,
                                                   params.value_head}),
                    slots.empty() ? Tensor{} : view(slots, {segment_count()})},
                   view(out, {count(), out_width()}), way);
        return out;
    }

    // The recurrence; memory_after [S, Hv, Dk, Dv].
    std::vector<double> expected(std::vector<double> & memory_after) const {
        std::vector<double> out(size_t(count() * out_width()));
        memory_after.assign(memory.begin(), memory.end());
        memory_after.resize(size_t(segment_count() * memory_size()));
        for (int64_t s = 0; s < segment_count(); s++)
            for (int64_t h = 0; h < params.value_heads; h++) {
                double * m = &memory_after[size_t(s * memory_size() + h * params.key_head * params.value_head)];
                for (int64_t t = segments[size_t(s)]; t < segments[size_t(s) + 1]; t++)
                    step(t, h, m, &out[size_t(t * out_width() + h * params.value_head)]);
            }
        return out;
    }

    std::vector<double> normalized(int64_t t, int64_t column) const {
        std::vector<double> x;
        double squares = 0;
        for (int64_t d = 0; d < params.key_head; d++) {
            x.push_back(double(qkv[size_t(t * width() + column + d)]));
            squares += x.back() * x.back();
        }
        for (double & value : x) value /= std::sqrt(squares + 1e-6);
        return x;
    }

    void step(int64_t t, int64_t h, double * m, double * o) const {
        const int64_t key_head = h / (params.value_heads / params.key_heads), dk = params.key_head;
        const int64_t dv = params.value_head, keys = params.key_heads * dk;
        const std::vector<double> q = normalized(t, key_head * dk), k = normalized(t, keys + key_head * dk);
        const auto gate = size_t(t * params.value_heads + h);
        const double x = double(a[gate]) + double(dt_bias[size_t(h)]);
        const double decay = std::exp(-std::exp(double(a_log[size_t(h)])) * (x > 20 ? x : std::log1p(std::exp(x))));
        const double beta = 1 / (1 + std::exp(-double(b[gate])));
        for (int64_t c = 0; c < dv; c++) {
            double seen = 0;
            for (int64_t d = 0; d < dk; d++) m[d * dv + c] *= decay, seen += m[d * dv + c] * k[size_t(d)];
            const double written = beta * (double(qkv[size_t(t * width() + 2 * keys + h * dv + c)]) - seen);
            o[c] = 0;
            for (int64_t d = 0; d < dk; d++) {
                m[d * dv + c] += k[size_t(d)] * written;
                o[c] += m[d * dv + c] * q[size_t(d)] / std::sqrt(double(dk));
            }
        }
    }

    void check_both(double bound) const {
        std::vector<double> memory_after;
        const std::vector<double> out = expected(memory_after);
        for (const Form form : {Form::recurrent, Form::chunked}) {
            Case run_one = *this;
            CAPTURE(int(form));
            CAPTURE(count());
            CAPTURE(params.key_head);
            CHECK(relative_error(run_one.run(form), out) < bound);
            if (!memory.empty()) CHECK(relative_error(run_one.memory, memory_after) < bound);
        }
    }
};

} // namespace

TEST_CASE("gated_delta_net: both forms are the recurrence, with and without memory") {
    for (const int32_t length : {1, 63, 64, 65, 200}) {
        Case(Case({length}, 2, 4, 32, 32)).check_both(5e-6);
        Case(Case({length}, 2, 4, 32, 32).add_memory()).check_both(5e-6);
    }
    Case({1, 2, 63, 64, 65, 130}, 2, 2, 32, 32).add_memory().check_both(5e-6);
    Case({0}, 2, 2, 32, 32).add_memory().check_both(5e-6);
}

TEST_CASE("gated_delta_net: head ratios and sizes") {
    for (const int64_t ratio : {1, 2, 3}) Case({70}, 2, 2 * ratio, 32, 32).add_memory().check_both(5e-6);
    for (const int64_t head : {20, 64, 128, 256}) Case({70}, 1, 2, head, head).add_memory().check_both(5e-6);
    Case({70}, 2, 2, 64, 20).add_memory().check_both(5e-6);
    Case({70}, 1, 3, 20, 48).add_memory().check_both(5e-6);
}

TEST_CASE("gated_delta_net: little and very much is forgotten") {
    for (const float bias : {-30.0f, -8.0f, 30.0f, 400.0f}) { // gates from none to below -2,000 a position
        Case delta = Case({200}, 2, 2, 32, 32).add_memory();
        std::fill(delta.dt_bias.begin(), delta.dt_bias.end(), bias);
        delta.check_both(5e-6);
    }
    // Once everything is forgotten, then nearly nothing: sums of gates from the beginning would have lost the small ones.
    Case mixed = Case({128}, 1, 2, 32, 32).add_memory();
    mixed.dt_bias.assign(2, 0.0f);
    for (size_t i = 0; i < mixed.a.size(); i++) mixed.a[i] = i / 2 % 64 < 20 ? 3000.0f : -5.0f;
    mixed.check_both(5e-6);
    // Keys of zero write and read nothing.
    Case pads = Case({100}, 1, 1, 32, 32);
    std::fill(pads.qkv.begin(), pads.qkv.begin() + 70 * 96, 0.0f);
    pads.check_both(5e-6);
}

TEST_CASE("gated_delta_net: a prefill in pieces") {
    Case whole = Case({200}, 2, 4, 32, 32).add_memory();
    Case at_once = whole;
    const Floats expected = at_once.run();
    for (const int32_t step : {64, 128, 1, 50}) {
        CAPTURE(step);
        Floats out, memory = whole.memory;
        for (int32_t done = 0; done < 200; done += step) {
            Case piece = whole.part(done, std::min(200, done + step));
            piece.memory = memory;
            const Floats got = piece.run();
            out.insert(out.end(), got.begin(), got.end());
            memory = piece.memory;
        }
        if (step % 64 == 0) {
            CHECK(same_bits(out, expected));
            CHECK(same_bits(memory, at_once.memory));
        }
        CHECK(relative_error(out, expected) < 1e-5);
        CHECK(relative_error(memory, at_once.memory) < 1e-5);
    }
    // The beginning of a chunk does not see its end.
    CHECK(same_bits(whole.part(0, 150).run(), [&] {
        const Floats all = whole.part(0, 200).run();
        return Floats(all.begin(), all.begin() + 150 * 128);
    }()));
}

TEST_CASE("gated_delta_net: automatic is recurrent for one position") {
    Case delta = Case({1, 2}, 1, 2, 64, 64).add_memory();
    const Floats automatic = Case(delta).run(), recurrent = Case(delta).run(Form::recurrent);
    const Floats chunked = Case(delta).run(Form::chunked);
    CHECK(same_bits(Floats(automatic.begin(), automatic.begin() + 128),
                    Floats(recurrent.begin(), recurrent.begin() + 128)));
    CHECK(same_bits(Floats(automatic.begin() + 128, automatic.end()), Floats(chunked.begin() + 128, chunked.end())));
    CHECK(!same_bits(recurrent, chunked));
}

TEST_CASE("gated_delta_net: batch, threads and loops change nothing") {
    Case batch = Case({1, 2, 63, 64, 0, 65, 130}, 2, 4, 32, 36).add_memory();
    const Case before = batch;
    Floats alone, memories;
    const Floats out = batch.run();
    for (int64_t s = 0; s < batch.segment_count(); s++) {
        Case one = before.part(before.segments[size_t(s)], before.segments[size_t(s) + 1]);
        const auto from = before.memory.begin() + s * before.memory_size();
        one.memory.assign(from, from + before.memory_size());
        const Floats got = one.run();
        alone.insert(alone.end(), got.begin(), got.end());
        memories.insert(memories.end(), one.memory.begin(), one.memory.end());
    }
    CHECK(same_bits(out, alone));
    CHECK(same_bits(batch.memory, memories));
    // The last two have fewer heads of keys than threads.
    const Case cases[] = {Case({1, 70, 17}, 2, 4, 36, 20).add_memory(), Case({70}, 2, 6, 36, 20).add_memory(),
                          Case({1}, 1, 3, 36, 155).add_memory()};
    for (const Case & some : cases)
        for (const Form form : {Form::recurrent, Form::chunked})
            for (const Precision precision : {Precision::f32, Precision::bf16}) {
                Case first = some;
                const Floats expected = first.run(form, precision);
                for (const Way & way : all_ways()) {
                    Case again = some;
                    CHECK(same_bits(again.run(form, precision, way), expected));
                    CHECK(same_bits(again.memory, first.memory));
                }
            }
}

TEST_CASE("gated_delta_net: memories in slots") {
    Case plain = Case({1, 70, 17}, 2, 4, 36, 20).add_memory(), chosen = plain;
    const ptrdiff_t size = plain.memory_size();
    const Floats before = random_floats(5 * size, 1, 9);
    chosen.memory = before, chosen.slots = {3, 0, 4};
    for (size_t s = 0; s < 3; s++)
        std::copy_n(plain.memory.begin() + ptrdiff_t(s) * size, size, chosen.memory.begin() + chosen.slots[s] * size);
    CHECK(same_bits(chosen.run(), plain.run()));
    for (int32_t slot = 0; slot < 5; slot++) {
        const auto at = std::find(chosen.slots.begin(), chosen.slots.end(), slot) - chosen.slots.begin();
        const float * expected = at < 3 ? &plain.memory[size_t(at * size)] : &before[size_t(slot * size)];
        CHECK(memcmp(&chosen.memory[size_t(slot * size)], expected, size_t(size) * sizeof(float)) == 0);
    }
}

TEST_CASE("gated_delta_net: BF16 rounds beta and the result") {
    Case exact = Case({70}, 1, 1, 32, 32), rounded = exact;
    for (size_t i = 0; i < exact.b.size(); i++) { // a logit whose sigmoid is the rounded one
        const float beta = bf16_of(1 / (1 + std::exp(-exact.b[i])));
        exact.b[i] = float(std::log(double(beta) / (1 - double(beta))));
    }
    Floats out = exact.run();
    const Floats got = rounded.run(Form::automatic, Precision::bf16);
    for (size_t i = 0; i < got.size(); i++) REQUIRE(got[i] == bf16_of(got[i]));
    round_all(out);
    CHECK(relative_error(got, out) < 0x1p-8); // a step of BF16 where rounding goes the other way
    int64_t differing = 0;
    for (size_t i = 0; i < got.size(); i++) differing += got[i] != out[i];
    CHECK(differing < 10); // of 2,240; with beta left alone it is every other one
}

TEST_CASE("gated_delta_net: a recorded layer, from the projections through convolution to the gated norm") {
    const GoldenFile golden("text.safetensors");
    const auto layer = [&](const char * name) {
        return golden.floats(std::string("text70.layer.0.linear_attn.") + name);
    };
    const std::vector<MemoryTensor> weights = load_tensors(GNV_TEST_BINARY_DIR "/data/qwen36-tiny");
    const auto weight = [&](const std::string & name) {
        for (const MemoryTensor & tensor : weights) {
            if (tensor.name != "model.language_model.layers.0.linear_attn." + name) continue;
            std::vector<double> values(tensor.data.size() * 8 / size_t(dtype_traits(tensor.dtype).bits));
            element_reader(tensor.dtype)(reinterpret_cast<const uint8_t *>(tensor.data.data()), int64_t(values.size()),
                                         values.data());
            return Floats(values.begin(), values.end());
        }
        FAIL("no such weight: ", name);
        return Floats();
    };
    Case delta({70}, 4, 8, 32, 32);
    Floats u = layer("in_proj_qkv"), taps = weight("conv1d.weight");
    run_kernel(cpu::causal_conv_entry, cpu::causal_conv_with, CausalConvParams{}, Precision::f32,
               {view(u, {70, 512}), view(taps, {512, 1, 4}), view(delta.segments, {2}), {}},
               view(delta.qkv, {70, 512}));
    delta.a = layer("in_proj_a"), delta.b = layer("in_proj_b");
    delta.a_log = weight("A_log"), delta.dt_bias = weight("dt_bias");
    const Floats z = layer("in_proj_z"), norm = weight("norm.weight"), recorded = layer("norm");
    for (const Form form : {Form::recurrent, Form::chunked}) {
        Floats out = delta.run(form);
        for (size_t row = 0; row < 560; row++) {
            double squares = 0;
            for (size_t i = 0; i < 32; i++) squares += double(out[row * 32 + i]) * double(out[row * 32 + i]);
            for (size_t i = row * 32; i < row * 32 + 32; i++)
                out[i] = float(double(out[i]) / std::sqrt(squares / 32 + 1e-6) * double(norm[i % 32]) * double(z[i]) /
                               (1 + std::exp(-double(z[i]))));
        }
        CHECK(relative_error(out, recorded) < 1e-5);
    }
}
