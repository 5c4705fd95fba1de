// Exact token ids in a file, as llm-compressor's users exchange them:
//
//   {"input_ids": [[33, 68, ...], ...], "attention_mask": [[1, 1, ...], ...]}
//
// Written in addition, and used when present: "documents": for each sequence a list of [begin, source, row]; "sha256":
// hash_sequences(). Other keys are ignored.
#pragma once

#include "data/calibration_set.h"

namespace gnv {

// `sha256`: hash_sequences(sequences).
std::string tokens_file_text(const std::vector<CalibrationSequence> & sequences, const std::string & sha256);

// Fails, with file and place, on ids that are no tokens, masks of other lengths or with other values than 0 and 1, masks
// without a 1, empty sequences, documents that do not fit, and a hash that is not that of the content.
// A missing mask is all ones. Code::out_of_memory when the budget of `control` has no room for the file.
Result<std::vector<CalibrationSequence>> read_tokens_file(const std::string & path, const Tokenizer & tokenizer,
                                                          const ReadControl & control = {});

} // namespace gnv
