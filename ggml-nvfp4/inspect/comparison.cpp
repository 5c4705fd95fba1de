#include "inspect/comparison.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <limits>
#include <map>

namespace gnv {

const char * difference_name(Difference difference) {
    static const char * const names[] = {"only here", "only there", "form", "values", "quantized"};
    return names[size_t(difference)];
}

uint64_t Comparison::count(Difference difference) const {
    return uint64_t(std::count_if(items.begin(), items.end(),
                                  [&](const ComparedItem & item) { return item.difference == difference; }));
}

// --- Numbers ----------------------------------------------------------------------------------------------------------

double NumberErrors::relative_squared_error() const {
    if (error_squares == 0) return 0;
    const double ratio = error_squares / reference_squares;
    return std::isnan(ratio) ? std::numeric_limits<double>::infinity() : ratio; // sums that overflowed
}

double NumberErrors::sqnr_db() const { return -10 * std::log10(relative_squared_error()); }

double NumberErrors::cosine() const {
    if (reference_squares == 0 && other_squares == 0) return 1;
    const double lengths = std::sqrt(reference_squares) * std::sqrt(other_squares);
    return lengths == 0 ? 0 : std::clamp(products / lengths, -1.0, 1.0);
}

static NumberErrors compare_piece(const double * other, const double * reference, int64_t count, int64_t first) {
    NumberErrors piece;
    piece.elements = uint64_t(count);
    for (int64_t i = 0; i < count; i++) {
        const double a = other[i], b = reference[i];
        const bool finite = std::isfinite(a) && std::isfinite(b);
        if (a != b && !(std::isnan(a) && std::isnan(b))) {
            if (piece.different++ == 0) piece.first_different = first + i;
            piece.not_finite += !finite;
        }
        if (!finite) continue;
        const double error = std::fabs(a - b), magnitude = std::fabs(b);
        piece.max_absolute = std::max(piece.max_absolute, error);
        if (magnitude > 0) piece.max_relative = std::max(piece.max_relative, error / magnitude);
        piece.error_squares += error * error;
        piece.reference_squares += b * b;
        piece.other_squares += a * a;
        piece.products += a * b;
    }
    return piece;
}

static void add(NumberErrors & to, const NumberErrors & piece) {
    to.elements += piece.elements, to.different += piece.different, to.not_finite += piece.not_finite;
    if (to.first_different < 0) to.first_different = piece.first_different;
    to.max_absolute = std::max(to.max_absolute, piece.max_absolute);
    to.max_relative = std::max(to.max_relative, piece.max_relative);
    to.error_squares += piece.error_squares, to.reference_squares += piece.reference_squares;
    to.other_squares += piece.other_squares, to.products += piece.products;
}

Result<NumberErrors> compare_numbers(const Numbers & other, const Numbers & reference, ThreadPool & threads) {
    GNV_CHECK(other.count() == reference.count());
    struct Worker {
        NumberBuffers buffers;
        std::vector<double> other, reference;
    };
    std::vector<Worker> workers(size_t(threads.size()));
    std::vector<NumberErrors> pieces(size_t(other.pieces()));
    const auto compare_one = [&](int64_t piece, int thread) -> Status {
        Worker & worker = workers[size_t(thread)];
        worker.buffers.instructions = threads.instructions();
        GNV_ASSIGN(const int64_t count, other.read_piece(piece, worker.buffers, worker.other));
        GNV_TRY(reference.read_piece(piece, worker.buffers, worker.reference).take_status());
        pieces[size_t(piece)] =
            compare_piece(worker.other.data(), worker.reference.data(), count, piece * piece_elements);
        return {};
    };
    GNV_TRY(threads.parallel_for_thread(other.pieces(), compare_one));
    NumberErrors total;
    for (const NumberErrors & piece : pieces) add(total, piece);
    return total;
}

// --- Bytes ------------------------------------------------------------------------------------------------------------

namespace {

struct ByteRange {
    const Contents * contents;
    uint32_t tensor;
    uint64_t offset = 0, size = 0; // inside the tensor
};

Result<bool> equal_bytes(const ByteRange & a, const ByteRange & b, ThreadPool & threads) {
    constexpr uint64_t step = 1 << 20;
    if (a.size != b.size) return false;
    std::vector<std::vector<char>> buffers(2 * size_t(threads.size()));
    std::atomic<bool> equal = true;
    const auto compare_step = [&](int64_t i, int thread) -> Status {
        if (!equal) return {};
        const uint64_t at = uint64_t(i) * step, size = std::min(step, a.size - at);
        std::vector<char> &x = buffers[2 * size_t(thread)], &y = buffers[2 * size_t(thread) + 1];
        x.resize(size), y.resize(size);
        GNV_TRY(a.contents->read(a.contents->tensor(a.tensor), a.offset + at, x.data(), size));
        GNV_TRY(b.contents->read(b.contents->tensor(b.tensor), b.offset + at, y.data(), size));
        if (x != y) equal = false;
        return {};
    };
    GNV_TRY(threads.parallel_for_thread(int64_t((a.size + step - 1) / step), compare_step));
    return equal.load();
}

// --- Matching --------------------------------------------------------------------------------------------------------

// One tensor, slice or quantized weight, to be matched with the other side.
struct Unit {
    std::string name;
    uint32_t tensor = 0; // for the role, and the whole or part of it unless quantized
    int64_t module = -1; // quantized
    int64_t linear = -1; // a slice: position in linear_modules()
};

struct Side {
    const Contents & contents;
    std::vector<Unit> tensors, modules;        // modules: quantized ones, and the Linears inside plain tensors
    std::map<std::string, uint32_t> by_name;   // position in modules
    std::vector<std::vector<uint32_t>> inside; // per tensor of the checkpoint: the modules that lie in it
    std::vector<bool> used;                    // per entry of modules: matched

