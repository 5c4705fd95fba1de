// Weights packed by a backend, group by group, in pieces, written in the background: the bytes of the plain path, whatever
// the pieces; and what goes wrong is told as there.
#include "checkpoint_files.h"
#include "e2e/packing_fixture.h"
#include "scratch.h"

#include <doctest/doctest.h>

using namespace gnv;
using namespace gnv::test;

namespace {

const std::string tiny = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";

Plan weights_only_plan(const std::string & source, int threads = 2) {
    PlanOptions options;
    options.recipe.scheme = &formats::nvfp4a16;
    options.threads = threads;
    return make_plan(source, options).take();
}

void check_same_tensors(const std::string & folder, const std::string & expected) {
    size_t files = 0;
    for (const DirectoryEntry & entry : list_directory(expected).take()) {
        if (!ends_with(entry.name, ".safetensors") && entry.name != "config.json") continue;
        CAPTURE(entry.name);
        CHECK((read_file(join_path(folder, entry.name), 1 << 30).value() ==
               read_file(join_path(expected, entry.name), 1 << 30).value()));
        files++;
    }
    CHECK(files >= 2);
}

QuantizeReport quantize_plainly(const Plan & plan, const std::string & destination) {
    const auto threads = ThreadPool::create(2).take();
    QuantizeOptions options;
    options.destination = destination;
    const auto done = quantize(plan, *threads, options);
    REQUIRE_MESSAGE(done.ok(), done.status().message());
    return done.value();
}

constexpr uint64_t plenty = uint64_t(1) << 32;

// Copies the small checkpoint with one element of one tensor changed.
std::string damaged_copy(const ScratchFolder & scratch, const std::string & name, size_t element, uint16_t bits) {
    std::vector<MemoryTensor> tensors = load_tensors(tiny);
    for (MemoryTensor & tensor : tensors)
        if (tensor.name == name) memcpy(tensor.data.data() + element * 2, &bits, sizeof bits);
    const std::string folder = scratch / "source";
    REQUIRE(make_directory(folder).ok());
    save_tensors(folder, tensors, 1);
    REQUIRE(copy_file_synced(tiny + "/config.json", folder + "/config.json").ok());
    return folder;
}

} // namespace

TEST_CASE("pieces of any size, a short ring or a long one: the bytes of the plain path") {
    const ScratchFolder scratch;
    const Plan plan = weights_only_plan(tiny);
    quantize_plainly(plan, scratch / "plain");
    const DevicePacker::Size whole = DevicePacker::size_for(plan, plenty, plenty);
    CHECK(whole.pieces >= 3);
    uint64_t widest_row = 0;
    for (const PlanModule & module : plan.modules)
        widest_row = std::max<uint64_t>(widest_row, uint64_t(plan.linear(module).columns));
    DevicePacker::Size rows = whole, few = whole;
    rows.piece_bytes = (widest_row / 2 + 256) / 256 * 256 + 256; // a row of codes and one of scales, hardly more
    rows.pieces = 2;
    few.piece_bytes = 100 * 256;
    few.pieces = 3;
    int number = 0;
    for (const DevicePacker::Size & size : {whole, few, rows}) {
        CAPTURE(size.piece_bytes);
        CAPTURE(size.pieces);
        PackingRun run{plan, scratch / concat("packed", number++), size};
        const Status status = quantize_by_groups(run);
        REQUIRE_MESSAGE(status.ok(), status.message());
        CHECK(run.packed_modules == 800);
        CHECK(run.report.bytes_read == plan.source_bytes_read());
        check_same_tensors(run.destination, scratch / "plain");
    }
    const ScratchFolder in_memory("/dev/shm"); // written through mappings
    PackingRun mapped{plan, in_memory / "packed", whole};
    const Status written = quantize_by_groups(mapped);
    REQUIRE_MESSAGE(written.ok(), written.message());
    check_same_tensors(mapped.destination, scratch / "plain");
    DevicePacker::Size nothing;
    PackingRun run{plan, scratch / "unpacked", nothing};
    const Status status = quantize_by_groups(run);
    REQUIRE_MESSAGE(status.ok(), status.message());
    CHECK(run.packed_modules == 0);
    check_same_tensors(run.destination, scratch / "plain");
}

TEST_CASE("a draft head in NVFP4, which no group holds: packed beside the groups or after them, the bytes of the plain "
          "path") {
    const ScratchFolder scratch;
    PlanOptions options;
    options.recipe.scheme = &formats::nvfp4a16;
    options.recipe.draft_head = &formats::nvfp4a16;
    options.threads = 8;
    const Plan plan = make_plan(tiny, options).take();
    quantize_plainly(plan, scratch / "plain");
    const DevicePacker::Size size = DevicePacker::size_for(plan, plenty, plenty);
    for (const bool beside : {false, true}) {
        CAPTURE(beside);
        PackingRun run{plan, scratch / (beside ? "beside" : "after"), size};
        run.threads = 8;
        run.rest_beside = beside;
        const Status status = quantize_by_groups(run);
        REQUIRE_MESSAGE(status.ok(), status.message());
        CHECK(run.packed_modules == 800);
        check_same_tensors(run.destination, scratch / "plain");
    }
}

