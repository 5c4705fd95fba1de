// From a checkpoint folder to an NVFP4 one: bytes against those that llm-compressor wrote, and what happens when things
// go wrong.
#include "checkpoint_files.h"
#include "core/sha256.h"
#include "quantize/quantize.h"
#include "scratch.h"

#include <algorithm>
#include <csignal>
#include <doctest/doctest.h>
#include <map>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

using namespace gnv;
using namespace gnv::test;

namespace {

const std::string tiny = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";
const std::string golden = GNV_TEST_DATA "/golden";

PlanOptions weights_only(int threads = 2) {
    PlanOptions options;
    options.recipe.scheme = &formats::nvfp4a16;
    options.threads = threads;
    return options;
}

Result<QuantizeReport> quantize_folder(const std::string & source, const std::string & destination,
                                       const PlanOptions & options, bool overwrite = false) {
    GNV_ASSIGN(const Plan plan, make_plan(source, options));
    const auto threads = ThreadPool::create(options.threads).take();
    QuantizeOptions run;
    run.destination = destination;
    run.overwrite = overwrite;
    return quantize(plan, *threads, run);
}

// name -> "dtype shape sha256"
std::map<std::string, std::string> fingerprints(const std::string & folder) {
    std::map<std::string, std::string> out;
    for (const MemoryTensor & tensor : load_tensors(folder))
        out[tensor.name] = concat(dtype_name(tensor.dtype), " ", shape_text(tensor.shape), " ",
                                  sha256_hex(tensor.data.data(), tensor.data.size()));
    return out;
}

std::map<std::string, std::string> recorded_fingerprints() {
    const JsonDocument document = JsonDocument::read(golden + "/tensors.json", 100'000'000).take();
    std::map<std::string, std::string> out;
    const Status status =
        document.root().for_each_member([&](std::string_view name, const JsonValue & value) -> Status {
            std::vector<int64_t> shape;
            GNV_TRY(value.get("shape").value().for_each_element([&](size_t, const JsonValue & item) -> Status {
                shape.push_back(item.as_int().value());
                return {};
            }));
            out[std::string(name)] = concat(value.get("dtype").value().as_string().value(), " ", shape_text(shape), " ",
                                            value.get("sha256").value().as_string().value());
            return {};
        });
    CHECK(status.ok());
    return out;
}

// Every quantized module of `folder` equals the reference's; returns how many tensors were compared.
size_t compare_with_reference(const std::string & folder) {
    const auto ours = fingerprints(folder);
    size_t compared = 0;
    for (const auto & [name, recorded] : recorded_fingerprints()) {
        const bool weight = ends_with(name, ".weight_packed") || ends_with(name, ".weight_scale") ||
                            ends_with(name, ".weight_global_scale");
        if (!weight) continue;
        CAPTURE(name);
        const auto found = ours.find(name);
        REQUIRE(found != ours.end());
        CHECK(found->second == recorded);
        compared++;
    }
    return compared;
}

std::string folder_digest(const std::string & folder) {
    std::string all;
    for (const DirectoryEntry & entry : list_directory(folder).take()) {
        const std::string content = read_file(join_path(folder, entry.name), 1 << 30).take();
        all += entry.name + " " + sha256_hex(content.data(), content.size()) + "\n";
    }
    return all;
}

} // namespace

TEST_CASE("the small checkpoint: all 800 modules are the bytes that llm-compressor wrote") {
    const ScratchFolder scratch;
    const QuantizeReport report = quantize_folder(tiny, scratch / "out", weights_only()).take();
    CHECK(report.bytes_read == 39289152);
    CHECK(compare_with_reference(scratch / "out") == 2400);
    CHECK_FALSE(path_exists(scratch / "out.partial"));
    CHECK_FALSE(path_exists(scratch / "out/journal"));

    // Preserved tensors keep their bytes, the draft head and the vision tower included.
    const auto ours = fingerprints(scratch / "out"), source = fingerprints(tiny);
    CHECK(ours.size() == 2400 + 157);
    size_t preserved = 0;
    for (const auto & [name, print] : source) {
        if (ours.count(name) == 0) continue;
        CHECK_MESSAGE(ours.at(name) == print, name);
        preserved++;
    }
    CHECK(preserved == 157);
    // Other files too.
    for (const char * name : {"tokenizer.json", "tokenizer_config.json", "chat_template.jinja",
                              "generation_config.json", "preprocessor_config.json"})
        CHECK(read_file(join_path(tiny, name), 1 << 20).value() ==
              read_file(join_path(scratch / "out", name), 1 << 20).value());
}

