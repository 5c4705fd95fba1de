// bench_images [CONFIG [THREADS]]: how many pictures a second become pixel_values, each thread with its own. Pictures of
// 1024 x 1024, which keep their size, and of 1600 x 1200, which are made smaller; as PNG, JPEG and WebP. With the config
// of the 35B shape also how many its vision tower takes: on every CUDA device, or, where there is none, on the CPU.
#include "bench/tower_bench.h"
#include "core/thread_pool.h"
#include "images/decode.h"
#include "images/preprocess.h"
#include "scratch.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>

#include <jpeglib.h>
#include <png.h>
#include <webp/encode.h>

using namespace gnv;

// Gradients and waves with a little noise, so that a photo's share of bytes is left after compression.
static Image draw(int64_t width, int64_t height) {
    Image image{width, height, std::vector<uint8_t>(size_t(width * height * 3))};
    uint32_t state = 1;
    for (int64_t y = 0; y < height; y++) {
        for (int64_t x = 0; x < width; x++) {
            for (int c = 0; c < 3; c++) {
                state = state * 1664525 + 1013904223;
                const double wave = std::sin(double(x) / (17 + c)) * std::cos(double(y) / (23 - c));
                image.rgb[size_t((y * width + x) * 3 + c)] = uint8_t(118 + 90 * wave + double(state >> 29));
            }
        }
    }
    return image;
}

static std::string encode_png(const Image & image) {
    png_image header = {};
    header.version = PNG_IMAGE_VERSION;
    header.width = uint32_t(image.width), header.height = uint32_t(image.height);
    header.format = PNG_FORMAT_RGB;
    png_alloc_size_t size = 0;
    if (!png_image_write_to_memory(&header, nullptr, &size, 0, image.rgb.data(), 0, nullptr)) return {};
    std::string bytes(size, '\0');
    png_image_write_to_memory(&header, bytes.data(), &size, 0, image.rgb.data(), 0, nullptr);
    bytes.resize(size);
    return bytes;
}

static std::string encode_jpeg(const Image & image) {
    jpeg_compress_struct encoder;
    jpeg_error_mgr errors;
    encoder.err = jpeg_std_error(&errors);
    jpeg_create_compress(&encoder);
    unsigned char * out = nullptr;
    unsigned long size = 0;
    jpeg_mem_dest(&encoder, &out, &size);
    encoder.image_width = JDIMENSION(image.width), encoder.image_height = JDIMENSION(image.height);
    encoder.input_components = 3;
    encoder.in_color_space = JCS_RGB;
    jpeg_set_defaults(&encoder);
    jpeg_set_quality(&encoder, 90, TRUE);
    jpeg_start_compress(&encoder, TRUE);
    for (int64_t y = 0; y < image.height; y++) {
        JSAMPROW row = const_cast<uint8_t *>(image.rgb.data()) + y * image.width * 3;
        jpeg_write_scanlines(&encoder, &row, 1);
    }
    jpeg_finish_compress(&encoder);
    jpeg_destroy_compress(&encoder);
    std::string bytes(reinterpret_cast<const char *>(out), size);
    free(out);
    return bytes;
}

static std::string encode_webp(const Image & image) {
    uint8_t * out = nullptr;
    const size_t size =
        WebPEncodeRGB(image.rgb.data(), int(image.width), int(image.height), int(image.width * 3), 80, &out);
    std::string bytes(reinterpret_cast<const char *>(out), size);
    WebPFree(out);
    return bytes;
}

// The processor of the published checkpoints.
static ImageProcessorConfig published_config() {
    ImageProcessorConfig config;
    config.min_pixels = 65536, config.max_pixels = 1024 * 1024;
    config.patch_size = 16;
    config.mean = config.deviation = {0.5, 0.5, 0.5};
    return config;
}

static Status measure(ThreadPool & pool, const char * name, const std::string & bytes) {
    const ImageProcessorConfig config = published_config();
    std::vector<std::vector<float>> values{size_t(pool.size())}; // one buffer a thread, as a pipeline has
    const auto run = [&](int64_t count, bool only_decode) -> Result<double> {
        const auto start = std::chrono::steady_clock::now();
        GNV_TRY(pool.parallel_for_thread(count, [&](int64_t, int thread) -> Status {
            GNV_ASSIGN(const Image image, decode_image(bytes, name));
            if (only_decode) return {};
            GNV_ASSIGN(const PatchPlan plan, plan_image(config, image.width, image.height, name));
            values[size_t(thread)].resize(plan.values(config));
            return preprocess_image(config, plan, image, values[size_t(thread)].data());
        }));
        return double(count) / std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    };
    GNV_TRY(run(pool.size(), false).take_status()); // buffers and caches are warm
    const int64_t count = 16 * pool.size();
    GNV_ASSIGN(const double decode, run(count, true));
    GNV_ASSIGN(const double whole, run(count, false));
    printf("%-16s %8s  %8.1f images/s read  %8.1f images/s with pixel_values\n", name, bytes_text(bytes.size()).c_str(),
           decode, whole);
    return {};
}

static Status measure_tower(ThreadPool & pool, const std::string & config) {
    const test::ScratchFolder scratch;
    GNV_ASSIGN(const test::TowerBench tower, test::TowerBench::create(config, scratch / "model"));
    const auto measure_on = [&](Backend & device, int count, int side) -> Status {
        GNV_TRY(tower.encode(device, pool, 1, side / 4).take_status()); // loads kernels
        GNV_ASSIGN(const double seconds, tower.encode(device, pool, count, side));
        printf("vision tower of 27 blocks, %s: %8.1f images/s of %dx%d\n", device.device().label().c_str(),
               count / seconds, side * 16, side * 16);
        return {};
    };
    GNV_ASSIGN(const std::vector<Device> devices, cuda_devices());
    for (const Device & device : devices) {
        GNV_ASSIGN(const std::unique_ptr<Backend> opened, open_cuda(device.index));
        GNV_TRY(measure_on(*opened, 64, 64));
    }
    return devices.empty() ? measure_on(*open_cpu(pool), 1, 32) : Status();
}

static Status run(const char * config, int threads) {
    GNV_ASSIGN(const std::unique_ptr<ThreadPool> pool, ThreadPool::create(threads));
    printf("%d threads\n", pool->size());
    const Image square = draw(1024, 1024), large = draw(1600, 1200);
    GNV_TRY(measure(*pool, "1024x1024 PNG", encode_png(square)));
    GNV_TRY(measure(*pool, "1024x1024 JPEG", encode_jpeg(square)));
    GNV_TRY(measure(*pool, "1024x1024 WebP", encode_webp(square)));
    GNV_TRY(measure(*pool, "1600x1200 JPEG", encode_jpeg(large)));
    return config ? measure_tower(*pool, config) : Status();
}

int main(int argc, char ** argv) {
    const Status status = run(argc > 1 ? argv[1] : nullptr, argc > 2 ? atoi(argv[2]) : 0);
    if (!status.ok()) fprintf(stderr, "error: %s\n", status.message().c_str());
    return status.ok() ? 0 : 2;
}
