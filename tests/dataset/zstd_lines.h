// Compressed files that are far larger inside.
#pragma once

#include "dataset/dataset_fixture.h"

#include <functional>
#include <zstd.h>

namespace gnv::test {

// Saves what `next` gives, piece by piece until it gives nothing, in one zstd frame. Returns the path.
inline std::string save_zstd(const ScratchFolder & folder, const std::string & name,
                             const std::function<std::string()> & next, int window_log = 0) {
    ZSTD_CCtx * const context = ZSTD_createCCtx();
    REQUIRE(context);
    ZSTD_CCtx_setParameter(context, ZSTD_c_compressionLevel, 1);
    if (window_log > 0) ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
    std::string out, step(ZSTD_CStreamOutSize(), '\0');
    for (bool last = false; !last;) {
        const std::string piece = next();
        last = piece.empty();
        ZSTD_inBuffer in = {piece.data(), piece.size(), 0};
        for (size_t left = 1; left > 0 && (last || in.pos < in.size);) {
            ZSTD_outBuffer buffer = {step.data(), step.size(), 0};
            left = ZSTD_compressStream2(context, &buffer, &in, last ? ZSTD_e_end : ZSTD_e_continue);
            REQUIRE(!ZSTD_isError(left));
            out.append(step, 0, buffer.pos);
            if (!last) left = 1;
        }
    }
    ZSTD_freeCCtx(context);
    return folder.save(name, out);
}

// The same for one piece many times.
inline std::string save_zstd(const ScratchFolder & folder, const std::string & name, const std::string & piece,
                             uint64_t times, const std::string & before = "", const std::string & after = "") {
    uint64_t given = 0;
    return save_zstd(folder, name, [&]() -> std::string {
        const uint64_t now = given++;
        return now == 0 ? before + piece : now < times ? piece : now == times ? after : std::string();
    });
}

} // namespace gnv::test
