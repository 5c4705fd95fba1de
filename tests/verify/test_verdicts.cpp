// Checkpoints that engines load and answer with, and what verify says of them.
#include "core/sha256.h"
#include "formats/file_list.h"
#include "model/matched_checkpoint.h"
#include "verify_fixture.h"

#include <cstring>

using namespace gnv;
using namespace gnv::test;
using namespace gnv::verify;

namespace {

// A copy of a checkpoint with changed tensors, config and files.
struct Variant {
    ScratchFolder scratch;
    explicit Variant(const std::string & folder, const std::function<void(std::vector<MemoryTensor> &)> & change,
                     const std::function<void(Json &)> & change_config = nullptr) {
        std::vector<MemoryTensor> tensors = load_tensors(folder);
        change(tensors);
        save_tensors(scratch.path(), tensors, 1);
        copy_other_files(folder, scratch.path());
        if (!change_config) return;
        Json config = Json::parse(read_file(scratch / "config.json", 1 << 24).value());
        change_config(config);
        scratch.save("config.json", config.dump());
    }
    const std::string & path() const { return scratch.path(); }
};

void keep(std::vector<MemoryTensor> &) {}

void drop_draft_head(std::vector<MemoryTensor> & tensors) {
    std::erase_if(tensors, [](const MemoryTensor & tensor) { return starts_with(tensor.name, "mtp."); });
}

bool mentions(const VerifyReport & report, const std::string & text) {
    for (const Finding & finding : report.findings.all())
        if ((finding.subject + ": " + finding.what).find(text) != std::string::npos) return true;
    return false;
}

const std::string layers = "model.language_model.layers.";

} // namespace

TEST_CASE("files are compared with the hashes that README.md lists") {
    const Variant made(fused_pair().quantized, keep);
    const std::string weights = "model.safetensors", extra = "quantization_report.json";
    std::vector<ListedFile> files;
    for (const std::string & name : {weights, std::string("config.json"), extra}) {
        const std::string content = read_file(made.path() + "/" + name, 1 << 28).take();
        files.push_back({name, content.size(), sha256_hex(content.data(), content.size())});
    }
    const auto state = [](const VerifyReport & report) {
        const CheckOutcome & last = report.outcomes.back();
        REQUIRE(std::string(last.check->id) == "F1");
        return last.done ? "done" : last.reason;
    };
    const auto list = [&](const std::vector<ListedFile> & listed) {
        if (path_exists(made.path() + "/README.md")) REQUIRE(remove_file(made.path() + "/README.md").ok());
        REQUIRE(write_file_synced(made.path() + "/README.md", "# A\n\n" + file_list_text(listed)).ok());
        return examine(made.path(), "");
    };
    CHECK(state(examine(made.path(), "")) == "README.md lists no files with hashes");
    const VerifyReport good = list(files);
    CHECK(state(good) == "done");
    CHECK(failed_checks(good) == "");
    CHECK(good.listed.size() == 3);
    const uint64_t read = good.measurements->bytes_read;
    CHECK(read == examine(fused_pair().quantized, "").measurements->bytes_read);

    // One bit of the weights' last byte, which no other check looks at without the source.
    const File file = File::open_write(made.path() + "/" + weights).take();
    char byte = 0;
    REQUIRE(file.read(&byte, 1, files[0].size - 1).ok());
    byte = char(byte ^ 1);
    REQUIRE(file.write(&byte, 1, files[0].size - 1).ok());
    const VerifyReport damaged = examine(made.path(), "");
    CHECK(damaged.errors() == 1);
    CHECK(failed_checks(damaged) == "F1");
    CHECK(mentions(damaged, weights + ": has SHA-256 "));
    VerifyOptions without;
    without.hashes = false;
    const auto examine_with = [&](const VerifyOptions & options) {
        return gnv::verify::verify(open_folder(made.path()).take(), nullptr, two_threads(), options).take();
    };
    CHECK(state(examine_with(without)) == "hashes were not asked for");
    without.values = false;
    CHECK(state(examine_with(without)) == "only the structure was asked for");
    byte = char(byte ^ 1);
    REQUIRE(file.write(&byte, 1, files[0].size - 1).ok());

    // What is not weights may have been changed on purpose.
    std::vector<ListedFile> others = files;
    others[1].sha256 = std::string(64, '0'), others[2].size++;
    others.push_back({"absent.json", 1, std::string(64, '0')});
    others.push_back({"../" + base_name(made.path()) + "/config.json", files[1].size, files[1].sha256});
    const VerifyReport changed = list(others);
    CHECK(changed.errors() == 0);
    CHECK(changed.warnings() == 4);
    CHECK(mentions(changed, "config.json: has SHA-256 " + files[1].sha256 + "; README.md lists 0000"));
    CHECK(mentions(changed, extra + ": has "));
    CHECK(mentions(changed, "absent.json: is missing; README.md lists it"));
    others = files;
    others[0].size++;
    CHECK(list(others).errors() == 1);

    uint64_t last = 0, total = 0;
    VerifyOptions watched;
    watched.measure.progress = [&](const MeasureProgress & now) {
        CHECK(now.bytes >= last);
        CHECK(now.bytes <= now.bytes_total);
        last = now.bytes, total = now.bytes_total;
        return true;
    };
    (void)list(files);
    (void)examine_with(watched);
    CHECK(total == read + files[0].size + files[1].size + files[2].size);
    CHECK(last == total);
    watched.measure.progress = [](const MeasureProgress &) { return false; };
    CHECK(gnv::verify::verify(open_folder(made.path()).take(), nullptr, two_threads(), watched).status().code() ==
          Code::cancelled);
}

