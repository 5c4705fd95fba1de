// The codec on a CUDA device against its twin on the CPU, bit for bit. Exits with 77 where there is no device.
// With --bench it measures instead.
#define DOCTEST_CONFIG_IMPLEMENT
#include "codec/nvfp4_pack.h"
#include "cuda/copy_rate.h"
#include "exec/backend.h"

#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstring>
#include <doctest/doctest.h>
#include <random>
#include <vector>

using namespace gnv;

static std::unique_ptr<Backend> open_device() {
    auto backend = open_cuda(0);
    INFO(backend.status().message());
    REQUIRE(backend.ok());
    return backend.take();
}

template <class T>
static T * data_of(const DeviceMemory & memory) {
    return static_cast<T *>(memory.get());
}

static DeviceMemory allocate(Backend & backend, size_t bytes) {
    auto memory = backend.allocate(bytes);
    INFO(memory.status().message());
    REQUIRE(memory.ok());
    return memory.take();
}

static void check_synchronized(Backend & backend) {
    const Status status = backend.synchronize();
    INFO(status.message());
    REQUIRE(status.ok());
}

static DeviceQuantizer & quantizer_of(Backend & backend) {
    DeviceQuantizer * const quantizer = backend.quantizer(round_to_nearest_name, formats::nvfp4);
    REQUIRE(quantizer);
    return *quantizer;
}

static WeightsToPack to_pack(const uint16_t * weights, int64_t blocks, float global, uint8_t * codes,
                             uint8_t * scales) {
    return {weights, {1, blocks * 16, {codes, scales}}, global};
}

static uint32_t largest_on_device(Backend & backend, const uint16_t * weights, int64_t count) {
    const DeviceMemory largest = allocate(backend, 4);
    uint32_t value = 0;
    backend.upload(largest.get(), &value, 4);
    const WeightsToMeasure wanted = {weights, count, data_of<uint32_t>(largest)};
    quantizer_of(backend).measure({&wanted, 1});
    backend.download(&value, largest.get(), 4);
    check_synchronized(backend);
    return value;
}

// Packs and takes the maximum on both; sentinels behind the device's outputs must survive.
static void check_weight(Backend & backend, const std::vector<uint16_t> & weights, float global) {
    constexpr size_t margin = 64;
    constexpr uint8_t sentinel = 0xa5;
    const auto blocks = int64_t(weights.size() / 16);
    const size_t code_count = weights.size() / 2, scale_count = weights.size() / 16;
    CAPTURE(blocks);
    CAPTURE(global);

    const DeviceMemory source = allocate(backend, weights.size() * 2);
    const DeviceMemory codes = allocate(backend, code_count + margin);
    const DeviceMemory scales = allocate(backend, scale_count + margin);
    std::vector<uint8_t> device_codes(code_count + margin, sentinel), device_scales(scale_count + margin, sentinel);
    backend.upload(source.get(), weights.data(), weights.size() * 2);
    backend.upload(codes.get(), device_codes.data(), device_codes.size());
    backend.upload(scales.get(), device_scales.data(), device_scales.size());
    const WeightsToPack weight =
        to_pack(data_of<uint16_t>(source), blocks, global, data_of<uint8_t>(codes), data_of<uint8_t>(scales));
    quantizer_of(backend).pack({&weight, 1});
    backend.download(device_codes.data(), codes.get(), device_codes.size());
    backend.download(device_scales.data(), scales.get(), device_scales.size());
    check_synchronized(backend);

    std::vector<uint8_t> expected_codes(code_count + margin, sentinel), expected_scales(scale_count + margin, sentinel);
    nvfp4::quantize(best_instruction_set(), DType::bf16, weights.data(),
                    {blocks, 16, nvfp4::Layout::row_major, std::span(expected_codes).first(code_count),
                     std::span(expected_scales).first(scale_count), global});
    CHECK((device_codes == expected_codes));
    CHECK((device_scales == expected_scales));

    const auto count = int64_t(weights.size());
    CHECK(largest_on_device(backend, data_of<uint16_t>(source), count) ==
          nvfp4::kernels_for(best_instruction_set()).absolute_maximum_bf16(weights.data(), count));
}

static std::vector<uint16_t> random_weights(int64_t count, uint32_t seed) {
    std::mt19937 random(seed);
    std::vector<uint16_t> weights(size_t(count), uint16_t(0));
    for (uint16_t & bits : weights) bits = uint16_t((random() & 0x8000) | (0x3a00 + random() % 1024));
    return weights;
}

