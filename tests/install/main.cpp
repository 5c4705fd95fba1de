// The public header as a C++11 program meets it.
#include <ggml-nvfp4.h>

#include <memory>
#include <string>

int main() {
    gnv_engine_t * handle = nullptr;
    if (gnv_engine_create(nullptr, &handle) != GNV_OK) return 1;
    const std::unique_ptr<gnv_engine_t, void (*)(gnv_engine_t *)> engine(handle, gnv_engine_destroy);
    return std::string(gnv_last_error(engine.get())).empty() && std::string(gnv_version()) == EXPECTED_VERSION ? 0 : 2;
}
