// Calibrated runs that cannot work: the right code, a message that helps, and nothing that looks finished.
#include "e2e/calibrated_fixture.h"
#include "faults/small_model.h"

#include <algorithm>
#include <csignal>
#include <functional>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

struct Refusal {
    gnv_status status;
    std::vector<std::string> parts; // of the message
    bool before_work = true;        // not even DST.partial is made
};

void check_refused(const CalibratedRun & run, const Refusal & expected) {
    const RunResult result = quantize(run);
    CAPTURE(result.message);
    CHECK(result.status == expected.status);
    for (const std::string & part : expected.parts) CHECK_MESSAGE(result.says(part), part);
    CHECK(path_exists(run.destination + ".partial") != expected.before_work);
    check_unfinished(run);
}

// A copy of the small checkpoint with changed tensors.
std::string changed_tiny(const ScratchFolder & scratch, const std::string & name,
                         const std::function<void(std::vector<MemoryTensor> &)> & change) {
    const std::string folder = scratch / name;
    REQUIRE(make_directory(folder).ok());
    std::vector<MemoryTensor> tensors = load_tensors(tiny_folder);
    change(tensors);
    save_tensors(folder, tensors, 1);
    copy_other_files(tiny_folder, folder);
    return folder;
}

void set_bf16(std::string & data, size_t element, uint16_t bits) { memcpy(&data[element * 2], &bits, sizeof bits); }
constexpr uint16_t bf16_nan = 0x7fc0;

// A made-up model with the small checkpoint's tokenizer, which knows 4,096 tokens.
std::string synthetic(const ScratchFolder & scratch, const std::string & name, const std::string & more) {
    std::string config = small_config;
    const std::string vocabulary = "\"vocab_size\": 8192,";
    config.replace(config.find(vocabulary), vocabulary.size(), more);
    REQUIRE(write_synthetic_checkpoint(config, scratch / name, {}).ok());
    for (const char * file : {"tokenizer.json", "tokenizer_config.json"})
        REQUIRE(copy_file_synced(join_path(tiny_folder, file), join_path(scratch / name, file)).ok());
    return scratch / name;
}

struct Tiny {
    ScratchFolder scratch;
    std::string tokens = scratch.save("tokens.json", tokens_text(short_samples(3)));
    CalibratedRun run() const {
        CalibratedRun run;
        run.destination = scratch / "out";
        run.tokens = tokens;
        return run;
    }
};

} // namespace

TEST_CASE("schemes and data that do not go together") {
    const Tiny tiny;
    CalibratedRun run = tiny.run();
    run.tokens.clear();
    check_refused(run, {GNV_INVALID_ARGUMENT, {"needs input scales", "--calib", "nvfp4a16"}});
    run = tiny.run();
    run.scheme = GNV_SCHEME_NVFP4A16;
    check_refused(run, {GNV_INVALID_ARGUMENT, {"no module to quantize has input scales"}});
    run = tiny.run();
    run.save_statistics = tiny.scratch / "statistics.json";
    require_good(quantize(run));
    REQUIRE(remove_tree(run.destination).ok());
    run.statistics = {run.save_statistics};
    run.save_statistics.clear();
    check_refused(run, {GNV_INVALID_ARGUMENT, {"cannot be used together"}});
    run.tokens.clear();
    run.scheme = GNV_SCHEME_NVFP4A16;
    check_refused(run, {GNV_INVALID_ARGUMENT, {"no module to quantize has input scales"}});
}