TEST_CASE("every finite BF16 value, alone among neighbours and beside larger ones") {
    const auto backend = open_device();
    std::vector<uint16_t> neighbours, beside;
    for (uint32_t bits = 0; bits < 65536; bits++) {
        if ((bits & 0x7fff) >= 0x7f80) continue;
        neighbours.push_back(uint16_t(bits));
        std::vector<uint16_t> block(16, uint16_t(bits));
        block[bits % 16] = uint16_t(std::min<uint32_t>((bits & 0x7fff) + bits % 1024, 0x7f7f));
        beside.insert(beside.end(), block.begin(), block.end());
    }
    for (const float global : {1.0f, 1792.0f, 5152.0f, 94.5f, 0x1p-20f, 0x1p+60f, 3.3e38f, 8e-36f}) {
        check_weight(*backend, neighbours, global);
        check_weight(*backend, beside, global);
    }
}

// A block of finite magnitudes from `first` on, the largest of which is `largest`; signs change.
static void append_block(std::vector<uint16_t> & weights, uint32_t first, uint32_t largest) {
    for (uint32_t i = 0; i < 16; i++) {
        const uint32_t magnitude = i == 7 ? largest : std::min(first + i - (i > 7 ? 1 : 0), largest);
        weights.push_back(uint16_t(magnitude | (magnitude + i) % 2 << 15));
    }
}

TEST_CASE("every magnitude under every block scale, at both ends of what has that scale") {
    const auto backend = open_device();
    std::mt19937 random(3);
    // Powers of two make ties; global scales of 8 bits, as BF16 weights have them, make ties with rounded divisors;
    // of 24 bits all others. The largest and smallest make divisors that are subnormal and close to infinite.
    std::vector<float> globals = {1.0f, 0x1p-20f, 2688.0f, 1792.0f, 94.5f, 3.3e38f, 1.2e-38f};
    for (int i = 0; i < 8; i++) globals.push_back(std::ldexp(float(128 + random() % 128), int(random() % 12)));
    for (int i = 0; i < 8; i++)
        globals.push_back(std::ldexp(float(0x800000 + random() % 0x800000), int(random() % 24) - 23));
    for (const float global : globals) {
        CAPTURE(global);
        std::vector<uint16_t> alone(size_t(0x7f80) * 16, 0);
        for (uint32_t magnitude = 0; magnitude < 0x7f80; magnitude++) alone[magnitude * 16] = uint16_t(magnitude);
        std::vector<uint8_t> codes(alone.size() / 2), scales(alone.size() / 16);
        nvfp4::quantize(best_instruction_set(), DType::bf16, alone.data(),
                        {0x7f80, 16, nvfp4::Layout::row_major, codes, scales, global});
        std::vector<uint16_t> weights;
        for (uint32_t largest = 0; largest < 0x7f80; largest++) {
            const bool begins = largest == 0 || scales[largest] != scales[largest - 1];
            const bool ends = largest + 1 == 0x7f80 || scales[largest] != scales[largest + 1];
            for (uint32_t first = 0; (begins || ends) && first <= largest; first += 15)
                append_block(weights, first, largest);
        }
        check_weight(*backend, weights, global);
    }
}

TEST_CASE("shapes of real weights, and ragged ones") {
    const auto backend = open_device();
    for (const auto & [rows, columns] : {std::pair<int64_t, int64_t>{512, 2048}, {2048, 512}, {8192, 2048}})
        check_weight(*backend, random_weights(rows * columns, uint32_t(rows)), 5152.0f);
    for (int64_t blocks = 1; blocks < 600; blocks += 37)
        check_weight(*backend, random_weights(blocks * 16, uint32_t(blocks)), 1792.0f);
}

