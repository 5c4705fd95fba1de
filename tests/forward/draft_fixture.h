// The draft head of the small checkpoint in plain loops and F64, as vLLM (qwen3_5_mtp.py) defines it; and a checkpoint
// whose draft head is of use: that of the small one was never trained.
#pragma once

#include "checkpoint/elements.h"
#include "checkpoint_files.h"
#include "forward/forward_fixture.h"
#include "scratch.h"

#include <filesystem>
#include <map>
#include <numeric>

namespace gnv::test {

using Numbers = std::vector<double>;

// Of the small checkpoint.
struct DraftSizes {
    static constexpr size_t hidden = 256, vocabulary = 4096, heads = 4, key_heads = 2, head = 64, rotary = 16,
                            experts = 32, chosen = 4, expert = 64;
};

inline Numbers numbers_of(const std::vector<MemoryTensor> & tensors, const std::string & name) {
    for (const MemoryTensor & tensor : tensors) {
        if (tensor.name != name) continue;
        Numbers out(tensor.data.size() / 2);
        element_reader(tensor.dtype)(reinterpret_cast<const uint8_t *>(tensor.data.data()), int64_t(out.size()),
                                     out.data());
        return out;
    }
    GNV_CHECK(!"a tensor of this name");
    return {};
}

class DraftReference : DraftSizes {
  public:
    explicit DraftReference(const std::string & folder) : tensors_(load_tensors(folder)) {}

    // Position `at` with the token behind it and the normed hidden state there; what logits are made of. Positions seen so far
    // are those of `seen` calls before.
    Numbers step(int32_t next, const Numbers & state, size_t at) {
        const Numbers & table = of("model.language_model.embed_tokens.weight");
        const auto row = table.begin() + ptrdiff_t(size_t(next) * hidden);
        Numbers both = norm({row, row + hidden}, "mtp.pre_fc_norm_embedding.weight");
        const Numbers normed = norm(state, "mtp.pre_fc_norm_hidden.weight");
        both.insert(both.end(), normed.begin(), normed.end());
        Numbers x = product(both, "mtp.fc.weight", 0);
        add(x, attention(norm(x, layer + "input_layernorm.weight"), at));
        add(x, experts_of(norm(x, layer + "post_attention_layernorm.weight")));
        return norm(x, "mtp.norm.weight");
    }
    int32_t likeliest(const Numbers & state) {
        const Numbers logits = product(state, "lm_head.weight", 0);
        return int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
    }
    void cut(size_t rows) { keys_.resize(rows), values_.resize(rows); }

  private:
    const std::string layer = "mtp.layers.0.";