TEST_CASE("one file or ten, fused or per-expert tensors: the same modules") {
    const ScratchFolder scratch;
    const std::vector<MemoryTensor> fused = load_tensors(tiny), split = split_experts(fused);
    CHECK(split.size() == 205 - 18 + 9 * 32 * 3);
    int number = 0;
    for (const auto * tensors : {&fused, &split}) {
        for (const size_t shards : {1, 10}) {
            const std::string source = scratch / concat("source", number), out = scratch / concat("out", number++);
            CHECK(make_directory(source).ok());
            save_tensors(source, *tensors, shards);
            copy_other_files(tiny, source);
            PlanOptions options = weights_only();
            options.shard_bytes = shards * 1'000'000;
            const auto report = quantize_folder(source, out, options);
            CAPTURE(report.status().message());
            REQUIRE(report.ok());
            CHECK(compare_with_reference(out) == 2400);
        }
    }
}

TEST_CASE("weights in F32 beside BF16 ones that share their scale are rounded first: the reference's bytes") {
    const ScratchFolder scratch;
    const std::string source = scratch / "source";
    REQUIRE(make_directory(source).ok());
    std::vector<MemoryTensor> tensors = load_tensors(tiny);
    for (MemoryTensor & tensor : tensors) {
        if (!ends_with(tensor.name, "shared_expert.up_proj.weight") &&
            !ends_with(tensor.name, "self_attn.q_proj.weight"))
            continue;
        std::string wide;
        for (size_t i = 0; i < tensor.data.size(); i += 2) // rounds back to the same BF16
            wide += std::string("\x11\0", 2) + tensor.data.substr(i, 2);
        tensor.dtype = DType::f32;
        tensor.data = wide;
    }
    save_tensors(source, tensors, 1);
    copy_other_files(tiny, source);
    REQUIRE(quantize_folder(source, scratch / "out", weights_only()).ok());
    CHECK(compare_with_reference(scratch / "out") == 2400);
    PlanOptions small = weights_only();
    small.ram_bytes = 4 << 20; // groups are read twice
    REQUIRE(quantize_folder(source, scratch / "small", small).ok());
    CHECK(fingerprints(scratch / "small") == fingerprints(scratch / "out"));
    const std::vector<std::string> notes = make_plan(source, weights_only()).value().notes;
    CHECK(std::count_if(notes.begin(), notes.end(), [](const std::string & note) {
              return note.find("is rounded to that first, as llm-compressor does") != std::string::npos;
          }) == 10);
    // A dtype that config.json does not name has no such rule.
    std::string config = read_file(source + "/config.json", 1 << 20).take();
    for (size_t at; (at = config.find("\"bfloat16\"")) != std::string::npos;) config.replace(at, 10, "\"float16\"");
    REQUIRE(remove_file(source + "/config.json").ok());
    REQUIRE(write_file_synced(source + "/config.json", config).ok());
    CHECK(make_plan(source, weights_only()).status().message().find("which shares its global scale, is") !=
          std::string::npos);
}

TEST_CASE("threads and memory do not change a byte, not even where groups are read twice") {
    const ScratchFolder scratch;
    CHECK(quantize_folder(tiny, scratch / "a", weights_only(1)).ok());
    const std::string expected = folder_digest(scratch / "a");
    // Rows of 48 KB make groups that a small buffer cannot hold; built from the same weights.
    PlanOptions small = weights_only(3);
    small.ram_bytes = 6 << 20;
    CHECK(quantize_folder(tiny, scratch / "b", small).ok());
    CHECK(folder_digest(scratch / "b") == expected);
    Plan plan = make_plan(tiny, weights_only(5)).take();
    plan.memory.source_buffer = 3000; // a few rows at a time
    size_t twice = 0;
    for (PlanUnit & unit : plan.units) twice += unit.read_twice = unit.quantize && unit.source_bytes > 3000;
    CHECK(twice > 500);
    const auto threads = ThreadPool::create(5).take();
    QuantizeOptions run;
    run.destination = scratch / "c";
    CHECK(quantize(plan, *threads, run).ok());
    CHECK(folder_digest(scratch / "c") == expected);
}

TEST_CASE("shards are filled up to the limit, aligned, and the index lists them") {
    const ScratchFolder scratch;
    PlanOptions options = weights_only();
    options.shard_bytes = 3'000'000;
    CHECK(quantize_folder(tiny, scratch / "out", options).ok());
    const Checkpoint checkpoint = Checkpoint::open(scratch / "out").take();
    CHECK(checkpoint.has_index());
    // 19.9 MB, with gaps before the two large embeddings; the last ones of the layers are smaller.
    CHECK(checkpoint.shards().size() == 17);
    for (const Shard & shard : checkpoint.shards()) CHECK(shard.data_bytes <= 3'000'000);
    for (const TensorInfo & tensor : checkpoint.tensors())
        CHECK(tensor.offset % uint64_t(dtype_traits(tensor.dtype).bits / 8) == 0);
    const JsonDocument index = JsonDocument::read(scratch / "out/model.safetensors.index.json", 1 << 24).take();
    CHECK(index.root().get("metadata").value().get("total_size").value().as_int().value() ==
          int64_t(checkpoint.tensor_bytes()));
}

