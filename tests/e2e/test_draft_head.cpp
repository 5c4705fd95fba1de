// The draft head in NVFP4. A source whose head has the weights of a layer shows what its bytes must be: those of that layer, which
// test_e2e compares with llm-compressor's.
#include "e2e/calibrated_fixture.h"
#include "verify/verify.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

const std::string of_layer = "model.language_model.layers.7.", of_head = "mtp.layers.0.";
constexpr size_t head_modules = 4 + 32 * 3 + 3; // attention, experts, shared expert

// The small checkpoint with the weights of its last layer, which has full attention, in the draft head.
std::string save_source(const ScratchFolder & scratch, bool split) {
    std::string source = scratch / (split ? "split" : "fused");
    REQUIRE(make_directory(source).ok());
    std::vector<MemoryTensor> tensors = load_tensors(tiny_folder);
    const std::vector<MemoryTensor> all = tensors;
    size_t copied = 0;
    for (MemoryTensor & tensor : tensors) {
        if (!starts_with(tensor.name, of_head)) continue;
        for (const MemoryTensor & other : all)
            if (other.name == of_layer + tensor.name.substr(of_head.size())) tensor.data = other.data, copied++;
    }
    REQUIRE(copied == 15);
    save_tensors(source, split ? split_experts(tensors) : tensors, 2);
    copy_other_files(tiny_folder, source);
    return source;
}

using Prints = std::map<std::string, std::string>; // of tensors: dtype, shape, SHA-256

Prints prints_of(const std::string & folder) {
    Prints out;
    for (const MemoryTensor & tensor : load_tensors(folder))
        out[tensor.name] = concat(dtype_name(tensor.dtype), " ", shape_text(tensor.shape), " ",
                                  sha256_hex(tensor.data.data(), tensor.data.size()));
    return out;
}

bool is_packed(const std::string & name) {
    return ends_with(name, ".weight_packed") || ends_with(name, ".weight_scale") ||
           ends_with(name, ".weight_global_scale");
}

// The head of `result` has the packed weights that the last layer has in `layer`, and else the bytes of the source.
void check_head(const Prints & result, const Prints & layer, const Prints & source) {
    size_t packed = 0, kept = 0;
    for (const auto & [name, print] : result) {
        if (!starts_with(name, "mtp.")) continue;
        CAPTURE(name);
        if (is_packed(name)) {
            CHECK(print == layer.at(of_layer + name.substr(of_head.size())));
            packed++;
        } else {
            CHECK(print == source.at(name));
            kept++;
        }
    }
    CHECK(packed == 3 * head_modules);
    CHECK(kept == 4 + 4 + 2); // fc and norms of its own, norms of the block, router and gate
}

void check_verified(const std::string & folder, const std::string & source) {
    const auto threads = ThreadPool::create(2).take();
    const verify::VerifyReport report =
        verify::verify(open_folder(folder).take(), open_folder(source).take(), *threads, {}).take();
    for (const verify::Finding & finding : report.findings.all())
        if (finding.severity != verify::Severity::note)
            FAIL_CHECK(finding.check << " " << finding.subject << ": " << finding.what);
}

std::vector<std::string> texts_of(const JsonValue & list) {
    std::vector<std::string> out;
    (void)list
        .for_each_element([&](size_t, const JsonValue & item) -> Status {
            out.emplace_back(item.as_string().value());
            return {};
        })
        .ok();
    return out;
}

} // namespace

TEST_CASE("a head with the weights of a layer gets that layer's bytes, from fused and single experts") {
    const ScratchFolder scratch;
    for (const bool split : {false, true}) {
        CAPTURE(split);
        CalibratedRun run;
        run.source = save_source(scratch, split);
        run.destination = scratch / (split ? "out split" : "out fused");
        run.scheme = GNV_SCHEME_NVFP4A16;
        run.draft_head = GNV_DRAFT_HEAD_NVFP4A16;
        require_good(quantize(run));
        const Prints prints = prints_of(run.destination);
        check_head(prints, prints, prints_of(run.source));
        check_verified(run.destination, run.source);

        const JsonDocument config = JsonDocument::read(run.destination + "/config.json", 1 << 20).take();
        const JsonValue quantization = config.root().get("quantization_config").value();
        const std::vector<std::string> ignore = texts_of(quantization.get("ignore").value());
        const std::vector<std::string> expected = {"re:.*mtp\\.fc$", "re:.*mtp\\.layers\\.0\\.mlp\\.gate$",
                                                   "re:.*mtp\\.layers\\.0\\.mlp\\.shared_expert_gate$"};
        REQUIRE(ignore.size() > 3);
        CHECK(std::vector<std::string>(ignore.end() - 3, ignore.end()) == expected);
        JsonValue second;
        CHECK_FALSE(quantization.get("config_groups").value().find("group_1", second));
    }
}