    explicit Side(const Contents & c) : contents(c), inside(c.checkpoint().tensors().size()) {
        for (size_t m = 0; m < c.modules().size(); m++)
            add_module({c.modules()[m].name, c.modules()[m].codes(), int64_t(m), -1});
        for (size_t m = 0; m < c.linear_modules().size(); m++)
            add_module({c.linear_modules()[m].name, c.linear_modules()[m].source, -1, int64_t(m)});
        for (uint32_t t = 0; t < inside.size(); t++) {
            if (c.use(t).module >= 0) continue;
            const std::string & name = c.tensor(t).name;
            tensors.push_back({name, t});
            if (inside[t].empty() && ends_with(name, ".weight")) add_module({name.substr(0, name.size() - 7), t});
        }
        used.resize(modules.size());
    }
    void add_module(Unit unit) {
        const auto number = uint32_t(modules.size());
        if (!by_name.emplace(unit.name, number).second) return;
        inside[unit.tensor].push_back(number);
        modules.push_back(std::move(unit));
    }

    Result<Numbers> numbers(const Unit & unit) const {
        if (unit.module >= 0) return Numbers::of_module(contents, uint32_t(unit.module));
        if (unit.linear >= 0) return Numbers::of_linear(contents, contents.linear_modules()[size_t(unit.linear)]);
        return Numbers::of_tensor(contents, unit.tensor);
    }
    std::vector<int64_t> shape(const Unit & unit) const {
        if (unit.module >= 0) return {module_of(unit).rows, module_of(unit).columns};
        if (unit.linear >= 0) return {linear_of(unit).rows, linear_of(unit).columns};
        return contents.tensor(unit.tensor).shape;
    }
    std::string describe(const Unit & unit) const {
        const char * kind =
            unit.module >= 0 ? module_of(unit).scheme() : dtype_name(contents.tensor(unit.tensor).dtype);
        return concat(kind, " ", shape_text(shape(unit)));
    }
    // All bytes of the unit, in the same order on both sides.
    std::vector<ByteRange> ranges(const Unit & unit) const {
        const auto whole = [&](uint32_t t) { return ByteRange{&contents, t, 0, contents.tensor(t).bytes}; };
        if (unit.linear >= 0) {
            const uint64_t elements = uint64_t(linear_of(unit).rows) * uint64_t(linear_of(unit).columns);
            return {{&contents, unit.tensor, linear_of(unit).offset,
                     elements * uint64_t(dtype_traits(contents.tensor(unit.tensor).dtype).bits) / 8}};
        }
        if (unit.module < 0) return {whole(unit.tensor)};
        const QuantizedModule & m = module_of(unit);
        std::vector<ByteRange> out;
        for (size_t c = 0; c < m.format->components.size(); c++) out.push_back(whole(uint32_t(m.tensors[c])));
        return out;
    }

