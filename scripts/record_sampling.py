#!/usr/bin/env python3
"""Records what sampling and stop strings must give, in tests/data/sampling.json.

usage: record_sampling.py

Written from the definitions: of the penalties as the OpenAI API and vLLM have them, of min-p, top-k and top-p as the papers and
vLLM have them, and of SplitMix64. Probabilities are made with exact fractions where that is possible and never share code with
the library. Draws follow docs/sampling.md: of each choice one number is the seed of a noise for each id.
"""
import json
import math
import os
import random

OUTPUT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data", "sampling.json")
DEFAULTS = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0,
            "presence_penalty": 0.0, "frequency_penalty": 0.0, "logit_bias": {}}
MASK = (1 << 64) - 1


def as_float32(value):
    import struct
    return struct.unpack("f", struct.pack("f", value))[0]


def penalized(logits, options, prompt, chosen):
    """Logits after bias and penalties, by id."""
    changed = {id: logit + options["logit_bias"].get(str(id), 0.0) for id, logit in enumerate(logits)}
    for id in set(prompt) | set(chosen):
        penalty = options["repetition_penalty"]
        changed[id] = changed[id] / penalty if changed[id] > 0 else changed[id] * penalty
    for id in set(chosen):
        changed[id] -= options["frequency_penalty"] * chosen.count(id) + options["presence_penalty"]
    return changed


def distribution(logits, options, prompt, chosen):
    """[(id, probability)], the likeliest first."""
    changed = penalized(logits, options, prompt, chosen)
    order = sorted((id for id in changed if changed[id] != -math.inf), key=lambda id: (-changed[id], id))
    if options["temperature"] == 0:
        return [(order[0], 1.0)]
    scaled = {id: math.exp((changed[id] - changed[order[0]]) / options["temperature"]) for id in order}
    whole = math.fsum(scaled.values())
    probabilities = {id: scaled[id] / whole for id in order}
    order = [id for id in order if probabilities[id] >= options["min_p"] * probabilities[order[0]]]
    if options["top_k"] > 0:
        order = order[:options["top_k"]]
    left = math.fsum(probabilities[id] for id in order)
    kept, reached = [], 0.0
    for id in order:
        kept.append(id)
        reached += probabilities[id] / left
        if reached >= options["top_p"] and options["top_p"] < 1:
            break
    whole = math.fsum(probabilities[id] for id in kept)
    return [(id, probabilities[id] / whole) for id in kept if probabilities[id] > 0]


def split_mix(seed):
    state = seed
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def noise(seed, count):
    """-log(-log(u)) for the ids below `count`, where u is uniform in (0, 1)."""
    numbers = split_mix(seed)
    return [-math.log(-math.log(((next(numbers) >> 12) + 0.5) / 2.0**52)) for _ in range(count)]


def draw(seed, logits, options, prompt, count):
    """The ids of `count` choices, each of which counts for the next."""
    chosen, seeds = [], split_mix(seed)
    while len(chosen) < count:
        ids = [id for id, _ in distribution(logits, options, prompt, chosen)]
        if options["temperature"] > 0:
            changed, noises = penalized(logits, options, prompt, chosen), noise(next(seeds), len(logits))
            ids.sort(key=lambda id: (-(changed[id] / options["temperature"] + noises[id]), id))
        chosen.append(ids[0])
    return chosen


def make_case(source, name, options, size=40, prompt=(), ties=False):
    step = 1.0 if ties else 1e-3
    logits = [as_float32(round(source.gauss(0, 3) / step) * step) for _ in range(size)]
    options = {**DEFAULTS, **options}
    seed = source.getrandbits(64)
    chosen = draw(seed, logits, options, list(prompt), 24)
    return {"name": name, "logits": [float(f"{logit:.9g}") for logit in logits], "options": options,
            "prompt": list(prompt), "seed": str(seed), "chosen": chosen,
            # before the first choice, and after the last
            "first": distribution(logits, options, list(prompt), []),
            "last": distribution(logits, options, list(prompt), chosen)}


