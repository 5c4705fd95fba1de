#include "formats/fetched_files.h"

#include "core/strings.h"

namespace gnv {

std::string fetch_use_text(const FetchUse & use) {
    return concat(count_text(use.files), use.files == 1 ? " file, " : " files, ", bytes_text(use.bytes),
                  use.again > 0 ? concat(", ", count_text(use.again), " of them again") : "", ", at most ",
                  bytes_text(use.most_bytes), " on the disk at a time; threads waited ", fixed_text(use.waited, 2),
                  " s for them");
}

void write_fetch_use(JsonWriter & json, const std::optional<FetchUse> & use) {
    json.key("streamed");
    if (!use) {
        json.value(nullptr);
        return;
    }
    json.begin_object().member("files", use->files).member("bytes", use->bytes).member("again", use->again);
    json.member("most_disk_bytes", use->most_bytes).member("waited_seconds", use->waited).end_object();
}

} // namespace gnv