  private:
    const QuantizedModule & module_of(const Unit & unit) const { return contents.modules()[size_t(unit.module)]; }
    const LinearModule & linear_of(const Unit & unit) const { return contents.linear_modules()[size_t(unit.linear)]; }
};

struct Pair {
    const Unit *here, *there;
};

class Comparer {
  public:
    Comparer(const Contents & here, const Contents & there, ThreadPool & threads, const ComparisonOptions & options)
        : here_(here), there_(there), threads_(threads), options_(options) {}

    Result<Comparison> run() {
        GNV_TRY(meet());
        for (const Pair & pair : pairs_) bytes_total_ += bytes_of(*pair.here);
        for (const Pair & pair : pairs_) {
            GNV_TRY(compare_pair(pair));
            bytes_ += bytes_of(*pair.here), done_++;
            if (options_.progress && !options_.progress(bytes_, bytes_total_, done_, pairs_.size()))
                return Status(Code::cancelled, "stopped on request");
        }
        for (const auto & [side, unit] : alone_) GNV_TRY(report_alone(*side, *unit));
        GNV_TRY(here_.contents.check_unchanged());
        GNV_TRY(there_.contents.check_unchanged());
        return std::move(result_);
    }

  private:
    Status meet();
    Result<bool> equal(const Pair & pair);
    Status compare_pair(const Pair & pair);
    Status report_alone(const Side & side, const Unit & unit);
    Status add_alone(const Side & side, const Unit & unit) {
        GNV_ASSIGN(const bool wanted, is_wanted(unit.name));
        if (wanted) alone_.push_back({&side, &unit});
        return {};
    }
    Status add_pair(const Unit & here, const Unit & there) {
        GNV_ASSIGN(const bool wanted, is_wanted(here.name));
        if (wanted) pairs_.push_back({&here, &there});
        return {};
    }
    Result<bool> is_wanted(const std::string & name) const {
        return options_.filter ? options_.filter->matches(name) : Result<bool>(true);
    }
    uint64_t bytes_of(const Unit & unit) const {
        uint64_t sum = 0;
        for (const ByteRange & range : here_.ranges(unit)) sum += range.size;
        return sum;
    }