TEST_CASE("the largest magnitude: any count, NaN and Inf in any position, several weights into one") {
    const auto backend = open_device();
    for (const int64_t count : {1, 7, 8, 9, 255, 4099}) {
        const DeviceMemory source = allocate(*backend, size_t(count) * 2);
        for (const uint16_t value : {uint16_t(0x8001), uint16_t(0xff7f), uint16_t(0x7f80), uint16_t(0xffc0)}) {
            for (int64_t i = 0; i < count; i += count < 300 ? 1 : 97) {
                std::vector<uint16_t> weights(size_t(count), uint16_t(0x8000));
                weights[size_t(i)] = value;
                backend->upload(source.get(), weights.data(), weights.size() * 2);
                CHECK(largest_on_device(*backend, data_of<uint16_t>(source), count) == (value & 0x7fff));
            }
        }
    }
    const uint16_t small[2] = {0x3f80, 0xbfc0}, large[2] = {0xc000, 0x0000};
    const DeviceMemory first = allocate(*backend, 4), second = allocate(*backend, 4), largest = allocate(*backend, 4);
    uint32_t value = 0;
    backend->upload(first.get(), small, 4);
    backend->upload(second.get(), large, 4);
    backend->upload(largest.get(), &value, 4);
    const WeightsToMeasure both[] = {{data_of<uint16_t>(second), 2, data_of<uint32_t>(largest)},
                                     {data_of<uint16_t>(first), 2, data_of<uint32_t>(largest)}};
    quantizer_of(*backend).measure(both);
    backend->download(&value, largest.get(), 4);
    check_synchronized(*backend);
    CHECK(value == 0x4000);
}

// More than one launch takes; sizes and global scales of all kinds.
TEST_CASE("many weights at once: each as alone, whatever its neighbours") {
    const auto backend = open_device();
    std::mt19937 random(41);
    struct One {
        std::vector<uint16_t> weights;
        float global;
        size_t source, codes, scales; // offsets
    };
    std::vector<One> all;
    size_t source_bytes = 0, packed_bytes = 0;
    const auto take = [](size_t & used, size_t bytes) {
        const size_t at = used;
        used += (bytes + 15) / 16 * 16;
        return at;
    };
    for (int i = 0; i < 250; i++) {
        const int64_t blocks = i % 50 == 7 ? 0 : i % 25 == 3 ? 65536 : 1 + int64_t(random() % 3000);
        One one = {random_weights(blocks * 16, random()), std::ldexp(float(128 + random() % 128), int(random() % 12)),
                   0, 0, 0};
        one.source = take(source_bytes, one.weights.size() * 2);
        one.codes = take(packed_bytes, size_t(blocks) * 8);
        one.scales = take(packed_bytes, size_t(blocks));
        all.push_back(std::move(one));
    }
    const DeviceMemory source = allocate(*backend, source_bytes), packed = allocate(*backend, packed_bytes),
                       largest = allocate(*backend, all.size() * 4);
    backend->clear(largest.get(), all.size() * 4);
    std::vector<uint8_t> found(packed_bytes, 0xa5), expected(packed_bytes, 0xa5);
    std::vector<uint32_t> maxima(all.size());
    backend->upload(packed.get(), found.data(), packed_bytes);
    std::vector<WeightsToMeasure> wanted;
    std::vector<WeightsToPack> list;
    for (size_t i = 0; i < all.size(); i++) {
        const One & one = all[i];
        const auto blocks = int64_t(one.weights.size() / 16);
        auto * const there = data_of<uint8_t>(source) + one.source;
        backend->upload(there, one.weights.data(), one.weights.size() * 2);
        const auto * const weights = reinterpret_cast<const uint16_t *>(there);
        wanted.push_back({weights, blocks * 16, data_of<uint32_t>(largest) + i});
        list.push_back(to_pack(weights, blocks, one.global, data_of<uint8_t>(packed) + one.codes,
                               data_of<uint8_t>(packed) + one.scales));
        if (blocks > 0)
            nvfp4::quantize(best_instruction_set(), DType::bf16, one.weights.data(),
                            {blocks, 16, nvfp4::Layout::row_major,
                             std::span(expected).subspan(one.codes, size_t(blocks) * 8),
                             std::span(expected).subspan(one.scales, size_t(blocks)), one.global});
    }
    quantizer_of(*backend).measure(wanted);
    quantizer_of(*backend).pack(list);
    backend->download(found.data(), packed.get(), packed_bytes);
    backend->download(maxima.data(), largest.get(), maxima.size() * 4);
    check_synchronized(*backend);
    CHECK((found == expected));
    for (size_t i = 0; i < all.size(); i++)
        CHECK(maxima[i] == nvfp4::kernels_for(best_instruction_set())
                               .absolute_maximum_bf16(all[i].weights.data(), int64_t(all[i].weights.size())));
}