// With two threads there is none to spare, with eight there are two.
TEST_CASE("what no group holds is written beside the groups: the same bytes") {
    const ScratchFolder scratch;
    const QuantizeReport plain = quantize_plainly(weights_only_plan(tiny), scratch / "plain");
    for (const int threads : {2, 8}) {
        CAPTURE(threads);
        const Plan plan = weights_only_plan(tiny, threads);
        CHECK(plan.memory.workers == threads);
        PackingRun run{plan, scratch / concat("packed", threads), DevicePacker::size_for(plan, plenty, plenty)};
        run.threads = threads;
        run.rest_beside = true;
        const Status status = quantize_by_groups(run);
        REQUIRE_MESSAGE(status.ok(), status.message());
        CHECK(run.packed_modules == 800);
        CHECK(run.report.bytes_read == plan.source_bytes_read());
        CHECK(run.report.bytes_written == plain.bytes_written);
        check_same_tensors(run.destination, scratch / "plain");
    }
}

TEST_CASE("the ring takes its share of the budgets, or none") {
    const Plan plan = weights_only_plan(tiny);
    const DevicePacker::Size whole = DevicePacker::size_for(plan, plenty, plenty);
    uint64_t largest = 0;
    for (uint64_t budget = 1 << 10; budget < plenty; budget *= 2) {
        const DevicePacker::Size size = DevicePacker::size_for(plan, budget * 2, budget);
        CAPTURE(budget);
        CHECK(size.host_bytes() <= std::max<uint64_t>(size.pieces ? budget / 8 : size.maxima_bytes, 0));
        CHECK((size.pieces == 0 || size.pieces >= 2));
        CHECK(size.pieces * size.piece_bytes >= largest);
        largest = size.pieces * size.piece_bytes;
    }
    CHECK(largest == whole.pieces * whole.piece_bytes);
    CHECK(DevicePacker::size_for(plan, 1 << 10, plenty).pieces == 0);
}

TEST_CASE("other dtypes and weights that are not in a group go the plain way") {
    const ScratchFolder scratch;
    std::vector<MemoryTensor> tensors = load_tensors(tiny);
    size_t changed = 0;
    for (MemoryTensor & tensor : tensors) {
        if (!starts_with(tensor.name, "model.language_model.") || !ends_with(tensor.name, "self_attn.o_proj.weight"))
            continue;
        std::string wide;
        for (size_t i = 0; i < tensor.data.size(); i += 2) wide += std::string(2, '\0') + tensor.data.substr(i, 2);
        tensor.data = wide; // BF16 as F32
        tensor.dtype = DType::f32;
        changed++;
    }
    REQUIRE(changed > 0);
    const std::string source = scratch / "source";
    REQUIRE(make_directory(source).ok());
    save_tensors(source, tensors, 2);
    REQUIRE(copy_file_synced(tiny + "/config.json", source + "/config.json").ok());
    const Plan plan = weights_only_plan(source);
    quantize_plainly(plan, scratch / "plain");
    PackingRun run{plan, scratch / "packed", DevicePacker::size_for(plan, plenty, plenty)};
    const Status status = quantize_by_groups(run);
    REQUIRE_MESSAGE(status.ok(), status.message());
    CHECK(run.packed_modules == 800 - changed);
    check_same_tensors(run.destination, scratch / "plain");
}

TEST_CASE("a NaN in a weight is named by file, tensor, row and column") {
    const ScratchFolder scratch;
    const std::string name = "model.language_model.layers.3.self_attn.v_proj.weight";
    const std::string source = damaged_copy(scratch, name, 3 * 256 + 17, 0x7fc0);
    const Plan plan = weights_only_plan(source);
    PackingRun run{plan, scratch / "packed", DevicePacker::size_for(plan, plenty, plenty)};
    const Status status = quantize_by_groups(run);
    CHECK(status.code() == Code::bad_value);
    for (const std::string & part :
         {name, std::string("model.safetensors"), std::string("NaN or Inf at row 3, column 17")})
        CHECK_MESSAGE(status.message().find(part) != std::string::npos, status.message());
    CHECK_FALSE(path_exists(run.destination));
    CHECK(path_exists(run.destination + ".partial"));
}

TEST_CASE("a device whose copy is not what was sent there is told apart from a bad source") {
    const ScratchFolder scratch;
    const Plan plan = weights_only_plan(tiny);
    PackingRun run{plan, scratch / "packed", DevicePacker::size_for(plan, plenty, plenty)};
    run.damage = [](WeightGroup & weights, uint8_t * memory) { memset(memory, 0xff, weights.bytes()); };
    const Status status = quantize_by_groups(run);
    CHECK(status.code() == Code::device);
    for (const char * part : {".safetensors", "model.language_model.", "NaN or Inf in the device's copy of"})
        CHECK_MESSAGE(status.message().find(part) != std::string::npos, status.message());
    CHECK_FALSE(path_exists(run.destination));
}

TEST_CASE("a run that is stopped ends, with its threads, and leaves no result") {
    const ScratchFolder scratch;
    const Plan plan = weights_only_plan(tiny, 8);
    PackingRun run{plan, scratch / "packed", DevicePacker::size_for(plan, plenty, plenty)};
    run.size.piece_bytes = 64 << 10;
    run.size.pieces = 2; // packing waits for writers that are gone
    run.progress = [](const QuantizeProgress & now) { return now.tensors < 20 && now.source_bytes == 0; };
    for (const bool beside : {false, true}) {
        run.rest_beside = beside;
        run.threads = beside ? 8 : 2;
        const Status status = quantize_by_groups(run);
        CHECK(status.code() == Code::cancelled);
        CHECK_FALSE(path_exists(run.destination));
        CHECK(path_exists(run.destination + ".partial"));
        REQUIRE(remove_tree(run.destination + ".partial").ok());
    }
}