TEST_CASE("the config gains the reference's quantization_config and keeps everything else") {
    const ScratchFolder scratch;
    CHECK(quantize_folder(tiny, scratch / "out", weights_only()).ok());
    const JsonDocument ours = JsonDocument::read(scratch / "out/config.json", 1 << 20).take();
    const JsonDocument reference = JsonDocument::read(golden + "/config.json", 1 << 20).take();
    const JsonDocument source = JsonDocument::read(tiny + "/config.json", 1 << 20).take();
    std::vector<std::string> keys;
    CHECK(source.root()
              .for_each_member([&](std::string_view key, const JsonValue & value) -> Status {
                  keys.push_back(std::string(key));
                  CHECK(ours.root().get(key).value().text() == value.text());
                  return {};
              })
              .ok());
    keys.push_back("quantization_config");
    size_t position = 0;
    CHECK(ours.root()
              .for_each_member([&](std::string_view key, const JsonValue &) -> Status {
                  CHECK(keys.at(position++) == key);
                  return {};
              })
              .ok());
    const JsonValue a = ours.root().get("quantization_config").take(),
                    b = reference.root().get("quantization_config").take();
    for (const char * key : {"format", "quant_method", "quantization_status", "version", "kv_cache_scheme"})
        CHECK(a.get(key).value().text() == b.get(key).value().text());
    const JsonValue group_a = a.get("config_groups").value().get("group_0").take();
    const JsonValue group_b = b.get("config_groups").value().get("group_0").take();
    CHECK(group_a.get("weights").value().text() == group_b.get("weights").value().text());
    CHECK(group_a.get("targets").value().text() == group_b.get("targets").value().text());
    CHECK(group_a.get("input_activations").value().is_null());
    std::string ignore = b.get("ignore").value().text();
    ignore.replace(ignore.find("re:^mtp.*"), 9, "re:.*mtp.*"); // a pattern that holds in every engine's name space
    CHECK(a.get("ignore").value().text() == ignore);
}

TEST_CASE("a bad value is named with module, place and file, and nothing carries the destination's name") {
    const ScratchFolder scratch;
    for (const auto & [bits, layer] : {std::pair(0x7f80, 0), std::pair(0xffc0, 3)}) {
        const std::string source = scratch / concat("source", layer), out = scratch / concat("out", layer);
        CHECK(make_directory(source).ok());
        std::vector<MemoryTensor> tensors = load_tensors(tiny);
        MemoryTensor & weight =
            find_tensor(tensors, concat("model.language_model.layers.", layer, ".mlp.experts.gate_up_proj"));
        const size_t element = (5 * 128 + 64 + 2) * 256 + 9; // expert 5, up_proj row 2, column 9
        weight.data[element * 2] = char(bits & 0xff);
        weight.data[element * 2 + 1] = char(bits >> 8);
        save_tensors(source, tensors, 1);
        copy_other_files(tiny, source);
        const Status status = quantize_folder(source, out, weights_only()).take_status();
        CHECK(status.code() == Code::bad_value);
        CAPTURE(status.message());
        CHECK(status.message().find(concat("layers.", layer, ".mlp.experts.5.up_proj")) != std::string::npos);
        CHECK(status.message().find("row 2, column 9") != std::string::npos);
        CHECK(status.message().find("model.safetensors") != std::string::npos);
        CHECK_FALSE(path_exists(out));
        CHECK(path_exists(out + ".partial/journal"));
        CHECK_FALSE(path_exists(out + ".partial/config.json"));
        // A left-over is not silently used, and goes when asked.
        CHECK(quantize_folder(tiny, out, weights_only()).status().code() == Code::already_exists);
        CHECK(quantize_folder(tiny, out, weights_only(), true).ok());
        CHECK_FALSE(path_exists(out + ".partial"));
    }
}

