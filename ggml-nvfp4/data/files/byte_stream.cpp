#include "data/files/byte_stream.h"

#include "data/files/decoders.h"
#include "formats/file.h"

#include <algorithm>

namespace gnv {

static constexpr size_t piece_bytes = 256 << 10;

struct ByteStream::State {
    State(File opened, const ReadControl & read_control)
        : file(std::move(opened)), control(read_control), share(read_control) {}

    File file;
    ReadControl control;
    MemoryShare share;
    uint64_t size = 0, offset = 0; // of the file; everything before `offset` has been read
    std::string raw;               // the last bytes read
    // Of compressed files only:
    std::unique_ptr<StreamDecoder> decoder;
    std::string_view input; // of `raw`, what is not decoded yet
    std::string decoded;

    Status charge_decoder() {
        const uint64_t bytes = 2 * piece_bytes + decoder->memory();
        if (share.resize(bytes)) return {};
        return control.too_small(file.path() + ": the window of a compressed frame", bytes - share.bytes());
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
        size_t written = 0;
        while (written == 0) {
            if (input.empty() && !decoder->holds_back()) {
                if (offset == size) break;
                GNV_TRY(read_raw());
                input = raw;
            }
            Result<size_t> result = decoder->decode(input, decoded.data(), decoded.size());
            if (result.status().code() == Code::format) return damage(result.status().message());
            GNV_ASSIGN(written, std::move(result));
        }
        GNV_TRY(charge_decoder());
        GNV_TRY(control.check());
        if (written == 0 && decoder->in_frame()) return damage("the file ends inside a frame");
        return std::string_view(decoded.data(), written);
    }

    Status damage(const std::string & reason) const {
        return fail(Code::format, file.path(), ": compressed byte ", offset - input.size(), ": ", decoder->name(), ": ",
                    reason, damaged_file);
    }
};

Result<ByteStream> ByteStream::open(const std::string & path, const ReadControl & control) {
    GNV_ASSIGN(File file, File::open_read(path));
    GNV_ASSIGN(const FileStamp stamp, file.stamp());
    auto state = std::make_unique<State>(std::move(file), control);
    state->size = stamp.size;
    if (!state->share.resize(2 * piece_bytes)) return control.too_small(path, 2 * piece_bytes);
    GNV_ASSIGN(state->decoder, make_decoder(path, control));
    if (state->decoder) state->decoded.resize(piece_bytes);
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
