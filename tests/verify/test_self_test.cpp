// Every injected fault is found, on checkpoints of different shapes, and every check has a fault that it alone finds.
#include "verify/self_test.h"
#include "verify_fixture.h"

using namespace gnv;
using namespace gnv::test;
using namespace gnv::verify;

namespace {

SelfTestReport run(const CheckpointPair & pair, bool with_source = true) {
    std::shared_ptr<const Folder> source;
    if (with_source) source = open_folder(pair.source).take();
    return self_test(open_folder(pair.quantized).take(), source, two_threads(), {}).take();
}

// Run once for all tests: it goes through every fault.
const SelfTestReport & reference_without_source() {
    static const SelfTestReport report = run(reference_pair(), false);
    return report;
}

void check_all_found(const SelfTestReport & report) {
    CHECK(report.baseline_errors == 0);
    for (const FaultResult & result : report.results)
        if (result.outcome == FaultOutcome::escaped) FAIL_CHECK(std::string(result.fault->name));
}

std::string found_by(const FaultResult & result) {
    std::string out;
    for (const std::string & id : result.found_by) out += (out.empty() ? "" : " ") + id;
    return out;
}

} // namespace

TEST_CASE("all faults are found in llm-compressor's output of the small checkpoint") {
    const SelfTestReport report = run(reference_pair());
    check_all_found(report);
    CHECK(report.count(FaultOutcome::found) == faults().size()); // W4A4 with vision and draft head: all apply

    // What only one check can see, only that one reports. L4 and L13 have tests of their own.
    std::set<std::string> alone;
    for (const SelfTestReport * each : {&report, &reference_without_source()})
        for (const FaultResult & result : each->results)
            if (result.found_by.size() == 1) alone.insert(result.found_by.front());
    for (const char * id :
         {"L1", "L2", "L3", "L5", "L6", "L7", "L8", "L9", "L10", "L11", "L12", "L14", "S1", "S2", "S3", "S4"})
        CHECK_MESSAGE(alone.count(id) == 1, std::string(id));
}

TEST_CASE("all faults are found in weight-only output, fused and split sources") {
    for (const CheckpointPair * pair : {&fused_pair(), &split_pair()}) {
        const SelfTestReport report = run(*pair);
        check_all_found(report);
        CHECK(report.count(FaultOutcome::not_applicable) == 3); // input scales
    }
}

TEST_CASE("all faults are found in output whose draft head is quantized, too") {
    const SelfTestReport report = run(draft_pair());
    check_all_found(report);
    CHECK(report.count(FaultOutcome::not_applicable) == 3); // input scales
    for (const FaultResult & result : report.results)
        if (result.fault->name == std::string("draft head undeclared")) CHECK(found_by(result) == "L11");
}

TEST_CASE("all faults are found in a checkpoint of another shape") {
    const SelfTestReport report = run(odd_pair());
    check_all_found(report);
    CHECK(report.count(FaultOutcome::found) >= 30);
}

TEST_CASE("codes of another method than round-to-nearest: what S3 alone could find does not apply") {
    CheckpointPair pair;
    pair.source = tiny;
    quantize_source(pair, default_shard_bytes, least_squares());
    const SelfTestReport report = run(pair);
    check_all_found(report);
    CHECK(report.count(FaultOutcome::not_applicable) == 4); // input scales, and the lowest bit of a code
    for (const FaultResult & result : report.results)
        if (result.fault->name == std::string("lowest bit of one code flipped"))
            CHECK(result.outcome == FaultOutcome::not_applicable);
}

TEST_CASE("without a source the faults that show alone are found, the others are named") {
    const SelfTestReport & report = reference_without_source();
    check_all_found(report);
    CHECK(report.count(FaultOutcome::needs_source) >= 9);
    for (const FaultResult & result : report.results)
        CHECK((result.outcome == FaultOutcome::needs_source) == result.fault->needs_source);
    // L7 judges an inverted scale by its size alone then.
    for (const FaultResult & result : report.results)
        if (result.fault->name == std::string("global scale inverted")) CHECK(found_by(result) == "L7");
    const std::string text = self_test_text(report);
    CHECK(text.find("nibbles swapped") != std::string::npos);
    CHECK(text.find("needs --source") != std::string::npos);
    const Json json = Json::parse(self_test_json(report));
    CHECK(json["schema"] == "ggml-nvfp4.self_test.1");
    CHECK(json["results"].size() == faults().size());
    CHECK(json["escaped"] == 0);
}

TEST_CASE("nothing is written") {
    const auto content = [&] {
        std::string all;
        for (const DirectoryEntry & entry : list_directory(fused_pair().quantized).take())
            all += entry.name + read_file(join_path(fused_pair().quantized, entry.name), 1 << 30).value();
        return all;
    };
    const std::string before = content();
    (void)run(fused_pair(), false);
    CHECK(content() == before);
}
