// dataset MODEL --calib PATH: the sequences that calibration reads.
#include "common/args.h"
#include "common/hub_fetch.h"

#include <algorithm>

namespace {

struct Args {
    std::string model, tokens_out;
    tools::DataArgs data;
    uint64_t show = 0;
    tools::EngineArgs engine;
    bool json = false;
};

void declare(CLI::App & app, Args & args) {
    app.add_option("MODEL", args.model, "folder of a checkpoint, or a tokenizer.json")->required();
    tools::add_data_options(app, args.data);
    app.add_option("--tokens-out", args.tokens_out, "write ids, masks and chosen rows to a new file")
        ->type_name("FILE");
    tools::add_count(app, "--show", args.show, 0, tools::any_count, "print the first N sequences as text");
    tools::add_bytes(app, "--ram", args.data.options.ram_bytes,
                     "memory for reading and for the sequences (default: most of the free memory)");
    app.add_flag("--json", args.json, "print the summary as JSON");
    tools::add_threads(app, args.engine);
}

// Prints one sequence as text, its documents apart. False after a failure.
bool show_sequence(gnv_tokenizer_t * tokenizer, gnv_dataset_t * dataset, uint64_t index) {
    gnv_sequence sequence = {};
    sequence.struct_size = sizeof sequence;
    if (gnv_dataset_sequence(dataset, index, &sequence) != GNV_OK) return false;
    const uint64_t pads = sequence.mask ? uint64_t(std::count(sequence.mask, sequence.mask + sequence.length, 0)) : 0;
    for (uint64_t i = 0; i < sequence.document_count; i++) {
        const gnv_document & document = sequence.documents[i];
        const uint64_t end = i + 1 < sequence.document_count ? sequence.documents[i + 1].begin : sequence.length - pads;
        gnv_text_t * text = nullptr;
        if (gnv_tokenizer_decode(tokenizer, sequence.ids + document.begin, end - document.begin, 0, &text) != GNV_OK)
            return false;
        const tools::Text owner(text);
        printf("--- sequence %llu, source %u, row %llu, %llu tokens\n", static_cast<unsigned long long>(index),
               document.source, static_cast<unsigned long long>(document.row),
               static_cast<unsigned long long>(end - document.begin));
        (void)tools::write_text(stdout, text); // the caller checks the stream
        printf("\n");
    }
    if (pads > 0) printf("--- %llu pads\n", static_cast<unsigned long long>(pads));
    return true;
}

} // namespace

static int run_program(int argc, char ** argv) {
    Args args;
    tools::Program app(
        "dataset", "Show the sequences that calibration reads: tokens, truncation, padding, lengths, duplicates.",
        "MODEL --calib PATH [options]",
        {{"what calibration would read", "dataset MODEL --calib data.jsonl --samples 256"},
         {"two sources, two parts to one", "dataset MODEL --calib a.jsonl=2 --calib b.parquet:text=1 --show 3"}});
    tools::set_up(app);
    declare(app, args);
    app.group_help("Data", {"--calib", "--tokens", "--template", "--samples", "--seq-len", "--seed", "--no-shuffle",
                            "--pad", "--pack", "--chunk", "--skip-bad"});
    app.group_help("Machine", {"--ram", "--threads"});
    app.group_help("Output", {"--show", "--tokens-out", "--json"});
    if (const auto code = tools::parse(app, argc, argv)) return *code;
    if (!tools::check_data_options(app, args.data) || !tools::check_new_file(args.tokens_out))
        return tools::exit_failure;
    if (!tools::find_model(args.model)) return tools::exit_failure;
    const tools::Engine engine = tools::make_engine(args.engine);
    if (!engine || !tools::fetch_data(engine.get(), args.data.sources, false)) return tools::exit_failure;
    tools::Tokenizer tokenizer;
    tools::Dataset dataset;
    if (!tools::open_data(engine.get(), args.model, args.data, tokenizer, dataset)) return tools::report(engine.get());
    if (!args.tokens_out.empty()) {
        const tools::UnfinishedFile partial(args.tokens_out + ".partial");
        if (gnv_dataset_save_tokens(dataset.get(), args.tokens_out.c_str()) != GNV_OK)
            return tools::report(engine.get());
    }
    gnv_text_t * text = nullptr;
    if (gnv_dataset_text(dataset.get(), args.json ? GNV_TEXT_JSON : GNV_TEXT_PLAIN, &text) != GNV_OK)
        return tools::report(engine.get());
    const tools::Text summary(text);
    if (!(args.json ? tools::print_text(text) : tools::show_text(text))) return tools::exit_failure;
    for (uint64_t i = 0; i < std::min(args.show, gnv_dataset_size(dataset.get())) && !ferror(stdout); i++)
        if (!show_sequence(tokenizer.get(), dataset.get(), i)) return tools::report(engine.get());
    return tools::exit_ok;
}

int tools::run_dataset(int argc, char ** argv) { return tools::guarded(run_program, argc, argv); }
