// The token sequences that calibration runs through the model, and their origin.
//
// Without padding a sequence is as long as its document, at most the sequence length. With `pad` every sequence is filled
// with the tokenizer's pad token up to the sequence length, and a mask says which positions are real: what llm-compressor
// does. With `pack` documents (each cut to the sequence length) are laid one after another and cut into full sequences; a
// document that reaches the end of one goes on in the next. With `chunk` a document is not cut: it gives sequence after
// sequence, each of which starts with fresh state, the last as long as what is left; a set ends where it has its samples. Every piece of a document starts with fresh state (position 0,
// empty caches) and sees nothing of its neighbours: the reader of a CalibrationSet must honour `documents`.
//
// Pictures of records become placeholders in the text and pixels beside it. No sequence ends inside of one: a document is cut
// before a picture that does not fit.
//
// Fewer usable rows than wanted are a warning, no usable row is an error.
#pragma once

#include "core/thread_pool.h"
#include "data/calib_source.h"
#include "data/picture_tokens.h"

#include <array>

namespace gnv {

struct CalibrationOptions {
    std::vector<std::string> sources; // see calib_source.h; samples are divided by weight, by largest remainder
    std::string tokens_file;          // exact ids instead of sources; the options below are then ignored
    TextForm form = TextForm::automatic;
    ChatRule chat;                               // of the checkpoint that the tokenizer is from
    std::shared_ptr<const PictureRule> pictures; // of the same; null: pictures of records are passed over
    bool skip_bad = false;  // records whose pictures cannot be used are left out and counted; else they are an error
    uint64_t samples = 256; // sequences; 0: every row
    uint64_t sequence_length = 2048; // tokens
    uint64_t seed = 42;
    bool shuffle = true; // false: the first rows in file order
    bool pad = false;
    bool pack = false;
    bool chunk = false; // a document gives all its tokens, in sequences one after another, in place of its first ones
    uint64_t ram_bytes = 0; // for reading and for the sequences; 0: most of what is free
    StopCheck stop;         // asks to stop: Code::cancelled
};

// The part of a sequence from one row. `row` counts from 0 within its source.
struct CalibrationDocument {
    uint32_t begin = 0; // in the sequence; the end is the begin of the next one
    uint32_t source = 0;
    uint64_t row = 0;
};

struct CalibrationSequence {
    std::vector<TokenId> ids;
    std::vector<uint8_t> mask;                  // empty: every position is real; else 1 and then, at pads, 0
    std::vector<CalibrationDocument> documents; // the first begins at 0; exactly one without packing
    std::vector<TextPicture> pictures = {};     // in their order; tokens are counted from the begin of the sequence
};

struct FaultCount {
    uint64_t rows = 0;
    std::string first; // its place
};

// A member of messages, or "tools", that rows hold and their texts do not (chat/unwritten.h).
struct UnwrittenCount {
    std::string field;
    uint64_t rows = 0;
    std::string first; // its place
};

struct CalibrationFile {
    std::string path;
    uint64_t first_row = 0; // rows of the source before this file
};

struct CalibrationSourceReport {
    std::string path;
    std::vector<CalibrationFile> files; // opened ones
    uint64_t rows = 0;                  // passed; without shuffling reading stops after enough rows
    uint64_t rows_parsed = 0;           // of those: the rows that could have been chosen. Only their faults are known
    uint64_t rows_chosen = 0;
    std::array<FaultCount, size_t(RowFault::count_)> faults;
    std::vector<UnwrittenCount> unwritten; // of the rows parsed; the warnings of the set say the same
};

struct CalibrationSet {
    std::vector<CalibrationSequence> sequences; // in the order of sources and, within one, of rows
    std::vector<CalibrationSourceReport> sources;

    uint64_t sequence_length = 0; // the requested limit, or the longest of a tokens file
    bool packed = false;
    uint64_t positions = 0;  // of all sequences, pads included
    uint64_t tokens = 0;     // without pads
    uint64_t documents = 0;  // rows chosen
    uint64_t truncated = 0;  // documents that lost tokens at their end
    uint64_t duplicates = 0; // documents with the ids and pictures of an earlier one
    struct PictureCounts {
        uint64_t images = 0, videos = 0;
        uint64_t tokens = 0, least = 0, most = 0; // placeholders: of all, and of one picture
        uint64_t cut = 0;                         // pictures of chosen rows that did not fit
        uint64_t bytes = 0;                       // of the pixels that are held
        bool any() const { return images + videos + cut > 0; }
        uint64_t count() const { return images + videos; }
    } pictures;
    std::vector<uint64_t> lengths; // lengths[b]: documents of [2^b, 2^(b+1)) tokens, after truncation
    std::string sha256;            // see hash_sequences()
    std::vector<std::string> warnings;
    uint64_t reading_bytes = 0; // the largest planned memory of reading, a bound for its use
};

// SHA-256 in hex over, for every sequence: the number n of positions, n ids, the number d of documents, their begins
// (all as 32-bit little-endian integers), and n mask bytes (1 without a mask); where there are pictures also the number of them
// and, for each, its begin and end as such integers and the hexadecimal SHA-256 of size, kind and pixels.
std::string hash_sequences(const std::vector<CalibrationSequence> & sequences);

// Same options, files and tokenizer: same set, for any number of threads and any memory budget. A budget that is too
// small is Code::out_of_memory, with the place and the smallest sufficient one.
Result<CalibrationSet> build_calibration_set(const CalibrationOptions & options, const Tokenizer & tokenizer,
                                             ThreadPool & threads);

// Why rows of a source were left out, one line a reason: "12 rows whose field holds no text, first at a.jsonl:3".
std::vector<std::string> left_out_lines(const CalibrationSourceReport & source);

// Adds the member "pictures", where there are any.
class JsonWriter;
void picture_counts_json(JsonWriter & json, const CalibrationSet::PictureCounts & counts);

// The summary: for people, and as JSON (schema ggml-nvfp4.dataset.1).
std::string calibration_text(const CalibrationSet & set);
std::string calibration_json(const CalibrationSet & set);

} // namespace gnv
