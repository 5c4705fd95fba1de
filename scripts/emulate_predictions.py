#!/usr/bin/env python3
"""Measures what `verify --data` measures, with PyTorch and Transformers: an oracle that shares no code with this project.

usage: emulate_predictions.py SOURCE CHECKPOINT EVAL.jsonl... [--tokens 512] [--documents 0] [--perturb 0 1e-6 ...]
                              [--lines w4a4 w4a16 activations]

SOURCE is the BF16 checkpoint, CHECKPOINT the NVFP4 one made from it; EVAL.jsonl is not compressed. Both are computed in F32
by the Transformers implementation of the model. Linears of the checkpoint multiply codes times block scales, as exact
numbers, and divide by the global scales afterwards; inputs of W4A4 go through the same codec (graph/ops.h, LinearParams).
With --perturb every input scale is multiplied by 1 + x, for each x in turn: codes near a tie fall the other way, and the
spread of the figures is what rounding alone does. Needs torch, transformers, tokenizers, safetensors; a GPU helps. One JSON object a line on the output.
"""
import argparse
import glob
import json
import os

import torch
import torch.nn.functional as F
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import AutoModelForImageTextToText

E2M1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
LARGEST_E4M3 = 448.0


def read_tensors(folder):
    tensors = {}
    for path in sorted(glob.glob(os.path.join(folder, "*.safetensors"))):
        with safe_open(path, framework="pt") as file:
            tensors.update({name: file.get_tensor(name) for name in file.keys()})
    return tensors


def nearest_e2m1(x):
    """Ties to the even code: boundaries 0.25 1.25 2.5 5 belong to the value below them, 0.75 1.75 3.5 to the one above."""
    size = x.abs()
    code = sum((size > b).int() for b in (0.25, 1.25, 2.5, 5.0)) + sum((size >= b).int() for b in (0.75, 1.75, 3.5))
    return torch.copysign(torch.tensor(E2M1, device=x.device)[code.long()], x)


def quantize_inputs(x, global_scale):
    """x [T, K] -> code * block scale, [T, K]."""
    blocks = x.reshape(x.shape[0], -1, 16)
    amax = blocks.abs().amax(-1, keepdim=True)
    scale = (global_scale * amax / 6).clamp(max=LARGEST_E4M3).to(torch.float8_e4m3fn).float()
    codes = nearest_e2m1(torch.where(scale > 0, blocks * global_scale / scale, torch.zeros_like(blocks)))
    return (codes * scale).reshape(x.shape)


class Weight:
    """code * block scale [N, K], and the scales that the product is divided by."""

    def __init__(self, tensors, module, device):
        packed = tensors[module + ".weight_packed"].to(device)
        codes = torch.stack([packed & 15, packed >> 4], -1).reshape(packed.shape[0], -1).long()
        values = torch.tensor(E2M1 + [-v for v in E2M1], device=device)[codes]
        scales = tensors[module + ".weight_scale"].to(device).float()
        self.values = (values.reshape(*scales.shape, 16) * scales[..., None]).reshape(values.shape)
        self.scale = tensors[module + ".weight_global_scale"].to(device)
        self.input_scale = tensors[module + ".input_global_scale"].to(device)


class Arithmetic:
    """How quantized Linears compute: line is source, w4a4, w4a16 or activations."""
    line = "source"
    perturbation = 0.0

    @classmethod
    def product(cls, x, original, weight):
        if cls.line == "source":
            return F.linear(x, original)
        if cls.line == "w4a16":
            return F.linear(x, weight.values / weight.scale)
        input_scale = weight.input_scale * torch.tensor(1 + cls.perturbation, dtype=torch.float64).float().to(x.device)
        values = quantize_inputs(x.reshape(-1, x.shape[-1]), input_scale).reshape(x.shape)
        if cls.line == "activations":
            return F.linear(values, original) / input_scale
        return F.linear(values, weight.values) / (weight.scale * input_scale)


