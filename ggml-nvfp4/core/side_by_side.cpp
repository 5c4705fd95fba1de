#include "core/side_by_side.h"

#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace gnv {

Status run_side_by_side(size_t count, const std::function<Status(size_t)> & work) {
    std::vector<Status> results(count);
    const auto run = [&](size_t i) { results[i] = guard_exceptions([&] { return work(i); }); };
    std::vector<std::thread> others;
    try {
        others.reserve(count);
        for (size_t i = 1; i < count; i++) others.emplace_back(run, i);
        if (count > 0) run(0);
    } catch (const std::system_error & error) {
        results[0] = fail(Code::out_of_memory, "cannot start a thread: ", error.what());
    }
    for (std::thread & other : others) other.join();
    for (Status & result : results) GNV_TRY(std::move(result));
    return {};
}

} // namespace gnv
