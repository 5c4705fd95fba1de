// The files beside the weights that engines need: tokenizer, chat template, preprocessor, generation config.
#pragma once

#include "core/status.h"
#include "formats/folder.h"
#include "verify/tokenizer_probe.h"

#include <string>
#include <vector>

namespace gnv::verify {

enum class AuxiliaryKind : uint8_t {
    tokenizer,
    tokenizer_part,
    tokenizer_config,
    chat_template,
    preprocessor,
    generation
};

struct AuxiliaryFile {
    std::string name;
    AuxiliaryKind kind = AuxiliaryKind::tokenizer;
    bool present = false;
    std::string problem; // the reason why it cannot be read: "not valid JSON ..."
    // Against the source:
    bool in_source = false;
    bool differs = false;            // in bytes
    bool differs_in_meaning = false; // JSON: in more than blanks and the order of keys
    std::vector<std::string> keys;   // the first keys that differ, at the top level
    // tokenizer.json only:
    std::string limits, source_limits; // "truncation to 512 tokens", where the file says so
    TokenizerVerdict tokenizers;       // where the two differ in meaning
};

struct AuxiliaryFiles {
    std::vector<AuxiliaryFile> files;                                 // all known names, present or absent
    bool template_in_tokenizer_config = false;                        // older checkpoints keep the chat template there
    const AuxiliaryFile & operator[](const std::string & name) const; // a known name
};

// `source` may be null.
Result<AuxiliaryFiles> read_auxiliary_files(const Folder & folder, const Folder * source);

} // namespace gnv::verify
