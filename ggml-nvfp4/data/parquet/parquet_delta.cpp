#include "data/parquet/parquet_delta.h"

#include <algorithm>

namespace gnv {

namespace {

Status damaged() { return Status(Code::format, "damaged delta encoding"); }

// Reads DELTA_BINARY_PACKED from the front of `bytes` and takes it off.
class DeltaIntegers {
  public:
    explicit DeltaIntegers(std::string_view & bytes) : bytes_(bytes) {}

    // No more than `most` values, none of which may be negative.
    Result<std::vector<uint32_t>> read(uint64_t most) {
        const uint64_t block = varint(), miniblocks = varint(), count = varint();
        int64_t value = zigzag();
        constexpr uint64_t largest_block = 1 << 20;
        if (!ok_ || miniblocks == 0 || block == 0 || block > largest_block || block % miniblocks != 0 ||
            (block / miniblocks) % 8 != 0 || count > most)
            return damaged();
        std::vector<uint32_t> values;
        for (uint64_t i = 0; i < count;) {
            if (i == 0) {
                GNV_TRY(add(value, values));
                if (++i == count) break;
            }
            const int64_t least = zigzag();
            if (!ok_ || bytes_.size() < miniblocks) return damaged();
            const std::string_view widths = bytes_.substr(0, size_t(miniblocks));
            bytes_.remove_prefix(size_t(miniblocks));
            for (uint64_t m = 0; m < miniblocks && i < count; m++) {
                const uint32_t width = uint8_t(widths[size_t(m)]);
                const uint64_t size = block / miniblocks * width / 8;
                if (width > 64 || size > bytes_.size()) return damaged();
                for (uint64_t k = 0; k < block / miniblocks && i < count; k++, i++) {
                    value = int64_t(uint64_t(value) + uint64_t(least) + bits(k * width, width));
                    GNV_TRY(add(value, values));
                }
                bytes_.remove_prefix(size_t(size));
            }
        }
        return values;
    }

  private:
    static Status add(int64_t value, std::vector<uint32_t> & values) {
        if (value < 0 || value > int64_t(max_parquet_page_bytes)) return damaged();
        values.push_back(uint32_t(value));
        return {};
    }

    uint64_t varint() {
        uint64_t value = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            if (bytes_.empty()) break;
            const auto part = uint8_t(bytes_[0]);
            bytes_.remove_prefix(1);
            value |= uint64_t(part & 0x7f) << shift;
            if (!(part & 0x80)) return value;
        }
        ok_ = false;
        return 0;
    }

    int64_t zigzag() {
        const uint64_t value = varint();
        return int64_t(value >> 1) ^ -int64_t(value & 1);
    }

    // `width` bits from bit `at` of the bytes on.
    uint64_t bits(uint64_t at, uint32_t width) const {
        uint64_t value = 0;
        for (uint32_t done = 0; done < width;) {
            const uint64_t place = at + done;
            const uint32_t in_byte = uint32_t(place % 8), step = std::min(8 - in_byte, width - done);
            const uint64_t part = uint64_t(uint8_t(bytes_[size_t(place / 8)])) >> in_byte & ((1u << step) - 1);
            value |= part << done;
            done += step;
        }
        return value;
    }

    std::string_view & bytes_;
    bool ok_ = true;
};

void append_length(std::string & out, uint64_t length) {
    for (int shift = 0; shift < 32; shift += 8) out += char(length >> shift & 0xff);
}

} // namespace

Result<std::string> plain_of_delta(std::string_view values, ParquetEncoding encoding, uint64_t limit) {
    const uint64_t most = limit / 4; // values of four bytes at least
    std::vector<uint32_t> prefixes;
    if (encoding == ParquetEncoding::delta_byte_array) {
        GNV_ASSIGN(prefixes, DeltaIntegers(values).read(most));
    }
    GNV_ASSIGN(const std::vector<uint32_t> lengths, DeltaIntegers(values).read(most));
    if (!prefixes.empty() && prefixes.size() != lengths.size()) return damaged();
    std::string out;
    size_t last = 0, last_size = 0; // the value before
    for (size_t i = 0; i < lengths.size(); i++) {
        const uint64_t prefix = prefixes.empty() ? 0 : prefixes[i], length = lengths[i];
        if (prefix > last_size || length > values.size()) return damaged();
        if (out.size() + 4 + prefix + length > limit)
            return fail(Code::format, "the values of a page take more than ", bytes_text(limit));
        append_length(out, prefix + length);
        const size_t begin = out.size();
        out.append(out, last, size_t(prefix));
        out.append(values.substr(0, size_t(length)));
        values.remove_prefix(size_t(length));
        last = begin, last_size = size_t(prefix + length);
    }
    return out;
}

} // namespace gnv
