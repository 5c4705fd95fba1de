#!/usr/bin/env python3
"""Trains the draft head (mtp.*) of a checkpoint of this family on what its text model predicts, and writes a checkpoint with it.

    train_draft_head.py MODEL TEXTS.jsonl[.xz] -o OUT [--seconds 40] [--device cuda]

For tests and measurements: the draft head of the small checkpoint was never trained, so none of its guesses come. The text model
stays as it is. It reads the texts (fields text, or instruction, input and output) and goes on with the beginnings of them by
sampling; at each position the head learns the text model's distribution at the next position from the stream there and the token
behind it. Needs torch, transformers, safetensors and tokenizers.
"""
import argparse
import json
import lzma
import pathlib
import shutil
import time

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import save_file
from tokenizers import Tokenizer
from transformers import AutoModelForImageTextToText

WINDOW = 256


def load_texts(path, tokenizer):
    opened = lzma.open(path, "rt") if path.suffix == ".xz" else open(path)
    with opened as file:
        for line in file:
            record = json.loads(line)
            text = record.get("text") or "\n".join(
                record[name] for name in ("instruction", "input", "output") if record.get(name))
            yield tokenizer.encode(text).ids


def norm(x, weight, epsilon):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + epsilon) * (1 + weight)


class DraftHead(torch.nn.Module):
    """As ggml-nvfp4's models/qwen35_text.cpp computes it; names are those of the checkpoint, with dots as in files."""

    def __init__(self, tensors, config):
        super().__init__()
        self.names = {name.replace(".", "_"): name for name in tensors}
        for key, name in self.names.items():
            self.register_parameter(key, torch.nn.Parameter(tensors[name].float()))
        self.config = config

    def weight(self, name):
        return getattr(self, ("mtp." + name).replace(".", "_"))

    def normed(self, x, name):
        return norm(x, self.weight(name), self.config.rms_norm_eps)

    def rotate(self, x):  # [B, heads, T, D]
        c = self.config
        rotary = int(x.shape[-1] * c.rope_parameters["partial_rotary_factor"])
        frequencies = c.rope_parameters["rope_theta"] ** (-torch.arange(0, rotary, 2, device=x.device) / rotary)
        angles = torch.arange(x.shape[2], device=x.device)[:, None] * frequencies
        cos, sin = angles.cos(), angles.sin()
        a, b = x[..., : rotary // 2], x[..., rotary // 2 : rotary]
        return torch.cat((a * cos - b * sin, b * cos + a * sin, x[..., rotary:]), -1)

    def attention(self, h):
        c, (B, T, _) = self.config, h.shape
        at = "layers.0.self_attn."
        q = (h @ self.weight(at + "q_proj.weight").T).view(B, T, c.num_attention_heads, 2, c.head_dim)
        q, gate = q[..., 0, :], q[..., 1, :]
        heads = (B, T, c.num_key_value_heads, c.head_dim)
        k = (h @ self.weight(at + "k_proj.weight").T).view(heads)
        v = (h @ self.weight(at + "v_proj.weight").T).view(heads)
        q = self.rotate(self.normed(q, at + "q_norm.weight").transpose(1, 2))
        k = self.rotate(self.normed(k, at + "k_norm.weight").transpose(1, 2))
        o = F.scaled_dot_product_attention(q, k, v.transpose(1, 2), is_causal=True, enable_gqa=True)
        o = o.transpose(1, 2) * gate.sigmoid()
        return o.reshape(B, T, -1) @ self.weight(at + "o_proj.weight").T

    def experts(self, h):  # every expert sees every token: few and small
        c, at = self.config, "layers.0.mlp."
        chosen = (h @ self.weight(at + "gate.weight").T).softmax(-1).topk(c.num_experts_per_tok, -1)
        shares = torch.zeros(*h.shape[:-1], c.num_experts, device=h.device)
        shares = shares.scatter(-1, chosen.indices, chosen.values / chosen.values.sum(-1, keepdim=True))
        gate, up = torch.einsum("bth,eih->btei", h, self.weight(at + "experts.gate_up_proj")).chunk(2, -1)
        a = F.silu(gate) * up * shares[..., None]
        sum_of_chosen = torch.einsum("btei,ehi->bth", a, self.weight(at + "experts.down_proj"))
        own = lambda x, name: x @ self.weight(at + name + ".weight").T
        shared = F.silu(own(h, "shared_expert.gate_proj")) * own(h, "shared_expert.up_proj")
        return sum_of_chosen + own(shared, "shared_expert.down_proj") * own(h, "shared_expert_gate").sigmoid()

    def forward(self, embedded, stream):
        """The stream behind each row: embedding of the next token and normed stream of the text, or of this head."""
        x = torch.cat((self.normed(embedded, "pre_fc_norm_embedding.weight"),
                       self.normed(stream, "pre_fc_norm_hidden.weight")), -1) @ self.weight("fc.weight").T
        x = x + self.attention(self.normed(x, "layers.0.input_layernorm.weight"))
        x = x + self.experts(self.normed(x, "layers.0.post_attention_layernorm.weight"))
        return self.normed(x, "norm.weight")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("texts", type=pathlib.Path)
    parser.add_argument("-o", "--output", type=pathlib.Path, required=True, help="folder to write; must not exist")
    parser.add_argument("--seconds", type=float, default=40, help="of training")
    parser.add_argument("--written", type=int, default=256, help="texts that the model writes")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tensors-only", action="store_true", help="write one file of mtp.* tensors")
    args = parser.parse_args()
    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    start = time.time()
    tokenizer = Tokenizer.from_file(str(args.model / "tokenizer.json"))
    ids = [text for text in load_texts(args.texts, tokenizer) if len(text) > 8]
    model = AutoModelForImageTextToText.from_pretrained(args.model, dtype=torch.bfloat16).to(args.device).eval()
    config = model.config.text_config
    text_model = model.model.language_model
    table, head = model.get_input_embeddings().weight.float(), model.lm_head.weight.float()

    flat = [token for text in ids for token in text]
    windows = [flat[i : i + WINDOW] for i in range(0, len(flat) - WINDOW, WINDOW)]
    with torch.no_grad():
        for temperature in (0.0, 0.7):  # 0: greedy
            count = args.written // 2
            prompts = torch.tensor([(text * 8)[:32] for text in ids[:count]], device=args.device)
            sampling = {"do_sample": True, "temperature": temperature, "top_k": 0} if temperature else {"do_sample": False}
            written = model.generate(input_ids=prompts, max_new_tokens=WINDOW - 32, min_new_tokens=WINDOW - 32,
                                     pad_token_id=0, **sampling)
            windows += written.tolist()
            print(f"wrote {count} texts at temperature {temperature}: {time.time() - start:.1f} s", flush=True)
        tokens = torch.tensor(windows, device=args.device)
        streams = torch.cat([text_model(input_ids=part).last_hidden_state for part in tokens.split(32)])
    print(f"{tokens.numel()} positions, {time.time() - start:.1f} s", flush=True)

    tensors = {}
    for file in sorted(args.model.glob("*.safetensors")):
        with safe_open(file, "pt") as opened:
            tensors |= {name: opened.get_tensor(name) for name in opened.keys() if name.startswith("mtp.")}
    draft = DraftHead(tensors, config).to(args.device)
    optimizer = torch.optim.AdamW(draft.parameters(), lr=2e-3, weight_decay=0.01, betas=(0.9, 0.98))
    generator = torch.Generator(args.device).manual_seed(2)
    rows = torch.arange(tokens.shape[0], device=args.device)
    test, train = rows[rows % 40 == 0], rows[rows % 40 > 0]

    def steps_of(rows, depth=3):
        """Cross entropy with the text model's distribution, and how often both choose the same token, step by step."""
        text, stream = tokens[rows], streams[rows].float()
        own, losses, same = stream, [], []
        for step in range(depth):  # row t of the head: token t + 1 + step, guess of token t + 2 + step
            last = WINDOW - 2 - step
            own = draft(table[text[:, 1 + step : 1 + step + last]], own[:, :last])
            wanted = stream[:, 1 + step : 1 + step + last] @ head.T
            found = own @ head.T
            losses.append(F.cross_entropy(found.flatten(0, 1), wanted.flatten(0, 1).softmax(-1)))
            same.append((found.argmax(-1) == wanted.argmax(-1)).float().mean().item())
        return losses, same

    begin, count = time.time(), 0
    while (spent := time.time() - begin) < args.seconds:
        for group in optimizer.param_groups:
            group["lr"] = 2e-3 * min(1, (count + 1) / 50) * max(0.02, 1 - spent / args.seconds)
        rows = train[torch.randint(len(train), (12,), generator=generator, device=args.device)]
        losses, same = steps_of(rows)
        loss = losses[0] + 0.5 * losses[1] + 0.25 * losses[2]
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(draft.parameters(), 1.0)
        optimizer.step()
        count += 1
        if count % 100 == 0:
            print(f"{count} steps, {spent:.1f} s: loss {loss.item():.3f}, same {same}", flush=True)
    with torch.no_grad():
        parts = [steps_of(part)[1] for part in test.split(8)]
    print(f"{count} steps; of {len(test)} texts that it did not see, same tokens at the first, second and third step:",
          [round(sum(part[i] for part in parts) / len(parts), 3) for i in range(3)])

    trained = {name: getattr(draft, key).detach().to(torch.bfloat16).cpu().contiguous() for key, name in draft.names.items()}
    args.output.mkdir()
    if args.tensors_only:
        save_file(trained, args.output / "mtp.safetensors", metadata={"format": "pt"})
        return
    for file in args.model.iterdir():
        if file.suffix != ".safetensors":
            shutil.copy(file, args.output)
            continue
        with safe_open(file, "pt") as opened:
            all_of_file = {name: trained.get(name, opened.get_tensor(name)) for name in opened.keys()}
        save_file(all_of_file, args.output / file.name, metadata={"format": "pt"})


main()
