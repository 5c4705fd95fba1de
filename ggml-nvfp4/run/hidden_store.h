// What is kept of every position between groups of stages: the fields of a model, one row each position. In
// memory of the host, in that of a device, or in a scratch file that has no name and is gone when its store is.
#pragma once

#include "core/tensor.h"
#include "exec/backend.h"
#include "formats/file.h"
#include "model/text_model.h"

#include <array>
#include <cstdint>
#include <memory>
#include <string>

namespace gnv {

enum class StorePlace : uint8_t { device, host, file };
const char * place_name(StorePlace place); // "device", "host", "file"

class HiddenStore {
  public:
    struct Layout {
        int64_t positions = 0;
        std::array<int64_t, max_fields> columns{}; // 0: the field is not kept
        std::array<DType, max_fields> dtypes{};

        uint64_t row_bytes(Field field) const;
        uint64_t field_bytes(Field field) const; // of all positions
        uint64_t bytes() const;
        Layout with_positions(int64_t count) const;
    };
    // Memory is `device`'s, its own or such of the host that it copies from at full speed. Fails when the scratch file
    // cannot grow to its size now.
    static Result<HiddenStore> create(const Layout & layout, StorePlace place, Backend & device,
                                      const std::string & scratch_folder);

    StorePlace place() const { return place_; }
    // Rows [first, first + count) of a field: in the store's own memory, or null.
    void * rows(Field field, int64_t first) const;
    // From and to the file.
    Status read(Field field, int64_t first, int64_t count, void * to) const;
    Status write(Field field, int64_t first, int64_t count, const void * from);

  private:
    uint64_t offset(Field field, int64_t row) const;
    Layout layout_;
    StorePlace place_ = StorePlace::host;
    DeviceMemory on_device_;
    HostMemory on_host_;
    std::unique_ptr<File> file_;
};

} // namespace gnv
