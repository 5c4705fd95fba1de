#include "pass/pass_state.h"

#include "core/checksum.h"

namespace gnv {

uint64_t PassState::disk_bytes(const LayerPass & pass, uint64_t most_own_bytes) {
    const uint64_t bytes = pass.row_bytes() + pass.requested_statistics().kept_bytes() + most_own_bytes;
    return 2 * ((bytes + 4095) / 4096 * 4096);
}

PassState::PassState(LayerPass & pass, uint64_t most_own_bytes, Resume resume, std::string begin_anew)
    : pass_(pass), most_own_bytes_(most_own_bytes), resume_(resume), begin_anew_(std::move(begin_anew)) {}

Status PassState::open(const File & file, const std::optional<StateRecord> & found,
                       std::function<Status(const StateRecord &)> record) {
    file_ = &file;
    found_ = found;
    record_ = std::move(record);
    constexpr double slow_disk = 200e6; // bytes a second, until it is known
    expected_ = 0.01 + double(pass_.row_bytes()) / slow_disk;
    if (!found_) return {};
    next_place_ = 1 - found_->place;
    const int64_t most_layers = pass_.requested_statistics().layers() - !is_head(pass_.plan().groups.back());
    const bool fits = (found_->place == 0 || found_->place == 1) && found_->layers > 0 &&
                      found_->layers <= most_layers && pass_.row_bytes() + found_->tail_bytes <= place_bytes();
    if (fits) return {};
    return fail(Code::format, parent_path(file.path()), "/", journal_name,
                ": its state is of another run: ", begin_anew_);
}

Result<std::string> PassState::restore() {
    uint64_t at = uint64_t(found_->place) * place_bytes();
    Checksum sum;
    const auto read = [&](void * to, uint64_t bytes) -> Status {
        GNV_TRY(file_->read(to, bytes, at));
        sum.add(to, bytes);
        at += bytes;
        return {};
    };
    GNV_TRY(pass_.restore_rows(read));
    std::string tail(found_->tail_bytes, '\0');
    GNV_TRY(read(tail.data(), tail.size()));
    const uint64_t totals = pass_.statistics(0).packed().size();
    if (sum.finish() != found_->checksum || tail.size() < totals)
        return fail(Code::format, file_->path(), ": the state after layer ", found_->layers - 1,
                    " is not as it was written: the disk or a program damaged it; ", begin_anew_);
    GNV_TRY(pass_.restore_statistics(0, std::string_view(tail).substr(0, totals)));
    saved_ = Clock::now();
    return tail.substr(totals);
}

bool PassState::is_due() const {
    constexpr double most_share = 0.03; // of the time
    return resume_ == Resume::each_layer || seconds_since(saved_) * most_share >= expected_;
}

Status PassState::save_if_due(int32_t layers, const std::function<Result<std::string>()> & own, Trace * trace) {
    if (!is_due()) return {};
    GNV_ASSIGN(const std::string part, own());
    const Clock::time_point start = Clock::now();
    {
        const Span span(trace, "host", "save the state", {0, double(pass_.row_bytes())});
        GNV_TRY(save(layers, part).add_context("the state of the run, to go on with if it is stopped"));
    }
    saved_ = Clock::now();
    expected_ = seconds_since(start);
    seconds_ += expected_;
    return {};
}

Status PassState::save(int32_t layers, const std::string & own) {
    uint64_t at = uint64_t(next_place_) * place_bytes();
    Checksum sum;
    const auto write = [&](const void * from, uint64_t bytes) -> Status {
        GNV_TRY(file_->write(from, bytes, at));
        sum.add(from, bytes);
        at += bytes;
        return {};
    };
    GNV_TRY(pass_.save_rows(write));
    const std::string tail = pass_.statistics(0).packed() + own;
    GNV_CHECK(pass_.row_bytes() + tail.size() <= place_bytes());
    GNV_TRY(write(tail.data(), tail.size()));
    GNV_TRY(file_->sync());
    GNV_TRY(record_({next_place_, layers, sum.finish(), tail.size()}));
    next_place_ = 1 - next_place_;
    return {};
}

} // namespace gnv