TEST_CASE("statistics are saved to a new file in a folder that is there, or the run does not start") {
    const Tiny tiny;
    CalibratedRun run = tiny.run();
    run.save_statistics = tiny.scratch.save("precious.json", "mine");
    check_refused(run, {GNV_ALREADY_EXISTS, {run.save_statistics, "not be overwritten"}});
    CHECK(read_file(run.save_statistics, 100).value() == "mine");
    run.save_statistics = tiny.scratch / "absent/statistics.json";
    check_refused(run, {GNV_NOT_FOUND, {tiny.scratch / "absent", "statistics.json"}});
    run.save_statistics = tiny.scratch / "statistics.json";
    run.tokens.clear();
    run.scheme = GNV_SCHEME_NVFP4A16;
    check_refused(run, {GNV_INVALID_ARGUMENT, {"nothing is measured", "--save-stats"}});
    CHECK_FALSE(path_exists(run.save_statistics));
}

TEST_CASE("ids that the tokenizer or the model does not have, texts that are too long") {
    const Tiny tiny;
    CalibratedRun run = tiny.run();
    run.tokens = tiny.scratch.save("bad.json", tokens_text({{1, 2}, {3, 4, 60000}}));
    check_refused(run, {GNV_FORMAT, {"bad.json", "60000"}});
    run.tokens = tiny.scratch.save("negative.json", tokens_text({{1, -2}}));
    check_refused(run, {GNV_FORMAT, {"negative.json", "-2"}});

    run.source = synthetic(tiny.scratch, "small", "\"vocab_size\": 2000, \"max_position_embeddings\": 64,");
    run.tokens = tiny.scratch.save("beyond.json", tokens_text({{1, 2}, {3, 4, 5, 2000}}));
    check_refused(run,
                  {GNV_INVALID_ARGUMENT,
                   {"sequence 1, position 3", "token 2000 is not in the vocabulary of 2000", "another tokenizer"}});
    run.tokens = tiny.scratch.save("long.json", tokens_text(random_ids(2, 65, 2000)));
    check_refused(run, {GNV_INVALID_ARGUMENT, {"sequence 0", "65 positions, the model has 64", "shorter sequences"}});
    run.tokens = tiny.scratch.save("fitting.json", tokens_text(random_ids(2, 64, 2000)));
    require_good(quantize(run));
}

TEST_CASE("statistics of another model, or of the same one after more training, are refused") {
    const Tiny tiny;
    CalibratedRun run = tiny.run();
    run.save_statistics = tiny.scratch / "statistics.json";
    require_good(quantize(run));
    REQUIRE(remove_tree(run.destination).ok());
    run.statistics = {run.save_statistics};
    run.save_statistics.clear();
    run.tokens.clear();

    CalibratedRun other = run;
    other.source = synthetic(tiny.scratch, "other", "\"vocab_size\": 2000,");
    check_refused(other, {GNV_MODEL, {"statistics are of another model", other.source}});
    other.source = changed_tiny(tiny.scratch, "tuned", [](std::vector<MemoryTensor> & tensors) {
        set_bf16(find_tensor(tensors, "model.language_model.layers.5.input_layernorm.weight").data, 7, 0x3d80);
    });
    check_refused(other, {GNV_MODEL, {"statistics are of another model", "--calib"}});
    // The same weights in one file instead of three are the same model.
    other.source = changed_tiny(tiny.scratch, "resharded", [](std::vector<MemoryTensor> &) {});
    require_good(quantize(other));
    REQUIRE(remove_tree(run.destination).ok());

    CalibratedRun foreign = other;
    foreign.source = tiny.scratch / "other";
    foreign.tokens = tiny.scratch.save("few.json", tokens_text(random_ids(1, 20, 2000)));
    foreign.statistics.clear();
    foreign.save_statistics = tiny.scratch / "foreign.json";
    require_good(quantize(foreign));
    REQUIRE(remove_tree(foreign.destination).ok());
    run.statistics.push_back(foreign.save_statistics);
    check_refused(run, {GNV_MODEL, {"foreign.json", "two different models cannot be merged"}});
}