TEST_CASE("failures: no such device, more memory than there is") {
    const auto devices = cuda_devices();
    REQUIRE(devices.ok());
    CHECK(open_cuda(int(devices.value().size())).status().code() == Code::not_found);
    CHECK(open_cuda(-1).status().code() == Code::not_found);
    const auto backend = open_device();
    CHECK(backend->device().name == devices.value()[0].name);
    CHECK(backend->allocate(size_t(1) << 46).status().code() == Code::out_of_memory);
    check_synchronized(*backend); // that failure is not the queue's

    // One of the queue stays, with what it was, and nothing is queued after it.
    const DeviceMemory there = backend->allocate(64).take();
    uint32_t value = 7;
    backend->upload(there.get(), &value, 4);
    check_synchronized(*backend);
    backend->upload(nullptr, &value, 4);
    backend->clear(there.get(), 4);
    backend->download(&value, there.get(), 4);
    for (const Queue queue : {Queue::compute, Queue::upload, Queue::compute}) {
        const Status failed = backend->synchronize(queue);
        CHECK(failed.code() == Code::device);
        CHECK_MESSAGE(failed.message().find("upload") != std::string::npos, failed.message());
    }
    CHECK(value == 7);
    CHECK(backend->fence(Queue::download)->wait().code() == Code::device);
}

// --- Bench -----------------------------------------------------------------------------------------------------------

// Best of five.
template <class Work>
static double seconds_of(Backend & backend, const Work & work) {
    constexpr int repeats = 20;
    double best = 1e9;
    for (int run = 0; run < 5; run++) {
        check_synchronized(backend);
        const auto begin = std::chrono::steady_clock::now();
        for (int i = 0; i < repeats; i++) work();
        check_synchronized(backend);
        const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
        best = std::min(best, seconds.count() / repeats);
    }
    return best;
}

TEST_CASE("bench" * doctest::skip()) {
    const auto backend = open_device();
    printf("%s\n", backend->device().name.c_str());
    const std::vector<uint16_t> weights = random_weights(int64_t(1) << 28, 1); // 512 MiB: beyond any cache
    const size_t bytes = weights.size() * 2;
    const DeviceMemory source = allocate(*backend, bytes), largest = allocate(*backend, 4);
    const DeviceMemory codes = allocate(*backend, weights.size() / 2), scales = allocate(*backend, weights.size() / 16);
    const double copied = test::copy_rate(*backend);
    printf("  %-28s %8.1f GB/s\n", "copy", copied * 1e-9);
    // Bytes read and written.
    const auto print = [&](const char * name, double moved, double seconds) {
        printf("  %-28s %8.1f GB/s %6.1f %% of a copy %9.1f us\n", name, moved / seconds * 1e-9,
               moved / seconds / copied * 100, seconds * 1e6);
    };
    print("upload from pageable memory", double(bytes),
          seconds_of(*backend, [&] { backend->upload(source.get(), weights.data(), bytes); }));
    const auto print_both = [&](const char * maximum, const char * pack, int64_t count, size_t pieces) {
        std::vector<WeightsToMeasure> wanted;
        std::vector<WeightsToPack> list;
        for (size_t i = 0; i < pieces; i++) {
            const uint16_t * const at = data_of<uint16_t>(source) + int64_t(i) * count;
            wanted.push_back({at, count, data_of<uint32_t>(largest)});
            list.push_back(to_pack(at, count / 16, 2688.0f, data_of<uint8_t>(codes) + int64_t(i) * count / 2,
                                   data_of<uint8_t>(scales) + int64_t(i) * count / 16));
        }
        const double moved = double(pieces) * double(count);
        print(maximum, moved * 2, seconds_of(*backend, [&] { quantizer_of(*backend).measure(wanted); }));
        print(pack, moved * (2 + 9.0 / 16), seconds_of(*backend, [&] { quantizer_of(*backend).pack(list); }));
    };
    print_both("nvfp4_absolute_maximum", "nvfp4_pack", int64_t(weights.size()), 1);
    print_both("  256 of 512 x 2048", "  256 of 512 x 2048", 512 * 2048, 256);
    print_both("  1 of 512 x 2048", "  1 of 512 x 2048", 512 * 2048, 1);
}

int main(int argc, char ** argv) {
    const auto devices = cuda_devices();
    if (!devices.ok()) {
        fprintf(stderr, "%s\n", devices.status().message().c_str());
        return 1;
    }
    if (devices.value().empty()) {
        printf("skipped: this machine has no CUDA device\n");
        return 77;
    }
    doctest::Context context(argc, argv);
    if (argc == 2 && strcmp(argv[1], "--bench") == 0) {
        context.setOption("no-skip", true);
        context.addFilter("test-case", "bench*");
    }
    return context.run();
}
