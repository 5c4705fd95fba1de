// Checkpoints that are right pass without a word, whoever wrote them.
#include "core/sha256.h"
#include "verify/device_recomputer.h"
#include "verify/statistics.h"
#include "verify_fixture.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>

using namespace gnv;
using namespace gnv::test;
using namespace gnv::verify;

static void check_clean(const VerifyReport & report) {
    for (const Finding & finding : report.findings.all())
        if (finding.severity != Severity::note)
            FAIL_CHECK(finding.check << " " << finding.subject << ": " << finding.what);
    CHECK(report.errors() + report.warnings() == 0);
}

TEST_CASE("our own output, from fused and per-expert sources, one shard and several") {
    for (const CheckpointPair * pair : {&fused_pair(), &split_pair()}) {
        const VerifyReport report = examine(pair->quantized, pair->source);
        check_clean(report);
        for (const CheckOutcome & outcome : report.outcomes) // these have no model card
            CHECK_MESSAGE(outcome.done == (outcome.check->id != std::string("F1")), outcome.check->id);
        uint64_t nvfp4 = 0, declared = 0;
        for (const CoverageRow & row : coverage(report)) nvfp4 += row.nvfp4, declared += row.declared;
        CHECK(nvfp4 == 800);
        CHECK(declared == 800);
        const PreservedSummary preserved = preserved_summary(report);
        CHECK(preserved.same == preserved.tensors);
        CHECK(preserved.tensors >= 157); // a split draft head has more
        for (const ModuleValues & values : report.measurements->modules)
            if (values.measured) CHECK(values.comparison.nearest_codes == values.elements());
    }
}

TEST_CASE("experts that keep the source's precision stay in the source's form, in some blocks or in all") {
    for (const char * const keep : {".*mlp\\.experts", ".*layers\\.[03]\\.mlp\\.experts", ".*language_model"})
        for (const CheckpointPair * pair : {&fused_pair(), &split_pair()}) {
            CAPTURE(keep);
            const ScratchFolder scratch;
            PlanOptions options;
            options.recipe.scheme = &formats::nvfp4a16;
            options.recipe.keep = {keep};
            options.recipe.draft_head = &formats::nvfp4a16;
            QuantizeOptions run;
            run.destination = scratch / "made";
            const Plan plan = make_plan(pair->source, options).take();
            REQUIRE(quantize(plan, two_threads(), run).ok());
            const VerifyReport report = examine(run.destination, pair->source);
            for (const Finding & finding : report.findings.all()) {
                const bool is_of_share = finding.what.find("leaves all but") == 0;
                if (finding.severity != Severity::note && !is_of_share)
                    FAIL_CHECK(finding.check << " " << finding.subject << ": " << finding.what);
            }
            const PreservedSummary preserved = preserved_summary(report);
            CHECK(preserved.same == preserved.tensors);
            uint64_t plain = 0;
            for (const CoverageRow & row : coverage(report))
                if (row.part == Part::text) plain += row.plain;
            CHECK(plain > 2 * 32 * 3);
            if (pair != &fused_pair()) continue;
            std::vector<MemoryTensor> both = load_tensors(run.destination);
            both.push_back({"model.language_model.layers.0.mlp.experts.0.down_proj.weight",
                            DType::bf16,
                            {256, 64},
                            std::string(256 * 64 * 2, '\0')});
            REQUIRE(make_directory(scratch / "both").ok());
            save_tensors(scratch / "both", both, 1);
            copy_other_files(run.destination, scratch / "both");
            CHECK(failed_checks(examine(scratch / "both", "")).find("L5") != std::string::npos);
        }
}

TEST_CASE("our own output with the draft head in NVFP4") {
    const VerifyReport report = examine(draft_pair().quantized, draft_pair().source);
    check_clean(report);
    uint64_t nvfp4 = 0, declared = 0;
    for (const CoverageRow & row : coverage(report)) nvfp4 += row.nvfp4, declared += row.declared;
    CHECK(nvfp4 == 800 + 103);
    CHECK(declared == 800 + 103);
    uint64_t of_head = 0;
    for (size_t m = 0; m < report.subject.modules.size(); m++) {
        const ModuleValues & values = report.measurements->modules[m];
        if (report.subject.modules[m].part != Part::mtp || !values.measured) continue;
        CHECK(values.comparison.nearest_codes == values.elements());
        of_head++;
    }
    CHECK(of_head == 103);
}

// The CPU's backend in place of a device's; `flip` alters what it makes.
class TestRecomputer final : public Recomputer {
  public:
    explicit TestRecomputer(bool flip = false) : flip_(flip) {}
    int slots() const override { return on_backend_->slots(); }
    std::string device() const override { return "a test"; }
    uint16_t * weights(int slot) override { return on_backend_->weights(slot); }
    Result<Packed> pack(int slot, int64_t blocks, float global_scale) override {
        CHECK(global_scale > 0);
        CHECK(std::isfinite(global_scale));
        GNV_ASSIGN(const Packed packed, on_backend_->pack(slot, blocks, global_scale));
        if (flip_) const_cast<uint8_t *>(packed.codes)[0] ^= 1;
        return packed;
    }

