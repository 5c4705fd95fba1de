#include "data/calibration_set.h"

#include "core/memory.h"
#include "core/sha256.h"
#include "data/calibration_builder.h"
#include "data/tokens_file.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <numeric>

namespace gnv {

namespace {

constexpr uint64_t most_positions = uint64_t(1) << 31; // ids and masks of a set: 10 GiB

Status check_options(const CalibrationOptions & options) {
    const bool has_sources = !options.sources.empty(), has_tokens = !options.tokens_file.empty();
    if (has_sources == has_tokens)
        return Status(Code::invalid_argument, has_sources
                                                  ? "both data files and a file of tokens are given; use one of them"
                                                  : "no calibration data: give --calib PATH or --tokens FILE");
    if (has_tokens) return {};
    if (options.sequence_length == 0) return Status(Code::invalid_argument, "the sequence length must be at least 1");
    if (options.sequence_length > most_positions || options.samples > most_positions / options.sequence_length)
        return fail(Code::invalid_argument, options.samples, " samples of ", options.sequence_length,
                    " tokens: more than ", most_positions, " positions; give fewer or shorter ones");
    if (options.pad && options.pack)
        return Status(Code::invalid_argument,
                      "padding and packing exclude each other: packed sequences are full; leave one out");
    return {};
}

// Deals `total` out in proportion to the weights: everybody's share rounded down, what is left to the largest
// remainders, earlier sources first among equals.
std::vector<uint64_t> share_out(uint64_t total, const std::vector<CalibSource> & sources) {
    const double sum =
        std::accumulate(sources.begin(), sources.end(), 0.0,
                        [](double so_far, const CalibSource & source) { return so_far + source.weight; });
    std::vector<uint64_t> shares;
    std::vector<double> remainders;
    uint64_t left = total;
    for (const CalibSource & source : sources) {
        const double share = double(total) * source.weight / sum;
        shares.push_back(std::min(left, uint64_t(share)));
        remainders.push_back(share - std::floor(share));
        left -= shares.back();
    }
    for (; left > 0; left--) {
        const auto largest = std::max_element(remainders.begin(), remainders.end());
        *largest = -1; // the rest is smaller than the number of sources
        shares[size_t(largest - remainders.begin())]++;
    }
    return shares;
}

Result<CalibrationSet> from_sources(const CalibrationOptions & options, const Tokenizer & tokenizer,
                                    ThreadPool & threads, const ReadControl & control) {
    if (options.pad && tokenizer.roles().pad == no_token)
        return Status(Code::invalid_argument,
                      "padding is asked for, but tokenizer_config.json names no pad token; leave --pad out");
    std::vector<CalibSource> sources;
    for (const std::string & spec : options.sources) {
        GNV_ASSIGN(CalibSource source, parse_calib_source(spec, options.form));
        source.rule.chat = options.chat;
        sources.push_back(std::move(source));
    }
    const uint64_t each = options.pack ? options.sequence_length : 1; // of a sample, in the unit of budgets
    const std::vector<uint64_t> shares =
        options.samples > 0 ? share_out(options.samples * each, sources)
                            : std::vector<uint64_t>(sources.size(), most_positions / options.sequence_length * each);
    CalibrationBuilder builder(options, tokenizer, threads, control);
    for (size_t i = 0; i < sources.size(); i++) {
        if (shares[i] == 0)
            return fail(Code::invalid_argument, sources[i].path, ": its weight leaves it none of the ", options.samples,
                        " samples; give it a larger weight, or ask for more samples");
        GNV_TRY(builder.add_source(sources[i], shares[i]));
    }
    CalibrationSet set = builder.take_set();
    set.sequence_length = options.sequence_length;
    return set;
}

Result<CalibrationSet> from_tokens_file(const std::string & path, const Tokenizer & tokenizer,
                                        const ReadControl & control) {
    CalibrationSet set;
    GNV_ASSIGN(set.sequences, read_tokens_file(path, tokenizer, control));
    for (const CalibrationSequence & sequence : set.sequences)
        set.sequence_length = std::max<uint64_t>(set.sequence_length, sequence.ids.size());
    return set;
}

// The tokens of a document, and what its pictures are.
struct DocumentContent {
    std::span<const TokenId> ids;
    std::string pictures;

