// A model family of the tests' own, made through the seams alone: names, fields, stages, statistics and weights by role. Its
// blocks have no states and two kinds; a draft head has a block 0 of another shape than the text's.
#pragma once

#include "checkpoint_files.h"
#include "model/block_writer.h"
#include "scratch.h"

#include <random>

namespace gnv::test {

constexpr int64_t toy_hidden = 64, toy_wide = 512, toy_vocabulary = 16;

enum ToySite : int32_t { toy_embed, toy_logits, toy_block, toy_site_count };
enum ToyInput : int32_t { toy_block_input, toy_wide_input, toy_input_count };
inline constexpr SiteName toy_sites[] = {{"embed", false}, {"logits", false}, {""}};
inline constexpr ModuleInput toy_inputs[] = {{"block_input"}, {"wide_input"}};
inline const ModelNames toy_names = {toy_sites, toy_inputs, [](Role role) -> int32_t {
                                         if (role == Role::mlp_down) return toy_wide_input;
                                         return role == Role::attention_o || role == Role::mlp_gate ? toy_block_input
                                                                                                    : -1;
                                     }};

// embed; block 0: x + o(x); block 1: x + down(silu(gate(x)) * gate(x)); head.
class ToyModel final : public TextModel {
  public:
    ToyModel() {
        sizes_.hidden = toy_hidden;
        sizes_.vocabulary = toy_vocabulary;
        sizes_.layers = 2;
        sizes_.max_positions = 1000;
    }
    const TextModelSizes & sizes() const override { return sizes_; }
    const ModelNames & names() const override { return toy_names; }
    std::vector<FieldSpec> fields() const override { return {{"stream", toy_hidden, DType::f32, true}}; }
    std::vector<Stage> block_stages(int32_t layer) const override { return {{StageKind::mixer, layer}}; }
    std::vector<WeightRef> stage_weights(const Stage & stage) const override {
        switch (stage.kind) {
        case StageKind::embed: return {{Role::embedding}};
        case StageKind::head: return {{Role::lm_head}};
        default: break;
        }
        if (block_kind(stage) == 0) return {{Role::attention_o, stage.layer}};
        return {{Role::mlp_gate, stage.layer}, {Role::mlp_down, stage.layer}};
    }
    StageFields stage_fields(const Stage & stage) const override {
        const FieldSet stream = field_bit(hidden_field);
        return {stage.kind == StageKind::embed ? 0 : stream, stage.kind == StageKind::head ? 0 : stream};
    }
    std::vector<StageInput> stage_inputs(const Stage & stage) const override {
        if (stage.kind != StageKind::mixer) return {};
        if (block_kind(stage) == 0) return {{toy_block_input, toy_hidden}};
        return {{toy_block_input, toy_hidden}, {toy_wide_input, toy_wide}};
    }
    int32_t block_kind(const Stage & stage) const override { return stage.layer == 1; }
    std::vector<StateSpec> states(int32_t, CacheType) const override { return {}; }
    void build(const Stage & stage, StageBuilder & builder) const override { Writer(builder, stage).write(stage); }

  private:
    class Writer : public BlockWriter {
      public:
        Writer(StageBuilder & builder, const Stage & stage) : BlockWriter(toy_names, builder, stage) {}
        void write(const Stage & stage) {
            ValueId & stream = b_.fields[hidden_field];
            if (stage.kind == StageKind::embed) {
                stream = tapped(g_.add(EmbeddingParams{}, {ids(), weight({Role::embedding})}, "embed"), toy_embed);
            } else if (stage.kind == StageKind::head) {
                b_.logits = linear(stream, Role::lm_head, toy_logits);
            } else {
                observe(stream, toy_block_input);
                const ValueId made = stage.layer == 1 ? wide(stream) : linear(stream, Role::attention_o, toy_block);
                stream = tapped(add(stream, made, toy_block), toy_block);
            }
        }

      private:
        ValueId wide(ValueId x) {
            const ValueId gate = linear(x, Role::mlp_gate, toy_block);
            return linear(activation(gate, gate, "activation", toy_wide_input), Role::mlp_down, toy_block);
        }
    };
    TextModelSizes sizes_;
};

// A checkpoint of it, with everything that a pass needs.
struct ToyCheckpoint {
    ScratchFolder scratch;
    std::vector<MemoryTensor> tensors;
    std::unique_ptr<Checkpoint> checkpoint;
    ModelLayout layout;
    WeightCatalog weights;
    FolderFiles files;

    ToyCheckpoint() {
        layout.names = &toy_names;
        add(Role::embedding, Part::text, -1, toy_vocabulary, toy_hidden);
        add(Role::attention_o, Part::text, 0, toy_hidden, toy_hidden);
        add(Role::mlp_gate, Part::text, 1, toy_wide, toy_hidden);
        add(Role::mlp_down, Part::text, 1, toy_hidden, toy_wide);
        add(Role::lm_head, Part::text, -1, toy_vocabulary, toy_hidden);
        add(Role::attention_o, Part::mtp, 0, toy_hidden, 2 * toy_hidden);
        for (int i = 0; i < 2; i++) add(Role::vision_qkv, Part::vision, 0, toy_hidden, toy_hidden);
        save_tensors(scratch.path(), tensors, 1);
        checkpoint = std::make_unique<Checkpoint>(Checkpoint::open(scratch.path()).take());
        for (size_t i = 0; i < tensors.size(); i++) { // the file may have them in another order
            for (uint32_t t = 0; t < checkpoint->tensors().size(); t++)
                if (checkpoint->tensors()[t].name == tensors[i].name) layout.tensors[i].source = t;
            layout.modules[i].source = layout.tensors[i].source;
        }
        layout.modules.erase(layout.modules.begin()); // the embedding is no Linear
        weights = WeightCatalog::create(layout, *checkpoint).take();
        files = checkpoint->open_shards().take();
    }
    // As doubles, [rows, columns].
    std::vector<double> values(size_t tensor) const {
        std::vector<double> out;
        for (size_t i = 0; i + 1 < tensors[tensor].data.size(); i += 2) {
            uint16_t bits;
            memcpy(&bits, tensors[tensor].data.data() + i, sizeof bits);
            out.push_back(double(nvfp4::bf16_to_float(bits)));
        }
        return out;
    }

  private:
    void add(Role role, Part part, int32_t layer, int64_t rows, int64_t columns) {
        MemoryTensor tensor{concat("tensor.", tensors.size(), ".weight"), DType::bf16, {rows, columns}, {}};
        for (int64_t i = 0; i < rows * columns; i++) {
            const uint16_t bits = nvfp4::bf16_from_float(float(int(random_() % 201) - 100) / 800);
            tensor.data.append(reinterpret_cast<const char *>(&bits), sizeof bits);
        }
        layout.tensors.push_back({0, role, part, layer, -1});
        LinearModule module;
        module.name = tensor.name, module.role = role, module.part = part, module.layer = layer;
        module.rows = rows, module.columns = columns;
        layout.modules.push_back(module);
        tensors.push_back(std::move(tensor));
    }
    std::mt19937 random_{7};
};

} // namespace gnv::test
