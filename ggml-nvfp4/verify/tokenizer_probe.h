// Whether two tokenizer.json give the same ids, whatever they look like: judged by all tokens, and by a set of texts.
#pragma once

#include "core/status.h"

#include <string>

namespace gnv::verify {

struct TokenizerVerdict {
    bool judged = false;    // both can be read by this library
    std::string difference; // the first text or token that they treat differently; empty: none
    uint64_t probes = 0;    // texts that were encoded with both
};

// Texts of tokenizer.json and tokenizer_config.json (may be empty) on both sides. Fails only where memory runs out.
Result<TokenizerVerdict> compare_tokenizers(std::string ours, std::string our_config, std::string theirs,
                                            std::string their_config);

} // namespace gnv::verify