    Side here_, there_;
    ThreadPool & threads_;
    const ComparisonOptions & options_;
    std::vector<Pair> pairs_;
    std::vector<std::pair<const Side *, const Unit *>> alone_;
    uint64_t bytes_ = 0, bytes_total_ = 0, done_ = 0;
    Comparison result_;
};

// First tensors by name; then the rest by the modules that are quantized or lie in it.
Status Comparer::meet() {
    const Checkpoint & other = there_.contents.checkpoint();
    std::map<uint32_t, const Unit *> plain_there;
    for (const Unit & unit : there_.tensors) plain_there[unit.tensor] = &unit;
    std::vector<const Unit *> left;
    for (const Unit & unit : here_.modules)
        if (unit.module >= 0) left.push_back(&unit);
    for (const Unit & unit : here_.tensors) {
        const int64_t same = other.find(unit.name);
        const auto met = same < 0 ? plain_there.end() : plain_there.find(uint32_t(same));
        if (met == plain_there.end()) {
            left.push_back(&unit);
            continue;
        }
        GNV_TRY(add_pair(unit, *met->second));
        plain_there.erase(met);
        for (const uint32_t m : there_.inside[size_t(same)]) there_.used[m] = true;
    }

    for (const Unit * unit : left) {
        std::vector<const Unit *> missing;
        bool any = false;
        for (const uint32_t m : here_.inside[unit->tensor]) {
            const auto found = there_.by_name.find(here_.modules[m].name);
            if (found == there_.by_name.end() || there_.used[found->second]) {
                missing.push_back(&here_.modules[m]);
                continue;
            }
            any = there_.used[found->second] = true;
            GNV_TRY(add_pair(here_.modules[m], there_.modules[found->second]));
        }
        if (!any) missing = {unit};
        for (const Unit * alone : missing) GNV_TRY(add_alone(here_, *alone));
    }

    for (const Unit & unit : there_.modules)
        if (unit.module >= 0 && !there_.used[&unit - there_.modules.data()]) GNV_TRY(add_alone(there_, unit));
    for (const auto & [tensor, unit] : plain_there) {
        const std::vector<uint32_t> & inside = there_.inside[tensor];
        if (std::none_of(inside.begin(), inside.end(), [&](uint32_t m) { return there_.used[m]; })) {
            GNV_TRY(add_alone(there_, *unit));
            continue;
        }
        for (const uint32_t m : inside)
            if (!there_.used[m]) GNV_TRY(add_alone(there_, there_.modules[m]));
    }
    return {};
}

Result<bool> Comparer::equal(const Pair & pair) {
    const std::vector<ByteRange> a = here_.ranges(*pair.here), b = there_.ranges(*pair.there);
    for (size_t i = 0; i < a.size(); i++) {
        GNV_ASSIGN(const bool same, equal_bytes(a[i], b[i], threads_));
        if (!same) return false;
    }
    return true;
}

Status Comparer::compare_pair(const Pair & pair) {
    ComparedItem item;
    item.name = pair.here->name;
    item.role = here_.contents.role_name(pair.here->tensor);
    item.here = here_.describe(*pair.here), item.there = there_.describe(*pair.there);
    const bool quantized_here = pair.here->module >= 0, quantized_there = pair.there->module >= 0;
    const bool same_shape = here_.shape(*pair.here) == there_.shape(*pair.there);
    if (same_shape && quantized_here != quantized_there) {
        item.difference = Difference::quantized;
    } else if (item.here != item.there) {
        item.difference = Difference::form;
    } else {
        GNV_ASSIGN(const bool same, equal(pair));
        if (same) {
            result_.equal++;
            return {};
        }
    }
    if (same_shape) {
        const Result<Numbers> here = here_.numbers(*pair.here), there = there_.numbers(*pair.there);
        for (const Result<Numbers> * side : {&here, &there}) // without values: bytes are compared
            if (!side->ok() && side->status().code() != Code::unsupported)
                return Status(side->status().code(), side->status().message());
        if (here.ok() && there.ok()) {
            const bool swap = quantized_there && !quantized_here;
            GNV_ASSIGN(item.errors, compare_numbers(swap ? there.value() : here.value(),
                                                    swap ? here.value() : there.value(), threads_));
        }
    }
    result_.items.push_back(std::move(item));
    return {};
}

Status Comparer::report_alone(const Side & side, const Unit & unit) {
    const bool is_here = &side == &here_;
    ComparedItem item;
    item.difference = is_here ? Difference::only_here : Difference::only_there;
    item.name = unit.name;
    item.role = side.contents.role_name(unit.tensor);
    (is_here ? item.here : item.there) = side.describe(unit);
    result_.items.push_back(std::move(item));
    return {};
}

} // namespace

Result<Comparison> compare(const Contents & here, const Contents & there, ThreadPool & threads,
                           const ComparisonOptions & options) {
    return Comparer(here, there, threads, options).run();
}

} // namespace gnv
