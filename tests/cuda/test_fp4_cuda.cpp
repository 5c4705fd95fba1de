// W4A4 products on FP4 tensor cores: their operands, on any device, and who may run them. The products themselves are those of the
// linears' tests, on devices that have such cores.
#include "codec/scale_tiles.h"
#include "cuda/device_fixture.h"
#include "cuda/fp4_product.h"
#include "cuda/gemm_lt.h"

using namespace gnv;
using namespace gnv::test;

namespace {

template <class T>
struct OnDevice {
    T * data = nullptr;
    size_t count;
    explicit OnDevice(const std::vector<T> & values) : count(values.size()) {
        REQUIRE(cudaMalloc(&data, count * sizeof(T)) == cudaSuccess);
        REQUIRE(cudaMemcpy(data, values.data(), count * sizeof(T), cudaMemcpyHostToDevice) == cudaSuccess);
    }
    ~OnDevice() { (void)cudaFree(data); }
    std::vector<T> values() const {
        std::vector<T> out(count);
        REQUIRE(cudaMemcpy(out.data(), data, count * sizeof(T), cudaMemcpyDeviceToHost) == cudaSuccess);
        return out;
    }
};

// The nearest of 0, 0.5, 1, 1.5, 2, 3, 4, 6; of two as near the even code.
uint8_t nearest_code(float x) {
    uint8_t best = 0;
    for (uint8_t code = 1; code < 8; code++) {
        const double near = std::abs(double(nvfp4::e2m1_value(code)) - double(x));
        const double nearest = std::abs(double(nvfp4::e2m1_value(best)) - double(x));
        if (near < nearest || (near == nearest && code % 2 == 0)) best = code;
    }
    return best;
}

} // namespace

TEST_CASE("FP4 operands: codes and tiles of scales as the contract of linears has them") {
    const auto cuda = open_cuda(0).take();
    std::mt19937 random(51);
    for (const auto & [rows, columns] : {std::pair<int64_t, int64_t>{1, 16}, {3, 80}, {128, 64}, {300, 208}}) {
        CAPTURE(rows);
        CAPTURE(columns);
        const int64_t blocks = columns / 16;
        std::vector<float> x = random_numbers(random, rows * columns, 1);
        for (size_t i = 0; i < 16; i++) x[i] = 0; // a block with a scale of zero
        std::vector<uint16_t> bits;
        for (const float value : x) bits.push_back(nvfp4::bf16_from_float(value));
        const float input_scale = 300;
        const auto tile_bytes = size_t(nvfp4::scale_tile_bytes(rows, blocks));
        std::vector<uint8_t> codes(size_t(rows * columns / 2)), tiles(tile_bytes);
        for (int64_t row = 0; row < rows; row++)
            for (int64_t block = 0; block < blocks; block++) {
                const float * const sixteen = &x[size_t(row * columns + block * 16)];
                float largest = 0;
                for (int i = 0; i < 16; i++) largest = std::max(largest, std::abs(sixteen[i]));
                const uint8_t byte = nvfp4::e4m3_from_float(input_scale * largest / 6);
                const float scale = nvfp4::e4m3_value(byte);
                tiles[size_t(nvfp4::scale_tile_offset(blocks, row, block))] = byte;
                for (int i = 0; i < 16; i++) {
                    const float size = scale > 0 ? std::abs(sixteen[i] * input_scale / scale) : 0;
                    const uint32_t code = nearest_code(size) | (std::signbit(sixteen[i]) ? 8u : 0u);
                    codes[size_t((row * columns + block * 16 + i) / 2)] |= uint8_t(code << (i % 2 * 4));
                }
            }
        const OnDevice<uint16_t> there(bits);
        const OnDevice<float> scale_there(std::vector<float>{input_scale});
        const OnDevice<uint8_t> packed(std::vector<uint8_t>(codes.size(), 0xcc)),
            tiled(std::vector<uint8_t>(tile_bytes, 0xcc)), tiled_again(std::vector<uint8_t>(tile_bytes, 0xcc));
        REQUIRE(cuda::pack_inputs(nullptr, there.data, rows, columns, scale_there.data, packed.data, tiled.data).ok());
        REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
        CHECK(packed.values() == codes);
        CHECK(tiled.values() == tiles);
        std::vector<uint8_t> plain(size_t(rows * blocks));
        for (int64_t row = 0; row < rows; row++)
            for (int64_t block = 0; block < blocks; block++)
                plain[size_t(row * blocks + block)] = tiles[size_t(nvfp4::scale_tile_offset(blocks, row, block))];
        const OnDevice<uint8_t> scales(plain);
        REQUIRE(cuda::tile_scales(nullptr, scales.data, rows, blocks, tiled_again.data).ok());
        REQUIRE(cudaDeviceSynchronize() == cudaSuccess);
        CHECK(tiled_again.values() == tiles);
    }
}

TEST_CASE("FP4 products are for devices of compute capability 10 and 12") {
    const auto cuda = open_cuda(0).take();
    const int major = cuda->device().compute_major;
    const auto gemm = cuda::GemmLt::load().take();
    const bool found = gemm->supports_fp4(2048, 2048, 2048, 2048);
    if (major != 10 && major != 12) CHECK(!found);
    CHECK(!gemm->supports_fp4(2048, 2048 + 16, 2048, 2048)); // rows of codes that are not aligned
}
