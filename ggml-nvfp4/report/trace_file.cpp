#include "report/trace_file.h"

#include "formats/json_writer.h"
#include "formats/new_file.h"

#include <map>

namespace gnv {

namespace {

constexpr size_t piece_bytes = 1 << 20; // of text in memory at a time

// Appends pieces of a document to a file.
class PieceFile {
  public:
    explicit PieceFile(const File & file) : file_(file) {}
    Status append(const std::string & text) {
        GNV_TRY(file_.write(text.data(), text.size(), size_));
        size_ += text.size();
        return {};
    }

  private:
    const File & file_;
    uint64_t size_ = 0;
};

// "reader 3": rows of threads are numbered in the order of their first spans; "compute" is that of the first device,
// "compute 1" that of cuda:1.
std::vector<std::string> row_names(const Trace & trace) {
    std::map<std::string, int> seen;
    std::vector<std::string> names;
    for (const Trace::Row & row : trace.rows()) {
        const bool numbered = row.thread != std::thread::id();
        const int number = numbered ? ++seen[row.lane] : row.device;
        names.push_back(number > 0 ? concat(row.lane, " ", number) : row.lane);
    }
    return names;
}

void add_metadata(JsonWriter & json, const char * kind, size_t row, const std::string & name) {
    json.begin_object().member("name", kind).member("ph", "M").member("pid", 1).member("tid", row);
    json.key("args").begin_object().member("name", name).end_object().end_object();
}

Status write_events(PieceFile & file, const Trace & trace) {
    JsonWriter json;
    std::string text;
    const auto flush = [&](size_t limit) -> Status {
        text += json.take();
        if (text.size() < limit) return {};
        GNV_TRY(file.append(text));
        text.clear();
        return {};
    };
    json.begin_array();
    add_metadata(
        json, "process_name", 0,
        concat("ggml-nvfp4, ", trace.events().size(), " spans, ", trace.dropped_events(), " later ones left out"));
    const std::vector<std::string> names = row_names(trace);
    for (size_t row = 0; row < names.size(); row++) add_metadata(json, "thread_name", row, names[row]);
    const std::vector<Trace::Total> totals = trace.totals();
    for (const Trace::Event & event : trace.events()) {
        json.begin_object().member("name", totals[event.total].name).member("ph", "X").member("pid", 1);
        json.member("tid", event.row).member("ts", double(event.begin_ns) / 1e3);
        json.member("dur", double(event.duration_ns) / 1e3);
        json.key("args").begin_object();
        if (event.flops > 0) json.member("flops", double(event.flops));
        if (event.bytes > 0) json.member("bytes", double(event.bytes));
        json.end_object().end_object();
        GNV_TRY(flush(piece_bytes));
    }
    json.end_array();
    GNV_TRY(flush(0));
    return file.append("\n");
}

} // namespace

Status write_trace(const std::string & path, const Trace & trace) {
    return guard_exceptions([&]() -> Status {
        GNV_ASSIGN(NewFile made, NewFile::create(path));
        PieceFile file(made.file());
        GNV_TRY(write_events(file, trace));
        return made.publish();
    });
}

} // namespace gnv
