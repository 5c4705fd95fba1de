// The vision tower of the 35B shape at work, with weights that are made up: for bench_images and test_cuda.
#pragma once

#include "core/clock.h"
#include "core/memory.h"
#include "formats/file.h"
#include "pass/picture_encoder.h"
#include "run/open_model.h"
#include "tools/synthetic_checkpoint.h"

#include <memory>
#include <random>
#include <string>
#include <vector>

namespace gnv::test {

class TowerBench {
  public:
    // Writes a checkpoint to `folder`, which must not exist: the config of the 35B shape with a text model of four layers
    // and eight experts, so that its tower is the whole one.
    static Result<TowerBench> create(const std::string & config_path, const std::string & folder) {
        GNV_ASSIGN(std::string config, read_file(config_path, 1 << 20));
        const auto set = [&](const std::string & key, const std::string & value) {
            const size_t at = config.find("\"" + key + "\": ") + key.size() + 4;
            GNV_CHECK(at < config.size());
            const size_t end = config[at] == '[' ? config.find(']', at) + 1 : config.find_first_of(",\n", at);
            config.replace(at, end - at, value);
        };
        set("layer_types", R"(["linear_attention", "linear_attention", "linear_attention", "full_attention"])");
        set("num_hidden_layers", "4");
        set("num_experts", "8");
        SyntheticOptions options;
        options.threads = 0;
        GNV_TRY(write_synthetic_checkpoint(config, folder, options).take_status());
        TowerBench bench;
        GNV_ASSIGN(bench.model_, OpenModel::open(folder));
        return bench;
    }

    // Seconds for `count` pictures of side x side patches in BF16.
    Result<double> encode(Backend & device, ThreadPool & threads, int count, int side, Trace * trace = nullptr) const {
        const TextModelSizes & sizes = model_->vision.tower->sizes();
        std::vector<float> pixels(size_t(side) * size_t(side) * size_t(sizes.given));
        std::mt19937 random(1);
        for (float & value : pixels) value = float(random() % 2001) / 1000 - 1;
        Picture picture;
        picture.rows = picture.columns = side;
        picture.pixels = pixels;
        const std::vector<Picture> pictures(size_t(count), picture);
        const size_t size = size_t(count * placeholders_of(picture, model_->vision) * sizes.vocabulary);
        GNV_ASSIGN(const AlignedBlock rows, allocate_large_block(size * sizeof(float), "rows")); // as in a calibration
        device.set_trace(trace);
        const auto start = Clock::now();
        Status done = encode_pictures(model_->vision, model_->vision_variant(Precision::bf16), device, threads,
                                      pictures, PictureOptions(), {reinterpret_cast<float *>(rows.get()), size});
        const double seconds = seconds_since(start);
        device.set_trace(nullptr);
        GNV_TRY(std::move(done));
        return seconds;
    }

  private:
    std::unique_ptr<OpenModel> model_;
};

} // namespace gnv::test
