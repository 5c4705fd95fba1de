#include "data/files/decoders.h"

#include <algorithm>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

namespace gnv {

namespace {

// --- zstd ---------------------------------------------------------------------------------------------------------------------

constexpr int largest_window_log = 27; // zstd's own limit, and that of "zstd --long"
constexpr int window_log_in_any_budget = 20;

class ZstdDecoder final : public StreamDecoder {
  public:
    ZstdDecoder(const std::string & path, const ReadControl & control) : path_(path), control_(control) {}

    // A frame's window is allocated when its header is read: it must fit into what the budget has left.
    Status prepare() {
        context_.reset(ZSTD_createDCtx());
        if (!context_) return Status(Code::out_of_memory, "cannot allocate a zstd decoder");
        while (window_log_ > window_log_in_any_budget && (uint64_t(1) << window_log_) > control_.left()) window_log_--;
        if (ZSTD_isError(ZSTD_DCtx_setParameter(context_.get(), ZSTD_d_windowLogMax, window_log_)))
            return Status(Code::internal, "zstd refuses a limit of windows");
        return {};
    }

    Result<size_t> decode(std::string_view & input, char * out, size_t size) override {
        ZSTD_inBuffer in{input.data(), input.size(), 0};
        ZSTD_outBuffer output{out, size, 0};
        const size_t wanted = ZSTD_decompressStream(context_.get(), &output, &in);
        input.remove_prefix(in.pos);
        if (ZSTD_getErrorCode(wanted) == ZSTD_error_frameParameter_windowTooLarge && window_log_ < largest_window_log)
            return control_.too_small(path_ + ": the window of a zstd frame",
                                      (uint64_t(1) << largest_window_log) + (1 << 20));
        if (ZSTD_isError(wanted)) return Status(Code::format, ZSTD_getErrorName(wanted));
        in_frame_ = wanted != 0;
        holds_back_ = in_frame_ && output.pos == output.size;
        return output.pos;
    }
    const char * name() const override { return "zstd"; }
    bool holds_back() const override { return holds_back_; }
    bool in_frame() const override { return in_frame_; }
    uint64_t memory() const override { return ZSTD_sizeof_DCtx(context_.get()); }

  private:
    struct Free {
        void operator()(ZSTD_DCtx * unused) const { ZSTD_freeDCtx(unused); }
    };
    const std::string path_;
    const ReadControl control_;
    std::unique_ptr<ZSTD_DCtx, Free> context_;
    int window_log_ = largest_window_log; // of the windows accepted
    bool in_frame_ = false, holds_back_ = false;
};

// --- gzip ---------------------------------------------------------------------------------------------------------------------

constexpr int gzip_window = 15 + 16;       // the largest window, and gzip's header
constexpr uint64_t gzip_memory = 64 << 10; // of a decoder with such a window: 32 KiB and tables

class GzipDecoder final : public StreamDecoder {
  public:
    GzipDecoder() = default;
    GzipDecoder(const GzipDecoder &) = delete;
    GzipDecoder & operator=(const GzipDecoder &) = delete;
    ~GzipDecoder() override { inflateEnd(&stream_); }

    Status prepare() {
        return inflateInit2(&stream_, gzip_window) == Z_OK
                   ? Status()
                   : Status(Code::out_of_memory, "cannot allocate a gzip decoder");
    }

    Result<size_t> decode(std::string_view & input, char * out, size_t size) override {
        holds_back_ = false;
        if (!in_member_) { // zeros after the last member are padding, as gzip has it
            while (any_member_ && !input.empty() && input[0] == '\0') input.remove_prefix(1);
            if (input.empty()) return size_t(0);
            if (inflateReset(&stream_) != Z_OK) return Status(Code::internal, "zlib refuses to begin again");
            in_member_ = true;
        }
        constexpr size_t most = 1u << 30;
        const size_t given = std::min(input.size(), most), room = std::min(size, most);
        stream_.next_in = reinterpret_cast<Bytef *>(const_cast<char *>(input.data())); // zlib's type; it only reads
        stream_.avail_in = uInt(given);
        stream_.next_out = reinterpret_cast<Bytef *>(out);
        stream_.avail_out = uInt(room);
        const int result = inflate(&stream_, Z_NO_FLUSH);
        input.remove_prefix(given - stream_.avail_in);
        const size_t written = room - stream_.avail_out;
        if (result == Z_MEM_ERROR) return Status::out_of_memory();
        if (result != Z_OK && result != Z_STREAM_END && result != Z_BUF_ERROR)
            return Status(Code::format, stream_.msg ? stream_.msg : "damaged data");
        if (result == Z_STREAM_END) in_member_ = false, any_member_ = true;
        holds_back_ = in_member_ && stream_.avail_out == 0;
        return written;
    }
    const char * name() const override { return "gzip"; }
    bool holds_back() const override { return holds_back_; }
    bool in_frame() const override { return in_member_; }
    uint64_t memory() const override { return gzip_memory; }

  private:
    z_stream stream_ = {};
    bool in_member_ = false, any_member_ = false, holds_back_ = false;
};

template <class Decoder>
Result<std::unique_ptr<StreamDecoder>> prepared(std::unique_ptr<Decoder> decoder) {
    GNV_TRY(decoder->prepare());
    return std::unique_ptr<StreamDecoder>(std::move(decoder));
}

} // namespace

bool has_ending(std::string_view path, std::string_view ending) {
    if (path.size() < ending.size()) return false;
    const std::string_view end = path.substr(path.size() - ending.size());
    return std::equal(end.begin(), end.end(), ending.begin(),
                      [](char a, char b) { return (a >= 'A' && a <= 'Z' ? char(a + ('a' - 'A')) : a) == b; });
}

std::string_view compressed_ending(std::string_view path) {
    for (const std::string_view ending : {std::string_view(".zst"), std::string_view(".gz")})
        if (has_ending(path, ending)) return ending;
    return "";
}

Result<std::unique_ptr<StreamDecoder>> make_decoder(const std::string & path, const ReadControl & control) {
    const std::string_view ending = compressed_ending(path);
    if (ending == ".zst") return prepared(std::make_unique<ZstdDecoder>(path, control));
    if (ending == ".gz") return prepared(std::make_unique<GzipDecoder>());
    return std::unique_ptr<StreamDecoder>();
}

} // namespace gnv
