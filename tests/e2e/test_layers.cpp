// Layers that are quantized apart, as on several machines: the files of one run, whatever is taken from where.
#include "e2e/calibrated_fixture.h"
#include "output/checkpoint_writer.h"

#include <doctest/doctest.h>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Machines {
    ScratchFolder scratch;
    CalibratedRun run;
    std::map<std::string, std::string> expected;

    Machines() {
        run.scheme = GNV_SCHEME_NVFP4A16;
        run.destination = scratch / "out";
        expected = files_of(run);
    }
    // The unfinished folder that a machine leaves.
    std::string make(const std::string & name, int32_t first, int32_t count) {
        CalibratedRun part = run;
        part.destination = scratch / name;
        part.first_layer = first;
        part.layer_count = count;
        require_good(quantize(part));
        CHECK_FALSE(path_exists(part.destination));
        CHECK(path_exists(part.destination + ".partial/journal"));
        CHECK_FALSE(path_exists(part.destination + ".partial/config.json"));
        return part.destination + ".partial";
    }
    RunResult refuse(CalibratedRun with) {
        const RunResult result = quantize(with);
        CHECK(result.status != GNV_OK);
        CHECK_FALSE(path_exists(with.destination));
        if (path_exists(with.destination + ".partial")) REQUIRE(remove_tree(with.destination + ".partial").ok());
        return result;
    }
};

uint64_t bytes_read(const RunResult & result) {
    const JsonDocument report = JsonDocument::parse(result.report, "report").take();
    return uint64_t(number_of(report, "bytes_read"));
}

} // namespace

TEST_CASE("layers from several machines make the files of one run; what is missing is made") {
    Machines m;
    const std::string a = m.make("a", 0, 3), b = m.make("b", 3, 5), some = m.make("some", 2, 2);
    for (const auto & take : {std::vector{a, b}, std::vector{b, a, some}, std::vector{some}, std::vector{a}}) {
        CAPTURE(take.size());
        CalibratedRun run = m.run;
        run.take = take;
        const RunResult result = quantize(run);
        require_good(result);
        CHECK(file_hashes(run.destination) == m.expected);
        REQUIRE(remove_tree(run.destination).ok());
        CHECK(path_exists(take.front() + "/journal")); // it is only read
    }
    CalibratedRun all = m.run, rest = m.run;
    rest.take = {a, b};
    const RunResult whole = quantize(all);
    REQUIRE(remove_tree(all.destination).ok());
    CHECK(bytes_read(quantize(rest)) < bytes_read(whole) / 2); // what belongs to no layer
}

TEST_CASE("layers one after the other in one folder, then all: the files of one run") {
    Machines m;
    for (const auto & [first, count] : {std::pair(5, 3), std::pair(0, 2), std::pair(1, 4)})
        (void)m.make("out", first, count);
    require_good(quantize(m.run));
    CHECK(file_hashes(m.run.destination) == m.expected);
    CHECK_FALSE(path_exists(m.run.destination + ".partial"));
}

TEST_CASE("a source with other times is the same model, so its layers can be taken") {
    Machines m;
    const std::string a = m.make("a", 0, 4);
    CalibratedRun run = m.run;
    run.source = m.scratch / "copy";
    copy_folder(tiny_folder, run.source);
    run.take = {a};
    require_good(quantize(run));
    CHECK(file_hashes(run.destination) == m.expected);
}

TEST_CASE("what cannot be taken is refused by name, and so are layers that are not there") {
    Machines m;
    const std::string a = m.make("a", 0, 1);
    const auto refusal = [&](const std::string & folder) {
        CalibratedRun run = m.run;
        run.take = {folder};
        return m.refuse(run).message;
    };
    CHECK(refusal(m.scratch / "nowhere").find("nowhere is no unfinished folder of a run") != std::string::npos);
    CHECK(refusal(tiny_folder).find("is no unfinished folder") != std::string::npos);
    CalibratedRun other = m.run;
    other.method = GNV_METHOD_MSE;
    other.take = {a};
    CHECK(
        m.refuse(other).says("a.partial is of a run whose result would be another: method (was \"rtn\", now \"mse\")"));
    const std::string shard = a + "/model.safetensors";
    const std::string content = read_file(shard, 1 << 30).take();
    REQUIRE(truncate(shard.c_str(), off_t(content.size() - 1)) == 0);
    CHECK(refusal(a).find("model.safetensors has another size or header than its run wrote") != std::string::npos);
    REQUIRE(remove_file(shard).ok());
    CHECK(refusal(a).find("model.safetensors") != std::string::npos);

    CalibratedRun run = m.run;
    for (const auto & [first, count] : {std::pair(8, 1), std::pair(0, 9), std::pair(-1, 2), std::pair(0, -1)}) {
        run.first_layer = first, run.layer_count = count;
        CHECK(m.refuse(run).says("the model has 8, from 0 on"));
    }
    run.first_layer = 0, run.layer_count = 2;
    run.resume = GNV_RESUME_OFF;
    CHECK(m.refuse(run).says("--no-resume"));
    run.resume = GNV_RESUME_ON;
    run.scheme = GNV_SCHEME_NVFP4;
    run.tokens = m.scratch.save("ids.json", tokens_text(short_samples(2)));
    CHECK(m.refuse(run).says("a forward pass needs all layers"));
}
