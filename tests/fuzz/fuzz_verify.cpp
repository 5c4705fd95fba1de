// A small good checkpoint, damaged: bytes of its files are overwritten, files replaced, cut or removed as the input says.
// verify gives a report or a message; without damage, no error.
//   operation u8: 0 overwrite  file u8, offset u32, length u8, bytes      1 cut     file u8, size u32
//                 2 remove     file u8                                    3 replace file u8, length u16, bytes
#include "fuzz/fuzz_model.h"
#include "quantize/quantize.h"
#include "verify/verify.h"

using namespace gnv;
using namespace gnv::fuzz;

struct GoodPair {
    test::ScratchFolder scratch;
    std::unique_ptr<ThreadPool> threads = ThreadPool::create(1).take();
    std::shared_ptr<const Folder> source, quantized;
    std::vector<std::string> files; // of the quantized one; operations wrap around

    GoodPair() {
        const std::string from = scratch / "source", to = scratch / "quantized";
        GNV_CHECK(test::write_synthetic_checkpoint(tiny_config(), from, {}).ok());
        for (const char * name : {"tokenizer.json", "tokenizer_config.json", "generation_config.json"})
            GNV_CHECK(write_file_synced(join_path(from, name), "{\"chat_template\": \"{}\"}").ok());
        PlanOptions options;
        options.recipe.scheme = &formats::nvfp4a16;
        QuantizeOptions run;
        run.destination = to;
        GNV_CHECK(quantize(make_plan(from, options).take(), *threads, run).ok());
        source = open_folder(from).take(), quantized = open_folder(to).take();
        for (const DirectoryEntry & entry : quantized->list().take()) files.push_back(entry.name);
    }
};

static void damage(OverlayFolder & view, const std::vector<std::string> & files, Bytes & input) {
    const uint64_t operation = input.number(1) % 4;
    const std::string & file = files[input.number(1) % files.size()];
    if (operation == 0) {
        const uint64_t offset = input.number(4);
        require_message(view.patch(file, offset, input.text(input.number(1))));
    } else if (operation == 1) {
        require_message(view.truncate(file, input.number(4)));
    } else if (operation == 2) {
        view.remove(file);
    } else {
        view.put(file, input.text(input.number(2)));
    }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t * data, size_t size) {
    static const GoodPair good;
    const auto view = std::make_shared<OverlayFolder>(good.quantized);
    Bytes input(data, size);
    for (int operations = 0; !input.empty() && operations < 16; operations++) damage(*view, good.files, input);
    for (const bool with_source : {true, false}) {
        const Result<verify::VerifyReport> report =
            verify::verify(view, with_source ? good.source : nullptr, *good.threads, {});
        require_message(report.status());
        if (!report.ok()) continue;
        require(!verify::report_text(report.value()).empty());
        require(JsonDocument::parse(verify::report_json(report.value()).take(), "report").ok());
        if (size == 0) require(report.value().errors() == 0);
    }
    return 0;
}
