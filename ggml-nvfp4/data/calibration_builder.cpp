#include "data/calibration_builder.h"

#include "data/records/tree_records.h"

#include <algorithm>
#include <atomic>

namespace gnv {

// Texts are kept until the sample is final, since later rows displace most rows. Above this many bytes the held texts
// are encoded, which bounds them.
static constexpr uint64_t most_text_bytes_in_any_budget = 64 << 20;
static constexpr uint64_t share_of_texts = 8; // of the budget

// Longer texts are encoded when they are read: only they can hold a piece that is too long, which is a fault of the
// row, so that another row replaces it. (Normalization makes a text at most three times as long.)
static constexpr uint64_t longest_text_that_waits = longest_piece / 4;

static constexpr uint64_t most_chunks_of_a_document = 1 << 12;
static constexpr uint64_t most_unusable_in_a_row = 5'000'000;
static constexpr uint64_t rows_between_checks = 1 << 12;

uint64_t CalibrationBuilder::most_text_bytes() const {
    return std::min(most_text_bytes_in_any_budget, control_.budget() / share_of_texts);
}

// Encoding fewer rows frees too little memory for the time.
uint64_t CalibrationBuilder::fewest_text_bytes() const { return most_text_bytes() / 4; }

// The memory of a held row, its sequence, and the copies of both on the way to a forward pass.
uint64_t CalibrationBuilder::memory_of(const SampledRow & row) const {
    constexpr uint64_t of_row = 1024, of_position = 16;
    const uint64_t positions = !row.encoded ? 0 : options_.pad ? options_.sequence_length : row.ids.size();
    uint64_t of_pictures = 0;
    for (const TextPicture & picture : row.pictures) of_pictures += picture.picture->bytes();
    return of_row + 4 * row.where.size() + 2 * row.text.size() + of_position * positions + of_pictures;
}

// Tokens that a document gives at most.
uint64_t CalibrationBuilder::longest_document() const {
    const uint64_t samples = options_.samples > 0 ? options_.samples : most_chunks_of_a_document;
    return options_.sequence_length * (options_.chunk ? std::min(samples, most_chunks_of_a_document) : 1);
}

// --- Encoding -------------------------------------------------------------------------------------------------------------

Status CalibrationBuilder::encode(SampledRow & row, Encoder & encoder) const {
    // One more than is used shows whether there are more.
    const uint64_t most = longest_document();
    const EncodeOptions options{.parse_added_tokens = true, .max_ids = size_t(most) + 1, .stop = control_.stop()};
    GNV_TRY(encoder.encode(row.text, row.ids, options).add_context(row.where));
    if (row.ids.empty()) return fail(Code::format, row.where, ": the text has no tokens; leave the row out");
    row.truncated = row.ids.size() > most;
    if (row.truncated && row.pictures.empty()) row.ids.resize(size_t(most)); // else see cut_at_pictures()
    row.ids.shrink_to_fit();
    std::string().swap(row.text); // gives the memory back, as an assignment would not
    row.encoded = true;
    row.memory = memory_of(row);
    return {};
}

// A text that cannot be encoded does not matter if a later row displaces it. The time of its encoding depends on the
// budget.
Status CalibrationBuilder::encode_or_remember(SampledRow & row, Encoder & encoder) const {
    Status status = encode(row, encoder);
    if (status.ok() || status.code() == Code::cancelled || status.code() == Code::out_of_memory) return status;
    row.failure = std::move(status);
    row.encoded = true;
    return {};
}

Status CalibrationBuilder::take_encoder() {
    if (encoder_) return {};
    constexpr uint64_t bytes = Encoder::working_memory(0);
    if (!encoder_share_.resize(bytes)) return control_.too_small("an encoder", bytes + record_memory(0));
    encoder_ = std::make_unique<Encoder>(tokenizer_);
    return {};
}

// Each thread has an encoder and takes row after row.
Status CalibrationBuilder::encode_in_lanes(const std::vector<SampledRow *> & rows, uint64_t lanes) const {
    std::atomic<size_t> next{0};
    return threads_.parallel_for(int64_t(lanes), [&](int64_t) -> Status {
        std::unique_ptr<Encoder> encoder;
        for (size_t i = next++; i < rows.size(); i = next++) {
            if (!encoder) encoder = std::make_unique<Encoder>(tokenizer_);
            GNV_TRY(encode_or_remember(*rows[i], *encoder));
        }
        return {};
    });
}

// Rows that fit into an even share of the free memory are encoded in parallel, the others one after another.
Status CalibrationBuilder::encode_held(RowSampler & sampler) {
    const auto memory_to_encode = [&](const SampledRow & row) {
        const uint64_t ids =
            3 * sizeof(TokenId) * std::min<uint64_t>(options_.sequence_length + 1, 3 * row.text.size());
        return Encoder::working_memory(row.text.size()) + ids;
    };
    const uint64_t left = control_.left();
    const uint64_t lanes = std::clamp<uint64_t>(left / (2 * Encoder::working_memory(0)), 1, uint64_t(threads_.size()));
    std::vector<SampledRow *> small, large;
    uint64_t largest = 0;
    sampler.for_each([&](SampledRow & row) {
        if (row.encoded) return;
        const uint64_t memory = memory_to_encode(row);
        (memory <= left / lanes ? small : large).push_back(&row);
        if (memory <= left / lanes) largest = std::max(largest, memory);
    });
    (void)control_.fits(largest * std::min<uint64_t>(lanes, small.size()));
    GNV_TRY(encode_in_lanes(small, std::min<uint64_t>(lanes, small.size())));
    for (SampledRow * const row : large) {
        const uint64_t memory = memory_to_encode(*row);
        if (!control_.fits(memory)) return control_.too_small(row->where, memory);
        GNV_TRY(encode_in_lanes({row}, 1));
    }
    text_bytes_ = 0;
    sampler.recount_memory();
    return rows_share_.resize(sampler.memory()) ? Status() : too_many_rows(sampler);
}

// Names enough for all rows that are asked for, as far as it is known how many that are.
Status CalibrationBuilder::too_many_rows(const RowSampler & sampler) const {
    const uint64_t of_all = memory_of_all() + record_memory(1 << 20);
    const uint64_t memory = std::max(sampler.memory(), sequences_share_.bytes() < of_all ? of_all : 0);
    control_.expect(0);
    return control_.too_small(concat("the tokens of ", sampler.size(), " rows"), memory - rows_share_.bytes());
}

// A bound for the requested rows, 0 for all rows.
uint64_t CalibrationBuilder::memory_of_all() const { return options_.samples * (2048 + 16 * options_.sequence_length); }

// A refusal then names a budget with room for rows, unless they are more than most files have.
void CalibrationBuilder::expect_rows() const {
    constexpr uint64_t most = 64 << 20;
    const uint64_t charged = rows_share_.bytes() + sequences_share_.bytes();
    control_.expect(std::min(most, memory_of_all() - std::min(memory_of_all(), charged)));
}

// --- Rows -----------------------------------------------------------------------------------------------------------------

static bool is_of_pictures(RowFault fault) {
    return fault == RowFault::bad_picture || fault == RowFault::picture_count || fault == RowFault::blind_model;
}

Status CalibrationBuilder::left_out(RowFault fault, const std::string & where, const std::string & why) {
    if (is_of_pictures(fault) && !options_.skip_bad)
        return fail(fault == RowFault::blind_model ? Code::unsupported : Code::format, where, ": ", why,
                    "; correct the record, or leave such records out (--skip-bad)");
    CalibrationSourceReport & report = set_.sources.back();
    FaultCount & count = report.faults[size_t(fault)];
    if (count.rows++ == 0) count.first = why.empty() ? where : concat(where, ": ", why);
    if (++unusable_in_a_row_ <= most_unusable_in_a_row) return {};
    return fail(Code::format, where, ": none of ", count_text(most_unusable_in_a_row),
                " rows in a row can be used, for one because of ", fault_text(fault),
                ": leave the file out, or name the field that holds the text with PATH:FIELD");
}

void CalibrationBuilder::count_unwritten(const std::vector<UnwrittenField> & fields, const std::string & where) {
    std::vector<UnwrittenCount> & counts = set_.sources.back().unwritten;
    for (const UnwrittenField & field : fields) {
        auto count = std::find_if(counts.begin(), counts.end(),
                                  [&](const UnwrittenCount & known) { return known.field == field.name; });
        if (count == counts.end())
            count = counts.insert(count, {field.name, 0, concat(base_name(where), ": ", field.place())});
        count->rows++;
    }
}

void CalibrationBuilder::warn_of_unwritten(const CalibSource & source) {
    const bool contents_alone = source.rule.form == TextForm::none;
    for (const UnwrittenCount & count : set_.sources.back().unwritten)
        set_.warnings.push_back(
            concat(source.path, ": ", count_text(count.rows), count.rows == 1 ? " row has " : " rows have ",
                   count.field, " that their texts lack (first: ", count.first, "), since ",
                   contents_alone ? "the template none writes contents alone" : "the chat template passes over them",
                   "; --template chatml writes them"));
}

Status CalibrationBuilder::hold(SampledRow row, uint64_t weight, RowSampler & sampler) {
    text_bytes_ += row.text.size();
    row.memory = memory_of(row);
    sampler.add(std::move(row), weight);
    if (text_bytes_ > most_text_bytes()) return encode_held(sampler);
    if (rows_share_.resize(sampler.memory())) return {};
    return text_bytes_ > fewest_text_bytes() ? encode_held(sampler) : too_many_rows(sampler);
}

Status CalibrationBuilder::take_row(const CalibSource & source, RecordReader & reader, uint64_t key,
                                    RowSampler & sampler) {
    GNV_TRY(control_.check());
    // Waiting texts are encoded to make room for the next record.
    if (text_bytes_ > fewest_text_bytes() && control_.left() < control_.budget() / 2) GNV_TRY(encode_held(sampler));
    CalibrationSourceReport & report = set_.sources.back();
    report.rows_parsed++;
    Record record;
    SampledRow row;
    row.key = key;
    row.source = uint32_t(set_.sources.size() - 1);
    row.row = report.rows;
    row.where = reader.where();
    expect_rows();
    Result<RowFault> read = reader.read(record);
    if (read.status().code() == Code::out_of_memory && rows_share_.bytes() > control_.budget() / 2)
        return too_many_rows(sampler);
    if (!read.ok()) return read.take_status();
    RowFault fault = read.value();
    std::string why;
    std::vector<UnwrittenField> unwritten;
    if (fault == RowFault::none) {
        Result<RowFault> made = make_text(record, source, row, why, unwritten);
        if (!made.ok()) return made.take_status().add_context(row.where);
        fault = made.value();
    }
    if (fault == RowFault::missing_field && sampler.size() == 0)
        return fail(Code::invalid_argument, row.where, ": ", describe_mismatch(record, source.rule));
    if (fault != RowFault::none) return left_out(fault, row.where, why);
    record = Record();
    uint64_t weight = 1;
    const bool is_long = row.text.size() > longest_text_that_waits;
    const bool counts_tokens = options_.pack || options_.chunk || !row.pictures.empty();
    if (counts_tokens || is_long || Encoder::working_memory(row.text.size()) > control_.budget() / share_of_texts) {
        GNV_TRY(take_encoder());
        Status status = counts_tokens || is_long ? encode(row, *encoder_) : encode_or_remember(row, *encoder_);
        if (status.code() == Code::invalid_argument) return left_out(RowFault::long_piece, row.where);
        GNV_TRY(std::move(status));
        if (!row.pictures.empty()) fault = cut_at_pictures(row, why);
        if (fault != RowFault::none) return left_out(fault, row.where, why);
        size_t end = 0;
        if (counts_tokens) weight = options_.pack ? row.ids.size() : options_.chunk ? count_chunks(row, end) : 1;
    }
    unusable_in_a_row_ = 0;
    count_unwritten(unwritten, row.where);
    return hold(std::move(row), weight, sampler);
}

Status CalibrationBuilder::sample_file(const CalibSource & source, RecordReader & reader, RowSampler & sampler) {
    CalibrationSourceReport & report = set_.sources.back();
    const uint64_t seed = options_.seed + set_.sources.size() - 1;
    for (;; report.rows++) {
        const uint64_t key = options_.shuffle ? row_key(seed, report.rows) : report.rows;
        const bool wanted = sampler.wants(key);
        if (!wanted && !options_.shuffle) return {}; // no later row is chosen either
        if (report.rows % rows_between_checks == 0) GNV_TRY(control_.check());
        GNV_ASSIGN(const bool found, reader.next());
        if (!found) return {};
        if (wanted) GNV_TRY(take_row(source, reader, key, sampler));
    }
}

Status CalibrationBuilder::add_source(const CalibSource & source, uint64_t budget) {
    GNV_ASSIGN(const std::vector<std::string> files, list_data_files(source.path, control_, list_share_));
    const std::vector<std::string> wanted = wanted_fields(source.rule);
    RowSampler sampler(budget);
    set_.sources.emplace_back().path = source.path;
    most_sequences_ = set_.sequences.size() + budget;
    for (const std::string & path : files) {
        CalibrationSourceReport & report = set_.sources.back();
        if (!options_.shuffle && !sampler.wants(report.rows)) break;
        report.files.push_back({path, report.rows});
        std::unique_ptr<RecordReader> reader;
        if (source.rule.is_tree) {
            GNV_ASSIGN(reader, open_record_trees(path, control_));
        }
        if (!reader) {
            GNV_ASSIGN(reader, open_records(path, wanted, control_));
        }
        GNV_TRY(sample_file(source, *reader, sampler));
    }
    CalibrationSourceReport & report = set_.sources.back();
    report.rows_chosen = sampler.size();
    const uint64_t weight = sampler.weight();
    if (weight == 0 && report.rows == 0)
        return fail(Code::invalid_argument, source.path, " is empty: it has no rows; give data");
    if (weight == 0) {
        std::string why;
        for (const std::string & line : left_out_lines(report)) why += concat(why.empty() ? ": " : "; ", line);
        return fail(Code::invalid_argument, source.path, ": no usable row among ", report.rows, why,
                    "; give other data, or name the field that holds the text with PATH:FIELD");
    }
    if (weight < budget && options_.samples > 0)
        set_.warnings.push_back(concat(source.path, ": ", weight,
                                       options_.pack ? " tokens, fewer than the " : " usable rows, fewer than the ",
                                       budget, " asked for"));
    warn_of_unwritten(source);
    GNV_TRY(encode_held(sampler));
    const uint64_t memory = rows_share_.bytes();
    (void)rows_share_.resize(0);
    (void)sequences_share_.resize(sequences_share_.bytes() + memory);
    for (SampledRow & row : sampler.take_in_row_order()) {
        GNV_TRY(std::move(row.failure));
        set_.truncated += row.truncated;
        set_.pictures.cut += row.pictures_cut;
        options_.pack ? append_packed(row) : options_.chunk ? append_chunks(row) : append_padded(row);
    }
    return {};
}

// --- Sequences --------------------------------------------------------------------------------------------------------------

void CalibrationBuilder::append_padded(SampledRow & row) {
    CalibrationSequence & sequence = set_.sequences.emplace_back();
    sequence.documents = {{0, row.source, row.row}};
    sequence.ids = std::move(row.ids);
    sequence.pictures = std::move(row.pictures);
    const size_t tokens = sequence.ids.size(), length = size_t(options_.sequence_length);
    if (!options_.pad || tokens == length) return;
    sequence.mask.assign(length, 0);
    std::fill_n(sequence.mask.begin(), tokens, uint8_t(1));
    sequence.ids.resize(length, tokenizer_.roles().pad);
}

// The pictures among tokens [from, to) of a text, as those of a sequence in which the first of these tokens is at `at`.
static void add_pictures(const std::vector<TextPicture> & pictures, size_t from, size_t to, size_t at,
                         std::vector<TextPicture> & out) {
    for (const TextPicture & picture : pictures) {
        if (picture.begin < from || picture.begin >= to) continue;
        out.push_back(picture);
        out.back().begin = uint32_t(picture.begin - from + at);
        out.back().end = uint32_t(picture.end - from + at);
    }
}

// The last document chosen may have more than there is room for.
void CalibrationBuilder::append_chunks(SampledRow & row) {
    const std::vector<TokenId> ids = std::move(row.ids);
    const std::vector<TextPicture> pictures = std::move(row.pictures);
    for (size_t done = 0, end; done < ids.size(); done = end) {
        end = end_of_sequence(pictures, done, size_t(options_.sequence_length), ids.size());
        if (set_.sequences.size() == most_sequences_) {
            set_.truncated += !row.truncated;
            for (const TextPicture & picture : pictures) set_.pictures.cut += picture.begin >= done;
            return;
        }
        row.ids.assign(ids.begin() + ptrdiff_t(done), ids.begin() + ptrdiff_t(end));
        row.pictures.clear();
        add_pictures(pictures, done, end, 0, row.pictures);
        append_padded(row);
    }
}

void CalibrationBuilder::append_packed(SampledRow & row) {
    const size_t length = size_t(options_.sequence_length);
    bool is_full = false; // no room for the next picture
    for (size_t done = 0; done < row.ids.size();) {
        if (set_.sequences.empty() || set_.sequences.back().ids.size() == length || is_full) {
            if (options_.samples > 0 &&
                set_.sequences.size() == options_.samples) { // the last row chosen overshoots the budget
                set_.truncated += !row.truncated;
                for (const TextPicture & picture : row.pictures) set_.pictures.cut += picture.begin >= done;
                return;
            }
            set_.sequences.emplace_back();
        }
        CalibrationSequence & sequence = set_.sequences.back();
        const size_t at = sequence.ids.size();
        const size_t end = end_of_sequence(row.pictures, done, length - at, row.ids.size());
        is_full = end < std::min(done + length - at, row.ids.size());
        if (end == done) continue;
        sequence.documents.push_back({uint32_t(at), row.source, row.row});
        add_pictures(row.pictures, done, end, at, sequence.pictures);
        sequence.ids.insert(sequence.ids.end(), row.ids.begin() + ptrdiff_t(done), row.ids.begin() + ptrdiff_t(end));
        done = end;
    }
}

} // namespace gnv
