// An opened checkpoint that can run: it owns everything that a TextVariant points to.
#pragma once

#include "model/matched_checkpoint.h"
#include "model/vision_model.h"
#include "run/stage_runner.h"

#include <memory>
#include <string>

namespace gnv {

class OpenModel {
  public:
    // A model folder in its source's precision or in a format of the table. Reads headers and config.json, no weights.
    static Result<std::unique_ptr<OpenModel>> open(const std::string & folder);
    static Result<std::unique_ptr<OpenModel>> open(std::shared_ptr<const Folder> folder, Accept accept);
    // From an open and matched checkpoint, which must outlive the result.
    static Result<std::unique_ptr<OpenModel>> open(const Checkpoint & checkpoint, const ModelLayout & layout,
                                                   const FolderFiles & files);

    const Checkpoint & checkpoint;
    const ModelLayout & layout;
    const FolderFiles & files;
    const std::unique_ptr<TextModel> model;
    const std::unique_ptr<TextModel> draft; // the draft head; null: there is none to run, see why_no_draft
    const Status why_no_draft;
    const VisionModel vision; // without a tower where the checkpoint has none
    const WeightCatalog weights;

    // `quantize_inputs`: W4A4 if the checkpoint has input scales.
    TextVariant variant(Precision precision, bool quantize_inputs = false) const {
        return {model.get(), &weights, &files, precision, quantize_inputs};
    }
    // Of the vision tower, which there must be.
    TextVariant vision_variant(Precision precision) const { return {vision.tower.get(), &weights, &files, precision}; }
    Result<std::string> fingerprint() const; // model/fingerprint.h
    uint64_t quantized_modules() const;      // Linears of the text model in NVFP4
    bool has_input_scales() const;           // at least one of them

  private:
    struct Owned {
        MatchedCheckpoint matched;
        FolderFiles files;
    };
    OpenModel(const Checkpoint & of_checkpoint, const ModelLayout & of_layout, const FolderFiles & of_files,
              std::unique_ptr<TextModel> text_model, std::unique_ptr<TextModel> draft_model, Status no_draft,
              VisionModel vision_model, WeightCatalog catalog)
        : checkpoint(of_checkpoint), layout(of_layout), files(of_files), model(std::move(text_model)),
          draft(std::move(draft_model)), why_no_draft(std::move(no_draft)), vision(std::move(vision_model)),
          weights(std::move(catalog)) {}
    static Result<std::unique_ptr<OpenModel>> make(const JsonDocument & config, const Checkpoint & checkpoint,
                                                   const ModelLayout & layout, const FolderFiles & files);
    std::unique_ptr<const Owned> owned_; // the targets of the references, after open()
};

} // namespace gnv
