#include "api/calibration_data.h"

#include "formats/file.h"
#include "formats/json_writer.h"

namespace gnv {

// The origin of the sequences, the same on every machine: names of files without their folders.
static std::string describe_data(const CalibrationSet & set, const CalibrationOptions & options) {
    JsonWriter json;
    json.begin_object();
    if (!options.tokens_file.empty()) {
        json.member("tokens_file", base_name(options.tokens_file));
    } else {
        json.member("seed", options.seed).member("shuffle", options.shuffle).member("samples", options.samples);
        json.member("sequence_length", options.sequence_length).member("pad", options.pad).member("pack", options.pack);
        if (options.chunk) json.member("chunk", true);
    }
    json.key("sources").begin_array();
    for (const CalibrationSourceReport & source : set.sources) {
        json.begin_object().member("name", base_name(source.path)).member("rows", source.rows);
        json.member("rows_chosen", source.rows_chosen).key("left_out").begin_array();
        for (size_t i = 0; i < source.faults.size(); i++)
            if (source.faults[i].rows > 0)
                json.begin_object()
                    .member("reason", fault_text(RowFault(i)))
                    .member("rows", source.faults[i].rows)
                    .end_object();
        json.end_array().end_object();
    }
    json.end_array().key("warnings").begin_array();
    for (std::string warning : set.warnings) {
        for (const CalibrationSourceReport & source : set.sources)
            if (starts_with(warning, source.path)) warning.replace(0, source.path.size(), base_name(source.path));
        json.value(warning);
    }
    json.end_array();
    json.member("documents", set.documents).member("truncated", set.truncated).member("duplicates", set.duplicates);
    json.key("rows").begin_array(); // [source, row] of every document, in order
    for (const CalibrationSequence & sequence : set.sequences) {
        if (set.sources.empty()) break;
        for (const CalibrationDocument & document : sequence.documents)
            json.begin_array().value(document.source).value(document.row).end_array();
    }
    json.end_array();
    return json.end_object().take();
}

CalibrationData make_calibration_data(const CalibrationSet & set, const CalibrationOptions & options) {
    CalibrationData data;
    for (const CalibrationSequence & sequence : set.sequences) {
        TextSequence text;
        text.ids.assign(sequence.ids.begin(), sequence.ids.end());
        text.mask = sequence.mask;
        for (const CalibrationDocument & document : sequence.documents)
            text.segments.push_back(int32_t(document.begin));
        data.sequences.push_back(std::move(text));
    }
    data.sha256 = set.sha256;
    data.positions = set.positions;
    data.tokens = set.tokens;
    data.reading_bytes = set.reading_bytes;
    data.json = describe_data(set, options);
    if (!options.tokens_file.empty()) data.files.push_back(options.tokens_file);
    for (const CalibrationSourceReport & source : set.sources)
        for (const CalibrationFile & file : source.files) data.files.push_back(file.path);
    return data;
}

} // namespace gnv