TEST_CASE("a draft head that the source lacks, too, is a warning") {
    const Variant source(tiny, drop_draft_head), quantized(fused_pair().quantized, drop_draft_head);
    const VerifyReport report = examine(quantized.path(), source.path());
    CHECK(report.errors() == 0);
    CHECK(failed_checks(report) == "L11");
    CHECK(mentions(report, "none of its tensors is there, nor in the source"));
    CHECK(examine(quantized.path(), tiny).errors() > 0);
}

TEST_CASE("a tensor without a place in the model stops engines, whether the source has it or not") {
    const auto add_stray = [](std::vector<MemoryTensor> & tensors) {
        MemoryTensor stray = tensors.front();
        stray.name = "model.language_model.stray.weight";
        tensors.push_back(std::move(stray));
    };
    const Variant source(tiny, add_stray), quantized(fused_pair().quantized, add_stray);
    for (const std::string & folder : {source.path(), tiny}) {
        const VerifyReport report = examine(quantized.path(), folder);
        CHECK(report.errors() == 1);
        CHECK(failed_checks(report) == "L2");
        CHECK(mentions(report, "nor does that of the source, which has it too") == (folder != tiny));
    }
}

TEST_CASE("a draft head that config.json switches off is a note, and a warning beside a source that has one") {
    const auto switch_off = [](Json & config) { config["text_config"]["mtp_num_hidden_layers"] = 0; };
    const Variant source(tiny, keep, switch_off), quantized(fused_pair().quantized, keep, switch_off);
    const VerifyReport same = examine(quantized.path(), source.path());
    CHECK(failed_checks(same) == "");
    CHECK(mentions(same, "is switched off in config.json"));
    const VerifyReport off = examine(quantized.path(), tiny);
    CHECK(off.errors() == 0);
    CHECK(failed_checks(off) == "S4");
    CHECK(failed_checks(examine(quantized.path(), "")) == "");
}

TEST_CASE("tied embeddings, with and without the copy of the head") {
    const auto tie = [](Json & config) {
        config["tie_word_embeddings"] = true;
        config["text_config"]["tie_word_embeddings"] = true;
    };
    const auto drop_head = [](std::vector<MemoryTensor> & tensors) {
        std::erase_if(tensors, [](const MemoryTensor & tensor) { return tensor.name == "lm_head.weight"; });
    };
    const Variant with_copy(tiny, keep, tie), without(tiny, drop_head, tie);
    const Variant quantized_copy(fused_pair().quantized, keep, tie), quantized(fused_pair().quantized, drop_head, tie);
    for (const Variant * ours : {&quantized_copy, &quantized})
        for (const Variant * theirs : {&with_copy, &without}) {
            const VerifyReport report = examine(ours->path(), theirs->path());
            CHECK_MESSAGE(report.errors() == 0, report_text(report));
        }
    CHECK(examine(quantized.path(), "").errors() == 0);
}

