#include "data/parquet/parquet_codecs.h"

#include "formats/zstd.h"

#include <algorithm>
#include <brotli/decode.h>
#include <climits>
#include <lz4.h>
#include <snappy-c.h>
#include <zlib.h>

namespace gnv {

namespace {

// Each fills `out`, `size` bytes, from all of `stored`; false where that does not come out even.
using Decompress = bool (*)(std::string_view stored, char * out, size_t size);

bool copy(std::string_view stored, char * out, size_t size) {
    if (stored.size() != size) return false;
    std::copy(stored.begin(), stored.end(), out);
    return true;
}

bool read_snappy(std::string_view stored, char * out, size_t size) {
    size_t found = 0;
    return snappy_uncompressed_length(stored.data(), stored.size(), &found) == SNAPPY_OK && found == size &&
           snappy_uncompress(stored.data(), stored.size(), out, &found) == SNAPPY_OK;
}

// With a header of gzip or of zlib; several members make one content.
bool read_gzip(std::string_view stored, char * out, size_t size) {
    if (stored.size() > UINT_MAX || size > UINT_MAX) return false;
    z_stream stream = {};
    constexpr int any_header = 15 + 32;
    if (inflateInit2(&stream, any_header) != Z_OK) return false;
    stream.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(stored.data())); // zlib's type; it only reads
    stream.avail_in = uInt(stored.size());
    stream.next_out = reinterpret_cast<Bytef *>(out);
    stream.avail_out = uInt(size);
    int result = inflate(&stream, Z_FINISH);
    while (result == Z_STREAM_END && stream.avail_in > 0 && inflateReset(&stream) == Z_OK)
        result = inflate(&stream, Z_FINISH);
    const bool complete = result == Z_STREAM_END && stream.avail_in == 0 && stream.avail_out == 0;
    inflateEnd(&stream);
    return complete;
}

bool read_brotli(std::string_view stored, char * out, size_t size) {
    size_t found = size;
    return BrotliDecoderDecompress(stored.size(), reinterpret_cast<const uint8_t *>(stored.data()), &found,
                                   reinterpret_cast<uint8_t *>(out)) == BROTLI_DECODER_RESULT_SUCCESS &&
           found == size;
}

bool read_lz4_block(std::string_view stored, char * out, size_t size) {
    return stored.size() <= INT_MAX && size <= INT_MAX &&
           LZ4_decompress_safe(stored.data(), out, int(stored.size()), int(size)) == int(size);
}

uint32_t read_big_endian(std::string_view bytes) {
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) value = value << 8 | uint8_t(bytes[size_t(i)]);
    return value;
}

// Hadoop's frames: both sizes, big endian, before each block. Others wrote plain blocks under the same name.
bool read_lz4(std::string_view stored, char * out, size_t size) {
    std::string_view rest = stored;
    size_t written = 0;
    while (rest.size() >= 8) {
        const size_t content = read_big_endian(rest), block = read_big_endian(rest.substr(4));
        if (block > rest.size() - 8 || content > size - written ||
            !read_lz4_block(rest.substr(8, block), out + written, content))
            break;
        rest.remove_prefix(8 + block);
        written += content;
    }
    return (rest.empty() && written == size) || read_lz4_block(stored, out, size);
}

bool read_zstd(std::string_view stored, char * out, size_t size) {
    const Result<std::string> content = zstd_decompress_all(stored, size, "");
    return content.ok() && copy(content.value(), out, size);
}

struct Codec {
    const char * name;
    Decompress run;
    uint64_t most_expansion; // how many bytes one byte can stand for at most, or many
};
constexpr uint64_t any = uint64_t(1) << 40;
constexpr Codec codecs[size_t(ParquetCodec::count_)] = {
    {"none", copy, 1},        {"Snappy", read_snappy, 32},      {"GZIP", read_gzip, 1100},
    {"LZO", nullptr, any},    {"Brotli", read_brotli, any},     {"LZ4", read_lz4, 256},
    {"Zstd", read_zstd, any}, {"LZ4_RAW", read_lz4_block, 256},
};

} // namespace

Status decompress_page(ParquetCodec codec, std::string_view stored, uint64_t content_bytes, std::string & out) {
    const Codec & row = codecs[size_t(codec)];
    if (!row.run)
        return fail(Code::unsupported, "compressed with ", row.name,
                    ", which this reader does not know: rewrite the file with Zstd, for example in Python: "
                    "pyarrow.parquet.write_table(pyarrow.parquet.read_table(\"a.parquet\"), \"b.parquet\", "
                    "compression=\"zstd\")");
    // What is allocated is in proportion to what is in the file, where the codec has such a bound.
    if (content_bytes / row.most_expansion > stored.size() + 64)
        return fail(Code::format, "the ", row.name, " data does not have the size that the page says");
    const size_t begin = out.size();
    out.resize(begin + size_t(content_bytes));
    if (row.run(stored, out.data() + begin, size_t(content_bytes))) return {};
    return fail(Code::format, "the ", row.name, " data is damaged, or not of the size that the page says");
}

} // namespace gnv
