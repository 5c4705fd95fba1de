// A checkpoint opened to be run: everything that a TextVariant points to.
#pragma once

#include "model/model_def.h"
#include "run/stage_runner.h"

#include <memory>
#include <string>

namespace gnv {

struct OpenModel {
    Checkpoint checkpoint;
    ModelLayout layout;
    std::unique_ptr<TextModel> model;
    WeightCatalog weights;
    FolderFiles files;

    // A model folder in its source precision or in NVFP4. Reads headers and config.json, no weights.
    static Result<std::unique_ptr<OpenModel>> open(const std::string & folder);

    // `quantize_inputs`: W4A4 where the checkpoint has input scales.
    TextVariant variant(Precision precision, bool quantize_inputs) const {
        return {model.get(), &weights, &files, precision, quantize_inputs};
    }
    uint64_t quantized_modules() const; // Linears of the text model in NVFP4
    bool has_input_scales() const;      // at least one of them
};

} // namespace gnv