  private:
    const bool flip_;
    const std::unique_ptr<Backend> backend_ = open_cpu(two_threads());
    const std::unique_ptr<DeviceRecomputer> on_backend_ = DeviceRecomputer::create(*backend_, 2).take();
};

static VerifyReport examine_again(const std::string & quantized, const std::string & source, Recomputer & recomputer) {
    VerifyOptions options;
    options.measure.recomputer = &recomputer;
    return verify::verify(open_folder(quantized).take(), open_folder(source).take(), two_threads(), options).take();
}

TEST_CASE("weights quantized again: our bytes and llm-compressor's come out as stored, with the findings of without") {
    for (const CheckpointPair * pair : {&fused_pair(), &split_pair(), &reference_pair(), &odd_pair(), &draft_pair()}) {
        TestRecomputer recomputer;
        const VerifyReport report = examine_again(pair->quantized, pair->source, recomputer);
        const VerifyReport plain = examine(pair->quantized, pair->source);
        CHECK(report.findings.all().size() == plain.findings.all().size());
        CHECK(report.errors() == plain.errors());
        CHECK(report.warnings() == plain.warnings());
        const RecomputedSummary summary = recomputed_summary(report);
        uint64_t modules = 0, blocks = 0;
        for (const ModuleValues & values : report.measurements->modules)
            if (values.compared) modules++, blocks += values.scales.blocks;
        CHECK(modules > 10);
        CHECK(summary.modules == modules);
        CHECK(summary.same_modules == modules);
        CHECK(summary.blocks == blocks);
        CHECK(summary.same_blocks == blocks);
        CHECK(report_text(report).find("weights quantized again on a test") != std::string::npos);
        CHECK(report_json(report).take().find("\"same_modules\": " + std::to_string(modules)) != std::string::npos);
        CHECK(recomputed_summary(plain).modules == 0);
        CHECK(report_text(plain).find("quantized again") == std::string::npos);
    }
    // Without a source there is nothing to quantize, and no word of it.
    TestRecomputer recomputer;
    VerifyOptions options;
    options.measure.recomputer = &recomputer;
    const VerifyReport alone =
        verify::verify(open_folder(fused_pair().quantized).take(), nullptr, two_threads(), options).take();
    CHECK(alone.recomputed_on.empty());
    CHECK(report_text(alone).find("quantized again") == std::string::npos);
    CHECK(report_json(alone).take().find("\"recomputed\"") == std::string::npos);
}

TEST_CASE("a global scale that quantizes nothing is reported, and reaches no device") {
    const CheckpointPair & pair = fused_pair();
    for (const float value : {-1000.0f, 0.0f, std::nanf(""), std::numeric_limits<float>::infinity()}) {
        CAPTURE(value);
        const ScratchFolder scratch;
        std::vector<MemoryTensor> tensors = load_tensors(pair.quantized);
        const auto damaged = std::find_if(tensors.begin(), tensors.end(), [](const MemoryTensor & tensor) {
            return ends_with(tensor.name, ".weight_global_scale");
        });
        REQUIRE(damaged != tensors.end());
        memcpy(damaged->data.data(), &value, sizeof value);
        save_tensors(scratch.path(), tensors, 1);
        copy_other_files(pair.quantized, scratch.path());
        TestRecomputer recomputer;
        const VerifyReport report = examine_again(scratch.path(), pair.source, recomputer);
        CHECK(report.findings.count("L6", Severity::error) > 0);
        uint64_t compared = 0;
        for (const ModuleValues & values : report.measurements->modules) compared += values.compared;
        CHECK(recomputed_summary(report).modules + 1 == compared);
    }
}

TEST_CASE("other bytes than stored are counted; a device that agrees where the processor does not is refused") {
    TestRecomputer flipping(true);
    const VerifyReport report = examine_again(fused_pair().quantized, fused_pair().source, flipping);
    const RecomputedSummary summary = recomputed_summary(report);
    CHECK(summary.same_modules == 0);
    CHECK(summary.blocks - summary.same_blocks >= summary.modules); // one in each piece
    check_clean(report);

    // A checkpoint with one other code, and a device that makes just that one.
    const CheckpointPair & pair = fused_pair();
    const ScratchFolder scratch;
    std::vector<MemoryTensor> tensors = load_tensors(pair.quantized);
    for (MemoryTensor & tensor : tensors)
        if (ends_with(tensor.name, ".weight_packed")) tensor.data[0] = char(tensor.data[0] ^ 1);
    const std::string altered = scratch / "altered";
    REQUIRE(make_directory(altered).ok());
    copy_other_files(pair.quantized, altered);
    save_tensors(altered, tensors, 1);
    VerifyOptions options;
    options.measure.recomputer = &flipping;
    const Result<VerifyReport> refused =
        verify::verify(open_folder(altered).take(), open_folder(pair.source).take(), two_threads(), options);
    CHECK(refused.status().code() == Code::device);
    CHECK(refused.status().message().find("one of the two computes wrongly") != std::string::npos);
}

