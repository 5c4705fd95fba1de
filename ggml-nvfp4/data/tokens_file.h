// A file of exact token ids, in the form that users of llm-compressor exchange:
//
//   {"input_ids": [[33, 68, ...], ...], "attention_mask": [[1, 1, ...], ...]}
//
// Optional keys, always written: "documents": for each sequence a list of [begin, source, row]; "sha256":
// hash_sequences(). Other keys are ignored.
#pragma once

#include "data/calibration_set.h"

namespace gnv {

// `sha256`: hash_sequences(sequences).
std::string tokens_file_text(const std::vector<CalibrationSequence> & sequences, const std::string & sha256);

// Fails, with file and place, on ids that are no tokens, masks of other lengths or with other values than 0 and 1,
// masks without a 1, empty sequences, documents that do not fit, and a wrong hash. A missing mask is all ones.
// Code::out_of_memory if the file exceeds the budget of `control`.
Result<std::vector<CalibrationSequence>> read_tokens_file(const std::string & path, const Tokenizer & tokenizer,
                                                          const ReadControl & control = {});

} // namespace gnv
