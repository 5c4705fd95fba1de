// Models whose weights stay on the hub: the bytes of a download, with little disk space and a server that misbehaves.
#include "checkpoint_files.h"
#include "core/sha256.h"
#include "faults/small_model.h"
#include "forward/deferred_device.h"
#include "ggml-nvfp4.h"
#include "hub/model_files.h"
#include "hub/stream/streamed_folder.h"
#include "hub_server.h"
#include "model/fingerprint.h"
#include "quant/calibration_statistics.h"
#include "quantize/calibrate.h"
#include "quantize/packing/source_reads.h"
#include "run_tool.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <numeric>
#include <random>
#include <thread>

#ifdef __linux__
#include <cerrno>
#include <fcntl.h>
#include <sys/syscall.h>
#endif

using namespace gnv;
using namespace gnv::test;

#ifdef __linux__
// In place of the system's: reservations of some sizes fail in turns, as on a disk that others fill.
static std::function<bool(uint64_t bytes)> is_disk_full;
static std::mutex disk_mutex;

extern "C" int fallocate(int fd, int mode, off_t offset, off_t bytes) {
    const std::lock_guard<std::mutex> lock(disk_mutex);
    if (!is_disk_full || !is_disk_full(uint64_t(bytes))) return int(syscall(SYS_fallocate, fd, mode, offset, bytes));
    errno = ENOSPC;
    return -1;
}
extern "C" int fallocate64(int fd, int mode, off64_t offset, off64_t bytes) {
    return fallocate(fd, mode, offset, bytes);
}
#endif

