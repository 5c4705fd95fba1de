// Whole runs on several CUDA devices of one host: the files of one, for each method; and how devices are found by name.
#include "cuda/several_devices.h"
#include "e2e/calibrated_fixture.h"

using namespace gnv;
using namespace gnv::test;

namespace {

std::vector<int32_t> numbers(int devices) {
    std::vector<int32_t> list;
    for (int i = 1; i <= devices; i++) list.push_back(i);
    return list;
}

} // namespace

TEST_CASE("several devices: whole runs give the files of one, for each method") {
    const int most = several_devices();
    if (most == 0) return;
    const ScratchFolder scratch;
    for (const gnv_method method : {GNV_METHOD_RTN, GNV_METHOD_MSE, GNV_METHOD_HESSIAN, GNV_METHOD_GPTQ})
        for (const gnv_expert_tokens experts : {GNV_EXPERTS_ALL, GNV_EXPERTS_ROUTED}) {
            CAPTURE(int(method));
            CAPTURE(int(experts));
            CalibratedRun run;
            run.destination = scratch / "out";
            run.tokens = scratch.save("tokens.json", tokens_text(short_samples(9)));
            run.precision = GNV_PRECISION_BF16;
            run.method = method;
            run.experts = experts;
            run.device = 1;
            const auto expected = files_of(run);
            for (const int devices : {2, most}) {
                CAPTURE(devices);
                run.devices = numbers(devices);
                CHECK(files_of(run) == expected);
            }
            run.device_bytes = uint64_t(2) << 30;
            CHECK(files_of(run) == expected);
        }
}

TEST_CASE("several devices are found by name, and none twice") {
    const auto engine = make_engine();
    const uint64_t present = cuda_devices().take().size();
    uint64_t count = 0;
    gnv_precision precision = GNV_PRECISION_FP32;
    REQUIRE(gnv_device_find_all(engine.get(), "cuda:all", nullptr, nullptr, 0, &count, &precision) == GNV_OK);
    CHECK(count == present);
    CHECK(precision == GNV_PRECISION_BF16);
    std::vector<int32_t> found(present, -1);
    REQUIRE(gnv_device_find_all(engine.get(), "cuda:all", nullptr, found.data(), present, &count, nullptr) == GNV_OK);
    CHECK(found == numbers(int(present)));
    CHECK(gnv_device_find_all(engine.get(), "cuda:0,0", nullptr, nullptr, 0, &count, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "cuda:0,0: cuda:0 is named twice"));
    const std::string beyond = concat("cuda:0,", present);
    CHECK(gnv_device_find_all(engine.get(), beyond.c_str(), nullptr, nullptr, 0, &count, nullptr) == GNV_NOT_FOUND);
    CHECK(error_has(engine.get(), concat("there is no cuda:", present).c_str()));
    if (present < 2) return;
    CHECK(gnv_device_find_all(engine.get(), "cuda:1,0", nullptr, found.data(), 1, &count, nullptr) ==
          GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "more than the 1 that there is room for"));
    REQUIRE(gnv_device_find_all(engine.get(), "cuda:1,0", nullptr, found.data(), present, &count, nullptr) == GNV_OK);
    CHECK(count == 2);
    CHECK(found[0] == 2);
    CHECK(found[1] == 1);
    int32_t one = 0;
    CHECK(gnv_device_find(engine.get(), "cuda:0,1", nullptr, &one, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(error_has(engine.get(), "cuda:0,1 names 2 devices, and this takes one"));
}