TEST_CASE("damaged statistics files") {
    const Tiny tiny;
    CalibratedRun run = tiny.run();
    run.save_statistics = tiny.scratch / "good.json";
    require_good(quantize(run));
    REQUIRE(remove_tree(run.destination).ok());
    const std::string sealed = read_file(run.save_statistics, 1 << 24).take();
    // As the version before checksums wrote it: what else can be wrong is found without them.
    std::string good = sealed.substr(0, sealed.rfind(",\n  \"checksums\"")) + "\n}\n";
    good.replace(good.find("statistics.2"), 12, "statistics.1");
    run.save_statistics.clear();
    run.tokens.clear();
    const auto refuse = [&](const std::string & text, const Refusal & expected) {
        run.statistics = {tiny.scratch.save("bad.json", text)};
        check_refused(run, expected);
    };
    const auto with = [&](const std::string & what, const std::string & by) {
        std::string text = good;
        const size_t at = text.find(what);
        REQUIRE(at != std::string::npos);
        return text.replace(at, what.size(), by);
    };
    const size_t first_maximum = good.find_first_of("0123456789", good.find("\"mixer_input\""));
    const auto with_maximum = [&](const std::string & number) {
        return good.substr(0, first_maximum) + number +
               good.substr(good.find_first_not_of("0123456789.", first_maximum));
    };
    std::string turned = sealed;
    turned[turned.find("\"tokens\": ") + 11] ^= 1;
    refuse(turned, {GNV_FORMAT, {"bad.json: bytes 0 to ", "or their checksum, are not as written"}});
    refuse(good.substr(0, good.size() / 2), {GNV_FORMAT, {"bad.json"}});
    refuse("", {GNV_FORMAT, {"bad.json"}});
    refuse("[]", {GNV_FORMAT, {"bad.json"}});
    refuse(with("statistics.1", "statistics.9"), {GNV_FORMAT, {"bad.json", "statistics.9", "--save-stats"}});
    refuse(with("\"fp32\"", "\"fp64\""), {GNV_FORMAT, {"precision", "fp64"}});
    refuse(with("\"experts\": \"all\"", "\"experts\": \"some\""), {GNV_FORMAT, {"experts", "some"}});
    refuse(with("\"sequences\": 3", "\"sequences\": -3"), {GNV_FORMAT, {"negative count"}});
    refuse(with("\"mixer_input\"", "\"mixer_output\""), {GNV_FORMAT, {"nothing that this version observes"}});
    refuse(with("\"mlp_input\"", "\"mlp_down_input\""), {GNV_FORMAT, {"mlp_input in layer 0", "none for", "damaged"}});
    refuse(with("\"model\"", "\"modal\""), {GNV_FORMAT, {"model"}});
    refuse(with_maximum("-1"), {GNV_FORMAT, {"no largest magnitude"}});
    refuse(with_maximum("1e39"), {GNV_FORMAT, {"no largest magnitude"}}); // beyond F32
    refuse(with_maximum("1e999"), {GNV_FORMAT, {"bad.json"}});
    refuse(with_maximum("\"1\""), {GNV_FORMAT, {"bad.json"}});
    // One expert less.
    const size_t experts = good.find("\"expert_down_input\""), number = good.find_first_of("0123456789", experts);
    refuse(good.substr(0, number) + good.substr(good.find_first_of("0123456789", good.find(',', number))),
           {GNV_FORMAT, {"31 maxima of expert_down_input in layer 0", "experts.31"}});
    run.statistics = {tiny.scratch / "absent.json"};
    check_refused(run, {GNV_NOT_FOUND, {"absent.json"}});

    // Files that are good alone and do not go together.
    CalibratedRun bf16 = tiny.run();
    bf16.precision = GNV_PRECISION_BF16;
    bf16.save_statistics = tiny.scratch / "bf16.json";
    require_good(quantize(bf16));
    REQUIRE(remove_tree(bf16.destination).ok());
    run.statistics = {tiny.scratch / "good.json", bf16.save_statistics};
    check_refused(run, {GNV_INVALID_ARGUMENT, {"bf16.json", "precision fp32", "bf16"}});
    run.statistics = {tiny.scratch / "good.json",
                      tiny.scratch.save("short.json", with("\"tokens_per_expert\"", "\"x\""))};
    check_refused(run, {GNV_FORMAT, {"short.json", "different shapes"}});
}

