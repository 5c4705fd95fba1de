#include "inspect/tensor_statistics.h"

#include "codec/nvfp4.h"

#include <algorithm>
#include <cmath>

namespace gnv {

// --- Values -----------------------------------------------------------------------------------------------------------

// A piece, or a sum of pieces: `squares` is the sum of squared distances from the mean.
struct Moments {
    Statistics statistics;
    double squares = 0;
};

static Moments measure_piece(const double * values, int64_t count, int64_t first) {
    Moments piece;
    Statistics & s = piece.statistics;
    s.elements = uint64_t(count);
    double sum = 0;
    for (int64_t i = 0; i < count; i++) {
        const double value = values[i];
        if (!std::isfinite(value)) {
            if (s.first_not_finite < 0) s.first_not_finite = first + i;
            std::isnan(value) ? s.nans++ : s.infinities++;
            continue;
        }
        if (uint64_t(i) == s.nans + s.infinities) s.minimum = s.maximum = value; // the first finite one
        s.minimum = std::min(s.minimum, value);
        s.maximum = std::max(s.maximum, value);
        s.zeros += value == 0;
        sum += value;
    }
    if (s.finite() == 0) return piece;
    s.mean = sum / double(s.finite());
    for (int64_t i = 0; i < count; i++)
        if (std::isfinite(values[i])) piece.squares += (values[i] - s.mean) * (values[i] - s.mean);
    return piece;
}

// The parallel form of Welford's method (Chan, Golub, LeVeque 1983): exact where adding sums of squares would cancel.
static void add(Moments & to, const Moments & piece) {
    Statistics & a = to.statistics;
    const Statistics & b = piece.statistics;
    const auto n_a = double(a.finite()), n_b = double(b.finite());
    if (a.finite() == 0) {
        a.minimum = b.minimum, a.maximum = b.maximum, a.mean = b.mean;
        to.squares = piece.squares;
    } else if (b.finite() > 0) {
        const double distance = b.mean - a.mean;
        a.minimum = std::min(a.minimum, b.minimum);
        a.maximum = std::max(a.maximum, b.maximum);
        a.mean += distance * (n_b / (n_a + n_b));
        to.squares += piece.squares + distance * distance * (n_a * n_b / (n_a + n_b));
    }
    a.elements += b.elements, a.zeros += b.zeros, a.nans += b.nans, a.infinities += b.infinities;
    if (a.first_not_finite < 0) a.first_not_finite = b.first_not_finite;
}

Result<Statistics> measure(const Numbers & numbers, ThreadPool & threads) {
    struct Worker {
        NumberBuffers buffers;
        std::vector<double> values;
    };
    std::vector<Worker> workers(size_t(threads.size()));
    std::vector<Moments> pieces(size_t(numbers.pieces()));
    const auto measure_one = [&](int64_t piece, int thread) -> Status {
        Worker & worker = workers[size_t(thread)];
        worker.buffers.instructions = threads.instructions();
        GNV_ASSIGN(const int64_t count, numbers.read_piece(piece, worker.buffers, worker.values));
        pieces[size_t(piece)] = measure_piece(worker.values.data(), count, piece * piece_elements);
        return {};
    };
    GNV_TRY(threads.parallel_for_thread(numbers.pieces(), measure_one));
    Moments total;
    for (const Moments & piece : pieces) add(total, piece);
    Statistics & result = total.statistics;
    result.largest = std::max(std::fabs(result.minimum), std::fabs(result.maximum));
    if (result.finite() > 0) result.deviation = std::sqrt(total.squares / double(result.finite()));
    return result;
}

// --- Codes and block scales -------------------------------------------------------------------------------------------

using ByteCounts = std::array<uint64_t, 256>;

static Result<ByteCounts> count_bytes(const Contents & contents, const TensorInfo & tensor, ThreadPool & threads) {
    constexpr uint64_t step = 1 << 20;
    std::vector<ByteCounts> counts(size_t(threads.size()), ByteCounts{});
    std::vector<std::vector<uint8_t>> buffers(counts.size());
    const auto count_step = [&](int64_t i, int thread) -> Status {
        const uint64_t offset = uint64_t(i) * step;
        std::vector<uint8_t> & buffer = buffers[size_t(thread)];
        buffer.resize(std::min(step, tensor.bytes - offset));
        GNV_TRY(contents.read(tensor, offset, buffer.data(), buffer.size()));
        for (const uint8_t byte : buffer) counts[size_t(thread)][byte]++;
        return {};
    };
    GNV_TRY(threads.parallel_for_thread(int64_t((tensor.bytes + step - 1) / step), count_step));
    for (size_t thread = 1; thread < counts.size(); thread++)
        for (size_t byte = 0; byte < 256; byte++) counts[0][byte] += counts[thread][byte];
    return counts[0];
}

static Result<CodeCounts> count_codes(const Contents & contents, uint32_t tensor, ThreadPool & threads) {
    GNV_ASSIGN(const ByteCounts bytes, count_bytes(contents, contents.tensor(tensor), threads));
    CodeCounts codes = {};
    for (size_t byte = 0; byte < 256; byte++) {
        codes[byte & 15] += bytes[byte];
        codes[byte >> 4] += bytes[byte];
    }
    return codes;
}

static Result<BlockScaleStatistics> measure_block_scales(const Contents & contents, uint32_t tensor,
                                                         ThreadPool & threads) {
    GNV_ASSIGN(const ByteCounts bytes, count_bytes(contents, contents.tensor(tensor), threads));
    BlockScaleStatistics scales;
    bool first = true;
    for (size_t byte = 0; byte < 256; byte++) {
        const uint64_t count = bytes[byte];
        const double value = double(nvfp4::e4m3_value(uint8_t(byte)));
        if (count == 0) continue;
        if (std::isnan(value)) {
            scales.nans += count;
            continue;
        }
        scales.minimum = first ? value : std::min(scales.minimum, value);
        scales.maximum = first ? value : std::max(scales.maximum, value);
        first = false;
        if (value == 0) scales.zeros += count;
        if (value != 0 && (byte & 0x78) == 0) scales.subnormals += count;
        if (std::fabs(value) == double(nvfp4::max_scale_value)) scales.largest += count;
        if (byte & 0x80) scales.negatives += count;
    }
    return scales;
}

// --- Names ------------------------------------------------------------------------------------------------------------

static Result<WeightStatistics> find_name(const Contents & contents, const std::string & name) {
    WeightStatistics found;
    found.name = name;
    found.tensor = contents.checkpoint().find(name);
    if (found.tensor < 0) found.module = contents.find_module(name);
    if (found.tensor < 0 && found.module < 0)
        return fail(Code::not_found, contents.checkpoint().folder(), " has neither a tensor nor a quantized module ",
                    printable(name));
    return found;
}

static Result<Numbers> numbers_of(const Contents & contents, const WeightStatistics & found) {
    return found.tensor >= 0 ? Numbers::of_tensor(contents, uint32_t(found.tensor))
                             : Numbers::of_module(contents, uint32_t(found.module));
}

Result<Numbers> numbers_of_name(const Contents & contents, const std::string & name) {
    GNV_ASSIGN(const WeightStatistics found, find_name(contents, name));
    return numbers_of(contents, found);
}

Result<WeightStatistics> measure_name(const Contents & contents, const std::string & name, ThreadPool & threads) {
    GNV_ASSIGN(WeightStatistics result, find_name(contents, name));
    GNV_ASSIGN(const Numbers numbers, numbers_of(contents, result));
    GNV_ASSIGN(result.values, measure(numbers, threads));

    int64_t codes = -1, block_scales = -1;
    if (result.tensor >= 0) {
        const ModulePart part = contents.use(uint64_t(result.tensor)).module_part;
        if (part == ModulePart::codes) codes = result.tensor;
        if (part == ModulePart::block_scales) block_scales = result.tensor;
    } else {
        const QuantizedModule & module = contents.modules()[size_t(result.module)];
        codes = module.tensor(ModulePart::codes), block_scales = module.tensor(ModulePart::block_scales);
        GNV_ASSIGN(result.global_scale, contents.read_scalar(module.tensor(ModulePart::global_scale)));
        if (module.format->takes_input_scale()) {
            GNV_ASSIGN(result.input_scale, contents.read_scalar(module.tensor(ModulePart::input_scale)));
        }
    }
    if (codes >= 0) {
        GNV_ASSIGN(result.codes, count_codes(contents, uint32_t(codes), threads));
    }
    if (block_scales >= 0) {
        GNV_ASSIGN(result.block_scales, measure_block_scales(contents, uint32_t(block_scales), threads));
    }
    GNV_TRY(contents.check_unchanged());
    return result;
}

} // namespace gnv
