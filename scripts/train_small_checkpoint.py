#!/usr/bin/env python3
"""Makes a small trained checkpoint of another shape than tests/data's: methods of quantization need weights that learned something.

usage: train_small_checkpoint.py gather FOLDER... --without EVAL.jsonl... [--megabytes 24] -o TEXTS.jsonl.xz
       train_small_checkpoint.py train TEXTS.jsonl.xz --like MODEL [--seconds 100] -o OUT

`gather` takes HTML, reStructuredText, POD and plain text, compressed or not, and leaves out documents that share lines with those
of --without; the choice is by hash, so the same folders give the same texts. What docs/quality.md names was gathered from the
packages linux-doc-6.1, postgresql-doc-15, python3.11-doc, perl-doc and debian-reference-en of Debian 12. `train` needs torch, transformers
5.17, safetensors and a GPU; tokenizer and template are those of MODEL. The schedule follows the clock, so two runs do not give
the same weights. Qwen3.5 MoE: 6 layers (every third with full attention), hidden 320, 48 experts of 96, 4 chosen, a shared one of 160.
"""
import argparse
import gzip
import hashlib
import html.parser
import json
import lzma
import math
import os
import re
import shutil
import time


class Text(html.parser.HTMLParser):
    """The text of a page, without scripts and styles."""

    def __init__(self):
        super().__init__()
        self.parts, self.hidden = [], 0

    def handle_starttag(self, tag, attrs):
        self.hidden += tag in ("script", "style", "head")
        if tag in ("p", "div", "li", "tr", "h1", "h2", "h3", "h4", "dt", "dd", "pre", "br"):
            self.parts.append("\n")

    def handle_endtag(self, tag):
        self.hidden -= tag in ("script", "style", "head")

    def handle_data(self, data):
        if self.hidden <= 0:
            self.parts.append(data)