TEST_CASE("a scratch folder that is not there, or that is full") {
    const Tiny tiny;
    CalibratedRun run;
    run.destination = tiny.scratch / "out";
    run.source = synthetic(tiny.scratch, "small", "\"vocab_size\": 2000,");
    run.tokens = tiny.scratch.save("many.json", tokens_text(random_ids(80, 512, 2000))); // 10 MB of hidden states
    run.ram_bytes = 8'000'000;
    check_refused(run, {GNV_OUT_OF_MEMORY, {"less with a folder for scratch files"}});
    run.scratch_folder = tiny.scratch / "absent";
    check_refused(run, {GNV_NOT_FOUND, {run.scratch_folder}, false});
    run.scratch_folder = tiny.scratch.save("file", "");
    check_refused(run, {GNV_NOT_FOUND, {run.scratch_folder}, false});

    run.scratch_folder = tiny.scratch.path();
    const auto check_full = [&](gnv_resume resume, const std::string & what) {
        run.resume = resume;
        const pid_t child = fork();
        REQUIRE(child >= 0);
        if (child == 0) { // a limit on file size stands in for a full disk
            signal(SIGXFSZ, SIG_IGN);
            const rlimit limit = {6 << 20, 6 << 20};
            setrlimit(RLIMIT_FSIZE, &limit);
            const RunResult result = quantize(run);
            const bool good = result.status == GNV_NO_SPACE && result.says(what) && result.says(run.scratch_folder);
            if (!good) fprintf(stderr, "%d %s\n", int(result.status), result.message.c_str());
            _exit(good ? 0 : 1);
        }
        int status = -1;
        REQUIRE(waitpid(child, &status, 0) == child);
        CHECK((WIFEXITED(status) && WEXITSTATUS(status) == 0));
        CHECK_FALSE(path_exists(run.destination));
    };
    check_full(GNV_RESUME_OFF, "scratch file for hidden states");
    REQUIRE(remove_tree(run.destination + ".partial").ok());
    check_full(GNV_RESUME_ON, "the state of the run, to go on with if it is stopped");
    require_good(quantize(run)); // goes on
}

