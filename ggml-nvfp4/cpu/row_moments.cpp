#include "cpu/row_moments.h"

#include "cpu/gemm.h"
#include "cpu/row_kernels.h"

#include <algorithm>
#include <cstring>

namespace gnv::cpu {

namespace {

constexpr int64_t chunk_rows = 192; // a panel of them and the sums that it is added to stay in the first cache
constexpr int64_t rows_ahead = 3;   // rows that a processor does not foresee, as a router chose them
constexpr int64_t edge_floats = gemm_max_panel_rows * gemm_max_panel_columns;

int64_t padded(int64_t columns) { return divide_up(columns, gemm_max_panel_columns) * gemm_max_panel_columns; }
int64_t floats_of_thread(int64_t columns) { return edge_floats + chunk_rows * padded(columns); }

// to[b][a] = from[a][b], of at most 16 x 16.
void mirror_tile(const float * from, int64_t height, int64_t width, int64_t stride, float * to) {
    if (height == 16 && width == 16) {
        float tile[16][16]; // compilers transpose in registers what has fixed sizes
        for (int a = 0; a < 16; a++)
            for (int b = 0; b < 16; b++) tile[b][a] = from[a * stride + b];
        for (int b = 0; b < 16; b++) memcpy(to + b * stride, tile[b], sizeof tile[b]);
        return;
    }
    for (int64_t a = 0; a < height; a++)
        for (int64_t b = 0; b < width; b++) to[b * stride + a] = from[a * stride + b];
}

// One group on one thread. A chunk of its rows lies in panels, as cpu/gemm_kernels.h multiplies them: value
// [panel][row][panel_columns]. A panel is both the left and the right factor of a product.
class GroupMoments {
  public:
    GroupMoments(const GemmKernels & kernels, const MomentRows & rows, int64_t group, float * totals, float * scratch)
        : kernels_(kernels), rows_(rows), group_(group), columns_(rows.columns), width_(kernels.panel_columns),
          panels_(divide_up(columns_, width_)), total_(totals + group * columns_ * columns_), edge_(scratch),
          chunk_(scratch + edge_floats) {}

    // The products of panels first, first + step ... with themselves and all later ones.
    void add(int64_t first, int64_t step) const {
        for (int64_t row = 0; row < rows_.count(group_); row += chunk_rows) {
            const int64_t count = std::min(chunk_rows, rows_.count(group_) - row);
            for (int64_t i = 0; i < count; i++) {
                if (i + rows_ahead < count) fetch(rows_.row(group_, row + i + rows_ahead));
                put(rows_.row(group_, row + i), rows_.factor(group_, row + i), count, chunk_ + i * width_);
            }
            for (int64_t left = first; left < panels_; left += step)
                for (int64_t right = left; right < panels_; right++) add_product(left, right, count);
        }
        for (int64_t panel = first; panel < panels_; panel += step) mirror(panel);
    }

  private:
    void fetch(const float * row) const {
        for (int64_t c = 0; c < columns_; c += 16) __builtin_prefetch(row + c);
    }

    void put(const float * x, float factor, int64_t rows, float * to) const {
        for (int64_t column = 0; column < columns_; column += width_, to += rows * width_) {
            const int64_t count = std::min(width_, columns_ - column);
            int64_t c = 0;
            for (; c + 16 <= count; c += 16)
                for (int i = 0; i < 16; i++) to[c + i] = x[column + c + i] * factor;
            for (; c < width_; c++) to[c] = c < count ? x[column + c] * factor : 0;
        }
    }

    void add_product(int64_t left, int64_t right, int64_t rows) const {
        const int64_t height = std::min(width_, columns_ - left * width_), column = right * width_;
        const int64_t width = std::min(width_, columns_ - column);
        const int64_t parts = divide_up(height, kernels_.panel_rows);
        for (int64_t part = 0; part < parts; part++) {
            const int64_t begin = height * part / parts, count = height * (part + 1) / parts - begin;
            float * const sums = total_ + (left * width_ + begin) * columns_ + column;
            const auto multiply = [&](float * c, int64_t stride) {
                kernels_.multiply(chunk_ + left * rows * width_ + begin, width_, int(count),
                                  chunk_ + right * rows * width_, 0, 1, rows, false, c, stride);
            };
            if (width == width_) {
                multiply(sums, columns_);
                continue;
            }
            for (int64_t i = 0; i < count; i++) std::copy_n(sums + i * columns_, width, edge_ + i * width_);
            multiply(edge_, width_);
            for (int64_t i = 0; i < count; i++) std::copy_n(edge_ + i * width_, width, sums + i * columns_);
        }
    }

    void mirror(int64_t panel) const {
        const int64_t end = std::min(columns_, (panel + 1) * width_);
        for (int64_t i = panel * width_; i < end; i += 16)
            for (int64_t j = end; j < columns_; j += 16)
                mirror_tile(total_ + i * columns_ + j, std::min<int64_t>(16, end - i),
                            std::min<int64_t>(16, columns_ - j), columns_, total_ + j * columns_ + i);
    }

    const GemmKernels & kernels_;
    const MomentRows & rows_;
    const int64_t group_, columns_, width_, panels_;
    float *const total_, *const edge_, *const chunk_;
};

} // namespace

uint64_t moments_scratch_bytes(int64_t columns, int threads) {
    return uint64_t(threads * floats_of_thread(columns)) * sizeof(float);
}

// A task is a group, whose sums stay in a cache from its first row to the last; few groups are divided by panels.
Status add_moments(const MomentRows & rows, float * totals, void * scratch, ThreadPool & threads) {
    const GemmKernels & kernels = gemm_kernels_of(threads.instructions());
    const int64_t tasks = 4 * threads.size(), panels = divide_up(rows.columns, kernels.panel_columns);
    const int64_t parts = threads.size() == 1 ? 1 : std::min(panels, divide_up(tasks, rows.groups));
    const int64_t cost = rows.columns * rows.columns * (rows.rows / rows.groups + 1) / parts / 16;
    return for_blocks(threads, rows.groups * parts, cost, [&](int64_t first, int64_t last, int thread) {
        float * const own = static_cast<float *>(scratch) + thread * floats_of_thread(rows.columns);
        for (int64_t task = first; task < last; task++)
            if (rows.count(task / parts) > 0)
                GroupMoments(kernels, rows, task / parts, totals, own).add(task % parts, parts);
    });
}

} // namespace gnv::cpu
