#include "data/calibration_set.h"
#include "formats/json_writer.h"

#include <cstdio>

namespace gnv {

static double share(uint64_t part, uint64_t whole) { return whole ? double(part) / double(whole) : 0; }

static std::string percent_text(uint64_t part, uint64_t whole) {
    char text[32];
    snprintf(text, sizeof text, "%.1f %%", 100 * share(part, whole));
    return text;
}

static void append_row(std::string & out, const char * name, const std::string & value) {
    char label[32];
    snprintf(label, sizeof label, "%-18s", name);
    out += concat(label, value, "\n");
}

static void append_lengths(std::string & out, const std::vector<uint64_t> & lengths) {
    uint64_t most = 1;
    for (const uint64_t count : lengths) most = std::max(most, count);
    bool started = false; // empty bins in front are left out
    for (size_t bin = 0; bin < lengths.size(); bin++) {
        started = started || lengths[bin] > 0;
        if (!started) continue;
        constexpr uint64_t widest_bar = 50;
        char line[96];
        snprintf(line, sizeof line, "  %7llu .. %-7llu %8llu  ", 1ull << bin, (2ull << bin) - 1,
                 static_cast<unsigned long long>(lengths[bin]));
        const size_t bar = size_t((lengths[bin] * widest_bar + most - 1) / most);
        out += concat(line, std::string(bar, '#'), "\n");
    }
}

std::vector<std::string> left_out_lines(const CalibrationSourceReport & source) {
    std::vector<std::string> lines;
    for (size_t i = 0; i < source.faults.size(); i++) {
        const FaultCount & fault = source.faults[i];
        if (fault.rows > 0)
            lines.push_back(
                concat(count_text(fault.rows), " ", fault_text(RowFault(i)), ", first at ", printable(fault.first)));
    }
    return lines;
}

static void append_source(std::string & out, const CalibrationSourceReport & source) {
    out += concat(printable(source.path), ": ", count_text(source.rows_chosen), " of ", count_text(source.rows),
                  " rows, ", count_text(source.rows_parsed), " looked at");
    if (source.files.size() > 1) out += concat(", in ", source.files.size(), " files");
    out += '\n';
    for (const std::string & line : left_out_lines(source)) out += concat("  left out: ", line, "\n");
}

static std::string picture_counts_text(const CalibrationSet::PictureCounts & counts) {
    std::string text = count_text(counts.count());
    if (counts.videos > 0) text += concat(" (", count_text(counts.videos), " of them videos)");
    text += concat(" of ", count_text(counts.tokens), " tokens");
    if (counts.count() > 0) text += concat(", ", count_text(counts.least), " to ", count_text(counts.most), " each");
    return counts.cut > 0 ? concat(text, "; ", count_text(counts.cut), " did not fit") : text;
}

void picture_counts_json(JsonWriter & json, const CalibrationSet::PictureCounts & counts) {
    if (!counts.any()) return;
    json.key("pictures").begin_object().member("images", counts.images).member("videos", counts.videos);
    json.member("tokens", counts.tokens).member("least_tokens", counts.least).member("most_tokens", counts.most);
    json.member("cut", counts.cut).end_object();
}

std::string calibration_text(const CalibrationSet & set) {
    std::string out;
    for (const CalibrationSourceReport & source : set.sources) append_source(out, source);
    for (const std::string & warning : set.warnings) out += concat("warning: ", printable_line(warning), "\n");
    append_row(out, "sequences",
               concat(count_text(set.sequences.size()), " of at most ", count_text(set.sequence_length), " tokens",
                      set.packed ? ", packed" : ""));
    append_row(out, "tokens", count_text(set.tokens));
    append_row(out, "pads",
               concat(count_text(set.positions - set.tokens), " of ", count_text(set.positions), " positions, ",
                      percent_text(set.positions - set.tokens, set.positions)));
    if (set.pictures.any()) append_row(out, "pictures", picture_counts_text(set.pictures));
    append_row(out, "documents", count_text(set.documents));
    append_row(out, "truncated", concat(count_text(set.truncated), ", ", percent_text(set.truncated, set.documents)));
    append_row(out, "duplicates", count_text(set.duplicates));
    append_row(out, "memory to read", concat("at most ", bytes_text(set.reading_bytes)));
    append_row(out, "sha256", set.sha256);
    out += "tokens in a document, and how many documents have them\n";
    append_lengths(out, set.lengths);
    return printable_text(out);
}

std::string calibration_json(const CalibrationSet & set) {
    JsonWriter json;
    json.begin_object().member("schema", "ggml-nvfp4.dataset.1").member("sequences", set.sequences.size());
    json.member("sequence_length", set.sequence_length).member("packed", set.packed).member("positions", set.positions);
    json.member("tokens", set.tokens).member("pad_share", share(set.positions - set.tokens, set.positions));
    json.member("documents", set.documents).member("truncated", set.truncated).member("duplicates", set.duplicates);
    picture_counts_json(json, set.pictures);
    json.member("reading_bytes", set.reading_bytes).member("sha256", set.sha256).key("lengths").begin_array();
    for (size_t bin = 0; bin < set.lengths.size(); bin++) {
        if (set.lengths[bin] == 0) continue;
        json.begin_object().member("from", 1ull << bin).member("to", (2ull << bin) - 1);
        json.member("documents", set.lengths[bin]).end_object();
    }
    json.end_array().key("sources").begin_array();
    for (const CalibrationSourceReport & source : set.sources) {
        json.begin_object()
            .member("path", source.path)
            .member("rows", source.rows)
            .member("rows_parsed", source.rows_parsed);
        json.member("rows_chosen", source.rows_chosen).key("files").begin_array();
        for (const CalibrationFile & file : source.files)
            json.begin_object().member("path", file.path).member("first_row", file.first_row).end_object();
        json.end_array().key("left_out").begin_array();
        for (size_t i = 0; i < source.faults.size(); i++) {
            const FaultCount & fault = source.faults[i];
            if (fault.rows == 0) continue;
            json.begin_object().member("reason", fault_text(RowFault(i))).member("rows", fault.rows);
            json.member("first", fault.first).end_object();
        }
        json.end_array().end_object();
    }
    json.end_array().member("warnings", set.warnings).key("chosen").begin_array();
    for (const CalibrationSequence & sequence : set.sequences) { // a list of [begin, source, row]
        json.begin_array();
        for (const CalibrationDocument & document : sequence.documents)
            json.begin_array().value(document.begin).value(document.source).value(document.row).end_array();
        json.end_array();
    }
    return json.end_array().end_object().take() + "\n";
}

} // namespace gnv
