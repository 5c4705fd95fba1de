// dataset MODEL --calib PATH: what calibration would see.
#include "args.h"

#include <algorithm>

namespace {

struct Args {
    std::string model, tokens_out;
    tools::DataArgs data;
    uint64_t show = 0;
    int threads = 0;
    bool json = false;
};

void declare(CLI::App & app, Args & args) {
    app.add_option("MODEL", args.model, "folder of a checkpoint, or a tokenizer.json")->required();
    tools::add_data_options(app, args.data);
    app.add_option("--tokens-out", args.tokens_out, "write ids, masks and chosen rows to a new file")
        ->type_name("FILE");
    app.add_option("--show", args.show, "print the first N sequences as text")->type_name("N");
    app.add_flag("--json", args.json, "print the summary as JSON");
    app.add_option("--threads", args.threads, "0: one per processor")->type_name("N");
}

// One sequence as text, its documents apart. False after a failure.
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
        tools::write_text(stdout, text);
        printf("\n");
    }
    if (pads > 0) printf("--- %llu pads\n", static_cast<unsigned long long>(pads));
    return true;
}

} // namespace

static int run_program(int argc, char ** argv) {
    Args args;
    CLI::App app("What calibration would see: tokens, truncation, padding, lengths, duplicates.", "dataset");
    tools::set_up(app);
    declare(app, args);
    TOOLS_PARSE(app, argc, argv);
    const tools::Engine engine = tools::make_engine(args.threads);
    if (!engine) return tools::exit_failure;
    tools::Tokenizer tokenizer;
    tools::Dataset dataset;
    if (!tools::open_data(engine.get(), args.model, args.data, tokenizer, dataset)) return tools::report(engine.get());
    if (!args.tokens_out.empty() && gnv_dataset_save_tokens(dataset.get(), args.tokens_out.c_str()) != GNV_OK)
        return tools::report(engine.get());
    gnv_text_t * text = nullptr;
    if (gnv_dataset_text(dataset.get(), args.json ? GNV_TEXT_JSON : GNV_TEXT_PLAIN, &text) != GNV_OK)
        return tools::report(engine.get());
    const tools::Text summary(text);
    if (!tools::save_text("-", text)) return tools::exit_failure;
    for (uint64_t i = 0; i < std::min(args.show, gnv_dataset_size(dataset.get())); i++)
        if (!show_sequence(tokenizer.get(), dataset.get(), i)) return tools::report(engine.get());
    return tools::exit_ok;
}

int main(int argc, char ** argv) { return tools::guarded(run_program, argc, argv); }
