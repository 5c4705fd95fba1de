#include "run/device_list.h"

#include <algorithm>

namespace gnv {

static Status check_together(const Device & first, const Device & other) {
    if (!first.has_own_memory() || !other.has_own_memory())
        return Status(Code::invalid_argument,
                      "the CPU computes alone, on all threads: leave it or the other devices out");
    if (other.name == first.name && other.compute_major == first.compute_major &&
        other.compute_minor == first.compute_minor)
        return {};
    return fail(Code::invalid_argument, first.label(), " has compute capability ", first.compute_major, ".",
                first.compute_minor, ", ", other.label(), " ", other.compute_major, ".", other.compute_minor,
                ": devices of different models round differently, and the result would tell how many there were: name "
                "devices of one model");
}

Result<DeviceList> DeviceList::open(const std::vector<OpenDevice> & choices, ThreadPool & threads) {
    GNV_CHECK(!choices.empty());
    DeviceList list;
    for (const OpenDevice & open : choices) {
        GNV_ASSIGN(std::unique_ptr<Backend> backend, open(threads));
        for (const std::unique_ptr<Backend> & known : list.backends_) {
            const Device &a = known->device(), &b = backend->device();
            if (a.kind == b.kind && a.index == b.index && a.has_own_memory())
                return fail(Code::invalid_argument, b.label(), " is named twice");
            GNV_TRY(check_together(a, b));
        }
        list.backends_.push_back(std::move(backend));
    }
    return list;
}

std::vector<Backend *> DeviceList::all() const {
    std::vector<Backend *> all;
    for (const std::unique_ptr<Backend> & backend : backends_) all.push_back(backend.get());
    return all;
}

size_t DeviceList::find(const Backend & backend) const {
    const auto found = std::find_if(backends_.begin(), backends_.end(),
                                    [&](const std::unique_ptr<Backend> & known) { return known.get() == &backend; });
    GNV_CHECK(found != backends_.end());
    return size_t(found - backends_.begin());
}

} // namespace gnv
