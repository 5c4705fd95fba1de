#include "evaluate/logits_file.h"

#include "codec/nvfp4.h"
#include "core/sha256.h"
#include "formats/json.h"
#include "formats/json_writer.h"
#include "formats/zstd.h"

#include <algorithm>
#include <cstring>
#include <initializer_list>
#include <string_view>

namespace gnv::evaluate {

static constexpr char magic[] = "GNVLOGIT";
static constexpr uint64_t magic_bytes = 8;
static constexpr uint64_t header_bytes = 4096; // of the header, padded with blanks
static constexpr const char * schema = "ggml-nvfp4.logits.2";
static constexpr uint64_t digest_bytes = 64; // SHA-256 in hex digits
static constexpr int compression = 1;        // the low bytes are noise, the high ones compress at any level

int64_t logits_frame_positions(int64_t vocabulary) {
    constexpr int64_t wanted = 4 << 20;
    return std::clamp<int64_t>(wanted / (2 * vocabulary), 1, 1024);
}

uint64_t logits_frame_bytes(int64_t vocabulary) {
    return uint64_t(logits_frame_positions(vocabulary)) * uint64_t(vocabulary) * 2;
}

static std::string digest_of(std::initializer_list<std::string_view> parts) {
    Sha256 hash;
    for (const std::string_view part : parts) hash.update(part);
    return hash.finish();
}

template <class T>
static std::string_view bytes_of(const std::vector<T> & list) {
    return {reinterpret_cast<const char *>(list.data()), list.size() * sizeof(T)};
}

static std::string_view bytes_of(const uint64_t & number) {
    return {reinterpret_cast<const char *>(&number), sizeof number};
}

// --- Writing ------------------------------------------------------------------------------------------------------------------

LogitsWriter::LogitsWriter(NewFile made, const LogitsHeader & header)
    : made_(std::move(made)), file_(made_.file()), header_(header) {
    frame_positions_ = logits_frame_positions(header.vocabulary);
    begin_ = end_ = magic_bytes + 8 + header_bytes + digest_bytes;
    planes_.resize(logits_frame_bytes(header.vocabulary));
}

Result<std::unique_ptr<LogitsWriter>> LogitsWriter::create(const std::string & path, const LogitsHeader & header) {
    GNV_ASSIGN(NewFile made, NewFile::create(path));
    return std::unique_ptr<LogitsWriter>(new LogitsWriter(std::move(made), header));
}

Status LogitsWriter::append(const float * logits, const std::vector<double> & normalizers, int64_t count,
                            ThreadPool & threads) {
    const int64_t width = header_.vocabulary;
    for (int64_t done = 0; done < count;) {
        const int64_t rows = std::min(count - done, frame_positions_ - held_);
        const auto split_row = [&](int64_t i) -> Status {
            const float * const row = logits + (done + i) * width;
            char * const low = planes_.data() + (held_ + i) * width;
            char * const high = low + frame_positions_ * width;
            const double normalizer = normalizers[size_t(done + i)];
            for (int64_t c = 0; c < width; c++) {
                // never an F16 infinity
                const uint16_t half = nvfp4::f16_from_float(float(std::max(double(row[c]) - normalizer, -60000.0)));
                low[c] = char(half & 0xff);
                high[c] = char(half >> 8);
            }
            return {};
        };
        GNV_TRY(threads.parallel_for(rows, split_row));
        held_ += rows;
        done += rows;
        if (held_ == frame_positions_) GNV_TRY(write_frame());
    }
    return {};
}

Status LogitsWriter::write_frame() {
    if (held_ == 0) return {};
    const auto plane = size_t(held_ * header_.vocabulary);
    if (held_ < frame_positions_) // the last frame: its high bytes follow at once
        memmove(planes_.data() + plane, planes_.data() + frame_positions_ * header_.vocabulary, plane);
    GNV_ASSIGN(const std::string frame,
               zstd_compress(std::string_view(planes_).substr(0, 2 * plane), compression, file_.path()));
    const uint64_t size = frame.size();
    digests_ += digest_of({bytes_of(size), frame});
    GNV_TRY(file_.write(&size, sizeof size, end_));
    GNV_TRY(file_.write(frame.data(), size, end_ + sizeof size));
    end_ += sizeof size + size;
    held_ = 0;
    return {};
}

std::string LogitsWriter::header_text(uint64_t tables, const std::string & tables_sha256) const {
    JsonWriter json;
    json.begin_object().member("schema", schema).member("vocabulary", header_.vocabulary);
    json.member("positions", header_.positions).member("frame_positions", frame_positions_);
    json.member("precision", header_.precision).member("data_sha256", header_.data_sha256);
    json.member("source_fingerprint", header_.source_fingerprint).member("tables", tables);
    json.member("tables_sha256", tables_sha256).end_object();
    std::string text = json.take();
    GNV_CHECK(text.size() <= header_bytes);
    text.resize(header_bytes, ' ');
    return text;
}

Status LogitsWriter::finish(const std::vector<double> & nll, const std::vector<int32_t> & top) {
    GNV_TRY(write_frame());
    const uint64_t tables = end_, size = header_bytes;
    Sha256 hash;
    for (const std::string_view part : {bytes_of(nll), bytes_of(top), std::string_view(digests_)}) {
        GNV_TRY(file_.write(part.data(), part.size(), end_));
        hash.update(part);
        end_ += part.size();
    }
    std::string head = concat(bytes_of(size), header_text(tables, hash.finish()));
    head += digest_of({magic, head});
    GNV_TRY(file_.write(head.data(), head.size(), magic_bytes));
    GNV_TRY(file_.write(magic, magic_bytes, 0));
    return made_.publish();
}

// --- Reading ------------------------------------------------------------------------------------------------------------------

Result<std::unique_ptr<LogitsReader>> LogitsReader::open(const std::string & path, const LogitsHeader & expected) {
    GNV_ASSIGN(File file, File::open_read(path));
    std::unique_ptr<LogitsReader> self(new LogitsReader(std::move(file)));
    GNV_TRY(self->read_header());
    GNV_TRY(self->read_tables());
    const LogitsHeader & found = self->header_;
    const auto differs = [&](const char * what) {
        return fail(Code::invalid_argument, path, " holds the predictions of another ", what,
                    "; make it anew with --save-logits");
    };
    if (expected.vocabulary > 0 && found.vocabulary != expected.vocabulary) return differs("model");
    if (!expected.source_fingerprint.empty() && found.source_fingerprint != expected.source_fingerprint)
        return differs("source");
    if (found.data_sha256 != expected.data_sha256 || found.positions != expected.positions)
        return differs("text (--data, --documents, --tokens-per-document)");
    if (found.precision != expected.precision)
        return fail(Code::invalid_argument, path, " holds predictions that were computed in ",
                    printable(found.precision), ", this run computes in ", expected.precision,
                    ": use the same --precision, or make it anew with --save-logits");
    return self;
}

Status LogitsReader::read_header() {
    const auto broken = [&](const char * why) { return fail(Code::format, file_.path(), ": ", why); };
    GNV_ASSIGN(const FileStamp stamp, file_.stamp());
    size_ = stamp.size;
    char start[magic_bytes];
    uint64_t size = 0;
    if (size_ < magic_bytes + sizeof size) return broken("too small for a file of logits");
    GNV_TRY(file_.read(start, magic_bytes, 0));
    if (memcmp(start, magic, magic_bytes) != 0) return broken("is no complete file of logits");
    GNV_TRY(file_.read(&size, sizeof size, magic_bytes));
    constexpr uint64_t before = magic_bytes + sizeof size;
    if (size > header_bytes || size > size_ - before) return broken("the size of its header, byte 8, is damaged");
    std::string text(size, '\0'), digest(digest_bytes, '\0');
    GNV_TRY(file_.read(text.data(), size, before));
    const bool has_digest = digest_bytes <= size_ - before - size;
    if (has_digest) GNV_TRY(file_.read(digest.data(), digest_bytes, before + size));
    if (digest != digest_of({magic, bytes_of(size), text})) {
        if (text.find("\"ggml-nvfp4.logits.1\"") != std::string::npos)
            return fail(Code::unsupported, file_.path(),
                        ": an earlier version wrote it, without checksums; make it anew "
                        "with --save-logits");
        return fail(Code::format, file_.path(), ": its header, bytes 0 to ", before + size + digest_bytes - 1,
                    ", is not as written: the file is damaged; use another copy, or make it anew with "
                    "--save-logits");
    }
    GNV_ASSIGN(const JsonDocument document, JsonDocument::parse(std::move(text), file_.path()));
    const JsonValue root = document.root();
    const auto number = [&](const char * key, int64_t & to) -> Status {
        GNV_ASSIGN(const JsonValue value, root.get(key));
        GNV_ASSIGN(to, value.as_int());
        return {};
    };
    const auto content = [&](const char * key, std::string & to) -> Status {
        GNV_ASSIGN(const JsonValue value, root.get(key));
        GNV_ASSIGN(const std::string_view found, value.as_string());
        to = found;
        return {};
    };
    std::string name;
    int64_t tables = 0;
    GNV_TRY(content("schema", name));
    if (name != schema) return fail(Code::unsupported, file_.path(), ": is ", printable(name), ", not ", schema);
    GNV_TRY(number("vocabulary", header_.vocabulary));
    GNV_TRY(number("positions", header_.positions));
    GNV_TRY(number("frame_positions", frame_positions_));
    GNV_TRY(number("tables", tables));
    GNV_TRY(content("tables_sha256", tables_sha256_));
    GNV_TRY(content("precision", header_.precision));
    GNV_TRY(content("data_sha256", header_.data_sha256));
    GNV_TRY(content("source_fingerprint", header_.source_fingerprint));
    constexpr int64_t most = int64_t(1) << 40;
    if (header_.vocabulary < 1 || header_.vocabulary > (1 << 24) || header_.positions < 1 || header_.positions > most ||
        frame_positions_ != logits_frame_positions(header_.vocabulary) || tables < 0)
        return broken("its header makes no sense");
    tables_ = uint64_t(tables);
    next_ = before + size + digest_bytes;
    if (tables_ < next_ || tables_ > size_ ||
        size_ - tables_ != uint64_t(header_.positions) * 12 + uint64_t(frames()) * digest_bytes)
        return broken("it is not as long as its header says");
    return {};
}

Status LogitsReader::read_tables() {
    const auto count = size_t(header_.positions);
    nll_.resize(count);
    top_.resize(count);
    digests_.resize(size_t(frames()) * digest_bytes);
    const uint64_t top = tables_ + count * sizeof(double), digests = top + count * sizeof(int32_t);
    GNV_TRY(file_.read(nll_.data(), count * sizeof(double), tables_));
    GNV_TRY(file_.read(top_.data(), count * sizeof(int32_t), top));
    GNV_TRY(file_.read(digests_.data(), digests_.size(), digests));
    if (digest_of({bytes_of(nll_), bytes_of(top_), digests_}) == tables_sha256_) return {};
    return fail(Code::format, file_.path(), ": its tables, bytes ", tables_, " to ", size_ - 1,
                ", are not as written: the file is damaged; use another copy, or make it anew with --save-logits");
}

void LogitsReader::take_positions(std::vector<double> & nll, std::vector<int32_t> & top) {
    nll = std::move(nll_);
    top = std::move(top_);
}

Status LogitsReader::load_frame(int64_t frame) {
    GNV_CHECK(frame == frame_ + 1);
    const auto broken = [&](uint64_t end) {
        return fail(Code::format, file_.path(), ": frame ", frame, ", bytes ", next_, " to ", end - 1,
                    ", is not as written: the file is damaged; use another copy, or make it anew with "
                    "--save-logits");
    };
    uint64_t size = 0;
    if (tables_ - next_ < sizeof size) return broken(tables_);
    GNV_TRY(file_.read(&size, sizeof size, next_));
    const uint64_t content = uint64_t(std::min(frame_positions_, header_.positions - frame * frame_positions_)) *
                             uint64_t(header_.vocabulary) * 2;
    const uint64_t begin = next_ + sizeof size;
    const uint64_t most = content + content / 128 + 1024; // the bound of zstd
    if (size > std::min(tables_ - begin, most)) return broken(tables_);
    std::string compressed(size, '\0');
    GNV_TRY(file_.read(compressed.data(), size, begin));
    const std::string digest = digest_of({bytes_of(size), compressed});
    const bool is_last = frame + 1 == frames();
    if (digests_.compare(size_t(frame) * digest_bytes, digest_bytes, digest) != 0 ||
        (is_last && begin + size != tables_))
        return broken(begin + size);
    GNV_ASSIGN(planes_, zstd_decompress_all(compressed, content, file_.path()));
    if (planes_.size() != content)
        return fail(Code::format, file_.path(), ": frame ", frame, " holds ", planes_.size(), " bytes, not ", content);
    next_ = begin + size;
    frame_ = frame;
    return {};
}

Status LogitsReader::read(int64_t first, int64_t count, uint16_t * rows) {
    const int64_t width = header_.vocabulary;
    GNV_CHECK(first + count <= header_.positions);
    for (int64_t i = 0; i < count; i++) {
        const int64_t position = first + i, frame = position / frame_positions_;
        if (frame != frame_) GNV_TRY(load_frame(frame));
        const int64_t row = position - frame * frame_positions_;
        const char * const low = planes_.data() + row * width;
        const char * const high = low + planes_.size() / 2;
        for (int64_t c = 0; c < width; c++)
            rows[i * width + c] = uint16_t(uint8_t(low[c]) | uint16_t(uint8_t(high[c])) << 8);
    }
    return {};
}

} // namespace gnv::evaluate