def replace_linears(model, tensors, device):
    count = 0
    for name, module in model.named_modules():
        if isinstance(module, torch.nn.Linear) and name + ".weight_packed" in tensors:
            weight = Weight(tensors, name, device)
            module.forward = lambda x, m=module, w=weight: Arithmetic.product(x, m.weight, w)
            count += 1
        elif hasattr(module, "gate_up_proj") and hasattr(module, "down_proj") and hasattr(module, "num_experts"):
            experts = [[Weight(tensors, f"{name}.{e}.{part}", device) for part in ("gate_proj", "up_proj", "down_proj")]
                       for e in range(module.num_experts)]
            module.forward = lambda h, index, weights, m=module, x=experts: run_experts(m, x, h, index, weights)
            count += 3 * module.num_experts
    return count


def run_experts(module, experts, hidden, chosen, weights):
    """The reference's experts, one after another, with their three products replaced."""
    out = torch.zeros_like(hidden)
    half = module.intermediate_dim
    for e in chosen.unique().tolist():
        token, place = torch.where(chosen == e)
        x = hidden[token]
        gate = Arithmetic.product(x, module.gate_up_proj[e][:half], experts[e][0])
        up = Arithmetic.product(x, module.gate_up_proj[e][half:], experts[e][1])
        y = Arithmetic.product(module.act_fn(gate) * up, module.down_proj[e], experts[e][2])
        out.index_add_(0, token, y * weights[token, place, None])
    return out


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("checkpoint")
    parser.add_argument("data", nargs="+")
    parser.add_argument("--tokens", type=int, default=512, help="of each document, at most")
    parser.add_argument("--documents", type=int, default=0, help="the first N; 0: all")
    parser.add_argument("--perturb", type=float, nargs="*", default=[0.0])
    parser.add_argument("--lines", nargs="*", default=["w4a4", "w4a16", "activations"])
    args = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.set_grad_enabled(False)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    model = AutoModelForImageTextToText.from_pretrained(args.source, dtype=torch.float32, attn_implementation="eager")
    model = model.eval().to(device)
    count = replace_linears(model, read_tensors(args.checkpoint), device)
    tokenizer = Tokenizer.from_file(os.path.join(args.source, "tokenizer.json"))
    texts = [json.loads(line)["text"] for path in args.data for line in open(path, encoding="utf-8")]
    texts = texts[:args.documents or None]
    documents = [tokenizer.encode(text, add_special_tokens=False).ids[:args.tokens] for text in texts]

    def log_probabilities(ids):
        return torch.log_softmax(model(input_ids=torch.tensor([ids], device=device)).logits[0].double(), -1)

    Arithmetic.line = "source"
    source = [log_probabilities(ids).cpu() for ids in documents]
    runs = [(line, x) for line in args.lines for x in (args.perturb if line != "w4a16" else [0.0])]
    for line, perturbation in runs:
        Arithmetic.line, Arithmetic.perturbation = line, perturbation
        divergence, same, nll, source_nll, positions, predictions = 0.0, 0, 0.0, 0.0, 0, 0
        for ids, log_p in zip(documents, source):
            log_p, log_q = log_p.to(device), log_probabilities(ids)
            divergence += float((log_p.exp() * (log_p - log_q)).sum())
            same += int((log_p.argmax(-1) == log_q.argmax(-1)).sum())
            following = torch.tensor(ids[1:], device=device)[:, None]
            source_nll -= float(log_p[:-1].gather(1, following).sum())
            nll -= float(log_q[:-1].gather(1, following).sum())
            positions, predictions = positions + len(ids), predictions + len(ids) - 1
        exp = lambda total: float(torch.tensor(total / predictions).exp())
        print(json.dumps({"line": line, "perturb": perturbation, "modules": count, "positions": positions,
                          "kl": divergence / positions, "same_top": same / positions, "source_perplexity": exp(source_nll),
                          "perplexity": exp(nll)}), flush=True)


if __name__ == "__main__":
    main()
