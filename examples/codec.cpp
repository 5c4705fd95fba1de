// codec DIR TENSOR: quantizes one BF16 tensor of a checkpoint in memory and tells the error that this makes.
#include <ggml-nvfp4.h>

#include <cmath>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

// A C handle that destroys itself.
template <class T>
using Handle = std::unique_ptr<T, void (*)(T *)>;

class Engine {
  public:
    Engine() : handle_(nullptr, gnv_engine_destroy) {
        gnv_engine_t * engine = nullptr;
        const gnv_status status = gnv_engine_create(nullptr, &engine);
        if (status != GNV_OK) throw std::runtime_error(gnv_status_string(status));
        handle_.reset(engine);
    }
    gnv_engine_t * get() const { return handle_.get(); }
    // Turns a status into an exception with the library's message.
    void check(gnv_status status) const {
        if (status != GNV_OK) throw std::runtime_error(gnv_last_error(get()));
    }

  private:
    Handle<gnv_engine_t> handle_;
};

static Handle<gnv_checkpoint_t> open(const Engine & engine, const char * folder) {
    gnv_checkpoint_t * checkpoint = nullptr;
    engine.check(gnv_checkpoint_open(engine.get(), folder, &checkpoint));
    return Handle<gnv_checkpoint_t>(checkpoint, gnv_checkpoint_close);
}

static void run(const char * folder, const char * name) {
    const Engine engine;
    const auto checkpoint = open(engine, folder);
    uint64_t position = 0;
    gnv_tensor_info info = {};
    info.struct_size = sizeof info;
    engine.check(gnv_checkpoint_find_tensor(checkpoint.get(), name, &position));
    engine.check(gnv_checkpoint_tensor_info(checkpoint.get(), position, &info));
    if (std::string(info.dtype) != "BF16" || info.dimensions != 2)
        throw std::runtime_error("expected a BF16 tensor of two dimensions");
    const int64_t rows = info.shape[0], columns = info.shape[1];
    std::vector<uint16_t> weights(static_cast<size_t>(rows * columns));
    engine.check(gnv_checkpoint_read(checkpoint.get(), position, 0, weights.data(), info.bytes));

    float amax = 0, global_scale = 0;
    engine.check(gnv_nvfp4_absolute_maximum(engine.get(), GNV_DTYPE_BF16, weights.data(), rows * columns, &amax));
    engine.check(gnv_nvfp4_global_scale(engine.get(), GNV_DTYPE_BF16, amax, &global_scale));
    std::vector<uint8_t> codes(gnv_nvfp4_code_bytes(rows, columns)), scales(gnv_nvfp4_scale_bytes(rows, columns));
    engine.check(gnv_nvfp4_quantize_rows(engine.get(), GNV_DTYPE_BF16, weights.data(), rows, columns, global_scale,
                                         codes.data(), scales.data()));
    std::vector<float> dequantized(weights.size());
    engine.check(gnv_nvfp4_dequantize_rows(engine.get(), codes.data(), scales.data(), rows, columns, global_scale,
                                           dequantized.data()));

    std::vector<double> original(weights.size());
    engine.check(gnv_checkpoint_values(checkpoint.get(), name, 0, original.size(), original.data()));
    double error = 0, signal = 0;
    for (size_t i = 0; i < original.size(); i++) {
        error += (dequantized[i] - original[i]) * (dequantized[i] - original[i]);
        signal += original[i] * original[i];
    }
    std::printf("%s [%lld, %lld], %s: %llu bytes become %zu, signal to noise %.2f dB\n", name,
                static_cast<long long>(rows), static_cast<long long>(columns), info.role,
                static_cast<unsigned long long>(info.bytes), codes.size() + scales.size(),
                10 * std::log10(signal / error));
}

int main(int argc, char ** argv) try {
    if (argc != 3) throw std::runtime_error("usage: codec DIR TENSOR");
    run(argv[1], argv[2]);
    return 0;
} catch (const std::exception & error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 2;
}
