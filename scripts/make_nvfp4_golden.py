#!/usr/bin/env python3
"""Cuts the test data of the NVFP4 codec out of a BF16 checkpoint and of what llm-compressor made of it.

usage: make_nvfp4_golden.py SOURCE_FOLDER REFERENCE.safetensors OUTPUT_FOLDER
"""
import glob
import json
import os
import struct
import sys

LAYER = "model.language_model.layers.3."
EXPERT = 17
PROJECTIONS = ("gate_proj", "up_proj", "down_proj")


def open_tensors(paths):
    """name -> (header entry, file, where its data section begins)"""
    tensors = {}
    for path in paths:
        file = open(path, "rb")
        (size,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(size))
        header.pop("__metadata__", None)
        tensors.update({name: (entry, file, 8 + size) for name, entry in header.items()})
    return tensors


def read(tensors, name):
    entry, file, begin = tensors[name]
    first, end = entry["data_offsets"]
    file.seek(begin + first)
    return entry["shape"], file.read(end - first)


def source_weight(source, module):
    """The BF16 bytes of a Linear, which for a routed expert lie inside two fused tensors."""
    if ".experts." not in module:
        return read(source, module + ".weight")
    experts, projection = module.split(f".{EXPERT}.")
    fused = "down_proj" if projection == "down_proj" else "gate_up_proj"
    (_, rows, columns), data = read(source, f"{experts}.{fused}")
    size = rows * columns * 2
    data = data[EXPERT * size:(EXPERT + 1) * size]
    if fused == "down_proj":
        return (rows, columns), data
    half = size // 2
    return (rows // 2, columns), data[:half] if projection == "gate_proj" else data[half:]


def main():
    source_folder, reference_file, output = sys.argv[1:]
    source = open_tensors(sorted(glob.glob(os.path.join(source_folder, "*.safetensors"))))
    reference = open_tensors([reference_file])
    groups = [[f"{LAYER}self_attn.{p}_proj" for p in "qkv"]]
    for mlp in ("mlp.shared_expert", f"mlp.experts.{EXPERT}"):
        gate, up, down = (f"{LAYER}{mlp}.{p}" for p in PROJECTIONS)
        groups += [[gate, up], [down]]
    with open(os.path.join(output, "weights.txt"), "w") as index, open(os.path.join(output, "weights.bin"), "wb") as data:
        for group, modules in enumerate(groups):
            for module in modules:
                (rows, columns), weight = source_weight(source, module)
                _, packed = read(reference, module + ".weight_packed")
                _, scale = read(reference, module + ".weight_scale")
                _, global_scale = read(reference, module + ".weight_global_scale")
                index.write(f"{group} {module} {rows} {columns} {global_scale[::-1].hex()}\n")
                data.write(weight + packed + scale)


main()
