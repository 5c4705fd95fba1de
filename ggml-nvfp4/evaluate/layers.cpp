#include "evaluate/layers.h"

#include "cpu/loops.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <type_traits>

namespace gnv::evaluate {

double LayerFigures::sqnr_db() const {
    if (noise <= 0) return signal > 0 ? INFINITY : 0;
    return 10 * std::log10(signal / noise);
}

LayerComparer::LayerComparer(const Positions & positions, const TextModelSizes & sizes, size_t variants,
                             ThreadPool & threads)
    : positions_(positions), sizes_(sizes), threads_(threads), choices_(variants), figures_(variants) {
    for (std::vector<int32_t> & list : choices_) list.resize(size_t(positions.count() * sizes.experts_per_token));
    for (std::vector<LayerFigures> & list : figures_) list.resize(size_t(sizes.layers));
}

uint64_t LayerComparer::bytes(const TextModelSizes & sizes, int64_t positions, size_t variants, bool copies) {
    const uint64_t rows = copies ? uint64_t(std::min(stretch, positions) * sizes.hidden) * sizeof(float) * variants : 0;
    return uint64_t(positions * sizes.experts_per_token) * sizeof(int32_t) * variants +
           uint64_t(sizes.layers) * sizeof(LayerFigures) * variants + rows;
}

std::string LayerComparer::packed() const {
    std::string bytes;
    for (const std::vector<LayerFigures> & list : figures_)
        bytes.append(reinterpret_cast<const char *>(list.data()), list.size() * sizeof(LayerFigures));
    return bytes;
}

bool LayerComparer::unpack(std::string_view bytes) {
    static_assert(std::is_trivially_copyable_v<LayerFigures>);
    if (bytes.size() != packed().size()) return false;
    for (std::vector<LayerFigures> & list : figures_) {
        const size_t size = list.size() * sizeof(LayerFigures);
        if (size > 0) memcpy(list.data(), bytes.data(), size);
        bytes.remove_prefix(size);
    }
    return true;
}

void LayerComparer::keep_choice(size_t variant, int64_t first, const Tensor & indices) {
    std::copy_n(indices.as<const int32_t>(), indices.shape.elements(),
                choices_[variant].begin() + first * sizes_.experts_per_token);
}

LayerComparer::Sums LayerComparer::compare_rows(size_t variant, int64_t first, int64_t count, const float * source,
                                                const float * line) const {
    const cpu::LogitLoops & loops = cpu::loops(threads_.instructions()).logits;
    const int64_t chosen = sizes_.experts_per_token;
    Sums sums;
    for (int64_t i = 0; i < count; i++) {
        if (!positions_.scored[size_t(first + i)]) continue;
        double signal, noise;
        loops.squares(source + i * sizes_.hidden, line + i * sizes_.hidden, sizes_.hidden, &signal, &noise);
        sums.signal += signal;
        sums.noise += noise;
        sums.positions++;
        if (chosen == 0) continue;
        const int32_t * const a = choices_[0].data() + (first + i) * chosen;
        const int32_t * const b = choices_[variant].data() + (first + i) * chosen;
        uint64_t common = 0;
        for (int64_t e = 0; e < chosen; e++) common += uint64_t(std::count(b, b + chosen, a[e]));
        sums.common += common;
        sums.same_set += common == uint64_t(chosen);
        sums.same_first += a[0] == b[0];
    }
    return sums;
}

// Sums of blocks, by variant; `first` is the beginning of a block.
Status LayerComparer::compare_stretch(const LayerPass & pass, int64_t first, int64_t count,
                                      std::vector<std::vector<Sums>> & sums) {
    const size_t variants = figures_.size();
    std::vector<const float *> rows(variants);
    for (size_t v = 0; v < variants; v++) {
        if (!pass.has_rows()) rows_[v].resize(size_t(count * sizes_.hidden));
        GNV_ASSIGN(const void * const found, pass.rows(v, hidden_field, first, count, rows_[v].data()));
        rows[v] = static_cast<const float *>(found);
    }
    const int64_t blocks = (count + block - 1) / block, lines = int64_t(variants) - 1;
    return threads_.parallel_for(blocks * lines, [&](int64_t task) -> Status {
        const auto v = size_t(1 + task / blocks);
        const int64_t begin = task % blocks * block, here = std::min(block, count - begin);
        sums[v][size_t((first + begin) / block)] =
            compare_rows(v, first + begin, here, rows[0] + begin * sizes_.hidden, rows[v] + begin * sizes_.hidden);
        return {};
    });
}

Status LayerComparer::compare(const LayerPass & pass, int32_t layer) {
    const int64_t total = positions_.count(), blocks = (total + block - 1) / block;
    std::vector<std::vector<Sums>> sums(figures_.size(), std::vector<Sums>(static_cast<size_t>(blocks)));
    rows_.resize(figures_.size());
    const int64_t step = pass.has_rows() ? total : stretch;
    for (int64_t first = 0; first < total; first += step)
        GNV_TRY(compare_stretch(pass, first, std::min(step, total - first), sums));
    for (size_t v = 1; v < figures_.size(); v++) {
        Sums all;
        for (const Sums & part : sums[v]) {
            all.signal += part.signal, all.noise += part.noise;
            all.positions += part.positions, all.common += part.common;
            all.same_set += part.same_set, all.same_first += part.same_first;
        }
        LayerFigures & figures = figures_[v][size_t(layer)];
        figures.signal = all.signal;
        figures.noise = all.noise;
        figures.added = figures.relative_error();
        if (layer > 0) figures.added -= figures_[v][size_t(layer - 1)].relative_error();
        const auto positions = double(std::max<uint64_t>(1, all.positions));
        figures.same_experts = double(all.same_set) / positions;
        figures.same_first_expert = double(all.same_first) / positions;
        figures.experts_in_common =
            double(all.common) / (positions * double(std::max<int64_t>(1, sizes_.experts_per_token)));
    }
    return {};
}

int32_t worst_layer(const std::vector<LayerFigures> & figures, const std::vector<double> & before) {
    int32_t worst = -1;
    double most = 0;
    for (size_t layer = 0; layer < figures.size(); layer++) {
        const double added = figures[layer].added - (before.empty() ? 0 : before[layer]);
        if (added > most) worst = int32_t(layer), most = added;
    }
    return worst;
}

} // namespace gnv::evaluate