TEST_CASE("global scales of shape [] are those of shape [1]") {
    const Variant quantized(reference_pair().quantized, [](std::vector<MemoryTensor> & tensors) {
        for (MemoryTensor & tensor : tensors)
            if (ends_with(tensor.name, "_global_scale")) tensor.shape = {};
    });
    CHECK(failed_checks(examine(quantized.path(), tiny)) == "");
    CHECK(open_matched(open_folder(quantized.path()).take(), all_formats()).status().message() == "");
}

TEST_CASE("norms that went through 1 + w in the dtype that they have") {
    const std::string name = layers + "0.input_layernorm.weight";
    for (const DType dtype : {DType::f16, DType::f32}) {
        const auto convert = [&](bool trips) {
            return [&, trips](std::vector<MemoryTensor> & tensors) {
                MemoryTensor & norm = find_tensor(tensors, name);
                std::string bytes;
                for (size_t i = 0; i < norm.data.size() / 2; i++) {
                    float w = nvfp4::load_element(DType::bf16, norm.data.data(), int64_t(i)) * 1.001f + 1e-6f;
                    w = nvfp4::round_to(dtype, w);
                    if (trips) w = nvfp4::round_to(dtype, nvfp4::round_to(dtype, 1 + w) - 1);
                    const uint16_t half = nvfp4::f16_from_float(w);
                    bytes.append(dtype == DType::f32 ? reinterpret_cast<const char *>(&w)
                                                     : reinterpret_cast<const char *>(&half),
                                 dtype == DType::f32 ? 4 : 2);
                }
                norm.dtype = dtype;
                norm.data = bytes;
            };
        };
        const Variant source(tiny, convert(false)), quantized(fused_pair().quantized, convert(true));
        const VerifyReport report = examine(quantized.path(), source.path());
        CHECK(failed_checks(report) == "");
        CHECK(mentions(report, concat("went through 1 + w and back in ", dtype_name(dtype))));
    }
}

TEST_CASE("NaN and Inf in tensors that stay as they are") {
    for (const bool of_source : {false, true}) {
        const auto spoil = [](std::vector<MemoryTensor> & tensors) {
            memcpy(&find_tensor(tensors, "model.language_model.norm.weight").data[2 * 5], "\x80\x7f", 2);
        };
        const Variant quantized(fused_pair().quantized, spoil), source(tiny, spoil);
        const VerifyReport report = examine(quantized.path(), of_source ? source.path() : "");
        CHECK(failed_checks(report) == "L16");
        CHECK(mentions(report,
                       "model.language_model.norm.weight: holds NaN or Inf in 1 of 256 values, first at element 5"));
    }
}