TEST_CASE("beside W4A4, and by a method that needs statistics: weights alone, by the best that needs none") {
    const ScratchFolder scratch;
    CalibratedRun mse;
    mse.source = save_source(scratch, false);
    mse.destination = scratch / "mse";
    mse.scheme = GNV_SCHEME_NVFP4A16;
    mse.method = GNV_METHOD_MSE;
    require_good(quantize(mse));
    CalibratedRun run = mse;
    run.scheme = GNV_SCHEME_NVFP4;
    run.method = GNV_METHOD_GPTQ;
    run.experts = GNV_EXPERTS_ROUTED;
    run.tokens = scratch.save("ids.json", tokens_text(short_samples(6)));
    run.destination = scratch / "kept";
    run.save_statistics = scratch / "statistics.json";
    require_good(quantize(run));
    run.draft_head = GNV_DRAFT_HEAD_NVFP4A16;
    run.destination = scratch / "quantized";
    run.save_statistics.clear();
    const RunResult result = quantize(run);
    require_good(result);

    const Prints source = prints_of(run.source), kept = prints_of(scratch / "kept"),
                 prints = prints_of(run.destination);
    check_head(prints, prints_of(mse.destination), source);
    for (const auto & [name, print] : kept) // the text is what it is without
        if (!starts_with(name, "mtp.")) CHECK_MESSAGE(prints.at(name) == print, name);
    for (const auto & [name, scale] : input_scales_of(run.destination)) CHECK_FALSE(starts_with(name, "mtp."));
    check_verified(run.destination, run.source);

    const JsonDocument config = JsonDocument::read(run.destination + "/config.json", 1 << 20).take();
    const JsonValue groups = config.root().get("quantization_config").value().get("config_groups").value();
    CHECK(texts_of(groups.get("group_0").value().get("targets").value()) == std::vector<std::string>{"Linear"});
    const JsonValue group = groups.get("group_1").value();
    CHECK(texts_of(group.get("targets").value()) == std::vector<std::string>{"re:.*mtp.*"});
    CHECK(group.get("input_activations").value().is_null());

    // The report of the run, and that in the result.
    const JsonDocument report = JsonDocument::parse(result.report, "report").take();
    const JsonValue head = report.root().get("draft_head").value();
    CHECK(head.get("scheme").value().as_string().value() == "nvfp4a16");
    CHECK(head.get("method").value().as_string().value() == "mse");
    CHECK(head.get("quantized_modules").value().as_int().value() == int64_t(head_modules));
    CHECK(number_of(report, "quantized_modules") == 800 + int64_t(head_modules));
    const auto rows_of = [&](const std::string & folder) {
        const JsonDocument document = JsonDocument::read(folder + "/quantization_report.json", 1 << 20).take();
        return std::string(document.root().get("rows_by_method").value().text());
    };
    CHECK(rows_of(run.destination) == rows_of(scratch / "kept"));

    // From saved statistics the same.
    CalibratedRun again = run;
    again.tokens.clear();
    again.statistics = {scratch / "statistics.json"};
    again.destination = scratch / "again";
    require_good(quantize(again));
    CHECK(prints_of(again.destination) == prints);
}

TEST_CASE("a stopped run goes on with the head; layers apart leave it to the last run") {
    const ScratchFolder scratch;
    struct Stop {
        double share = 0;
        static int callback(void * user, const gnv_progress * now) {
            const double share = static_cast<Stop *>(user)->share;
            if (now->positions_total > 0) return double(now->positions) >= share * double(now->positions_total);
            return now->tensors > 0 && double(now->tensors) >= share * double(now->tensors_total);
        }
    };
    for (const bool calibrated : {false, true}) {
        CalibratedRun run;
        run.destination = scratch / "out";
        run.draft_head = GNV_DRAFT_HEAD_NVFP4A16;
        if (calibrated) {
            run.tokens = scratch.save("ids.json", tokens_text(short_samples(4)));
            run.method = GNV_METHOD_HESSIAN;
            run.resume = GNV_RESUME_EACH_LAYER;
        } else {
            run.scheme = GNV_SCHEME_NVFP4A16;
        }
        const auto expected = files_of(run);
        for (const double share : {0.3, 0.97}) {
            CAPTURE(share);
            CalibratedRun stopped = run;
            Stop stop{share};
            stopped.progress = Stop::callback;
            stopped.user = &stop;
            CHECK(quantize(stopped).status == GNV_CANCELLED);
            CalibratedRun other = run;
            other.draft_head = GNV_DRAFT_HEAD_KEEP;
            const RunResult refused = quantize(other);
            CHECK(refused.status == GNV_ALREADY_EXISTS);
            CHECK_MESSAGE(refused.says("draft head (was \"nvfp4a16\""), refused.message);
            run.threads = share < 0.5 ? 1 : 3;
            require_good(quantize(run));
            CHECK(file_hashes(run.destination) == expected);
            REQUIRE(remove_tree(run.destination).ok());
        }
        if (calibrated) continue;
        CalibratedRun part = run;
        part.destination = scratch / "part";
        part.layer_count = 3;
        require_good(quantize(part));
        run.take = {part.destination + ".partial"};
        require_good(quantize(run));
        CHECK(file_hashes(run.destination) == expected);
        REQUIRE(remove_tree(run.destination).ok());
    }
}
