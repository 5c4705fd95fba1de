#include "data/calibration_builder.h"

#include <algorithm>

namespace gnv {

// Texts are kept until the sample is settled, since most rows held at some time are displaced by later ones. Above this
// many bytes those held are encoded, which bounds them.
static constexpr uint64_t most_text_bytes = 64 << 20;

Status CalibrationBuilder::encode(SampledRow & row, int thread) {
    std::unique_ptr<Encoder> & encoder = encoders_[size_t(thread)];
    if (!encoder) encoder = std::make_unique<Encoder>(tokenizer_);
    // One more than is used shows whether there are more.
    const EncodeOptions options{.max_ids = size_t(options_.sequence_length) + 1};
    GNV_TRY(encoder->encode(row.text, row.ids, options).add_context(row.where));
    if (row.ids.empty()) return fail(Code::format, row.where, ": the text has no tokens");
    row.truncated = row.ids.size() > options_.sequence_length;
    if (row.truncated) row.ids.resize(size_t(options_.sequence_length));
    row.ids.shrink_to_fit();
    std::string().swap(row.text); // gives the memory back, as an assignment would not
    row.encoded = true;
    return {};
}

Status CalibrationBuilder::encode_held(RowSampler & sampler) {
    std::vector<SampledRow *> rows;
    sampler.for_each([&](SampledRow & row) {
        if (!row.encoded) rows.push_back(&row);
    });
    text_bytes_ = 0;
    return threads_.parallel_for_thread(int64_t(rows.size()),
                                        [&](int64_t i, int thread) { return encode(*rows[size_t(i)], thread); });
}

Status CalibrationBuilder::take_row(const CalibSource & source, RecordReader & reader, uint64_t key,
                                    RowSampler & sampler) {
    CalibrationSourceReport & report = set_.sources.back();
    report.rows_parsed++;
    Record record;
    SampledRow row;
    row.key = key;
    row.source = uint32_t(set_.sources.size() - 1);
    row.row = report.rows;
    row.where = reader.where();
    GNV_ASSIGN(RowFault fault, reader.read(record));
    if (fault == RowFault::none) fault = render_record(record, source.rule, row.text);
    if (fault == RowFault::missing_field && sampler.size() == 0)
        return fail(Code::invalid_argument, row.where, ": ", describe_mismatch(record, source.rule));
    if (fault != RowFault::none) {
        FaultCount & count = report.faults[size_t(fault)];
        if (count.rows++ == 0) count.first = row.where;
        return {};
    }
    uint64_t weight = 1;
    if (options_.pack) {
        GNV_TRY(encode(row, 0));
        weight = row.ids.size();
    }
    text_bytes_ += row.text.size();
    sampler.add(std::move(row), weight);
    return text_bytes_ > most_text_bytes ? encode_held(sampler) : Status();
}

Status CalibrationBuilder::sample_file(const CalibSource & source, RecordReader & reader, RowSampler & sampler) {
    CalibrationSourceReport & report = set_.sources.back();
    const uint64_t seed = options_.seed + set_.sources.size() - 1;
    for (;; report.rows++) {
        const uint64_t key = options_.shuffle ? row_key(seed, report.rows) : report.rows;
        const bool wanted = sampler.wants(key);
        if (!wanted && !options_.shuffle) return {}; // no later row will be
        GNV_ASSIGN(const bool found, reader.next());
        if (!found) return {};
        if (wanted) GNV_TRY(take_row(source, reader, key, sampler));
    }
}

Status CalibrationBuilder::add_source(const CalibSource & source, uint64_t budget) {
    GNV_ASSIGN(const std::vector<std::string> files, list_data_files(source.path));
    const std::vector<std::string> wanted = wanted_fields(source.rule);
    RowSampler sampler(budget);
    set_.sources.emplace_back().path = source.path;
    for (const std::string & path : files) {
        CalibrationSourceReport & report = set_.sources.back();
        if (!options_.shuffle && !sampler.wants(report.rows)) break;
        report.files.push_back({path, report.rows});
        GNV_ASSIGN(const std::unique_ptr<RecordReader> reader, open_records(path, wanted));
        GNV_TRY(sample_file(source, *reader, sampler));
    }
    CalibrationSourceReport & report = set_.sources.back();
    report.rows_chosen = sampler.size();
    const uint64_t weight = sampler.weight();
    if (weight == 0) return fail(Code::invalid_argument, source.path, ": no usable row among ", report.rows);
    if (weight < budget && options_.samples > 0)
        set_.warnings.push_back(concat(source.path, ": ", weight,
                                       options_.pack ? " tokens, fewer than the " : " usable rows, fewer than the ",
                                       budget, " asked for"));
    GNV_TRY(encode_held(sampler));
    for (SampledRow & row : sampler.take_in_row_order()) {
        set_.truncated += row.truncated;
        options_.pack ? append_packed(row) : append_padded(row);
    }
    return {};
}

// --- Sequences --------------------------------------------------------------------------------------------------------------

void CalibrationBuilder::append_padded(SampledRow & row) {
    CalibrationSequence & sequence = set_.sequences.emplace_back();
    sequence.documents = {{0, row.source, row.row}};
    sequence.ids = std::move(row.ids);
    const size_t tokens = sequence.ids.size(), length = size_t(options_.sequence_length);
    if (!options_.pad || tokens == length) return;
    sequence.mask.assign(length, 0);
    std::fill_n(sequence.mask.begin(), tokens, uint8_t(1));
    sequence.ids.resize(length, tokenizer_.roles().pad);
}

void CalibrationBuilder::append_packed(const SampledRow & row) {
    const size_t length = size_t(options_.sequence_length);
    for (size_t done = 0; done < row.ids.size();) {
        if (set_.sequences.empty() || set_.sequences.back().ids.size() == length) {
            if (options_.samples > 0 &&
                set_.sequences.size() == options_.samples) { // the last row chosen overshoots the budget
                set_.truncated += !row.truncated;
                return;
            }
            set_.sequences.emplace_back();
        }
        CalibrationSequence & sequence = set_.sequences.back();
        const size_t step = std::min(row.ids.size() - done, length - sequence.ids.size());
        sequence.documents.push_back({uint32_t(sequence.ids.size()), row.source, row.row});
        const auto from = row.ids.begin() + ptrdiff_t(done);
        sequence.ids.insert(sequence.ids.end(), from, from + ptrdiff_t(step));
        done += step;
    }
}

} // namespace gnv
