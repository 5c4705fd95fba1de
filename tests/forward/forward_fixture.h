// The small checkpoint, opened to be run.
#pragma once

#include "formats/json.h"
#include "golden_file.h"
#include "model/model_def.h"
#include "models/qwen35_names.h"
#include "run/open_model.h"
#include "session/text_session.h"

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

namespace gnv::test {

inline const std::string tiny_folder = GNV_TEST_BINARY_DIR "/data/qwen36-tiny";

inline std::unique_ptr<OpenModel> open_model(const std::string & folder) { return OpenModel::open(folder).take(); }

// Largest difference over largest magnitude.
inline double relative_error(const std::vector<float> & found, const std::vector<float> & expected) {
    double error = 0, magnitude = 0;
    for (size_t i = 0; i < expected.size(); i++) {
        const double difference = std::abs(double(found[i]) - double(expected[i]));
        error = difference > error || std::isnan(difference) ? difference : error;
        magnitude = std::max(magnitude, std::abs(double(expected[i])));
    }
    return error / magnitude;
}

inline std::vector<double> log_softmax(const float * logits, size_t count) {
    double largest = -INFINITY, sum = 0;
    for (size_t i = 0; i < count; i++) largest = std::max(largest, double(logits[i]));
    for (size_t i = 0; i < count; i++) sum += std::exp(double(logits[i]) - largest);
    std::vector<double> out(count);
    for (size_t i = 0; i < count; i++) out[i] = double(logits[i]) - largest - std::log(sum);
    return out;
}

} // namespace gnv::test