def read_document(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rb") as file:
        text = file.read(1 << 20).decode("utf-8", "replace")
    if path.removesuffix(".gz").endswith(".html"):
        page = Text()
        page.feed(text)
        text = "".join(page.parts)
    return re.sub(r"\n{3,}", "\n\n", text).strip()


def long_lines(text):
    return {line.strip() for line in text.splitlines() if len(line.strip()) >= 50}


def gather(args):
    known = set()
    for path in args.without:
        with open(path, encoding="utf-8") as file:
            for line in file:
                record = json.loads(line)
                known |= long_lines(record.get("text") or record.get("output") or "")
    paths = [os.path.join(folder, name) for top in args.folders for folder, _, names in os.walk(top) for name in names
             if re.search(r"\.(html|rst|txt|pod)(\.gz)?$", name) and not os.path.islink(os.path.join(folder, name))]
    chosen, size = [], 0
    for path in sorted(paths, key=lambda p: hashlib.sha256(p.encode()).digest()):
        text = read_document(path)[:40000]
        lines = long_lines(text)
        if len(text) < 500 or len(lines & known) > 1:
            continue
        known |= lines  # a document is there once, as page or source
        chosen.append(text)
        size += len(text)
        if size > args.megabytes * 1e6:
            break
    with lzma.open(args.output, "wt", encoding="utf-8", preset=9) as out:
        for text in chosen:
            out.write(json.dumps({"text": text}, ensure_ascii=False) + "\n")
    print(f"{len(chosen)} documents, {size / 1e6:.1f} MB")


def make_config(like):
    from transformers import Qwen3_5MoeTextConfig
    text = dict(like["text_config"])
    text.update(hidden_size=192, num_hidden_layers=6, layer_types=["linear_attention", "linear_attention", "full_attention"] * 2,
                num_experts=24, num_experts_per_tok=4, moe_intermediate_size=48, shared_expert_intermediate_size=96,
                num_attention_heads=3, num_key_value_heads=1, head_dim=64, linear_num_key_heads=3, linear_num_value_heads=6,
                mtp_num_hidden_layers=0, router_aux_loss_coef=0.01)
    text.pop("full_attention_interval", None)
    config = Qwen3_5MoeTextConfig(**{k: v for k, v in text.items() if k not in ("model_type", "dtype")})
    config._attn_implementation = "sdpa"
    config._experts_implementation = "grouped_mm"
    return config, text


def train(args):
    import torch
    from safetensors.torch import save_file
    from tokenizers import Tokenizer
    from transformers import Qwen3_5MoeForCausalLM

    torch.manual_seed(1)
    torch.backends.cuda.matmul.allow_tf32 = True
    with open(os.path.join(args.like, "config.json"), encoding="utf-8") as file:
        like = json.load(file)
    tokenizer = Tokenizer.from_file(os.path.join(args.like, "tokenizer.json"))
    start = tokenizer.token_to_id("<|endoftext|>")
    with lzma.open(args.texts, "rt", encoding="utf-8") as file:
        texts = [json.loads(line)["text"] for line in file]
    stream = [id for one in tokenizer.encode_batch(texts, add_special_tokens=False) for id in [start] + one.ids]
    length, batch = 512, args.batch
    windows = torch.tensor(stream[:len(stream) // length * length], dtype=torch.int32).view(-1, length)
    held, windows = windows[:64].long().cuda(), windows[64:].cuda()
    print(f"{len(texts)} documents, {windows.numel() / 1e6:.2f} M tokens", flush=True)

    config, text_config = make_config(like)
    model = Qwen3_5MoeForCausalLM(config).cuda().train()
    groups = [{"params": [p for p in model.parameters() if p.dim() >= 2], "weight_decay": 0.1},
              {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)

    def loss_of(ids, aux):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            out = model(input_ids=ids, use_cache=False, output_router_logits=aux)
        loss = torch.nn.functional.cross_entropy(out.logits[:, :-1].float().flatten(0, 1), ids[:, 1:].flatten())
        return loss, out.aux_loss

    begin, step, order = time.time(), 0, iter(())
    while (done := (time.time() - begin) / args.seconds) < 1:
        rows = next(order, None)
        if rows is None:
            order = iter(torch.randperm(len(windows), device="cuda").split(batch))
            rows = next(order)
        for group in optimizer.param_groups:
            group["lr"] = args.rate * min(1, (step + 1) / 30) * (0.05 + 0.95 * (1 + math.cos(math.pi * done)) / 2)
        loss, aux = loss_of(windows[rows].long(), True)
        (loss + config.router_aux_loss_coef * aux).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 20 == 0:
            print(f"step {step}, {done * args.seconds:.0f} s: loss {loss.item():.3f}, balance {aux.item():.2f}", flush=True)
    model.eval()
    with torch.no_grad():
        held_loss = sum(loss_of(rows, False)[0].item() for rows in held.split(16)) / 4
    print(f"{step} steps of {batch * length} tokens; perplexity of text held back {math.exp(held_loss):.2f}", flush=True)

    os.makedirs(args.output)
    tensors = {name.replace("model.", "model.language_model.", 1) if name.startswith("model.") else name:
               value.to(torch.bfloat16).contiguous().cpu() for name, value in model.state_dict().items()}
    save_file(tensors, os.path.join(args.output, "model.safetensors"), metadata={"format": "pt"})
    like["text_config"] = text_config
    like.pop("vision_config", None)
    with open(os.path.join(args.output, "config.json"), "w", encoding="utf-8") as file:
        json.dump(like, file, indent=2)
    for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json", "chat_template.jinja"):
        shutil.copyfile(os.path.join(args.like, name), os.path.join(args.output, name))


def main():
    parser = argparse.ArgumentParser()
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("gather")
    one.add_argument("folders", nargs="+")
    one.add_argument("--without", nargs="+", default=[])
    one.add_argument("--megabytes", type=float, default=24)
    one.add_argument("-o", dest="output", required=True)
    one.set_defaults(run=gather)
    one = commands.add_parser("train")
    one.add_argument("texts")
    one.add_argument("--like", required=True)
    one.add_argument("--seconds", type=float, default=100)
    one.add_argument("--batch", type=int, default=64)
    one.add_argument("--rate", type=float, default=2e-3)
    one.add_argument("-o", dest="output", required=True)
    one.set_defaults(run=train)
    args = parser.parse_args()
    args.run(args)


if __name__ == "__main__":
    main()
