// Comparisons that were stopped and go on: the report and the saved predictions of a run without a stop, wherever it was, on
// other threads, budgets and numbers of devices; and the refusal to go on where the figures would be others.
#include "evaluate/evaluate_fixture.h"
#include "forward/deferred_device.h"

using namespace gnv;
using namespace gnv::test;
using namespace gnv::evaluate;

namespace {

constexpr int32_t layers = 8, groups = layers + 2; // with the embedding and the head

struct Case {
    ScratchFolder scratch;
    EvaluationData data = read_data(3, 64);
    EvaluateOptions options;
    std::vector<std::string> notes;
    std::string source = tiny, quantized = untripped_pair().quantized;
    std::string expected, logits; // of a run without a stop

    Case() {
        options.state_folder = scratch / "state";
        options.resume = Resume::each_layer;
        options.save_logits = scratch / "source.logits";
        options.scratch_folder = scratch.path();
        options.note = [this](const std::string & note) { notes.push_back(note); };
    }
    Result<Evaluation> run(const EvaluateOptions & with, int threads = 2) {
        notes.clear();
        const auto pool = ThreadPool::create(threads).take();
        return evaluate::evaluate(open_folder(quantized).take(), open_folder(source).take(), data, *pool, with);
    }
    // The report of a run that ends, as a program handles it: the state goes when the report is there.
    std::string finish(const EvaluateOptions & with, int threads = 2) {
        Result<Evaluation> result = run(with, threads);
        REQUIRE_MESSAGE(result.ok(), result.status().message());
        const std::string report =
            evaluation_text(result.value()) + evaluation_json(result.value()) + evaluation_markdown(result.value());
        CHECK(path_exists(options.state_folder) == bool(result.value().state));
        REQUIRE(result.value().remove_state().ok());
        CHECK_FALSE(path_exists(options.state_folder));
        return report;
    }
    std::string take_logits() const {
        std::string content = read_file(options.save_logits, 1 << 28).take();
        REQUIRE(remove_file(options.save_logits).ok());
        return content;
    }
    void expect() {
        EvaluateOptions plain = options;
        plain.resume = Resume::off;
        expected = finish(plain);
        logits = take_logits();
        CHECK(notes.empty());
    }
    // Stops a run in this group of weights. Returns the message.
    std::string stop_in(size_t group, EvaluateOptions with, int threads = 2) {
        with.progress = [&](const PassProgress & now) { return now.group < group; };
        const Result<Evaluation> result = run(with, threads);
        CHECK(result.status().code() == Code::cancelled);
        CHECK_FALSE(path_exists(options.save_logits));
        return result.status().message();
    }
    std::string stop_in(size_t group) { return stop_in(group, options); }
    bool goes_on_after(int32_t done) const {
        return !notes.empty() && notes.front() == concat("goes on with ", options.state_folder, ": ", done, " of ",
                                                         layers, " layers are compared");
    }
    void go_on(int32_t done, const EvaluateOptions & with, int threads = 2) {
        CHECK(finish(with, threads) == expected);
        CHECK(take_logits() == logits);
        if (done > 0) CHECK(goes_on_after(done));
    }
};

} // namespace

TEST_CASE("a comparison goes on at the border of every layer, with other threads and budgets") {
    Case of;
    of.expect();
    for (size_t group = 2; group < groups; group++) {
        CAPTURE(group);
        const auto done = int32_t(group) - 1;
        const std::string message = of.stop_in(group);
        CHECK(message == concat("stopped on request; the state after ", done, " layers stays in ",
                                of.options.state_folder, ", and the same command goes on from there"));
        EvaluateOptions with = of.options;
        if (group % 3 == 1) with.ram_bytes = 25'100'000; // ranges of experts, hidden states in a file
        if (group % 2) with.resume = Resume::on;
        of.go_on(done, with, 1 + int(group % 3));
    }
}

TEST_CASE("a comparison that was stopped again and again") {
    Case of;
    of.expect();
    for (const size_t group : {1, 2, 3, 3, 6, 9}) (void)of.stop_in(group, of.options, 1 + int(group % 2));
    of.go_on(8, of.options);
}

TEST_CASE("a comparison goes on with another number of devices, and not on another kind of device") {
    Case of;
    of.expect();
    const auto on = [&](int devices) {
        EvaluateOptions with = of.options;
        if (devices > 0) with.open_device = open_deferred(0);
        for (int i = 1; i < devices; i++) with.more_devices.push_back(open_deferred(i));
        return with;
    };
    EvaluateOptions plain = on(1);
    plain.resume = Resume::off;
    of.expected = of.finish(plain);
    of.logits = of.take_logits();
    for (const auto & [first, second] : {std::pair(1, 3), std::pair(3, 1), std::pair(2, 3)}) {
        (void)of.stop_in(6, on(first));
        const Result<Evaluation> refused = of.run(on(0));
        CHECK(refused.status().code() == Code::already_exists);
        CHECK_MESSAGE(refused.status().message().find("device (was \"deferred device\", now \"cpu\")") !=
                          std::string::npos,
                      refused.status().message());
        of.go_on(5, on(second));
    }
}