def sampling_cases():
    source = random.Random(18)
    penalties = {"repetition_penalty": 1.3, "presence_penalty": 0.7, "frequency_penalty": 0.25}
    bias = {"3": 5.0, "7": -100.0, "11": 2.5, "0": 100.0}
    cases = [make_case(source, *arguments) for arguments in (
        ("plain", {}), ("cold", {"temperature": 0.3}), ("hot", {"temperature": 40.0}),
        ("min_p", {"min_p": 0.1}), ("min_p of 1", {"min_p": 1.0}), ("top_k", {"top_k": 5}), ("top_p", {"top_p": 0.8}),
        ("tiny top_p", {"top_p": 1e-9}), ("all cuts", {"min_p": 0.02, "top_k": 9, "top_p": 0.9, "temperature": 1.7}),
        ("greedy", {"temperature": 0.0}), ("bias", {"logit_bias": bias}),
        ("presence", {"presence_penalty": 2.0}), ("frequency", {"frequency_penalty": 2.0}),
        ("negative penalties", {"presence_penalty": -2.0, "frequency_penalty": -0.1}))]
    cases += [make_case(source, "repetition", {"repetition_penalty": 2.0}, 40, (1, 1, 5, 39)),
              make_case(source, "repetition below 1", {"repetition_penalty": 0.8}, 40, (2, 3)),
              make_case(source, "greedy with penalties", {"temperature": 0.0, **penalties}, 40, (4, 8)),
              make_case(source, "everything", {**penalties, "temperature": 0.9, "min_p": 0.01, "top_k": 30, "top_p": 0.95,
                                               "logit_bias": {"9": 1.5, "10": -2.0}}, 40, (0, 9, 9)),
              make_case(source, "ties", {"top_k": 7, "top_p": 0.9}, 40, (), True),
              make_case(source, "ties with min_p", {"min_p": 0.05}, 40, (), True),
              make_case(source, "many", {"top_p": 0.97}, 700),
              make_case(source, "one", {}, 1)]
    return cases


# --- Stop strings -----------------------------------------------------------------------------------------------------

def shown_after(text, stops):
    """What may be shown of a text that may go on: (shown, which stop string ended it or None)."""
    for end in range(1, len(text) + 1):
        ended = [(len(stop), -i) for i, stop in enumerate(stops) if text[:end].endswith(stop)]
        if ended:
            length, which = max(ended)
            return text[:end - length], -which
    for begin in range(len(text) + 1):
        if any(stop.startswith(text[begin:]) and stop != text[begin:] for stop in stops):
            return text[:begin], None
    raise AssertionError  # the empty text begins every stop string


def stop_case(source, text, stops):
    pieces, at = [], 0
    while at < len(text):
        size = source.randint(1, 4)
        pieces.append(text[at:at + size])
        at += size
    shown = [shown_after("".join(pieces[:i + 1]), stops) for i in range(len(pieces))]
    shown = shown[:next((i + 1 for i, (_, which) in enumerate(shown) if which is not None), len(shown))]
    return {"stops": stops, "pieces": pieces[:len(shown)], "shown": [part for part, _ in shown], "found": shown[-1][1]}


def stop_cases():
    source = random.Random(3)
    cases = [stop_case(source, text, stops) for text, stops in (
        ("Hello world. END of it", ["END"]), ("ababababc", ["ababc"]), ("aaaaaab", ["aab"]), ("no stop here", ["stopped"]),
        ("a user:b\nuser: c", ["\nuser:", "user: "]), ("xyz", ["xyz", "yz", "z"]), ("wxyzz", ["xyzz", "yz"]),
        ("grüße €€ und 😀😀!", ["€ ", "😀!"]), ("ends with half a sto", ["stop"]), ("\n\n\n", ["\n\n"]))]
    for _ in range(60):
        alphabet = source.choice(["ab", "abc", "aé", "😀b"])
        word = lambda size: "".join(source.choice(alphabet) for _ in range(size))
        cases.append(stop_case(source, word(source.randint(1, 24)), [word(source.randint(1, 5))
                                                                     for _ in range(source.randint(1, 4))]))
    return cases


def main():
    with open(OUTPUT, "w", encoding="utf-8") as file:
        lines = [",\n".join(json.dumps(case, ensure_ascii=True, separators=(",", ":")) for case in cases)
                 for cases in (sampling_cases(), stop_cases())]
        file.write('{"sampling":[\n' + lines[0] + '\n],\n"stops":[\n' + lines[1] + '\n]}\n')


if __name__ == "__main__":
    main()
