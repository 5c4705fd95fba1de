// The part of CalibrationBuilder that makes texts of records, with the pictures that they hold.
#include "data/calibration_builder.h"
#include "data/record_forms.h"
#include "data/records/picture_loader.h"
#include "data/records/picture_records.h"

#include <algorithm>

namespace gnv {

// Whether the rule makes the text by a template that has placeholders, or a text that may have them.
static bool takes_pictures(const TextRule & rule) {
    return rule.text_field.empty() && (rule.form == TextForm::automatic || rule.form == TextForm::model);
}

Result<RowFault> CalibrationBuilder::make_text(Record & record, const CalibSource & source, SampledRow & row,
                                               std::string & why, std::vector<UnwrittenField> & unwritten) const {
    unify_record(record, source.rule);
    TextRule changed; // of a row of a tree that is a whole conversation; of messages with pictures
    const TextRule * rule = &source.rule;
    const auto change = [&](TextForm form) {
        changed.form = form, changed.chat = source.rule.chat;
        rule = &changed;
    };
    if (source.rule.is_tree && record.find("messages")) change(source.rule.form);
    std::vector<RecordPicture> pictures;
    if (options_.pictures && takes_pictures(*rule) && has_pictures(record)) {
        why = options_.pictures->problem;
        if (!why.empty()) return RowFault::blind_model;
        GNV_ASSIGN(const RowFault fault, arrange_pictures(record, options_.pictures->words, pictures, why));
        if (fault != RowFault::none) return fault;
        if (record.find("messages")) change(TextForm::model);
    }
    GNV_ASSIGN(const RowFault fault, render_record(record, *rule, row.text, &unwritten));
    if (fault == RowFault::refused) why = std::move(row.text);
    if (fault != RowFault::none || pictures.empty()) return fault;
    record = Record();
    return load_pictures(pictures, row, why);
}

Result<RowFault> CalibrationBuilder::load_pictures(const std::vector<RecordPicture> & pictures, SampledRow & row,
                                                   std::string & why) const {
    const PictureRule & rule = *options_.pictures;
    if (row.text.find(rule.words.image) == std::string::npos && row.text.find(rule.words.video) == std::string::npos) {
        why = concat("the text that the template makes has no placeholder for the ", pictures.size(), " pictures");
        return RowFault::picture_count;
    }
    MemoryShare share(control_);
    std::vector<PictureInText> in_text;
    for (size_t i = 0; i < pictures.size(); i++) {
        Result<PreparedPicture> loaded =
            load_picture(pictures[i], set_.sources.back().files.back().path, rule.processor, control_, &threads_);
        const Code code = loaded.status().code();
        if (code == Code::out_of_memory || code == Code::cancelled) return loaded.take_status();
        if (!loaded.ok()) {
            why = concat(pictures[i].is_video ? "video " : "image ", i, ": ", loaded.status().message());
            return RowFault::bad_picture;
        }
        if (!share.resize(share.bytes() + loaded.value().bytes()))
            return control_.too_small(concat("the pictures of a record, of which ", i + 1, " are decoded"),
                                      loaded.value().bytes());
        const VisionGrid & grid = loaded.value().plan.grid;
        in_text.push_back({loaded.value().is_video, grid.h * grid.w / (rule.merge * rule.merge), {}});
        for (const double seconds : loaded.value().seconds) in_text.back().times.push_back(seconds_text(seconds));
        row.pictures.push_back(make_text_picture(loaded.take()));
    }
    Result<std::string> expanded = expand_placeholders(row.text, in_text, rule.words);
    if (!expanded.ok()) {
        why = expanded.status().message();
        return RowFault::picture_count;
    }
    row.text = expanded.take();
    return RowFault::none;
}

// The sequences that a row gives with `chunk`; `end`: behind the tokens of the last.
uint64_t CalibrationBuilder::count_chunks(const SampledRow & row, size_t & end) const {
    const size_t most = std::min(row.ids.size(), size_t(longest_document()));
    uint64_t count = 0;
    for (end = 0; end < most; count++) {
        const size_t next = end_of_sequence(row.pictures, end, size_t(options_.sequence_length), most);
        if (next == end) break; // a picture larger than a sequence
        end = next;
    }
    return count;
}

// The ids are all of the document, or one more than are used.
RowFault CalibrationBuilder::cut_at_pictures(SampledRow & row, std::string & why) const {
    const size_t given = row.pictures.size();
    if (!locate_pictures(*options_.pictures, row.ids, row.pictures)) {
        why = "the tokens of the text are not the placeholders of its pictures";
        return RowFault::picture_count;
    }
    size_t end = 0;
    if (options_.chunk) {
        count_chunks(row, end);
    } else {
        end = end_of_sequence(row.pictures, 0, size_t(longest_document()), row.ids.size());
    }
    row.truncated = end < row.ids.size();
    row.ids.resize(end);
    while (!row.pictures.empty() && row.pictures.back().begin >= end) row.pictures.pop_back();
    row.pictures_cut = given - row.pictures.size();
    return end == 0 ? RowFault::no_room : RowFault::none;
}

} // namespace gnv