TEST_CASE("predictions of the source that a file gives") {
    Case of;
    of.expect();
    REQUIRE(write_file_synced(of.scratch / "given.logits", of.logits).ok());
    of.options.save_logits.clear();
    of.options.logits = of.scratch / "given.logits";
    EvaluateOptions plain = of.options;
    plain.resume = Resume::off;
    of.expected = of.finish(plain);
    (void)of.stop_in(5);
    CHECK(of.finish(of.options, 3) == of.expected);
    CHECK(of.goes_on_after(4));
}

TEST_CASE("a comparison goes on only with its own files, data and options, and names what differs") {
    Case of;
    for (std::string * const folder : {&of.source, &of.quantized}) { // copies, to change
        const std::string copy = of.scratch / base_name(*folder);
        copy_folder(*folder, copy);
        *folder = copy;
    }
    of.expect();
    (void)of.stop_in(4);
    const std::string journal = join_path(of.options.state_folder, journal_name);
    const std::string content = read_file(journal, 1 << 20).take();
    const auto refuse = [&](const std::string & names, const EvaluateOptions & with) {
        const Result<Evaluation> refused = of.run(with);
        CHECK(refused.status().code() == Code::already_exists);
        CHECK_MESSAGE(refused.status().message().find(names) != std::string::npos, refused.status().message());
        CHECK_MESSAGE(refused.status().message().find("(--no-resume)") != std::string::npos,
                      refused.status().message());
        CHECK(read_file(journal, 1 << 20).value() == content);
    };
    EvaluateOptions other = of.options;
    other.precision = Precision::bf16;
    refuse("precision (was \"fp32\", now \"bf16\")", other);
    other = of.options;
    other.lines[size_t(Line::w4a16)] = false;
    refuse("lines (was \"activations,w4a4,w4a16\", now \"activations,w4a4\")", other);
    other = of.options;
    other.share_expert_scale = true;
    refuse("expert scales (was \"own\", now \"shared\")", other);
    const EvaluationData data = std::exchange(of.data, read_data(2, 64));
    refuse("data (was \"", of.options);
    of.data = data;
    // Written again: other times, the same content.
    for (const auto & [folder, name] :
         {std::pair(of.source, "source (was"), std::pair(of.quantized, "checkpoint (was")}) {
        std::string shard;
        for (const DirectoryEntry & entry : list_directory(folder).take())
            if (ends_with(entry.name, ".safetensors")) shard = join_path(folder, entry.name);
        const std::string bytes = read_file(shard, 1 << 28).take();
        REQUIRE(rename_path(shard, of.scratch / "away").ok());
        REQUIRE(write_file_synced(shard, bytes).ok());
        refuse(name, of.options);
        REQUIRE(remove_file(shard).ok());
        REQUIRE(rename_path(of.scratch / "away", shard).ok());
    }
    // Without a wish to go on the state stays as it is.
    EvaluateOptions anew = of.options;
    anew.resume = Resume::off;
    REQUIRE(of.run(anew).ok());
    CHECK(of.take_logits() == of.logits);
    CHECK(read_file(journal, 1 << 20).value() == content);
    of.go_on(3, of.options);
}

TEST_CASE("a damaged state, a state in use and a foreign folder are told, and nothing is removed") {
    Case of;
    of.expect();
    (void)of.stop_in(5);
    const std::string state = join_path(of.options.state_folder, state_file_name);
    const auto refuse = [&](Code code, const std::string & words) {
        const Status refused = of.run(of.options).take_status();
        CHECK(refused.code() == code);
        CHECK_MESSAGE(refused.message().find(words) != std::string::npos, refused.message());
    };
    {
        const Result<FoundJournal> lock = find_journal(join_path(of.options.state_folder, journal_name), true);
        REQUIRE(lock.value().is_locked);
        refuse(Code::already_exists, "another run keeps its state in " + of.options.state_folder);
    }
    const std::string torn = "state 0 layers 9 ta";
    {
        const File file = File::open_own(join_path(of.options.state_folder, journal_name)).take();
        REQUIRE(file.write(torn.data(), torn.size(), file.stamp().value().size).ok());
    }
    of.go_on(4, of.options); // a torn last line counts as not written

    (void)of.stop_in(5);
    const uint64_t half = File::open_read(state).value().stamp().value().size / 2;
    for (const uint64_t at : {uint64_t(5000), half + 5000}) { // one of the places is in use
        const File file = File::open_own(state).take();
        REQUIRE(file.write("?", 1, at).ok());
    }
    refuse(Code::format, "the state after layer 3 is not as it was written");
    REQUIRE(remove_tree(of.options.state_folder).ok());

    REQUIRE(make_directory(of.options.state_folder).ok());
    REQUIRE(write_file_synced(join_path(of.options.state_folder, "notes.txt"), "mine").ok());
    refuse(Code::already_exists, "holds files that no run made");
    CHECK(read_file(join_path(of.options.state_folder, "notes.txt"), 10).value() == "mine");
}

TEST_CASE("a run that ended before its report was written finds its saved predictions, and no others") {
    Case of;
    of.expect();
    REQUIRE(of.run(of.options).ok()); // killed before remove_state()
    CHECK(path_exists(of.options.state_folder));
    REQUIRE(check_named_files(of.data, of.options).ok());
    of.go_on(8, of.options);

    (void)of.stop_in(5);
    REQUIRE(write_file_synced(of.options.save_logits, "a file of the user").ok());
    CHECK_FALSE(of.run(of.options).ok());
    CHECK(read_file(of.options.save_logits, 100).value() == "a file of the user");
}
