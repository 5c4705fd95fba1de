#!/usr/bin/env python3
"""Measures this project's CPU inference beside llama.cpp's, on the same weights, the same cores and in turns.

usage: compare_llama_cpp.py MODEL --llama FOLDER [--run PROGRAM] [--gguf FILE] [--threads N] [--rounds N]
                            [--n-prompt N] [--n-gen N] [--precision fp32|bf16] [--exact] [--check-only]

MODEL     an NVFP4 checkpoint of a Qwen3.5 or Qwen3.6 mixture of experts that quantize made
--llama   folder with llama-bench and llama-perplexity, built for this processor (GGML_NATIVE)
--run     our program run (default: build/bin/run)
--gguf    where the converted file goes and stays; an existing one is used (default: a scratch file)
--precision   of run's activations (default: fp32)
--exact   compares the predictions also with every weight expanded to F32: no products of 8 bits, so only rounding is left
--check-only   converts and compares the predictions, and measures nothing

1. The checkpoint becomes a GGUF file. Codes and block scales of NVFP4 keep their bits and only change places; the inverse of
   a global scale becomes GGML's second scale; all other weights keep the types that llama.cpp's own conversion chooses.
2. llama-perplexity compares its predictions with ours over 255 positions. Weights that are not the same would show: codes or
   heads in a wrong order leave less than a fifth of the likeliest tokens equal.
3. `run --bench` and `llama-bench` take turns. The table shows medians of all rounds.

Arithmetic differs: run computes in F32, with --precision bf16 from activations that are rounded to BF16; llama.cpp rounds the
inputs of NVFP4 products to 8 bits and those of BF16 products to BF16. The GGUF file has no tokenizer. Needs numpy and gguf (pip install gguf).
"""
import argparse
import json
import os
import re
import statistics
import struct
import subprocess
import sys
import tempfile

try:  # --help works without them
    import gguf
    import numpy as np
    TYPES = {"BF16": np.uint16, "F32": np.float32, "F16": np.float16, "U8": np.uint8, "F8_E4M3": np.uint8}
    NVFP4 = gguf.GGMLQuantizationType.NVFP4
    MISSING = None
except (ImportError, AttributeError) as error:  # AttributeError: an old gguf
    MISSING = error
POSITIONS = 512  # of the comparison; llama-perplexity looks at the second half

LAYER_NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "post_attention_norm",
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output", "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
    "linear_attn.in_proj_qkv": "attn_qkv", "linear_attn.in_proj_z": "attn_gate", "linear_attn.in_proj_a": "ssm_alpha",
    "linear_attn.in_proj_b": "ssm_beta", "linear_attn.conv1d": "ssm_conv1d", "linear_attn.norm": "ssm_norm",
    "linear_attn.out_proj": "ssm_out", "linear_attn.A_log": "ssm_a", "linear_attn.dt_bias": "ssm_dt.bias",
    "mlp.gate": "ffn_gate_inp", "mlp.shared_expert_gate": "ffn_gate_inp_shexp",
    "mlp.shared_expert.gate_proj": "ffn_gate_shexp", "mlp.shared_expert.up_proj": "ffn_up_shexp",
    "mlp.shared_expert.down_proj": "ffn_down_shexp",
    "mlp.experts.gate_proj": "ffn_gate_exps", "mlp.experts.up_proj": "ffn_up_exps", "mlp.experts.down_proj": "ffn_down_exps",
}
MODEL_NAMES = {"embed_tokens": "token_embd", "norm": "output_norm", "lm_head": "output"}
ALWAYS_F32 = re.compile(r"norm$|ffn_gate_inp|ssm_conv1d|ssm_a$|bias$")  # as in llama.cpp's conversion


# --- The checkpoint -----------------------------------------------------------------------------------------------------

def read_safetensors(path):
    """name -> array of every tensor; BF16 as uint16."""
    with open(path, "rb") as stream:
        size = struct.unpack("<Q", stream.read(8))[0]
        header = json.loads(stream.read(size))
    header.pop("__metadata__", None)
    data = np.memmap(path, np.uint8, "r", 8 + size)
    return {name: data[slice(*info["data_offsets"])].view(TYPES[info["dtype"]]).reshape(info["shape"])
            for name, info in header.items()}


def read_checkpoint(folder):
    """The tensors of the text model, without the prefixes of their names."""
    tensors = {}
    for file in sorted(f for f in os.listdir(folder) if f.endswith(".safetensors")):
        for name, array in read_safetensors(os.path.join(folder, file)).items():
            short = re.sub(r"^model\.(language_model\.)?", "", name)
            if not short.startswith(("visual.", "mtp.")):
                tensors[short] = array
    return tensors