TEST_CASE("FP8 modules are compared with the source, by tensor, channel and block") {
    const std::string name = layers + "3.self_attn.o_proj";
    enum class Fault { none, scale, zero, nan, negative_scale };
    const auto make = [&](const std::vector<int64_t> & scale_shape, Fault fault) {
        return Variant(
            fused_pair().quantized,
            [&](std::vector<MemoryTensor> & tensors) {
                std::vector<MemoryTensor> originals = load_tensors(tiny);
                const MemoryTensor & original = find_tensor(originals, name + ".weight");
                const int64_t rows = original.shape[0], columns = original.shape[1];
                std::erase_if(tensors,
                              [&](const MemoryTensor & tensor) { return starts_with(tensor.name, name + "."); });
                int64_t scales = 1;
                for (const int64_t extent : scale_shape) scales *= extent;
                float scale = 0.001f;
                std::string codes;
                for (int64_t i = 0; i < rows * columns; i++) { // the nearest code, by search
                    const float wanted = nvfp4::load_element(DType::bf16, original.data.data(), i) / scale;
                    uint8_t best = 0;
                    for (uint8_t code = 0; code < 0x7f; code++)
                        if (std::abs(nvfp4::e4m3_value(code) - std::abs(wanted)) <
                            std::abs(nvfp4::e4m3_value(best) - std::abs(wanted)))
                            best = code;
                    codes += char(best | (wanted < 0 ? 0x80 : 0));
                }
                if (fault == Fault::zero) codes.assign(codes.size(), '\0');
                if (fault == Fault::nan) codes[7] = '\x7f';
                if (fault == Fault::scale) scale *= 100;
                if (fault == Fault::negative_scale) scale = -scale;
                std::string scale_bytes;
                for (int64_t i = 0; i < scales; i++) scale_bytes.append(reinterpret_cast<const char *>(&scale), 4);
                tensors.push_back({name + ".weight", DType::f8_e4m3, {rows, columns}, codes});
                tensors.push_back({name + ".weight_scale", DType::f32, scale_shape, scale_bytes});
            },
            [](Json & config) {
                Json & quantization = config["quantization_config"];
                quantization["format"] = "mixed-precision";
                quantization["config_groups"]["group_0"]["format"] = "nvfp4-pack-quantized";
                quantization["config_groups"]["group_1"] = {{"format", "float-quantized"},
                                                            {"targets", {"re:.*layers\\.3\\.self_attn\\.o_proj"}},
                                                            {"weights",
                                                             {{"num_bits", 8},
                                                              {"type", "float"},
                                                              {"strategy", "tensor"},
                                                              {"symmetric", true},
                                                              {"dynamic", false}}},
                                                            {"input_activations", nullptr}};
            });
    };
    const auto verdict = [&](const std::vector<int64_t> & shape, Fault fault, const std::string & source = tiny) {
        return failed_checks(examine(make(shape, fault).path(), source));
    };
    const std::vector<int64_t> shape = [&] {
        std::vector<MemoryTensor> tensors = load_tensors(tiny);
        return find_tensor(tensors, name + ".weight").shape;
    }();
    const std::vector<int64_t> blocks = {(shape[0] + 127) / 128, (shape[1] + 127) / 128};
    for (const std::vector<int64_t> & scales : std::vector<std::vector<int64_t>>{{1}, {}, {shape[0], 1}, blocks})
        CHECK(verdict(scales, Fault::none) == "");
    CHECK(verdict({1}, Fault::scale) == "S2");
    CHECK(verdict({1}, Fault::zero) == "L16 S2");
    CHECK(verdict({1}, Fault::nan).find("L16") == 0);
    CHECK(verdict({shape[0], 1}, Fault::negative_scale).find("L16") == 0);
    CHECK(verdict({1}, Fault::zero, "") == "L16");
}

TEST_CASE("a tokenizer is judged by its ids, and what it cuts and pads to is named") {
    const auto verdict = [](const std::function<void(Json &)> & change) {
        Variant quantized(fused_pair().quantized, keep);
        Json tokenizer = Json::parse(read_file(join_path(tiny, "tokenizer.json"), 1 << 24).value());
        change(tokenizer);
        quantized.scratch.save("tokenizer.json", tokenizer.dump());
        return examine(quantized.path(), tiny);
    };
    // As older releases of the library write the same: merges as text, keys that say the default.
    const VerifyReport rewritten = verdict([](Json & tokenizer) {
        for (Json & merge : tokenizer["model"]["merges"])
            if (merge.is_array()) {
                const std::string text = merge[0].get<std::string>() + " " + merge[1].get<std::string>();
                merge = text;
            }
        tokenizer["model"]["ignore_merges"] = false;
        tokenizer["model"]["a_new_key"] = 1;
    });
    CHECK_MESSAGE(failed_checks(rewritten) == "", report_text(rewritten));
    CHECK(mentions(rewritten, "with the same ids for all tokens and "));
    const VerifyReport merge =
        verdict([](Json & tokenizer) { tokenizer["model"]["merges"].erase(tokenizer["model"]["merges"].size() / 2); });
    CHECK(failed_checks(merge) == "L14");
    CHECK(merge.errors() == 1);
    CHECK(mentions(merge, "other ids for the text "));
    const VerifyReport cut = verdict([](Json & tokenizer) {
        tokenizer["truncation"] = {{"max_length", 512}, {"strategy", "LongestFirst"}};
        tokenizer["padding"] = {{"strategy", "BatchLongest"}};
    });
    CHECK(cut.errors() == 0);
    CHECK(mentions(cut, "carries truncation to 512 tokens and padding, which the source does not have"));
}

TEST_CASE("keys that nobody asks for do not make a file unreadable") {
    Variant quantized(fused_pair().quantized, keep);
    const std::string path = "tokenizer_config.json";
    std::string config = read_file(join_path(tiny, path), 1 << 24).value();
    config.insert(config.find('{') + 1, "\"model_max_length\": 1000000000000000019884624838656, \"x\": 1, \"x\": 2,");
    quantized.scratch.save(path, config);
    Variant source(tiny, keep);
    source.scratch.save(path, config);
    CHECK(failed_checks(examine(quantized.path(), source.path())) == "");
}
