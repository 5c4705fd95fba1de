// What a gnv_picture_t is, and lists of them as calls take them.
#pragma once

#include "api/text/model_handle.h"
#include "pass/picture_encoder.h"

#include <string>
#include <vector>

struct gnv_picture_t : gnv::api::Owned {
    std::vector<float> pixels;
    gnv::Picture picture; // of them
    int64_t merge = 0;    // of the model that it was made for, as are
    gnv::PictureTokens tokens;
    std::vector<double> times; // of a video: seconds, of each frame
};

namespace gnv::api {

// Of one engine, none NULL.
Result<std::vector<Picture>> take_pictures(const gnv_engine_t * engine, const gnv_picture_t * const * list,
                                           size_t count, const char * what);

} // namespace gnv::api