TEST_CASE("a NaN that comes up on the way is named with layer, sample and position") {
    const Tiny tiny;
    const Ids ids = short_samples(3);
    // A token that stands in the second sample and not in the first.
    size_t position = 0;
    const auto is_in_first = [&](int32_t id) { return std::count(ids[0].begin(), ids[0].end(), id) > 0; };
    while (is_in_first(ids[1][position])) position++;
    const int32_t token = ids[1][position];

    CalibratedRun run = tiny.run();
    run.save_statistics = tiny.scratch / "statistics.json";
    run.source = changed_tiny(tiny.scratch, "embedding", [&](std::vector<MemoryTensor> & tensors) {
        set_bf16(find_tensor(tensors, "model.language_model.embed_tokens.weight").data, size_t(token) * 256 + 3,
                 bf16_nan);
    });
    for (const int threads : {1, 3}) {
        run.threads = threads;
        check_refused(run,
                      {GNV_BAD_VALUE,
                       {"layer 0, mixer_input, sample 1, position " + std::to_string(position) + ": feature 0 is NaN"},
                       false});
    }
    run.ram_bytes = 9'000'000; // other batches, ranges of experts
    run.scratch_folder = tiny.scratch.path();
    check_refused(
        run, {GNV_BAD_VALUE, {"layer 0, mixer_input, sample 1, position " + std::to_string(position) + ":"}, false});
    run.ram_bytes = 0;

    run.source = changed_tiny(tiny.scratch, "value", [](std::vector<MemoryTensor> & tensors) {
        set_bf16(find_tensor(tensors, "model.language_model.layers.3.self_attn.v_proj.weight").data, 300, bf16_nan);
    });
    check_refused(run, {GNV_BAD_VALUE, {"layer 3, attention_out_input, sample 0, position 0:"}, false});
    // Of expert 5, which layer 3 may or may not choose: every expert sees every token.
    run.source = changed_tiny(tiny.scratch, "expert", [](std::vector<MemoryTensor> & tensors) {
        set_bf16(find_tensor(tensors, "model.language_model.layers.3.mlp.experts.gate_up_proj").data,
                 size_t(5) * 128 * 256 + 70 * 256, bf16_nan);
    });
    check_refused(run, {GNV_BAD_VALUE, {"layer 3, expert_down_input, sample 0, position 0:"}, false});
    run.experts = GNV_EXPERTS_ROUTED; // then the weights themselves are looked at when they are quantized
    check_refused(run, {GNV_BAD_VALUE, {"layer"}, false});
    run.experts = GNV_EXPERTS_ALL;
    // In a weight that nothing is measured after.
    run.source = changed_tiny(tiny.scratch, "down", [](std::vector<MemoryTensor> & tensors) {
        set_bf16(find_tensor(tensors, "model.language_model.layers.7.mlp.experts.down_proj").data, 5 * 256 * 64 + 66,
                 bf16_nan);
    });
    check_refused(run, {GNV_BAD_VALUE, {"layers.7.mlp.experts.5.down_proj", "row 1, column 2"}, false});
    CHECK_FALSE(path_exists(run.save_statistics));
}

TEST_CASE("inputs that are zero have no scale") {
    const Tiny tiny;
    CalibratedRun run = tiny.run();
    run.source = changed_tiny(tiny.scratch, "silent", [](std::vector<MemoryTensor> & tensors) {
        for (MemoryTensor & tensor : tensors)
            if (ends_with(tensor.name, "self_attn.v_proj.weight")) tensor.data.assign(tensor.data.size(), '\0');
    });
    check_refused(run, {GNV_BAD_VALUE, {"self_attn.o_proj", "zero or too small", "--ignore"}, false});
}

TEST_CASE("progress counts positions; a stop in mid-calibration leaves nothing that looks finished") {
    struct Watch {
        double stop_at = 2; // share of the positions
        uint64_t last = 0, total = 0, calls = 0;
        bool grows = true, constant = true, started = false;
    };
    const auto callback = [](void * user, const gnv_progress * now) {
        Watch & watch = *static_cast<Watch *>(user);
        watch.calls++;
        watch.grows &= now->positions >= watch.last;
        watch.last = now->positions;
        if (now->positions_total) {
            watch.constant &= watch.total == 0 || watch.total == now->positions_total;
            watch.total = now->positions_total;
        }
        return int(now->positions_total && double(now->positions) >= watch.stop_at * double(now->positions_total));
    };
    const Tiny tiny;
    CalibratedRun run = tiny.run();
    run.tokens = reference_tokens;
    run.save_statistics = tiny.scratch / "statistics.json";
    run.progress = callback;
    Watch watch;
    watch.stop_at = 0.3;
    run.user = &watch;
    const RunResult stopped = quantize(run);
    CHECK(stopped.status == GNV_CANCELLED);
    CHECK_MESSAGE(stopped.says(run.destination + ".partial"), stopped.message);
    CHECK(watch.last < watch.total);
    CHECK(path_exists(run.destination + ".partial/journal"));
    CHECK_FALSE(path_exists(run.save_statistics));
    check_unfinished(run);

    watch = Watch();
    run.user = &watch;
    require_good(quantize(run));
    CHECK(watch.calls > 3);
    CHECK(watch.grows);
    CHECK(watch.constant);
    CHECK(watch.total == 9 * 8192); // embedding and 8 blocks
    CHECK(watch.last == watch.total);
}