def to_f32(array):
    return (array.astype(np.uint32) << 16).view(np.float32) if array.dtype == np.uint16 else array.astype(np.float32)


def tile_value_heads(array, module, text):
    """Value heads of linear attention stand together by key head; GGML repeats key heads, so its order is the transposed."""
    keys, values = text["linear_num_key_heads"], text["linear_num_value_heads"]
    if not module.startswith("linear_attn.") or module == "linear_attn.norm":
        return array
    axis = 1 if module == "linear_attn.out_proj" else 0
    first = 2 * keys * text["linear_key_head_dim"] if module in ("linear_attn.in_proj_qkv", "linear_attn.conv1d") else 0
    head, tail = np.split(array, [first], axis)
    shape = tail.shape
    tail = tail.reshape(*shape[:axis], keys, values // keys, -1, *shape[axis + 1:]).swapaxes(axis, axis + 1)
    return np.concatenate([head, tail.reshape(shape)], axis)


def pack_nvfp4(codes, scales):
    """[N, K / 2] codes and [N, K / 16] block scales -> [N, K / 64 * 36]: four scales, then the codes of their blocks, of which
    byte j holds value j in its lower half and value j + 8 in the upper one."""
    rows, blocks = scales.shape
    values = np.stack([codes & 15, codes >> 4], -1).reshape(rows, blocks, 2, 8)
    packed = values[:, :, 0] | values[:, :, 1] << 4
    return np.concatenate([scales.reshape(rows, -1, 4), packed.reshape(rows, -1, 32)], -1).reshape(rows, -1)


def experts_of(tensors, layer, count, projection, part):
    return [tensors[f"layers.{layer}.mlp.experts.{e}.{projection}.{part}"] for e in range(count)]


# --- The GGUF file ------------------------------------------------------------------------------------------------------

def add_hyperparameters(writer, text, vocabulary):
    rope = text.get("rope_parameters", {})
    head = text["head_dim"]
    linear = [kind == "linear_attention" for kind in text["layer_types"]]
    writer.add_block_count(text["num_hidden_layers"])
    writer.add_context_length(text["max_position_embeddings"])
    writer.add_embedding_length(text["hidden_size"])
    writer.add_head_count(text["num_attention_heads"])
    writer.add_head_count_kv(text["num_key_value_heads"])
    writer.add_key_length(head)
    writer.add_value_length(head)
    writer.add_rope_dimension_count(int(head * rope.get("partial_rotary_factor", 0.25)))
    writer.add_rope_dimension_sections((list(rope.get("mrope_section", [11, 11, 10])) + [0])[:4])
    writer.add_rope_freq_base(rope.get("rope_theta", 1e7))
    writer.add_layer_norm_rms_eps(text.get("rms_norm_eps", 1e-6))
    writer.add_expert_count(text["num_experts"])
    writer.add_expert_used_count(text["num_experts_per_tok"])
    writer.add_expert_feed_forward_length(text["moe_intermediate_size"])
    writer.add_expert_shared_feed_forward_length(text["shared_expert_intermediate_size"])
    writer.add_ssm_conv_kernel(text["linear_conv_kernel_dim"])
    writer.add_ssm_state_size(text["linear_key_head_dim"])
    writer.add_ssm_group_count(text["linear_num_key_heads"])
    writer.add_ssm_time_step_rank(text["linear_num_value_heads"])
    writer.add_ssm_inner_size(text["linear_value_head_dim"] * text["linear_num_value_heads"])
    writer.add_array("qwen35moe.attention.recurrent_layers", linear)
    writer.add_full_attention_interval(linear.index(False) + 1)
    writer.add_vocab_size(vocabulary)
    writer.add_tokenizer_model("no_vocab")


def add_nvfp4(writer, name, codes, scales, global_scales, exact):
    """One module, or the experts' modules as one tensor."""
    weights = [pack_nvfp4(c, s) for c, s in zip(codes, scales)]
    second = 1 / np.concatenate([np.ravel(to_f32(s)) for s in global_scales])
    if exact:
        weights = [gguf.quants.dequantize(w, NVFP4) * s for w, s in zip(weights, second)]
    else:
        writer.add_tensor(name + ".scale", second)
    writer.add_tensor(name + ".weight", weights[0] if len(weights) == 1 else np.stack(weights),
                      raw_dtype=None if exact else NVFP4)


def add_kept(writer, module, name, array, exact):
    """A weight that is not quantized."""
    if module.endswith("norm") and module != "linear_attn.norm":
        array = to_f32(array) + 1
    elif module == "linear_attn.A_log":
        array = -np.exp(to_f32(array))
    array = array.squeeze() if "conv1d" in module or "shared_expert_gate" in module else array
    full = name if name.endswith((".bias", "ssm_a")) else name + ".weight"
    if array.dtype == np.uint16 and array.ndim > 1 and not exact and not ALWAYS_F32.search(name):
        writer.add_tensor(full, np.ascontiguousarray(array).view(np.uint8), raw_dtype=gguf.GGMLQuantizationType.BF16)
    else:
        writer.add_tensor(full, to_f32(array))


def read_config(model):
    with open(os.path.join(model, "config.json"), encoding="utf-8") as stream:
        config = json.load(stream)
    return config.get("text_config", config)


def convert(model, path, exact=False):
    text = read_config(model)
    tensors = read_checkpoint(model)
    writer = gguf.GGUFWriter(path, "qwen35moe", use_temp_file=True)
    add_hyperparameters(writer, text, tensors["embed_tokens.weight"].shape[0])
    done = set()
    for name in tensors:
        place = re.match(r"layers\.(\d+)\.(.+)$", name)
        layer, rest = (int(place[1]), place[2]) if place else (None, name)
        module, _, part = rest.rpartition(".")
        if module == "linear_attn" or not module:  # A_log, dt_bias
            module, part = rest, "weight"
        expert = re.match(r"(mlp\.experts)\.\d+\.(\w+)$", module)
        if expert:
            module = f"{expert[1]}.{expert[2]}"
        key = (layer, module)
        if key in done or part not in ("weight", "weight_packed"):
            continue
        done.add(key)
        target = MODEL_NAMES[module] if layer is None else f"blk.{layer}.{LAYER_NAMES[module]}"
        if part == "weight":
            add_kept(writer, module, target, tile_value_heads(tensors[name], module, text), exact)
            continue
        parts = ("weight_packed", "weight_scale", "weight_global_scale")
        if expert:
            of_parts = [experts_of(tensors, layer, text["num_experts"], expert[2], p) for p in parts]
        else:
            prefix = name[:-len("weight_packed")]
            of_parts = [[tile_value_heads(tensors[prefix + p], module, text)] for p in parts[:2]]
            of_parts.append([tensors[prefix + parts[2]]])
        add_nvfp4(writer, target, *of_parts, exact)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# --- The comparison of predictions --------------------------------------------------------------------------------------

def output_of(command):
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\nfailed with status {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return done.stdout, done.stderr


def write_base(path, ids, logits):
    """Our predictions in the file that llama-perplexity --kl-divergence reads: log-probabilities as 16-bit steps."""
    vocabulary = logits.shape[1]
    with open(path, "wb") as stream:
        stream.write(b"_logits_" + struct.pack("<Iii", len(ids), vocabulary, 1))
        stream.write(np.asarray(ids, np.int32).tobytes())
        for row in logits[len(ids) // 2:len(ids) - 1].astype(np.float64):
            largest = row.max()
            smallest = max(row.min(), largest - 16)
            step = (largest - smallest) / 65535
            least = smallest - largest - np.log(np.exp(row - largest).sum())
            steps = np.rint(np.clip((row - smallest) / step, 0, 65535)).astype(np.uint16)
            stream.write(np.array([step, least], np.float32).tobytes() + steps.tobytes() + b"\0\0" * (vocabulary % 2))


def our_predictions(args, scratch):
    """Made-up ids, and the file with our predictions for them."""
    vocabulary = read_config(args.model)["vocab_size"]
    ids = [(i * 2654435761 + 12345) % (1 << 32) % vocabulary for i in range(POSITIONS)]
    tokens, dump, base = (os.path.join(scratch, n) for n in ("ids.json", "logits.safetensors", "base"))
    with open(tokens, "w", encoding="utf-8") as stream:
        json.dump({"input_ids": [ids]}, stream)
    output_of([args.run, args.model, "--tokens", tokens, "--dump", dump, "--device", "cpu", "--weights-only", "--quiet",
               "--precision", args.precision, "--threads", str(args.threads)])
    write_base(base, ids, read_safetensors(dump)["logits"].reshape(POSITIONS, vocabulary))
    return base


def compare_predictions(args, what, path, base):
    command = [os.path.join(args.llama, "llama-perplexity"), "-m", path, "-t", str(args.threads), "-ngl", "0",
               "-c", str(POSITIONS), "-b", str(POSITIONS), "--kl-divergence", "--kl-divergence-base", base]
    for _ in range(3):  # on a busy machine it sometimes ends before the last lines of its log are written
        text = "".join(output_of(command))
        figures = [re.search(p, text) for p in (r"Mean +KLD: +(\S+)", r"Maximum KLD: +(\S+)", r"Same top p: +(\S+)")]
        if all(figures):
            break
    else:
        sys.exit("llama-perplexity printed no KL divergence:\n" + text[-2000:])
    mean, most, same = (float(f[1]) for f in figures)
    print(f"{what}: KL divergence {mean:.6f} (largest {most:.6f}), the same likeliest token at {same:.1f} % of "
          f"{POSITIONS // 2 - 1} positions")
    if same < 50:
        sys.exit("the predictions differ too much for the same weights")
    return re.search(r"system_info: .*", text)


# --- Rates --------------------------------------------------------------------------------------------------------------

def measure(args, path):
    count = ["--n-prompt", str(args.n_prompt), "--n-gen", str(args.n_gen), "--repetitions", "1"]
    ours = [args.run, args.model, "--bench", "--device", "cpu", "--weights-only", "--json", "--quiet", "--precision",
            args.precision, "--threads", str(args.threads), *count]
    theirs = [os.path.join(args.llama, "llama-bench"), "-m", path, "-t", str(args.threads), "-ngl", "0", "-p",
              str(args.n_prompt), "-n", str(args.n_gen), "-r", "1", "-o", "json"]
    rates = {}  # (program, test) -> tokens a second of each round
    copies, build = [], ""
    for _ in range(args.rounds):
        document = json.loads(output_of(ours)[0])
        copies.append(document["copy_bytes_per_second"])
        for test in document["tests"]:
            rates.setdefault(("ours", test["test"]), []).append(test["best"])
        for test in json.loads(output_of(theirs)[0]):
            build = f"{test['build_commit']} ({test['build_number']}), {test['cpu_info']}"
            kind = f"pp{test['n_prompt']}" if test["n_prompt"] else f"tg{test['n_gen']}"
            rates.setdefault(("llama.cpp", kind), []).append(test["avg_ts"])
    print(f"llama.cpp {build}; {args.threads} threads, {args.rounds} rounds in turns\n")
    print("| tokens/s: median (least .. most) | run | llama.cpp | factor |\n|---|---:|---:|---:|")
    medians = {}
    for test in [t for program, t in rates if program == "ours"]:
        cells = []
        for program in ("ours", "llama.cpp"):
            values = rates[program, test]
            medians[program, test] = statistics.median(values)
            cells.append(f"{medians[program, test]:.2f} ({min(values):.2f} .. {max(values):.2f})")
        print(f"| {test} | {cells[0]} | {cells[1]} | {medians['ours', test] / medians['llama.cpp', test]:.2f} |")
    copy, bytes_a_token = max(copies), document["bytes_per_token"]
    print(f"\nmemory copy {copy * 1e-9:.1f} GB/s, read and written; a token reads {bytes_a_token * 1e-6:.1f} MB of weights")
    for (program, test), median in medians.items():
        if test.startswith("tg"):
            print(f"{test}, {program}: {median * bytes_a_token * 1e-9:.2f} GB/s, {100 * median * bytes_a_token / copy:.0f} % "
                  "of the copy")


def main():
    parser = argparse.ArgumentParser(usage=__doc__.split("\n\n")[1][len("usage: "):])
    parser.add_argument("model")
    parser.add_argument("--llama", required=True)
    parser.add_argument("--run", default="build/bin/run")
    parser.add_argument("--gguf")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--n-prompt", type=int, default=512)
    parser.add_argument("--n-gen", type=int, default=64)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32")
    parser.add_argument("--exact", action="store_true")
    parser.add_argument("--check-only", action="store_true")
    args = parser.parse_args()
    if MISSING:
        parser.error(f"{MISSING}: this script needs numpy and a gguf that has NVFP4: pip install --upgrade numpy gguf")
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:args.threads])  # the programs inherit it
    with tempfile.TemporaryDirectory() as scratch:
        path = args.gguf or os.path.join(scratch, "model.gguf")
        if not os.path.exists(path):
            convert(args.model, path)
        base = our_predictions(args, scratch)
        system = compare_predictions(args, "the same weights", path, base)
        if args.exact:
            expanded = os.path.join(scratch, "expanded.gguf")
            convert(args.model, expanded, exact=True)
            compare_predictions(args, "the same weights, expanded to F32", expanded, base)
            os.remove(expanded)
        print(system[0] if system else "llama.cpp does not say what it was built for", "\n")
        if not args.check_only:
            measure(args, path)


if __name__ == "__main__":
    main()
