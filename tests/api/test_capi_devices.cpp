#include "ggml-nvfp4.h"

#include <cstddef>
#include <cstring>
#include <doctest/doctest.h>
#include <string>

TEST_CASE("device 0 is the CPU, others are CUDA devices, and beyond them is none") {
    gnv_engine_t * engine = nullptr;
    REQUIRE(gnv_engine_create(nullptr, &engine) == GNV_OK);
    int32_t count = 0;
    REQUIRE(gnv_device_count(engine, &count) == GNV_OK);
    REQUIRE(count >= 1);
    for (int32_t index = 0; index < count; index++) {
        gnv_device_info info = {};
        info.struct_size = sizeof info;
        REQUIRE(gnv_device_get_info(engine, index, &info) == GNV_OK);
        CHECK(info.struct_size == sizeof info);
        CHECK(info.kind == (index == 0 ? GNV_DEVICE_CPU : GNV_DEVICE_CUDA));
        CHECK(info.memory_bytes > 0);
        CHECK(strlen(info.name) > 0);
        if (index == 0) CHECK(std::string(info.name) == std::string("CPU (") + gnv_cpu_kernels() + ")");
    }
    gnv_device_info info = {};
    info.struct_size = sizeof info;
    CHECK(gnv_device_get_info(engine, count, &info) == GNV_NOT_FOUND);
    CHECK(std::string(gnv_last_error(engine)) ==
          "device " + std::to_string(count) + " does not exist: there are " + std::to_string(count));
    CHECK(gnv_device_get_info(engine, -1, &info) == GNV_NOT_FOUND);

    info.struct_size = 0;
    CHECK(gnv_device_get_info(engine, 0, &info) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_device_get_info(engine, 0, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_device_count(engine, nullptr) == GNV_INVALID_ARGUMENT);
    CHECK(gnv_device_count(nullptr, &count) == GNV_INVALID_ARGUMENT);

    info.struct_size = offsetof(gnv_device_info, name); // a program that knows of no names
    memset(info.name, '?', sizeof info.name);
    CHECK(gnv_device_get_info(engine, 0, &info) == GNV_OK);
    CHECK(info.name[0] == '?');
    gnv_engine_destroy(engine);
}
