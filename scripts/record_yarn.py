#!/usr/bin/env python3
"""Writes tests/data/golden/yarn.json: the inverse frequencies and the attention factor of YaRN for some configs.

An independent implementation, in numpy and in single precision as torch computes them there, of _compute_yarn_parameters() of
Transformers 5.17 (src/transformers/modeling_rope_utils.py). Only needed to write the file anew:
    pip install numpy && python3 scripts/record_yarn.py
With --check-transformers it compares the numbers with those of the installed Transformers instead (needs torch).
"""
import json
import math
import pathlib
import sys

import numpy as np

FILE = pathlib.Path(__file__).resolve().parent.parent / "tests" / "data" / "golden" / "yarn.json"
F32 = np.float32

# Keys of rope_parameters beside rope_type; positions stand in the text config.
CASES = [
    {"factor": 4.0, "original_max_position_embeddings": 32768},
    {"factor": 4.0, "original_max_position_embeddings": 262144},
    {"factor": 2.5, "original_max_position_embeddings": 8192, "truncate": False},
    {"factor": 16.0, "original_max_position_embeddings": 4096, "beta_fast": 16.0, "beta_slow": 2.0},
    {"factor": 8.0, "original_max_position_embeddings": 32768, "mscale": 0.707, "mscale_all_dim": 1.0},
    {"factor": 8.0, "original_max_position_embeddings": 32768, "mscale": 1.0},
    {"factor": 4.0, "original_max_position_embeddings": 32768, "attention_factor": 1.5},
    {"factor": 1.0, "original_max_position_embeddings": 32768},
]
THETA, HEAD, SHARE = 10_000_000, 256, 0.25


def scale_of(factor, mscale=1.0):
    return 1.0 if factor <= 1 else 0.1 * mscale * math.log(factor) + 1.0


def yarn(theta, dimensions, keys):
    """[dimensions / 2] inverse frequencies in F32, and the attention factor."""
    factor, original = keys["factor"], keys["original_max_position_embeddings"]
    attention = keys.get("attention_factor")
    if attention is None:
        mscale, mscale_all = keys.get("mscale"), keys.get("mscale_all_dim")
        both = mscale and mscale_all
        attention = scale_of(factor, mscale) / scale_of(factor, mscale_all) if both else scale_of(factor)

    def dimension(rotations):
        return dimensions * math.log(original / (rotations * 2 * math.pi)) / (2 * math.log(theta))

    low, high = dimension(keys.get("beta_fast") or 32), dimension(keys.get("beta_slow") or 1)
    if keys.get("truncate", True):
        low, high = math.floor(low), math.ceil(high)
    low, high = max(low, 0), min(high, dimensions - 1)
    if low == high:
        high += 0.001
    powers = np.power(F32(theta), np.arange(0, dimensions, 2, dtype=F32) / F32(dimensions), dtype=F32)
    ramp = np.clip((np.arange(dimensions // 2, dtype=F32) - F32(low)) / F32(high - low), 0, 1).astype(F32)
    kept = F32(1) - ramp
    frequencies = F32(1) / (F32(factor) * powers) * (F32(1) - kept) + F32(1) / powers * kept
    return frequencies.astype(F32), attention


def yarn_of_transformers(theta, keys):
    from transformers import PretrainedConfig
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS
    config = PretrainedConfig(head_dim=HEAD, hidden_size=HEAD, num_attention_heads=1,
                              max_position_embeddings=int(keys["factor"] * keys["original_max_position_embeddings"]))
    config.rope_parameters = {"rope_type": "yarn", "rope_theta": theta, "partial_rotary_factor": SHARE} | keys
    frequencies, attention = ROPE_INIT_FUNCTIONS["yarn"](config, "cpu")
    return frequencies.numpy(), attention


def main():
    cases = []
    for keys in CASES:
        frequencies, attention = yarn(THETA, int(HEAD * SHARE), keys)
        cases.append({"rope_theta": THETA, "head_dim": HEAD, "partial_rotary_factor": SHARE, "keys": keys,
                      "inverse_frequencies": [float(value) for value in frequencies], "attention_factor": attention})
        if "--check-transformers" in sys.argv:
            theirs, factor = yarn_of_transformers(THETA, keys)
            error = float(np.max(np.abs(frequencies - theirs) / theirs))
            print(keys, "largest relative difference", error, "factors", attention, factor)
    if "--check-transformers" not in sys.argv:
        FILE.write_text(json.dumps(cases, indent=1) + "\n")


if __name__ == "__main__":
    main()