    bool operator==(const DocumentContent & other) const {
        return std::ranges::equal(ids, other.ids) && pictures == other.pictures;
    }
    bool operator<(const DocumentContent & other) const {
        if (std::ranges::lexicographical_compare(ids, other.ids)) return true;
        return std::ranges::equal(ids, other.ids) && pictures < other.pictures;
    }
};

void count_pictures(const CalibrationSequence & sequence, CalibrationSet::PictureCounts & counts) {
    for (const TextPicture & picture : sequence.pictures) {
        (picture.picture->is_video ? counts.videos : counts.images)++;
        counts.tokens += picture.tokens;
        counts.least = counts.count() == 1 ? picture.tokens : std::min<uint64_t>(counts.least, picture.tokens);
        counts.most = std::max<uint64_t>(counts.most, picture.tokens);
        counts.bytes += picture.picture->bytes();
    }
}

// Fills in the figures of the sequences.
Status count_tokens(CalibrationSet & set) {
    std::vector<DocumentContent> documents;
    for (const CalibrationSequence & sequence : set.sequences) {
        const auto pads = size_t(std::count(sequence.mask.begin(), sequence.mask.end(), 0));
        set.positions += sequence.ids.size();
        set.tokens += sequence.ids.size() - pads;
        set.packed = set.packed || sequence.documents.size() > 1;
        count_pictures(sequence, set.pictures);
        for (size_t i = 0; i < sequence.documents.size(); i++) {
            const bool last = i + 1 == sequence.documents.size();
            const size_t begin = sequence.documents[i].begin;
            const size_t end = last ? sequence.ids.size() - pads : sequence.documents[i + 1].begin;
            DocumentContent & content = documents.emplace_back();
            content.ids = std::span(sequence.ids).subspan(begin, end > begin ? end - begin : 0);
            for (const TextPicture & picture : sequence.pictures)
                if (picture.begin >= begin && picture.begin < end) content.pictures += picture.sha256;
        }
    }
    set.documents = documents.size();
    for (const DocumentContent & document : documents) {
        const size_t bin = document.ids.empty() ? 0 : size_t(std::bit_width(document.ids.size())) - 1;
        if (set.lengths.size() <= bin) set.lengths.resize(bin + 1);
        set.lengths[bin]++;
    }
    std::sort(documents.begin(), documents.end());
    for (size_t i = 1; i < documents.size(); i++) set.duplicates += documents[i - 1] == documents[i];
    set.sha256 = hash_sequences(set.sequences);
    if (set.documents > 0 && set.truncated == set.documents)
        set.warnings.push_back(concat("every document has more than ", set.sequence_length,
                                      " tokens and was cut: what follows its beginning is never seen"));
    if (set.pictures.cut > 0)
        set.warnings.push_back(concat(set.pictures.cut, " pictures did not fit into sequences of ", set.sequence_length,
                                      " tokens: their documents end before them"));
    return {};
}

} // namespace

std::string hash_sequences(const std::vector<CalibrationSequence> & sequences) {
    Sha256 hash;
    for (const CalibrationSequence & sequence : sequences) {
        std::string bytes;
        const auto append = [&](uint64_t number) {
            for (int shift = 0; shift < 32; shift += 8) bytes += char(number >> shift & 0xff);
        };
        append(sequence.ids.size());
        for (const TokenId id : sequence.ids) append(uint32_t(id));
        append(sequence.documents.size());
        for (const CalibrationDocument & document : sequence.documents) append(document.begin);
        for (const uint8_t flag : sequence.mask) bytes += char(flag);
        if (sequence.mask.empty()) bytes.append(sequence.ids.size(), 1);
        if (!sequence.pictures.empty()) append(sequence.pictures.size());
        for (const TextPicture & picture : sequence.pictures) {
            append(picture.begin), append(picture.end);
            bytes += picture.sha256;
        }
        hash.update(bytes);
    }
    return hash.finish();
}

Result<CalibrationSet> build_calibration_set(const CalibrationOptions & options, const Tokenizer & tokenizer,
                                             ThreadPool & threads) {
    GNV_TRY(check_options(options));
    const ReadControl control(options.ram_bytes > 0 ? options.ram_bytes : available_memory() / 5 * 4, options.stop);
    GNV_ASSIGN(CalibrationSet set, options.tokens_file.empty()
                                       ? from_sources(options, tokenizer, threads, control)
                                       : from_tokens_file(options.tokens_file, tokenizer, control));
    GNV_TRY(control.check());
    GNV_TRY(count_tokens(set));
    set.reading_bytes = control.most_used();
    return set;
}

} // namespace gnv