TEST_CASE("another shape: text only, flat names, odd widths, one shard, no draft head") {
    const VerifyReport report = examine(odd_pair().quantized, odd_pair().source);
    check_clean(report);
    CHECK(report.subject.modules.size() > 20);
    CHECK_FALSE(report.subject.announces_part[size_t(Part::vision)]);
    CHECK(report.findings.count("L13", Severity::note) > 0); // 112 and 48 do not divide among 2 x 16
}

TEST_CASE("llm-compressor's output: every byte as recorded, and no finding") {
    const JsonDocument recorded = JsonDocument::read(golden + "/tensors.json", 100'000'000).take();
    std::map<std::string, std::string> expected;
    const Status read = recorded.root().for_each_member([&](std::string_view name, const JsonValue & value) -> Status {
        expected[std::string(name)] = std::string(value.get("sha256").value().as_string().value());
        return {};
    });
    CHECK(read.ok());
    CHECK(expected.size() == 3357);
    for (const MemoryTensor & tensor : load_tensors(reference_pair().quantized)) {
        CAPTURE(tensor.name);
        CHECK(expected[tensor.name] == sha256_hex(tensor.data.data(), tensor.data.size()));
    }

    const VerifyReport report = examine(reference_pair().quantized, reference_pair().source);
    check_clean(report);
    CHECK(report.subject.checkpoint->tensors().size() == 3357);
    CHECK(preserved_summary(report).norm_trip == 19);
    CHECK(preserved_summary(report).different == 0);
    CHECK(report.findings.count("S1", Severity::note) == 19);
    double errors = 0;
    for (const ModuleValues & values : report.measurements->modules)
        errors += values.measured ? values.relative_error() : 0;
    CHECK(errors / 800 == doctest::Approx(0.009057).epsilon(1e-3)); // recorded with NumPy
}

TEST_CASE("without a source: structure and scales, and the report says so") {
    const VerifyReport report = examine(reference_pair().quantized, "");
    check_clean(report);
    for (const CheckOutcome & outcome : report.outcomes) CHECK(outcome.done == (outcome.check->id[0] == 'L'));
    CHECK(report.not_checked.front() ==
          "weights, preserved tensors and other files against the source: none was given");
    CHECK(report_text(report).find("S2   quantized weights are close to the source's") != std::string::npos);
    CHECK(report_text(report).find("not checked: no source was given") != std::string::npos);
}

TEST_CASE("structure alone reads no values") {
    VerifyOptions options;
    options.values = false;
    const VerifyReport report =
        verify::verify(open_folder(fused_pair().quantized).take(), nullptr, two_threads(), options).take();
    check_clean(report);
    CHECK_FALSE(report.measurements.has_value());
    CHECK(report.outcomes[5].check->id == std::string("L6"));
    CHECK_FALSE(report.outcomes[5].done);
}

TEST_CASE("the same report for any number of threads") {
    const auto one = ThreadPool::create(1).take(), three = ThreadPool::create(3).take();
    std::string texts[2];
    ThreadPool * const pools[2] = {one.get(), three.get()};
    for (int i = 0; i < 2; i++) {
        VerifyReport report = examine(open_folder(reference_pair().quantized).take(), tiny, *pools[i]);
        report.seconds = 0, report.threads = 0;
        texts[i] = report_text(report) + report_json(report).take();
    }
    CHECK(texts[0] == texts[1]);
}

TEST_CASE("a lossless change of dtype is a note, a lossy one a warning") {
    const ScratchFolder scratch;
    std::vector<MemoryTensor> tensors = load_tensors(fused_pair().quantized);
    MemoryTensor & norm = find_tensor(tensors, "model.language_model.layers.0.input_layernorm.weight");
    std::string wide;
    for (size_t i = 0; i < norm.data.size(); i += 2)
        wide += std::string(2, '\0') + norm.data.substr(i, 2); // BF16 -> F32
    norm.dtype = DType::f32;
    norm.data = wide;
    MemoryTensor & embedding = find_tensor(tensors, "model.language_model.embed_tokens.weight"); // has tiny numbers
    for (size_t i = 0; i < embedding.data.size(); i += 2) {
        uint16_t bits;
        memcpy(&bits, &embedding.data[i], sizeof bits);
        bits = nvfp4::f16_from_float(nvfp4::bf16_to_float(bits));
        memcpy(&embedding.data[i], &bits, sizeof bits);
    }
    embedding.dtype = DType::f16;
    save_tensors(scratch.path(), tensors, 1);
    copy_other_files(fused_pair().quantized, scratch.path());
    const VerifyReport report = examine(scratch.path(), tiny);
    CHECK(report.errors() == 0);
    CHECK(report.findings.count("S1", Severity::note) == 1);
    CHECK(report.findings.count("S1", Severity::warning) == 1);
    CHECK(preserved_summary(report).converted == 1);
    CHECK(preserved_summary(report).rounded == 1);
}
