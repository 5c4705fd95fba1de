// Whole calibrated runs on a CUDA device: what llm-compressor wrote, the CPU's files but for input scales, the same files
// whatever the budgets; and runs that fail leave nothing that looks finished.
#include "budget_message.h"
#include "e2e/reference_fixture.h"

#include <algorithm>
#include <csignal>
#include <map>
#include <sys/resource.h>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

CalibratedRun run_to(const std::string & destination, const std::string & tokens = reference_tokens) {
    CalibratedRun run;
    run.destination = destination;
    run.tokens = tokens;
    run.precision = GNV_PRECISION_BF16;
    run.device = 1;
    return run;
}

// Calls `act` once, when this share of the positions is done.
struct AtShare {
    double share;
    int (*act)(const std::string & folder);
    std::string folder;
    bool done = false;

    static int call(void * user, const gnv_progress * now) {
        AtShare & it = *static_cast<AtShare *>(user);
        if (it.done || !now->positions_total || double(now->positions) < it.share * double(now->positions_total))
            return 0;
        it.done = true;
        return it.act(it.folder);
    }
    void watch(CalibratedRun & run) {
        run.progress = call;
        run.user = this;
    }
};

int truncate_shards(const std::string & folder) {
    for (const DirectoryEntry & entry : list_directory(folder).take())
        if (ends_with(entry.name, ".safetensors")) GNV_CHECK(truncate(join_path(folder, entry.name).c_str(), 100) == 0);
    return 0;
}

// While it lives, no file grows beyond a size, as on a disk that is full.
class FileSizeLimit {
  public:
    explicit FileSizeLimit(rlim_t bytes) : handler_(signal(SIGXFSZ, SIG_IGN)) {
        GNV_CHECK(getrlimit(RLIMIT_FSIZE, &before_) == 0);
        const rlimit limit = {bytes, before_.rlim_max};
        GNV_CHECK(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    }
    ~FileSizeLimit() {
        setrlimit(RLIMIT_FSIZE, &before_);
        signal(SIGXFSZ, handler_);
    }

  private:
    rlimit before_;
    void (*handler_)(int);
};

} // namespace

TEST_CASE("a whole run: the reference's tensors, and at least 740 of its 800 input scales within two BF16 steps") {
    const ScratchFolder scratch;
    const CalibratedRun run = run_to(scratch / "out");
    require_good(quantize(run));
    check_reference_tensors(load_tensors(run.destination));
    const ScaleComparison compared = compare_scales(input_scales_of(run.destination), reference_input_scales());
    MESSAGE(compared.near, " of ", compared.compared, " within two steps, worst ", compared.worst);
    CHECK(compared.compared == 800);
    CHECK(compared.near >= 740);
    CHECK(compared.worst <= 0.12);
}

TEST_CASE("a whole run and the CPU's in BF16 differ in nothing but input scales, and those by little") {
    const ScratchFolder scratch;
    CalibratedRun cuda = run_to(scratch / "cuda"), cpu = run_to(scratch / "cpu");
    cpu.device = 0;
    require_good(quantize(cuda));
    require_good(quantize(cpu));
    const std::vector<MemoryTensor> found = load_tensors(cuda.destination), expected = load_tensors(cpu.destination);
    REQUIRE(found.size() == expected.size());
    size_t input_scales = 0;
    for (size_t i = 0; i < found.size(); i++) {
        CAPTURE(found[i].name);
        REQUIRE(found[i].name == expected[i].name);
        CHECK(found[i].dtype == expected[i].dtype);
        CHECK(found[i].shape == expected[i].shape);
        if (ends_with(found[i].name, ".input_global_scale"))
            input_scales++;
        else
            CHECK((found[i].data == expected[i].data));
    }
    CHECK(input_scales == 800);
    const ScaleComparison compared =
        compare_scales(input_scales_of(cuda.destination), input_scales_of(cpu.destination));
    MESSAGE(compared.near, " of ", compared.compared, " within two steps of the CPU's, worst ", compared.worst);
    CHECK(compared.near >= 740);
    CHECK(compared.worst <= 0.12);
    const auto files = file_hashes(cuda.destination), others = file_hashes(cpu.destination);
    CHECK(files.size() == others.size());
    for (const auto & [name, hash] : others)
        if (!ends_with(name, ".safetensors") && name != "quantization_report.json")
            CHECK_MESSAGE(files.at(name) == hash, name);
}

TEST_CASE("a whole run: the same files with screening, without, and with both compared") {
    const ScratchFolder scratch;
    std::map<std::string, std::string> expected;
    for (const gnv_screening screening : {GNV_SCREENING_OFF, GNV_SCREENING_ON, GNV_SCREENING_CHECK}) {
        CalibratedRun run = run_to(scratch / std::to_string(int(screening)));
        run.screening = screening;
        require_good(quantize(run));
        std::map<std::string, std::string> files;
        for (const auto & [name, hash] : file_hashes(run.destination))
            if (ends_with(name, ".safetensors")) files[name] = hash;
        if (expected.empty()) expected = files;
        CHECK(!files.empty());
        CHECK(files == expected);
    }
}

