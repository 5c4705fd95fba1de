#include "verify/source.h"

#include "core/strings.h"
#include "verify/loader_names.h"

#include <algorithm>
#include <unordered_map>
#include <unordered_set>

namespace gnv::verify {

Result<Source> read_source(std::shared_ptr<const Folder> folder) {
    GNV_ASSIGN(MatchedCheckpoint matched, open_matched(std::move(folder)));
    return Source{std::move(matched), {}, {}, {}, {}};
}

namespace {

using Index = std::unordered_map<std::string_view, uint32_t>;

class Relation {
  public:
    Relation(const Subject & subject, Source & source) : subject_(subject), source_(source) {
        for (uint32_t i = 0; i < source.layout.modules.size(); i++)
            modules_.emplace(without_prefixes(source.layout.modules[i].name), i);
        for (uint32_t i = 0; i < source.checkpoint.tensors().size(); i++)
            tensors_.emplace(without_prefixes(source.checkpoint.tensors()[i].name), i);
    }

    void relate() {
        std::vector<bool> done(subject_.checkpoint->tensors().size(), false);
        for (const Module & module : subject_.modules) {
            const auto found = modules_.find(without_prefixes(module.name));
            source_.modules.push_back(found == modules_.end() ? -1 : int64_t(found->second));
            for (size_t c = 1; c < module.tensors.size(); c++)
                if (module.tensors[c] >= 0) done[size_t(module.tensors[c])] = true; // parts of quantized modules
            const int64_t weight = module.weight();
            if (weight < 0 || module.in_fused_tensor) continue;
            done[size_t(weight)] = true;
            if (module.stored != Stored::plain) continue;
            if (found == modules_.end()) {
                if (module.role != Role::lm_head) source_.added.push_back(uint32_t(weight));
            } else if (!is_embedding_of_tied_head(module, source_.layout.modules[found->second])) {
                add_slice(uint32_t(weight), source_.layout.modules[found->second]);
            }
        }
        for (size_t i = 0; i < subject_.specs.size(); i++) {
            const int64_t tensor = subject_.spec_tensors[i];
            if (tensor >= 0 && !done[size_t(tensor)]) add_whole(uint32_t(tensor), subject_.specs[i]);
            if (tensor >= 0) done[size_t(tensor)] = true;
        }
        find_unmatched();
        std::sort(source_.preserved.begin(), source_.preserved.end(),
                  [](const PreservedTensor & a, const PreservedTensor & b) { return a.tensor < b.tensor; });
    }

  private:
    // Sub-byte dtypes are not the source's precision: L2 reports them.
    bool has_whole_bytes(uint32_t tensor) const { return dtype_traits(subject_.info(tensor).dtype).bits >= 8; }

    // A copy of a tied head, which loaders skip, has nothing to be compared with where the source has none.
    bool is_embedding_of_tied_head(const Module & module, const LinearModule & linear) const {
        return module.role == Role::lm_head &&
               !ends_with(source_.checkpoint.tensors()[linear.source].name, "lm_head.weight");
    }

    void add_slice(uint32_t tensor, const LinearModule & linear) {
        if (!has_whole_bytes(tensor)) return;
        const TensorInfo & info = source_.checkpoint.tensors()[linear.source];
        const uint64_t bytes =
            uint64_t(linear.rows) * uint64_t(linear.columns) * uint64_t(dtype_traits(info.dtype).bits) / 8;
        source_.preserved.push_back(
            {tensor, linear.role, linear.part, linear.layer, linear.source, linear.offset, bytes});
    }

    void add_whole(uint32_t tensor, const TensorSpec & spec) {
        const auto found = tensors_.find(without_prefixes(spec.name));
        if (found == tensors_.end()) {
            source_.added.push_back(tensor);
        } else if (has_whole_bytes(tensor)) {
            source_.preserved.push_back({tensor, spec.role, spec.part, spec.layer, found->second, 0,
                                         source_.checkpoint.tensors()[found->second].bytes});
        }
    }

    // Tensors of the source outside the subject's config.json: layers, experts or a part that was removed.
    void find_unmatched() {
        std::unordered_set<std::string_view> wanted;
        for (const TensorSpec & spec : subject_.specs) wanted.insert(without_prefixes(spec.name));
        for (const Module & module : subject_.modules) wanted.insert(without_prefixes(module.name));
        std::vector<bool> matched(source_.checkpoint.tensors().size(), false);
        for (const LinearModule & linear : source_.layout.modules)
            if (wanted.count(without_prefixes(linear.name))) matched[linear.source] = true;
        for (const ModelTensor & tensor : source_.layout.tensors) {
            const std::string & name = source_.checkpoint.tensors()[tensor.source].name;
            if (tensor.part == Part::mtp && !subject_.announces_part[size_t(Part::mtp)]) continue; // S4: switched off
            const bool is_tied_copy =
                tensor.role == Role::lm_head; // the subject calls for none: its embedding is the head
            if (tensor.role != Role::extra && !is_tied_copy && !matched[tensor.source] &&
                !wanted.count(without_prefixes(name)))
                source_.unmatched.push_back(tensor.source);
        }
    }

    const Subject & subject_;
    Source & source_;
    Index modules_, tensors_; // by name without prefixes
};

} // namespace

void relate(const Subject & subject, Source & source) {
    if (subject.known_model) Relation(subject, source).relate();
}

} // namespace gnv::verify
