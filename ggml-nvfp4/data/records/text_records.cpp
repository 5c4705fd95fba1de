#include "data/files/byte_stream.h"
#include "data/records/readers.h"

namespace gnv {

namespace {

// A whole file as one row with the field "text".
class TextDocument final : public RecordReader {
  public:
    explicit TextDocument(ByteStream stream) : stream_(std::move(stream)) {}

    Result<bool> next() override { return !std::exchange(visited_, true); }

    Result<RowFault> read(Record & out) override {
        std::string text;
        const uint64_t longest_kept = stream_.control().longest_record();
        uint64_t bytes = 0;
        for (;;) {
            GNV_ASSIGN(const std::string_view piece, stream_.next());
            if (piece.empty()) break;
            bytes += piece.size();
            if (bytes > max_record_bytes)
                return fail(Code::format, stream_.path(), ": longer than ", bytes_text(max_record_bytes),
                            "; a text file is one document here: split it, or make it a .jsonl file");
            if (bytes <= longest_kept) text += piece;
        }
        GNV_TRY(stream_.control().check_record(where(), bytes));
        if (starts_with(text, "\xef\xbb\xbf")) text.erase(0, 3);
        out.fields.clear();
        out.fields.push_back({"text", RecordField::Kind::text, std::move(text), {}});
        return RowFault::none;
    }

    std::string where() const override { return stream_.path(); }

  private:
    ByteStream stream_;
    bool visited_ = false;
};

} // namespace

OpenedRecords open_text_document(const std::string & path, const std::vector<std::string> &,
                                 const ReadControl & control) {
    GNV_ASSIGN(ByteStream stream, ByteStream::open(path, control));
    return std::unique_ptr<RecordReader>(std::make_unique<TextDocument>(std::move(stream)));
}

} // namespace gnv