TEST_CASE("a whole run with mse differs from the CPU's in nothing but input scales") {
    const ScratchFolder scratch;
    const std::string tokens = scratch.save("tokens.json", tokens_text(short_samples(3)));
    CalibratedRun cuda = run_to(scratch / "cuda", tokens), cpu = run_to(scratch / "cpu", tokens);
    cuda.method = cpu.method = GNV_METHOD_MSE;
    cpu.device = 0;
    require_good(quantize(cuda));
    require_good(quantize(cpu));
    const std::vector<MemoryTensor> found = load_tensors(cuda.destination), expected = load_tensors(cpu.destination);
    REQUIRE(found.size() == expected.size());
    for (size_t i = 0; i < found.size(); i++)
        if (!ends_with(found[i].name, ".input_global_scale"))
            CHECK_MESSAGE((found[i].data == expected[i].data), found[i].name);
}

// The device measures, factors and packs; the CPU gets the device's totals from a file.
TEST_CASE("a whole run with moments gives the CPU's files from the same statistics, and the same with any budget") {
    const ScratchFolder scratch;
    const std::string tokens = scratch.save("tokens.json", tokens_text(short_samples(9)));
    for (const gnv_method method : {GNV_METHOD_HESSIAN, GNV_METHOD_GPTQ}) {
        CAPTURE(int(method));
        CalibratedRun run = run_to(scratch / "out", tokens);
        run.method = method;
        run.experts = GNV_EXPERTS_ROUTED;
        run.save_statistics = scratch / concat("statistics", int(method), ".json");
        const auto expected = files_of(run);
        CalibratedRun again = run;
        again.save_statistics.clear();
        CHECK(files_of(again) == expected);
        again.device_bytes = uint64_t(2) << 30;
        again.threads = 3;
        CHECK(files_of(again) == expected);
        CalibratedRun cpu = again;
        cpu.device = 0;
        cpu.device_bytes = 0;
        cpu.tokens.clear();
        cpu.statistics = {run.save_statistics};
        CHECK(files_of(cpu) == expected);
    }
}

TEST_CASE("a whole run gives the same files twice, and with any budget") {
    const ScratchFolder scratch;
    const std::string tokens = scratch.save("tokens.json", tokens_text(short_samples(9)));
    for (const gnv_expert_tokens experts : {GNV_EXPERTS_ALL, GNV_EXPERTS_ROUTED}) {
        CalibratedRun run = run_to(scratch / "out", tokens);
        run.experts = experts;
        const auto expected = files_of(run);
        CHECK(files_of(run) == expected);
        run.threads = 3;
        run.device_bytes = 1;
        RunResult refused = quantize(run);
        CHECK(refused.status == GNV_OUT_OF_MEMORY);
        check_unfinished(run);
        run.device_bytes = smallest_budget(refused.message);
        CHECK(files_of(run) == expected);
        run.device_bytes += run.device_bytes / 20;
        CHECK(files_of(run) == expected);
        run.scratch_folder = scratch.path();
        run.ram_bytes = 1;
        refused = quantize(run);
        CHECK(refused.status == GNV_OUT_OF_MEMORY);
        check_unfinished(run);
        run.ram_bytes = smallest_budget(refused.message);
        CHECK(files_of(run) == expected);
    }
}

TEST_CASE("a whole run that is stopped, whose source vanishes or whose disk is full") {
    const ScratchFolder scratch;
    CalibratedRun run = run_to(scratch / "out");
    for (const double share : {0.0, 0.3, 0.9}) {
        CAPTURE(share);
        AtShare stop{share, [](const std::string &) { return 1; }, ""};
        stop.watch(run);
        const RunResult stopped = quantize(run);
        CHECK(stopped.status == GNV_CANCELLED);
        CHECK_MESSAGE(stopped.says(run.destination + ".partial"), stopped.message);
        CHECK(stop.done);
        check_unfinished(run);
    }

    run.source = scratch / "source";
    copy_folder(tiny_folder, run.source);
    AtShare vanish{0.3, truncate_shards, run.source};
    vanish.watch(run);
    const RunResult vanished = quantize(run);
    CHECK_MESSAGE((vanished.status == GNV_CHANGED || vanished.status == GNV_FORMAT || vanished.status == GNV_IO),
                  vanished.message);
    CHECK_MESSAGE(vanished.says(run.source), vanished.message);
    CHECK(vanish.done);
    check_unfinished(run);

    run = run_to(scratch / "out");
    {
        const FileSizeLimit limit(2 << 20);
        const RunResult full = quantize(run);
        CHECK_MESSAGE(full.status == GNV_NO_SPACE, full.message);
        CHECK_MESSAGE(full.says(run.destination + ".partial"), full.message);
        check_unfinished(run);
    }
    require_good(quantize(run));
}
