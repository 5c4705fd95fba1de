// The pictures in the texts of a pass: the rows that a vision tower makes of them, before the texts run.
//
// The rows of all pictures stay in memory, [placeholders, hidden]; pixels are made for a batch at a time. One pass encodes all
// pictures where its hidden states fit into the budget, else several passes take a portion of them each. The rows do not depend
// on that: those of a picture are a matter of the picture alone.
#pragma once

#include "core/memory.h"
#include "pass/picture_encoder.h"

#include <functional>
#include <memory>
#include <vector>

namespace gnv {

struct PassPictures {
    std::vector<Picture> list; // in the order of the texts, without pixels
    // Writes patches [first, first + count) of a picture, [count, TextModelSizes::given]; called as GivenRows::Writer is.
    std::function<Status(size_t picture, int64_t first, int64_t count, float * pixel_values)> read;
    std::shared_ptr<const VisionModel> vision; // that they were made for
    uint64_t held_bytes = 0;                   // of memory that read() makes pixels of
};

// Whether pictures that were made for one model go into another: patches and placeholders.
Status check_same_tower(const VisionModel & made_for, const VisionModel & used_in);

class PictureRows {
  public:
    struct Limits {
        Budget host;                 // undecided: most of the free memory
        uint64_t device_bytes = 0;   // 0: most of the free memory
        std::function<bool()> go_on; // asked between batches; false stops. Empty: never
    };

    // Takes memory for the rows, and lets `texts`, whose places of pictures are known, refer to it. Both arguments must outlive
    // the rows.
    static Result<PictureRows> create(const PassPictures & pictures, std::vector<TextSequence> & texts);
    uint64_t bytes() const { return size_ * sizeof(float) + pictures_->held_bytes; }

    // Fails as encode() would because of a budget; runs nothing.
    Status check_budget(const TextVariant & tower, Backend & device, ThreadPool & threads, const Limits & limits) const;
    Status encode(const TextVariant & tower, Backend & device, ThreadPool & threads, const Limits & limits);

  private:
    struct Portion {
        size_t first = 0, count = 0;      // pictures
        int64_t patches = 0, largest = 0; // of all; of one picture
    };
    explicit PictureRows(const PassPictures & pictures) : pictures_(&pictures) {}
    const VisionModel & vision() const { return *pictures_->vision; }
    std::vector<Portion> cut(int64_t most) const;
    Result<std::vector<Portion>> divide(const TextVariant & tower, Backend & device, ThreadPool & threads,
                                        const PictureOptions & options) const;
    PictureOptions options_for(const Limits & limits) const;

    const PassPictures * pictures_;
    AlignedBlock rows_; // untouched until the pass writes them
    size_t size_ = 0;   // floats
};

} // namespace gnv
