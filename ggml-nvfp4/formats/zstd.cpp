#include "formats/zstd.h"

#include <algorithm>
#include <memory>
#include <zstd.h>

namespace gnv {

Result<std::string> zstd_decompress_all(std::string_view data, uint64_t limit, const std::string & name) {
    const std::unique_ptr<ZSTD_DCtx, size_t (*)(ZSTD_DCtx *)> context(ZSTD_createDCtx(), ZSTD_freeDCtx);
    if (!context) return fail(Code::out_of_memory, name, ": not enough memory for a zstd decoder");
    std::string content, step(ZSTD_DStreamOutSize(), '\0');
    ZSTD_inBuffer in = {data.data(), data.size(), 0};
    size_t expected = 0; // 0: a frame just ended
    while (in.pos < in.size || expected != 0) {
        ZSTD_outBuffer out = {step.data(), step.size(), 0};
        const size_t before = in.pos;
        expected = ZSTD_decompressStream(context.get(), &out, &in);
        if (ZSTD_isError(expected))
            return fail(Code::format, name, ": byte ", in.pos, ": not valid zstd: ", ZSTD_getErrorName(expected));
        if (out.pos > limit - content.size())
            return fail(Code::format, name, ": holds more than the ", limit, " bytes expected in it");
        content.append(step, 0, out.pos);
        if (expected != 0 && in.pos == in.size && out.pos == 0 && in.pos == before)
            return fail(Code::format, name, ": ends in the middle of a zstd frame, at byte ", data.size());
    }
    return content;
}

Result<std::string> zstd_compress(std::string_view content, int level, const std::string & name) {
    std::string frame(ZSTD_compressBound(content.size()), '\0');
    const size_t size = ZSTD_compress(frame.data(), frame.size(), content.data(), content.size(), level);
    if (ZSTD_isError(size)) return fail(Code::out_of_memory, name, ": zstd: ", ZSTD_getErrorName(size));
    frame.resize(size);
    return frame;
}

} // namespace gnv
