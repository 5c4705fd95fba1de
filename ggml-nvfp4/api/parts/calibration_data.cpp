#include "api/parts/calibration_data.h"

#include "formats/file.h"
#include "formats/json_writer.h"

#include <algorithm>

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
    picture_counts_json(json, set.pictures);
    json.key("rows").begin_array(); // [source, row] of every document, in order
    for (const CalibrationSequence & sequence : set.sequences) {
        if (set.sources.empty()) break;
        for (const CalibrationDocument & document : sequence.documents)
            json.begin_array().value(document.source).value(document.row).end_array();
    }
    json.end_array();
    return json.end_object().take();
}

static Picture grid_of(const PreparedPicture & picture) {
    const VisionGrid & grid = picture.plan.grid;
    return {picture.is_video, grid.t, grid.h, grid.w};
}

// The places of a sequence's pictures, and its positions: each document begins anew.
static Status place(const CalibrationSequence & sequence, const VisionModel & vision, TextSequence & text) {
    const size_t length = text.ids.size();
    text.positions.resize(3 * length);
    for (size_t d = 0; d < sequence.documents.size(); d++) {
        const size_t begin = sequence.documents[d].begin;
        const size_t end = d + 1 < sequence.documents.size() ? sequence.documents[d + 1].begin : length;
        TextSequence part;
        part.ids.assign(text.ids.begin() + ptrdiff_t(begin), text.ids.begin() + ptrdiff_t(end));
        std::vector<Picture> pictures;
        for (const TextPicture & picture : sequence.pictures)
            if (picture.begin >= begin && picture.begin < end) pictures.push_back(grid_of(*picture.picture));
        GNV_TRY(place_pictures(pictures, vision, part));
        for (size_t axis = 0; axis < 3; axis++)
            std::copy_n(part.positions.begin() + ptrdiff_t(axis * (end - begin)), end - begin,
                        text.positions.begin() + ptrdiff_t(axis * length + begin));
        for (const int32_t at : part.given_at) text.given_at.push_back(at + int32_t(begin));
    }
    return {};
}

Result<CalibrationData> make_calibration_data(const CalibrationSet & set, const CalibrationOptions & options,
                                              std::shared_ptr<const VisionModel> vision) {
    CalibrationData data;
    std::vector<const PreparedPicture *> pictures;
    for (const CalibrationSequence & sequence : set.sequences) {
        TextSequence text;
        text.ids.assign(sequence.ids.begin(), sequence.ids.end());
        text.mask = sequence.mask;
        for (const CalibrationDocument & document : sequence.documents)
            text.segments.push_back(int32_t(document.begin));
        for (const TextPicture & picture : sequence.pictures) pictures.push_back(picture.picture.get());
        if (!sequence.pictures.empty())
            GNV_TRY(place(sequence, *vision, text).add_context(concat("sequence ", data.sequences.size())));
        data.sequences.push_back(std::move(text));
    }
    if (!pictures.empty()) {
        data.pictures.vision = std::move(vision);
        data.pictures.held_bytes = set.pictures.bytes;
        for (const PreparedPicture * const picture : pictures) data.pictures.list.push_back(grid_of(*picture));
        data.pictures.read = [pictures, rule = options.pictures](size_t picture, int64_t first, int64_t count,
                                                                 float * pixel_values) -> Status {
            write_pixel_values(rule->processor, *pictures[picture], first, count, pixel_values);
            return {};
        };
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
