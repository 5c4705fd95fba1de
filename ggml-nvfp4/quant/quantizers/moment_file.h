// Totals that are too large for the statistics file (Statistic::is_kept is false): a safetensors file beside it, with a tensor
// [G, ...] for each input of a layer, and SHA-256 of each group's bytes in the statistics file. Methods that need second moments
// read them unit by unit, so memory holds those of the units at work.
#pragma once

#include "checkpoint/tensor_file.h"
#include "model/statistic_set.h"
#include "quant/quantizers/quantizer.h"

#include <memory>
#include <string>
#include <vector>

namespace gnv {

// The statistics that the file may hold, and their names in it.
struct SavedMoments {
    const Statistic * statistic;
    const char * key;
};
inline constexpr SavedMoments saved_moments[] = {
    {&Statistic::fitted_moments_16, "fitted_moments_16"}, {&Statistic::held_moments_16, "held_moments_16"},
    {&Statistic::fitted_moments, "fitted_moments"},       {&Statistic::held_moments, "held_moments"},
    {&Statistic::fitted_weights, "fitted_weights"},
};
const char * moments_key(const Statistic & statistic); // null: the file does not hold it

// The file's contents, as the statistics file lists them.
struct MomentTotal {
    StatisticKey key;
    Shape shape;                                      // [G, ...]
    std::vector<std::string> sha256;                  // of each group
    std::string name(const ModelNames & names) const; // of the tensor: "3.expert_down_input.fitted_moments"
    uint64_t group_bytes() const;
};

std::string moment_file_name(const std::string & statistics_file); // beside it

// Written while a pass runs, group of weights by group of weights.
class MomentFileWriter {
  public:
    // `set`: what the pass measures; those that are not kept go to the file. Reserves the disk space.
    static Result<std::unique_ptr<MomentFileWriter>> create(const std::string & path, const StatisticSet & set);
    bool holds(const StatisticKey & key) const { return find(key) < totals_.size(); }
    // The next groups of a total: ranges of experts come in order.
    Status append(const StatisticKey & key, int64_t groups, const void * data);
    Status finish(); // gives the file its name
    const std::vector<MomentTotal> & totals() const { return totals_; }

  private:
    size_t find(const StatisticKey & key) const;
    std::unique_ptr<TensorFileWriter> file_;
    std::vector<MomentTotal> totals_;
};

// One file, or several that are added.
class MomentFiles {
  public:
    bool empty() const { return files_.empty(); }
    const std::string & method() const { return method_; } // that they were measured for
    // Opens the file and compares its header with the totals.
    Status open(const std::string & path, const std::string & method, std::vector<MomentTotal> totals,
                const ModelNames & names);
    // Fails, with the reason, for files of other methods or shapes.
    Status merge(const MomentFiles & other);
    // Memory of one unit's totals while they are read.
    struct Totals {
        std::vector<std::vector<double>> memory; // any dtype
        std::vector<UnitStatistic> list;
    };
    // Those of one group of an input with so many columns, compared with their checksums and added up. An input without
    // totals: an empty list.
    Status read(int32_t layer, int32_t input, int32_t group, int64_t width, Totals & into) const;
    // Bytes that the largest group takes while two files are added.
    uint64_t largest_group_bytes() const;

  private:
    struct OpenFile {
        std::shared_ptr<const File> file;
        std::vector<MomentTotal> totals;
        std::vector<uint64_t> offsets; // of their bytes, in the file
    };
    std::string method_;
    std::vector<OpenFile> files_;
};

} // namespace gnv