    const Numbers & of(const std::string & name) {
        const auto [entry, added] = weights_.try_emplace(name);
        if (added) entry->second = numbers_of(tensors_, name);
        return entry->second;
    }
    static void add(Numbers & x, const Numbers & y, double factor = 1) {
        for (size_t i = 0; i < x.size(); i++) x[i] += factor * y[i];
    }
    static double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }
    Numbers norm(Numbers x, const std::string & name) {
        const Numbers & w = of(name);
        double squares = 0;
        for (const double value : x) squares += value * value;
        for (size_t i = 0; i < x.size(); i++) x[i] *= (1 + w[i]) / std::sqrt(squares / double(x.size()) + 1e-6);
        return x;
    }
    // With matrix `index` of a stack, which has `rows` (0: all).
    Numbers product(const Numbers & x, const std::string & name, size_t index, size_t rows = 0) {
        const Numbers & w = of(name);
        Numbers y(rows > 0 ? rows : w.size() / x.size());
        for (size_t n = 0; n < y.size(); n++)
            y[n] =
                std::inner_product(x.begin(), x.end(), w.begin() + ptrdiff_t((index * y.size() + n) * x.size()), 0.0);
        return y;
    }
    static void rotate(Numbers & x, size_t at) {
        for (size_t i = 0; i < rotary / 2; i++) {
            const double angle = double(at) * std::pow(1e7, -2.0 * double(i) / double(rotary));
            const double a = x[i], b = x[i + rotary / 2];
            x[i] = a * std::cos(angle) - b * std::sin(angle);
            x[i + rotary / 2] = b * std::cos(angle) + a * std::sin(angle);
        }
    }
    Numbers attention(const Numbers & h, size_t at) {
        const Numbers q = product(h, layer + "self_attn.q_proj.weight", 0),
                      k = product(h, layer + "self_attn.k_proj.weight", 0);
        Numbers all_keys, out;
        for (size_t i = 0; i < key_heads; i++) {
            Numbers key = norm({k.begin() + ptrdiff_t(i * head), k.begin() + ptrdiff_t((i + 1) * head)},
                               layer + "self_attn.k_norm.weight");
            rotate(key, at);
            all_keys.insert(all_keys.end(), key.begin(), key.end());
        }
        keys_.push_back(all_keys);
        values_.push_back(product(h, layer + "self_attn.v_proj.weight", 0));
        for (size_t i = 0; i < heads; i++) {
            const auto begin = q.begin() + ptrdiff_t(2 * i * head);
            Numbers query = norm({begin, begin + head}, layer + "self_attn.q_norm.weight");
            rotate(query, at);
            const size_t column = i / (heads / key_heads) * head;
            Numbers weights, sum(head);
            for (const Numbers & key : keys_)
                weights.push_back(
                    std::exp(std::inner_product(query.begin(), query.end(), key.begin() + ptrdiff_t(column), 0.0) / 8));
            const double total = std::accumulate(weights.begin(), weights.end(), 0.0);
            for (size_t t = 0; t < keys_.size(); t++)
                for (size_t d = 0; d < head; d++) sum[d] += weights[t] / total * values_[t][column + d];
            for (size_t d = 0; d < head; d++) out.push_back(sum[d] * sigmoid(begin[ptrdiff_t(head + d)]));
        }
        return product(out, layer + "self_attn.o_proj.weight", 0);
    }
    static Numbers gated(const Numbers & gate, const Numbers & up) {
        Numbers a(gate.size());
        for (size_t i = 0; i < a.size(); i++) a[i] = gate[i] * sigmoid(gate[i]) * up[i];
        return a;
    }
    Numbers experts_of(const Numbers & h) {
        const Numbers logits = product(h, layer + "mlp.gate.weight", 0);
        std::vector<size_t> order(experts);
        std::iota(order.begin(), order.end(), size_t(0));
        std::sort(order.begin(), order.end(), [&](size_t a, size_t b) { return logits[a] > logits[b]; });
        double total = 0;
        for (size_t j = 0; j < chosen; j++) total += std::exp(logits[order[j]]);
        Numbers sum(hidden);
        for (size_t j = 0; j < chosen; j++) {
            const Numbers both = product(h, layer + "mlp.experts.gate_up_proj", order[j], 2 * expert);
            const auto middle = both.begin() + expert;
            const Numbers a = gated({both.begin(), middle}, {middle, both.end()});
            add(sum, product(a, layer + "mlp.experts.down_proj", order[j], hidden), std::exp(logits[order[j]]) / total);
        }
        const std::string shared = layer + "mlp.shared_expert";
        const Numbers a = gated(product(h, shared + ".gate_proj.weight", 0), product(h, shared + ".up_proj.weight", 0));
        add(sum, product(a, shared + ".down_proj.weight", 0), sigmoid(product(h, shared + "_gate.weight", 0)[0]));
        return sum;
    }

    const std::vector<MemoryTensor> tensors_;
    std::map<std::string, Numbers> weights_;
    std::vector<Numbers> keys_, values_; // by row: [key heads * head]
};

// Normed hidden states [T, hidden] of a text.
inline std::vector<float> hidden_states(const OpenModel & model, const std::vector<int32_t> & ids) {
    const auto threads = ThreadPool::create(2).take();
    const auto device = open_cpu(*threads);
    const auto session =
        TextSession::create(model.variant(Precision::f32), *device, *threads, {1, int64_t(ids.size())}).take();
    std::vector<float> rows;
    TextSession::Request request;
    request.all_logits = true;
    request.on_tap = [&](const Tap & tap, const Tensor & tensor) -> Status {
        if (tap_name(qwen35::names, tap) == "norm")
            rows.assign(tensor.as<const float>(), tensor.as<const float>() + tensor.shape.elements());
        return {};
    };
    TextSequence sequence;
    sequence.ids = ids;
    GNV_CHECK(session->run(sequence, request).ok());
    return rows;
}