TEST_CASE("destinations that would harm something are refused before anything is written") {
    const ScratchFolder scratch;
    const std::string source = scratch / "source";
    CHECK(make_directory(source).ok());
    save_tensors(source, load_tensors(tiny), 1);
    copy_other_files(tiny, source);
    const std::string before = folder_digest(source);
    CHECK(make_directory(scratch / "photos").ok());
    CHECK(write_file_synced(scratch / "photos/cat.jpg", "cat").ok());
    CHECK(make_directory(scratch / "empty").ok());
    REQUIRE(symlink("source", (scratch / "link").c_str()) == 0);

    const auto code = [&](const std::string & destination, bool overwrite) {
        return quantize_folder(source, destination, weights_only(), overwrite).status().code();
    };
    CHECK(code(source, true) == Code::invalid_argument);
    CHECK(code(scratch / "link", true) == Code::invalid_argument);
    CHECK(code(source + "/inside", true) == Code::invalid_argument);
    CHECK(code(scratch.path(), true) == Code::invalid_argument); // holds the source
    CHECK(code(scratch / "photos", false) == Code::already_exists);
    CHECK(code(scratch / "photos", true) == Code::already_exists); // not a checkpoint
    CHECK(code(scratch / "absent/out", false) == Code::not_found);
    CHECK(read_file(scratch / "photos/cat.jpg", 10).value() == "cat");
    CHECK(folder_digest(source) == before);
    CHECK(code(scratch / "empty", false) == Code::ok); // nothing is lost
    CHECK(code(scratch / "empty", false) == Code::already_exists);
    CHECK(code(scratch / "empty", true) == Code::ok); // again, over a checkpoint
    CHECK_FALSE(path_exists(scratch / "empty.partial"));
    CHECK(compare_with_reference(scratch / "empty") == 2400);
}

TEST_CASE("a stop in mid-run leaves a partial folder whose journal tells what is on disk") {
    const ScratchFolder scratch;
    const Plan plan = make_plan(tiny, weights_only()).take();
    const auto threads = ThreadPool::create(2).take();
    QuantizeOptions run;
    run.destination = scratch / "out";
    run.progress = [](const QuantizeProgress &) { return false; };
    const Status status = quantize(plan, *threads, run).take_status();
    CHECK(status.code() == Code::cancelled);
    CHECK_FALSE(path_exists(scratch / "out"));
    const std::string journal = read_file(scratch / "out.partial/journal", 1 << 20).take();
    CHECK(journal.find("ggml-nvfp4 journal 1\nplan " + plan.plan_fingerprint + "\nsource " + plan.source_fingerprint) ==
          0);
    // Whatever it calls done has its final bytes.
    CHECK(quantize_folder(tiny, scratch / "whole", weights_only()).ok());
    const File partial = File::open_read(scratch / "out.partial/model.safetensors").take();
    const File whole = File::open_read(scratch / "whole/model.safetensors").take();
    for (size_t at = journal.find("done "); at != std::string::npos; at = journal.find("done ", at + 1)) {
        const OutputTensor & tensor = plan.output.tensors.at(std::stoul(journal.substr(at + 5)));
        std::string a(tensor.bytes, '\0'), b(tensor.bytes, '\0');
        CHECK(partial.read(a.data(), a.size(), tensor.offset).ok());
        CHECK(whole.read(b.data(), b.size(), tensor.offset).ok());
        CHECK(a == b);
    }
}

TEST_CASE("a source that changes while it is read is noticed before the result gets its name") {
    const ScratchFolder scratch;
    const std::string source = scratch / "source";
    CHECK(make_directory(source).ok());
    save_tensors(source, load_tensors(tiny), 1);
    copy_other_files(tiny, source);
    const Plan plan = make_plan(source, weights_only()).take();
    const auto threads = ThreadPool::create(2).take();
    QuantizeOptions run;
    run.destination = scratch / "out";
    run.progress = [&](const QuantizeProgress &) {
        return File::open_write(source + "/model.safetensors").value().write("x", 1, 20'000'000).ok();
    };
    CHECK(quantize(plan, *threads, run).status().code() == Code::changed);
    CHECK_FALSE(path_exists(scratch / "out"));
}

TEST_CASE("a disk that takes no more says so, and the folder stays unfinished") {
    const ScratchFolder scratch;
    const pid_t child = fork();
    if (child == 0) { // a limit on file size stands in for a full disk: reserving the shard fails
        signal(SIGXFSZ, SIG_IGN);
        const rlimit limit = {8 << 20, 8 << 20};
        setrlimit(RLIMIT_FSIZE, &limit);
        const Status status = quantize_folder(tiny, scratch / "out", weights_only()).take_status();
        _exit(status.code() == Code::no_space && !path_exists(scratch / "out") ? 0 : 1);
    }
    int result = -1;
    REQUIRE(waitpid(child, &result, 0) == child);
    CHECK((WIFEXITED(result) && WEXITSTATUS(result) == 0));
    CHECK_FALSE(path_exists(scratch / "out"));
}

TEST_CASE("W4A4 can be planned, and not run without data") {
    const ScratchFolder scratch;
    PlanOptions options = weights_only();
    options.recipe.scheme = &formats::nvfp4;
    CHECK(make_plan(tiny, options).value().output.tensors.size() == 3357);
    CHECK(quantize_folder(tiny, scratch / "out", options).status().code() == Code::invalid_argument);
    CHECK_FALSE(path_exists(scratch / "out.partial"));
}