namespace {

constexpr size_t shard_count = 7;
constexpr uint32_t vocabulary = 512;

bool has(const std::string & text, const std::string & part) { return text.find(part) != std::string::npos; }

std::string replaced(std::string text, const std::string & from, const std::string & to) {
    const size_t at = text.find(from);
    REQUIRE(at != std::string::npos);
    return text.replace(at, from.size(), to);
}

// Six blocks in seven files of about one size, in the order of names, as on the hub: blocks begin in one file and end in
// another.
void write_split_model(const std::string & folder) {
    const ScratchFolder scratch;
    std::string config = replaced(small_config, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 6");
    config = replaced(config, "[\"linear_attention\", \"full_attention\"]",
                      "[\"linear_attention\", \"full_attention\", \"linear_attention\", \"linear_attention\", "
                      "\"linear_attention\", \"full_attention\"]");
    config = replaced(config, "8192", std::to_string(vocabulary));
    SyntheticOptions options;
    options.layout.fused_experts = false;
    REQUIRE(write_synthetic_checkpoint(config, scratch / "whole", options).ok());
    scratch.save("whole/tokenizer.json", "{}\n");
    std::vector<MemoryTensor> tensors = load_tensors(scratch / "whole");
    std::sort(tensors.begin(), tensors.end(), [](const auto & a, const auto & b) { return a.name < b.name; });
    REQUIRE(make_directory(folder).ok());
    save_tensors(folder, tensors, shard_count);
    copy_other_files(scratch / "whole", folder);
}

struct Hub {
    HubServer server;
    ScratchFolder scratch;
    std::string folder; // that the repository serves
    uint64_t largest = 0, all = 0;
    std::vector<uint64_t> sizes;
    HubOptions options;

    Hub() {
        REQUIRE(make_directory(server.root / "org").ok());
        folder = server.root / "org/small";
        write_split_model(folder);
        for (const DirectoryEntry & entry : list_directory(folder).take()) {
            if (!ends_with(entry.name, ".safetensors")) continue;
            const uint64_t size = File::open_read(join_path(folder, entry.name)).value().stamp().value().size;
            largest = std::max(largest, size), all += size;
            sizes.push_back(size);
        }
        options.http = server.http();
        options.cache = scratch / "cache";
        options.retry.first_wait_ms = 1;
        options.retry.longest_wait_ms = 8;
        options.retry.tries = 100;
        options.connections = 3;
    }
    Result<std::shared_ptr<const Folder>> open(uint64_t disk_bytes = 0) const {
        return stream_model(options, parse_repository_name(RepositoryKind::model, "org/small").take(), disk_bytes);
    }
};

CalibrationData random_data() {
    std::mt19937 random(1);
    CalibrationData data;
    for (const int length : {40, 1, 25, 31}) {
        TextSequence & text = data.sequences.emplace_back();
        for (int i = 0; i < length; i++) text.ids.push_back(int32_t(random() % vocabulary));
        data.positions += uint64_t(length);
    }
    data.tokens = data.positions;
    data.json = "{}";
    return data;
}

// Runs of quantize with one source and another.
struct Runs {
    explicit Runs(const Hub & of_hub) : hub(of_hub) {}

    const Hub & hub;
    CalibrationData data = random_data();
    const Quantizer * quantizer = &round_to_nearest();
    bool calibrates = false, on_device = false;
    Resume resume = Resume::off;
    FetchPlan planned;
    QuantizeReport report;

    Result<Plan> plan(std::shared_ptr<const Folder> source) const {
        PlanOptions options;
        options.recipe.quantizer = quantizer;
        options.recipe.scheme = calibrates ? &formats::nvfp4 : &formats::nvfp4a16;
        options.threads = 3;
        options.buffer_share = calibrating_buffer_share;
        return make_plan(std::move(source), options);
    }
    Status run(std::shared_ptr<const Folder> source, const std::string & destination) {
        GNV_ASSIGN(const auto pool, ThreadPool::create(3));
        GNV_ASSIGN(Plan plan, this->plan(std::move(source)));
        QuantizeOptions options;
        options.destination = destination;
        options.scratch_folder = hub.scratch.path();
        options.resume = resume;
        if (calibrates) options.calibration = &data;
        if (on_device) options.open_device = open_deferred(0);
        if (const FetchedFiles * const fetched = plan.checkpoint.files().fetched()) {
            SourceReads reads(plan);
            std::vector<uint32_t> units(plan.units.size());
            std::iota(units.begin(), units.end(), 0);
            reads.add_units(units, nullptr);
            planned = fetched->plan(reads.list());
            if (calibrates) {
                GNV_ASSIGN(const FolderFiles shards, plan.checkpoint.open_shards());
                GNV_ASSIGN(const auto calibration, Calibration::create(plan, shards, *pool, data, options));
                GNV_ASSIGN(const SourceReads of_pass, calibration->reads(0, true));
                planned = fetched->plan(of_pass.list());
            }
        }
        GNV_ASSIGN(report, quantize(plan, *pool, options));
        return {};
    }
    Files files(std::shared_ptr<const Folder> source) {
        const std::string destination = hub.scratch / "made";
        const Status status = run(std::move(source), destination);
        REQUIRE_MESSAGE(status.ok(), status.message());
        Files files = read_folder(destination);
        REQUIRE(remove_tree(destination).ok());
        return files;
    }
};

// What is in the cache besides names: the weights leave nothing there.
uint64_t bytes_in_blobs(const Hub & hub) {
    uint64_t bytes = 0;
    const std::string blobs = hub.options.cache + "/models--org--small/blobs";
    for (const DirectoryEntry & entry : list_directory(blobs).take())
        bytes += File::open_read(join_path(blobs, entry.name)).value().stamp().value().size;
    return bytes;
}

} // namespace

TEST_CASE(
    "a streamed source gives the bytes of a folder, with room for one file and more, and fetches what was planned") {
    if (!has_program("python3")) return;
    const Hub hub;
    const auto compare = [&](Runs & runs) {
        const Files expected = runs.files(open_folder(hub.folder).take());
        for (const uint64_t room : {hub.largest, 2 * hub.largest, hub.all}) {
            CAPTURE(room);
            const auto source = hub.open(room);
            REQUIRE_MESSAGE(source.ok(), source.status().message());
            CHECK(runs.files(source.value()) == expected);
            CHECK(runs.report.fetched->files == runs.planned.files);
            CHECK(runs.report.fetched->bytes == runs.planned.bytes);
            CHECK(runs.report.fetched->most_bytes <= room);
            if (room == hub.all) CHECK(runs.planned.bytes == hub.all);
            if (room == hub.all) CHECK(runs.planned.again == 0);
            const FetchUse after = source.value()->fetched()->use();
            CHECK(after.files == runs.planned.files); // nothing was fetched behind the run
        }
    };
    Runs weights_alone(hub);
    compare(weights_alone);
    Runs calibrated(hub);
    calibrated.calibrates = true;
    compare(calibrated);
    Runs on_device(hub);
    on_device.calibrates = on_device.on_device = true;
    compare(on_device);
    Runs searched(hub);
    searched.calibrates = true;
    searched.quantizer = all_quantizers()[2];
    compare(searched);
    CHECK(bytes_in_blobs(hub) < hub.largest); // configs and the like
    CHECK(hub.server.seen("leaked") == 0);
}

TEST_CASE("a fingerprint of a streamed model comes from ranges, and is that of its folder") {
    if (!has_program("python3")) return;
    const Hub hub;
    const auto compare = [&](const std::string & folder, const char * name) {
        const Checkpoint here = Checkpoint::open(folder).take();
        const std::string expected = model_fingerprint(here, here.open_shards().value()).take();
        const auto source =
            stream_model(hub.options, parse_repository_name(RepositoryKind::model, name).take(), 0).take();
        const Checkpoint there = Checkpoint::open(source).take();
        CHECK(model_fingerprint(there, there.open_shards().value()).value() == expected);
        CHECK(source->fetched()->use().files == 0);
        CHECK(there.tensors().size() == here.tensors().size());
    };
    compare(hub.folder, "org/small");
    const std::string tiny =
        GNV_TEST_BINARY_DIR "/data/qwen36-tiny"; // its files are larger than what is read of them at first
    REQUIRE(symlink(tiny.c_str(), (hub.server.root / "org/tiny").c_str()) == 0);
    compare(tiny, "org/tiny");
    // The identity of a stopped run does not depend on which files are here.
    CHECK(shard_fingerprint(Checkpoint::open(hub.open().take()).value()).value() ==
          shard_fingerprint(Checkpoint::open(hub.open().take()).value()).value());
}

TEST_CASE("connections that are cut, refusals, wrong lengths and bytes: the bytes of a folder") {
    if (!has_program("python3")) return;
    const Hub hub;
    Runs runs(hub);
    const Files expected = runs.files(open_folder(hub.folder).take());
    int64_t faults = 0;
    for (int run = 0; run < 12; run++) {
        CAPTURE(run);
        const auto source = hub.open(hub.largest * uint64_t(1 + run % 3)).take();
        hub.server.control("{\"seed\": " + std::to_string(run) +
                           ", \"only\": \"model-0\", \"faults\": {\"cut\": 0.5, \"429\": 0.05, \"503\": 0.05, \"500\": "
                           "0.05, \"short\": 0.05, \"long\": 0.02, \"flip\": 0.01, \"whole\": 0.02, \"place\": 0.02}}");
        CHECK(runs.files(source) == expected);
        hub.server.control("{}");
    }
    faults = hub.server.seen("faults");
    CHECK(faults > 50);
    // Headers come through the same faults, but wrong bytes, which no hash tells yet.
    hub.server.control(R"({"seed": 3, "faults": {"cut": 0.6, "503": 0.1, "whole": 0.1, "place": 0.1}})");
    const auto source = hub.open();
    REQUIRE_MESSAGE(source.ok(), source.status().message());
    CHECK(model_fingerprint(Checkpoint::open(source.value()).value(),
                            Checkpoint::open(source.value()).value().open_shards().value())
              .ok());
}

TEST_CASE("bytes that never have the hub's hash, or others than the plan saw, end the run") {
    if (!has_program("python3")) return;
    const Hub hub;
    Runs runs(hub);
    runs.resume = Resume::on;
    const std::string destination = hub.scratch / "made";
    auto source = hub.open().take();
    hub.server.control(R"({"only": "model-00003", "every": "flip"})");
    Status status = runs.run(source, destination);
    CHECK(status.code() == Code::format);
    CHECK_MESSAGE(has(status.message(), "org/small: model-00003-of-00007.safetensors: the hub's hash is"),
                  status.message());
    CHECK_FALSE(path_exists(destination));
    // A header whose length was changed on its way is no header; another change is found when the file comes.
    hub.server.control("{}");
    std::string message;
    for (int run = 0; run < 40 && !has(message, "when the run was planned"); run++) {
        hub.server.control("{\"seed\": " + std::to_string(run) +
                           ", \"only\": \"model-00002\", \"faults\": {\"flip\": 1}}");
        const auto planned = hub.open();
        if (!planned.ok()) continue;
        hub.server.control("{}");
        message = runs.run(planned.value(), hub.scratch / ("other" + std::to_string(run))).message();
    }
    CHECK_MESSAGE(has(message, "org/small: model-00002-of-00007.safetensors: the server sent other bytes"), message);
    // A commit is for good: when its file is gone, or the branch has moved on, nothing else comes in its place.
    source = hub.open().take();
    hub.server.add("org/small/model-00004-of-00007.safetensors", made_up_bytes(5000, 1));
    status = runs.run(source, hub.scratch / "moved");
    CHECK_MESSAGE(has(status.message(), "the hub has no such repository, revision or file"), status.message());
}

TEST_CASE("a streamed run that failed goes on with what it wrote, and fetches the rest alone") {
    if (!has_program("python3")) return;
    Hub hub;
    hub.options.retry.tries = 1; // twelve, of a file
    for (const bool calibrates : {false, true}) {
        CAPTURE(calibrates);
        Runs runs(hub);
        runs.calibrates = calibrates;
        const Files expected = runs.files(open_folder(hub.folder).take());
        runs.resume = Resume::each_layer;
        hub.server.control(R"({"only": "model-00006", "whole": true, "every": "503"})");
        auto source = hub.open(2 * hub.largest);
        REQUIRE_MESSAGE(source.ok(), source.status().message());
        const Status stopped = runs.run(source.value(), hub.scratch / "made");
        CHECK_MESSAGE(has(stopped.message(), "the same command goes on from there"), stopped.message());
        const uint64_t before = source.value()->fetched()->use().files;
        CHECK(before >= 4);
        hub.server.control("{}");
        source = hub.open(2 * hub.largest); // as another process does
        CHECK(runs.files(source.value()) == expected);
        CHECK(runs.report.resumed);
        CHECK(runs.report.resumed_units > 0);
        CHECK(runs.report.fetched->files < runs.planned.files);
    }
}

#ifdef __linux__
TEST_CASE(
    "a disk that fills up while a source is streamed: fewer files at a time; without room for one, the run stops") {
    if (!has_program("python3")) return;
    const Hub hub;
    Runs runs(hub);
    const Files expected = runs.files(open_folder(hub.folder).take());
    size_t calls = 0, failed = 0;
    const auto fill = [&](std::function<bool(uint64_t bytes)> rule) {
        const std::lock_guard<std::mutex> lock(disk_mutex);
        is_disk_full = std::move(rule);
        calls = failed = 0;
    };
    const auto is_shard = [&](uint64_t bytes) {
        return std::find(hub.sizes.begin(), hub.sizes.end(), bytes) != hub.sizes.end();
    };
    {
        const auto source = hub.open(hub.all).take();
        // The first file is on its way when the second finds no room.
        fill([&](uint64_t bytes) { return is_shard(bytes) && calls++ == 1 && ++failed; });
        CHECK(runs.files(source) == expected);
        CHECK(failed == 1);
        fill({});
        CHECK(source->fetched()->plan({}).disk_bytes < hub.all);
    }
    const auto source = hub.open(hub.all).take();
    fill(is_shard);
    const Status status = runs.run(source, hub.scratch / "made");
    fill({});
    CHECK(status.code() == Code::no_space);
    CHECK_MESSAGE(has(status.message(), "make room, or set HF_HUB_CACHE"), status.message());
    CHECK_FALSE(path_exists(hub.scratch / "made"));
}
#endif

TEST_CASE("a request to stop ends a streamed run within a second") {
    if (!has_program("python3")) return;
    Hub hub;
    std::atomic<bool> stop{false};
    hub.options.http.stop = [&] { return stop.load(); };
    Runs runs(hub);
    const auto source = hub.open().take();
    REQUIRE(runs.plan(source).ok());
    hub.server.control(R"({"only": "model-00005", "every": "slow"})");
    using Clock = std::chrono::steady_clock;
    Clock::time_point asked;
    std::thread waiting([&] {
        while (source->fetched()->use().files < 4) std::this_thread::sleep_for(std::chrono::milliseconds(10));
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
        asked = Clock::now();
        stop = true;
    });
    const Status status = runs.run(source, hub.scratch / "made");
    const double seconds = std::chrono::duration<double>(Clock::now() - asked).count();
    waiting.join();
    CHECK(status.code() == Code::cancelled);
    CHECK(seconds < 3); // one, on a machine with nothing else to do
}

TEST_CASE("streaming: too little room, files of the cache, complete models") {
    if (!has_program("python3")) return;
    Hub hub;
    std::string said;
    hub.options.say = [&](const std::string & line) { said += line + "\n"; };
    CHECK(has(hub.open(hub.largest - 1).status().message(), "files are fetched whole, and the largest has"));
    // A file that another program brought is read where it is, and stays.
    const std::string name = "model-00002-of-00007.safetensors";
    const std::string content = read_file(join_path(hub.folder, name), 1 << 28).take();
    const std::string blob = "cache/models--org--small/blobs/" + sha256_hex(content.data(), content.size());
    hub.scratch.save(blob, content);
    Runs runs(hub);
    const Files expected = runs.files(open_folder(hub.folder).take());
    said.clear();
    CHECK(runs.files(hub.open().take()) == expected);
    CHECK(runs.report.fetched->files == shard_count - 1);
    CHECK(path_exists(hub.scratch / blob));
    CHECK(has(said, "its weights are streamed: 7 files"));
    CHECK(has(said, "1 of them are in the cache"));
    // All of them.
    REQUIRE(fetch_model(hub.options, parse_repository_name(RepositoryKind::model, "org/small").take(), false).ok());
    said.clear();
    const auto complete = hub.open().take();
    CHECK(complete->fetched() == nullptr);
    CHECK(has(said, "nothing is streamed"));
    CHECK(runs.files(complete) == expected);
}

TEST_CASE("gnv_hub_stream_*: a plan of its folder alone, a callback that stops") {
    if (!has_program("python3")) return;
    const Hub hub;
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
    gnv_hub_options options;
    gnv_hub_options_init(&options);
    const std::string endpoint = hub.server.url();
    options.endpoint = endpoint.c_str();
    options.cache = hub.options.cache.c_str();
    options.first_wait_ms = 1;
    std::atomic<bool> stop{false};
    options.user = &stop;
    options.progress = [](void * user, const gnv_progress *) {
        return int(static_cast<std::atomic<bool> *>(user)->load());
    };
    gnv_hub_stream_t * stream = nullptr;
    CHECK(gnv_hub_stream_open(engine, "org/small", &options, 1, &stream) == GNV_INVALID_ARGUMENT);
    CHECK(stream == nullptr);
    options.offline = 1;
    CHECK(gnv_hub_stream_open(engine, "org/small", &options, 0, &stream) == GNV_INVALID_ARGUMENT);
    options.offline = 0;
    REQUIRE(gnv_hub_stream_open(engine, "org/small", &options, 0, &stream) == GNV_OK);
    const std::string folder = gnv_hub_stream_folder(stream);
    gnv_plan_options planned;
    gnv_plan_options_init(&planned);
    planned.scheme = GNV_SCHEME_NVFP4A16;
    gnv_plan_t * plan = nullptr;
    CHECK(gnv_plan_create(engine, folder.c_str(), &planned, &plan) == GNV_FORMAT); // its weights are not there
    planned.stream = stream;
    CHECK(gnv_plan_create(engine, hub.folder.c_str(), &planned, &plan) == GNV_INVALID_ARGUMENT);
    REQUIRE(gnv_plan_create(engine, folder.c_str(), &planned, &plan) == GNV_OK);
    gnv_text_t * text = nullptr;
    REQUIRE(gnv_plan_text(plan, GNV_TEXT_PLAIN, &text) == GNV_OK);
    CHECK(has(gnv_text_data(text), "streamed: fetches 7 files"));
    gnv_text_destroy(text);
    gnv_quantize_options run;
    gnv_quantize_options_init(&run);
    const std::string made = hub.scratch / "made";
    stop = true;                                                 // of the stream alone
    std::this_thread::sleep_for(std::chrono::milliseconds(150)); // the callback is asked ten times a second
    CHECK(gnv_quantize(plan, made.c_str(), &run, nullptr) == GNV_CANCELLED);
    CHECK_FALSE(path_exists(made));
    gnv_plan_destroy(plan);
    gnv_hub_stream_destroy(stream);
    gnv_hub_stream_destroy(nullptr);
    CHECK(gnv_hub_stream_folder(nullptr) == nullptr);
    gnv_engine_destroy(engine);
}

#ifdef GNV_TEST_HUB_TOOLS
TEST_CASE("quantize --stream: plan, run, a killed run, Ctrl-C, what it refuses") {
    if (!has_program("python3")) return;
    const Hub hub;
    const std::string base = "unset HF_HUB_CACHE HF_TOKEN HF_TOKEN_PATH; export HF_HOME=" + hub.scratch.path() +
                             " HF_ENDPOINT=" + hub.server.url() + "; ";
    const std::string made = hub.scratch / "made", room = std::to_string(hub.largest * 2);
    const std::string command = "org/small --scheme nvfp4a16 --stream-disk " + room;
    ToolRun run = run_tool("quantize", hub.folder + " --scheme nvfp4a16 --stream -o " + made + " 2>&1", base);
    CHECK_MESSAGE(has(run.out, "error: --stream is for a model of the hub (ORG/NAME)"), run.out);
    run = run_tool("quantize", command + " --estimate -o " + made + " 2>&1", base);
    CHECK_MESSAGE(has(run.out, "is up to the network"), run.out);
    run = run_tool("quantize", command + " -o " + made + " 2>&1", base + "export HF_HUB_OFFLINE=1; ");
    CHECK(run.exit_code == 2);
    CHECK_MESSAGE(has(run.out, "HF_HUB_OFFLINE forbids to stream it"), run.out);
    run = run_tool("quantize", command + " --dry-run 2>&1", base);
    CHECK_MESSAGE(run.exit_code == 0, run.out);
    CHECK_MESSAGE(has(run.out, "streamed: fetches "), run.out);
    CHECK(has(run.out, "on the disk at a time"));
    run = run_tool("quantize", command + " --dry-run --quiet --json - 2>/dev/null", base);
    CHECK(has(run.out, "\"streamed\":{\"files\":"));

    const Files expected = [&] {
        const ToolRun from_folder =
            run_tool("quantize", hub.folder + " --no-card --quiet --scheme nvfp4a16 -o " + made, base);
        REQUIRE(from_folder.exit_code == 0);
        Files files = read_folder(made);
        REQUIRE(remove_tree(made).ok());
        return files;
    }();
    // A file that comes a byte at a time keeps the run until it is killed, or asked to stop. Headers pass.
    const std::string streamed = command + " --no-card -o " + made + " 2>&1";
    hub.server.control(R"({"only": "model-00006", "whole": true, "every": "slow"})");
    run = run_tool("quantize", streamed, base + "timeout -s KILL 3 ");
    CHECK_MESSAGE(run.exit_code != 0, run.out);
    CHECK(path_exists(made + ".partial"));
    hub.server.control(R"({"only": "model-00006", "whole": true, "every": "slow"})");
    run = run_tool("quantize", streamed, base + "timeout --foreground -s INT 2 ");
    CHECK_MESSAGE(has(run.out, "stopped on request"), run.out);
    CHECK_MESSAGE(has(run.out, "the same command goes on from there"), run.out);
    hub.server.control("{}");
    run = run_tool("quantize", streamed, base);
    CHECK_MESSAGE(run.exit_code == 0, run.out);
    CHECK_MESSAGE(has(run.out, "goes on with " + made + ".partial"), run.out);
    CHECK_MESSAGE(has(run.out, "streamed: "), run.out);
    CHECK(read_folder(made) == expected);
}

TEST_CASE("verify --stream: the figures of a folder, each file once, within its disk space; what it refuses") {
    if (!has_program("python3")) return;
    const Hub hub;
    const std::string base = "unset HF_HUB_CACHE HF_TOKEN HF_TOKEN_PATH; export HF_HOME=" + hub.scratch.path() +
                             " HF_ENDPOINT=" + hub.server.url() + "; ";
    const std::string made = hub.scratch / "made";
    REQUIRE(run_tool("quantize", hub.folder + " --no-card --quiet --scheme nvfp4a16 -o " + made, base).exit_code == 0);
    const std::string command = made + " --quiet --json - --source ";
    const ToolRun from_folder = run_tool("verify", command + hub.folder, base);
    REQUIRE(from_folder.exit_code == 1); // its tokenizer is none
    nlohmann::json expected = nlohmann::json::parse(from_folder.out);
    CHECK(expected["streamed"].is_null());
    const auto rest = [](nlohmann::json report) { // without place and time
        for (const char * key : {"source", "seconds", "streamed"}) report.erase(key);
        return report;
    };
    for (const uint64_t files : {uint64_t(1), uint64_t(3)}) {
        const std::string room = " --stream-disk " + std::to_string(hub.largest * files);
        const ToolRun run = run_tool("verify", command + "org/small" + room, base);
        REQUIRE_MESSAGE(run.exit_code == 1, run.out);
        const nlohmann::json report = nlohmann::json::parse(run.out), streamed = report["streamed"];
        CHECK(streamed["files"] == shard_count);
        CHECK(streamed["bytes"] == hub.all);
        CHECK(streamed["again"] == 0);
        CHECK(streamed["most_disk_bytes"] <= hub.largest * files);
        CHECK(rest(report) == rest(expected));
    }
    const auto refused = [&](const std::string & more, const char * why) {
        const ToolRun run = run_tool("verify", made + " --stream " + more + " 2>&1", base);
        CHECK(run.exit_code == 2);
        CHECK_MESSAGE(has(run.out, why), run.out);
    };
    refused("--source org/small --structure", "reads each file of the source once");
    refused("--source org/small --tokens x.json", "reads each file of the source once");
    refused("--source " + hub.folder, "is for a source on the hub");
    refused("", "is for a source on the hub");
}
#endif