// Puts numbers in the place of a BF16 tensor.
inline void replace_tensor(std::vector<MemoryTensor> & tensors, const std::string & name, const Numbers & values) {
    for (MemoryTensor & tensor : tensors) {
        if (tensor.name != name) continue;
        GNV_CHECK(tensor.data.size() == 2 * values.size());
        for (size_t i = 0; i < values.size(); i++) {
            const auto value = float(values[i]);
            uint32_t bits = 0;
            memcpy(&bits, &value, sizeof bits);
            bits = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
            memcpy(tensor.data.data() + 2 * i, &bits, 2);
        }
        return;
    }
    GNV_CHECK(!"a tensor of this name");
}

// A copy of the small checkpoint with a draft head of which only fc does something: the least squares fit, over `texts`, of the
// next hidden state.
inline void save_fitted(const std::string & folder, const OpenModel & model,
                        const std::vector<std::vector<int32_t>> & texts) {
    constexpr size_t H = DraftSizes::hidden, W = 2 * H;
    std::vector<MemoryTensor> tensors = load_tensors(tiny_folder);
    const Numbers table = numbers_of(tensors, "model.language_model.embed_tokens.weight");
    std::vector<float> squares(W * W), products(W * H); // of features; with what is wanted
    const auto put_normed = [](const auto * x, float * to) {
        double sum = 0;
        for (size_t i = 0; i < H; i++) sum += double(x[i]) * double(x[i]);
        for (size_t i = 0; i < H; i++) to[i] = float(double(x[i]) / std::sqrt(sum / double(H) + 1e-6));
    };
    for (const std::vector<int32_t> & ids : texts) {
        const std::vector<float> states = hidden_states(model, ids);
        for (size_t t = 0; t + 1 < ids.size(); t++) {
            float x[W];
            put_normed(table.data() + size_t(ids[t + 1]) * H, x);
            put_normed(states.data() + t * H, x + H);
            for (size_t i = 0; i < W; i++) {
                for (size_t j = 0; j <= i; j++) squares[i * W + j] += x[i] * x[j];
                for (size_t j = 0; j < H; j++) products[i * H + j] += x[i] * states[(t + 1) * H + j];
            }
        }
    }
    for (size_t i = 0; i < W; i++) squares[i * W + i] += 2;
    for (size_t i = 0; i < W; i++) { // Cholesky, row by row
        for (size_t j = 0; j <= i; j++) {
            double sum = squares[i * W + j];
            for (size_t k = 0; k < j; k++) sum -= double(squares[i * W + k]) * double(squares[j * W + k]);
            squares[i * W + j] = float(i == j ? std::sqrt(sum) : sum / double(squares[j * W + j]));
        }
        for (size_t j = 0; j < H; j++) {
            double sum = products[i * H + j];
            for (size_t k = 0; k < i; k++) sum -= double(squares[i * W + k]) * double(products[k * H + j]);
            products[i * H + j] = float(sum / double(squares[i * W + i]));
        }
    }
    Numbers fc(H * W);
    for (size_t i = W; i-- > 0;)
        for (size_t j = 0; j < H; j++) {
            double sum = products[i * H + j];
            for (size_t k = i + 1; k < W; k++) sum -= double(squares[k * W + i]) * fc[j * W + k];
            fc[j * W + i] = sum / double(squares[i * W + i]);
        }
    replace_tensor(tensors, "mtp.fc.weight", fc);
    for (MemoryTensor & tensor : tensors) {
        const bool is_zero =
            starts_with(tensor.name, "mtp.") &&
            (ends_with(tensor.name, "norm_embedding.weight") || ends_with(tensor.name, "norm_hidden.weight") ||
             tensor.name == "mtp.norm.weight" || ends_with(tensor.name, "o_proj.weight") ||
             tensor.name.find("down_proj") != std::string::npos);
        if (is_zero) std::fill(tensor.data.begin(), tensor.data.end(), '\0');
    }
    copy_folder(tiny_folder, folder);
    for (const auto & entry : std::filesystem::directory_iterator(folder))
        if (entry.path().string().find("safetensors") != std::string::npos) std::filesystem::remove(entry.path());
    save_tensors(folder, tensors, 1);
}

} // namespace gnv::test
