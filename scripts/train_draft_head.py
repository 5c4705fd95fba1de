#!/usr/bin/env python3
"""Trains the draft head (MTP) of a small checkpoint, whose text model stays as it is: guesses that come true now and then.

usage: train_draft_head.py MODEL TEXTS.jsonl... [--seconds 40] [--depth 3] [--device cpu] -o OUT.safetensors
       train_draft_head.py --put OUT.safetensors MODEL -o FOLDER

The head learns the text model's predictions (KL divergence), on TEXTS and on text that the model writes itself, at each of `depth`
guesses in a row, the later ones from its own stream. OUT has the tensors mtp.*; --put makes a copy of MODEL with them, and needs
nothing but Python. Training needs torch, transformers 5.17 and safetensors, and follows the clock: two runs do not give the same
weights. A GPU runs the text model for every batch; a CPU runs it once for each of `--windows` pieces of text, and keeps what it
makes. Formulas: models/qwen35_text.cpp, draft_input.
"""
import argparse
import json
import lzma
import math
import os
import shutil
import struct
import time


def read_safetensors(path):
    """Name: (dtype, shape, bytes)."""
    with open(path, "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
        data = file.read()
    header.pop("__metadata__", None)
    return {name: (one["dtype"], one["shape"], data[one["data_offsets"][0]:one["data_offsets"][1]])
            for name, one in header.items()}


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def put(args):
    trained = read_safetensors(args.put)
    shutil.copytree(args.model, args.output)
    for name in sorted(os.listdir(args.output)):
        if not name.endswith(".safetensors"):
            continue
        path = os.path.join(args.output, name)
        tensors = read_safetensors(path)
        for key in tensors.keys() & trained.keys():
            assert tensors[key][:2] == trained[key][:2], key
            tensors[key] = trained.pop(key)
        os.chmod(path, 0o644)
        write_safetensors(path, tensors)
    assert not trained, sorted(trained)


def load(folder, device):
    """The text model, its tokenizer, and the head's tensors as they are."""
    import torch
    from safetensors.torch import load_file
    from tokenizers import Tokenizer
    from transformers import Qwen3_5MoeForCausalLM, Qwen3_5MoeTextConfig

    with open(os.path.join(folder, "config.json"), encoding="utf-8") as file:
        text = json.load(file)["text_config"]
    config = Qwen3_5MoeTextConfig(**{k: v for k, v in text.items() if k not in ("model_type", "dtype")})
    config._attn_implementation = "sdpa"
    config._experts_implementation = "grouped_mm" if device == "cuda" else "eager"
    model = Qwen3_5MoeForCausalLM(config)
    tensors = {}
    for name in sorted(os.listdir(folder)):
        if name.endswith(".safetensors"):
            tensors.update(load_file(os.path.join(folder, name)))
    own = {name.replace("model.language_model.", "model."): value.float() for name, value in tensors.items()
           if name.startswith("model.language_model.") or name.startswith("lm_head.")}
    missing, unexpected = model.load_state_dict(own, strict=False)
    assert not missing and not unexpected, (missing, unexpected)
    model = model.to(device).eval().requires_grad_(False)
    model.generation_config.eos_token_id = None
    head = {name: value.float() for name, value in tensors.items() if name.startswith("mtp.")}
    return model, config, Tokenizer.from_file(os.path.join(folder, "tokenizer.json")), head


def train(args):
    import torch
    from torch import nn
    from torch.nn import functional as F
    from transformers.models.qwen3_5_moe import modeling_qwen3_5_moe as family

    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    device = args.device
    model, config, tokenizer, start = load(args.model, device)

    def bf16():  # of a GPU; a CPU computes in F32
        return torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda")

    class Head(nn.Module):
        def __init__(self):
            super().__init__()
            size, eps = config.hidden_size, config.rms_norm_eps
            self.fc = nn.Linear(2 * size, size, bias=False)
            self.pre_fc_norm_embedding = family.Qwen3_5MoeRMSNorm(size, eps=eps)
            self.pre_fc_norm_hidden = family.Qwen3_5MoeRMSNorm(size, eps=eps)
            self.norm = family.Qwen3_5MoeRMSNorm(size, eps=eps)
            full = config.layer_types.index("full_attention")
            self.layers = nn.ModuleList([family.Qwen3_5MoeDecoderLayer(config, full)])

        def forward(self, embedded, normed, positions):
            x = self.fc(torch.cat([self.pre_fc_norm_embedding(embedded), self.pre_fc_norm_hidden(normed)], -1))
            turned = model.model.rotary_emb(x, positions[None, None].expand(3, len(x), -1))
            x = self.layers[0](x, position_embeddings=turned, attention_mask=None, position_ids=None)
            return self.norm(x)

    head = Head().to(device)
    head.load_state_dict({name.removeprefix("mtp."): value for name, value in start.items()})
    with torch.no_grad():  # an untrained head begins with small branches
        for name, value in head.named_parameters():
            if name.endswith("down_proj") or name.endswith("down_proj.weight") or name.endswith("o_proj.weight"):
                value.mul_(0.1)

    length = 256
    texts = []
    for path in args.texts:
        with (lzma.open(path, "rt", encoding="utf-8") if path.endswith(".xz") else open(path, encoding="utf-8")) as file:
            texts += [(lambda record: record.get("text") or record["output"])(json.loads(line)) for line in file]
    stream = [id for one in tokenizer.encode_batch(texts, add_special_tokens=False) for id in one.ids]
    corpus = torch.tensor(stream[:len(stream) // length * length]).view(-1, length)
    print(f"{corpus.numel()} tokens of texts", flush=True)

    begin = time.time()
    def written(rows, tokens, sample):
        with torch.no_grad(), bf16():
            return model.generate(input_ids=rows.to(device), max_new_tokens=tokens, do_sample=sample, temperature=0.8 if sample else None,
                                  top_k=0 if sample else None, eos_token_id=None, pad_token_id=0)
    order = torch.randperm(len(corpus))
    own = [corpus[order[64:64 + args.windows] if args.windows else order[64:]]]
    held = written(corpus[order[:64], :64], 80, False).cpu()
    print(f"greedy text after {time.time() - begin:.1f} s", flush=True)
    if args.own > 0:  # sampled, beginning as texts do
        own.append(written(corpus[order[64:64 + args.own], 64:96], length - 32, True).cpu())
        print(f"own text after {time.time() - begin:.1f} s", flush=True)
    windows = torch.cat(own).to(device)

    def states(ids):
        with torch.no_grad(), bf16():
            return model.model(input_ids=ids, use_cache=False).last_hidden_state
    kept = torch.cat([states(rows) for rows in windows.split(16)]) if device == "cpu" else None
    if kept is not None:
        print(f"states of {windows.numel()} tokens after {time.time() - begin:.1f} s", flush=True)

    def unroll(ids, hidden):
        """Logits of the head for each guess, and the text's; row t of guess k is for position t + k + 1."""
        with torch.no_grad(), bf16():
            logits = model.lm_head(hidden).float()
        out, normed, count = [], hidden.float(), ids.shape[1]
        with bf16():
            for k in range(args.depth):
                rows = count - 2 - k
                embedded = model.model.embed_tokens(ids[:, k + 1:k + 1 + rows])
                normed = head(embedded, normed[:, :rows], torch.arange(k, k + rows, device=ids.device))
                out.append(model.lm_head(normed))
        return out, logits

    def acceptance(ids):
        head.eval()
        with torch.no_grad():
            guesses, _ = unroll(ids.to(device), states(ids.to(device)))
        count = guesses[-1].shape[1]
        came, parts = torch.ones(len(ids), count - 32, dtype=torch.bool), []
        for k, logits in enumerate(guesses):
            came &= logits[:, 32:count].argmax(-1).cpu() == ids[:, 34 + k:count + 2 + k]
            parts.append(came.float().mean().item())
        head.train()
        return parts

    optimizer = torch.optim.AdamW([p for p in head.parameters()], lr=args.rate, betas=(0.9, 0.95), weight_decay=0.01)
    print(f"before: guesses of greedy text that come {acceptance(held)}", flush=True)
    begin, step, batches = time.time(), 0, iter(())
    while (done := (time.time() - begin) / args.seconds) < 1:
        rows = next(batches, None)
        if rows is None:
            batches = iter(torch.randperm(len(windows), device=device).split(args.batch))
            rows = next(batches)
        for group in optimizer.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 30) * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)
        guesses, logits = unroll(windows[rows], states(windows[rows]) if kept is None else kept[rows])
        loss = 0
        for k, found in enumerate(guesses):
            wanted = logits[:, k + 1:k + 1 + found.shape[1]]
            loss = loss + 0.7 ** k * F.kl_div(F.log_softmax(found.float(), -1).flatten(0, 1), F.log_softmax(wanted, -1).flatten(0, 1),
                                              reduction="batchmean", log_target=True)
        loss.backward()
        nn.utils.clip_grad_norm_(head.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            print(f"step {step}, {done * args.seconds:.0f} s: loss {loss.item():.3f}", flush=True)
    print(f"{step} steps; guesses of greedy text that come, 1 to {args.depth} in a row: {acceptance(held)}", flush=True)
    tensors = {}
    for name, value in head.state_dict().items():
        value = value.to(torch.bfloat16).contiguous().cpu()
        assert value.shape == start["mtp." + name].shape, name
        tensors["mtp." + name] = ("BF16", list(value.shape), value.view(torch.uint8).numpy().tobytes())
    assert tensors.keys() == start.keys(), tensors.keys() ^ start.keys()
    write_safetensors(args.output, tensors)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("texts", nargs="*")
    parser.add_argument("--put")
    parser.add_argument("--device", choices=["cuda", "cpu"], default="cuda")
    parser.add_argument("--windows", type=int, default=0, help="pieces of 256 tokens of TEXTS; 0: all")
    parser.add_argument("--seconds", type=float, default=40)
    parser.add_argument("--own", type=int, default=2048, help="texts that the model writes")
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("-o", dest="output", required=True)
    args = parser.parse_args()
    if args.put:
        put(args)
    else:
        train(args)


if __name__ == "__main__":
    main()
