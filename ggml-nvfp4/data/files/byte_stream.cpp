#include "data/files/byte_stream.h"

#include "formats/file.h"

#include <algorithm>
#include <zstd.h>
#include <zstd_errors.h>

namespace gnv {

static constexpr size_t piece_bytes = 256 << 10;
static constexpr int largest_window_log = 27; // zstd's own limit, and that of "zstd --long"
static constexpr int window_log_in_any_budget = 20;

struct ByteStream::State {
    struct FreeDecoder {
        void operator()(ZSTD_DCtx * unused) const { ZSTD_freeDCtx(unused); }
    };

    State(File opened, const ReadControl & read_control)
        : file(std::move(opened)), control(read_control), share(read_control) {}

    File file;
    ReadControl control;
    MemoryShare share;
    uint64_t size = 0, offset = 0; // of the file; everything before `offset` has been read
    std::string raw;               // the last bytes read
    // zstd only
    std::unique_ptr<ZSTD_DCtx, FreeDecoder> decoder;
    int window_log = largest_window_log; // of the windows accepted
    ZSTD_inBuffer input{nullptr, 0, 0};
    std::string decoded;
    bool in_frame = false;   // the frame that was begun is not complete
    bool holds_back = false; // the output was full: there may be more without more input

    // A frame's window is allocated when its header is read: it must fit into what the budget has left.
    Status make_decoder() {
        decoder.reset(ZSTD_createDCtx());
        if (!decoder) return Status(Code::out_of_memory, "cannot allocate a zstd decoder");
        decoded.resize(piece_bytes);
        while (window_log > window_log_in_any_budget && (uint64_t(1) << window_log) > control.left()) window_log--;
        if (ZSTD_isError(ZSTD_DCtx_setParameter(decoder.get(), ZSTD_d_windowLogMax, window_log)))
            return Status(Code::internal, "zstd refuses a limit of windows");
        return {};
    }

    Status charge_window() {
        const uint64_t bytes = 2 * piece_bytes + ZSTD_sizeof_DCtx(decoder.get());
        if (share.resize(bytes)) return {};
        return control.too_small(file.path() + ": the window of a zstd frame", bytes - share.bytes());
    }

    Status read_raw() {
        GNV_TRY(control.check());
        raw.resize(size_t(std::min<uint64_t>(piece_bytes, size - offset)));
        GNV_TRY(file.read(raw.data(), raw.size(), offset));
        offset += raw.size();
        return {};
    }

    Result<std::string_view> next_plain() {
        GNV_TRY(read_raw());
        return std::string_view(raw);
    }

    Result<std::string_view> next_decoded() {
        ZSTD_outBuffer output{decoded.data(), decoded.size(), 0};
        while (output.pos == 0) {
            if (input.pos == input.size && !holds_back) {
                if (offset == size) break;
                GNV_TRY(read_raw());
                input = {raw.data(), raw.size(), 0};
            }
            const size_t wanted = ZSTD_decompressStream(decoder.get(), &output, &input);
            if (ZSTD_getErrorCode(wanted) == ZSTD_error_frameParameter_windowTooLarge &&
                window_log < largest_window_log)
                return control.too_small(file.path() + ": the window of a zstd frame",
                                         (uint64_t(1) << largest_window_log) + (1 << 20));
            if (ZSTD_isError(wanted)) return damage(ZSTD_getErrorName(wanted));
            in_frame = wanted != 0;
            holds_back = in_frame && output.pos == output.size;
        }
        GNV_TRY(charge_window());
        GNV_TRY(control.check());
        if (output.pos == 0 && in_frame) return damage("the file ends inside a frame; copy or download it again");
        return std::string_view(decoded.data(), output.pos);
    }

    Status damage(const char * reason) const {
        return fail(Code::format, file.path(), ": compressed byte ", offset - (input.size - input.pos),
                    ": zstd: ", reason);
    }
};

Result<ByteStream> ByteStream::open(const std::string & path, const ReadControl & control) {
    GNV_ASSIGN(File file, File::open_read(path));
    GNV_ASSIGN(const FileStamp stamp, file.stamp());
    auto state = std::make_unique<State>(std::move(file), control);
    state->size = stamp.size;
    if (!state->share.resize(2 * piece_bytes)) return control.too_small(path, 2 * piece_bytes);
    if (ends_with(path, ".zst")) GNV_TRY(state->make_decoder());
    return ByteStream(std::move(state));
}

ByteStream::ByteStream(std::unique_ptr<State> state) : state_(std::move(state)) {}
ByteStream::ByteStream(ByteStream &&) noexcept = default;
ByteStream & ByteStream::operator=(ByteStream &&) noexcept = default;
ByteStream::~ByteStream() = default;

const std::string & ByteStream::path() const { return state_->file.path(); }
const ReadControl & ByteStream::control() const { return state_->control; }

Result<std::string_view> ByteStream::next() { return state_->decoder ? state_->next_decoded() : state_->next_plain(); }

// --- CharReader ----------------------------------------------------------------------------------------------------------

Result<CharReader> CharReader::open(const std::string & path, const ReadControl & control) {
    GNV_ASSIGN(ByteStream stream, ByteStream::open(path, control));
    CharReader reader(std::move(stream));
    // The first piece is never shorter than the mark unless the whole content is.
    if (reader.refill() && starts_with({reader.at_, size_t(reader.end_ - reader.at_)}, "\xef\xbb\xbf")) reader.at_ += 3;
    GNV_TRY(reader.take_status());
    return reader;
}

std::string CharReader::where() const { return concat(path(), ":", line_); }

int CharReader::fail_with(Status status) {
    status_ = std::move(status);
    at_ = end_ = nullptr;
    return -1;
}

bool CharReader::refill() {
    if (!status_.ok()) return false;
    Result<std::string_view> piece = stream_.next();
    if (!piece.ok()) {
        fail_with(piece.take_status());
        return false;
    }
    at_ = piece.value().data();
    end_ = at_ + piece.value().size();
    return at_ != end_;
}

} // namespace gnv
