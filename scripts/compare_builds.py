#!/usr/bin/env python3
"""Runs the programs of two builds on the same inputs and compares all that they write: for changes that must not change a
byte. Prints a line for each output that differs; exit status 1 when there is one.

usage: compare_builds.py BEFORE AFTER [--device NAME] [--variant NAME]... [--only TEXT] [--keep FOLDER]

BEFORE, AFTER   build folders with bin/ and data/qwen36-tiny
--device NAME   also runs everything that computes on this device (cuda)
--variant NAME  also runs everything that computes with these CPU instructions (avx2, portable)
--only TEXT     runs the cases whose name contains TEXT
--keep FOLDER   leaves the outputs there, in before/ and after/

Files that hold tensors, statistics or predictions must be equal byte for byte. In text and JSON the words must be equal;
times, rates, memory in use, paths and versions are masked.
"""
import argparse
import filecmp
import itertools
import os
import re
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
DATA = os.path.join(ROOT, "tests", "data")
CALIB = ["--calib", f"{DATA}/calibration.jsonl.zst", "--samples", "12", "--seq-len", "128"]
IDS = ["--tokens", f"{DATA}/golden/reference-tokens.json"]
EVAL = ["--data", f"{DATA}/eval.jsonl.zst", "--documents", "4", "--tokens-per-document", "96"]
TEXT = ["--prompt", "The function returns", "--n-predict", "24"]

LARGEST = 1 << 30  # bytes of a file that is compared

# Keys of JSON documents whose values depend on the moment or on the build.
VOLATILE_MEMBER = re.compile(r'("\w*(?:seconds|_per_second|rate|rss|read|measure|pack|write|fingerprint|in_use|free|available|version|budget|time)\w*": ?)[^,{\[}\]\n]+')
MASKS = [
    (r"\b\d+(\.\d+)?(e[-+]?\d+)? ?(ms|us|s|min|h)\b", "<time>"),
    (r"\b\d+(\.\d+)? [KMGT]?i?B/s", "<rate>"),
    (r"\b\d+(\.\d+)? (tokens|positions|GFLOP|TFLOP)/s", "<rate>"),
    (r"\b\d+\.\d+/s", "<rate>"),
    (r"\d+ %( |$)", "<percent>\\1"),
    (r"^([a-z ].*) +\d+\.\d\d$", r"\1 <seconds>"),  # rows of the table of times
    (r"\d+\.\d MB resident", "<memory> resident"),
    (r"\b\d[\d,.]* (tokens|positions) (a|per) second", "<rate>"),
]


def compute_cases(tag, options):
    """Cases that run a model, with `options` added. {out} is the folder of outputs, {src} the small checkpoint."""
    def quantize(name, *arguments):
        return (f"{tag}quantize-{name}", ["quantize", "{src}", "-o", f"{{out}}/{name}", "--json", f"{{out}}/{name}.json",
                                          *arguments, *options])

    def verify(name, *arguments):
        return (f"{tag}verify-{name}", ["verify", f"{{out}}/{tag}w4a4", *arguments, *options])

    return [
        quantize(f"{tag}w4a4", *CALIB, "--save-stats", f"{{out}}/{tag}statistics.json"),
        quantize(f"{tag}reference", *IDS),
        quantize(f"{tag}routed", *IDS, "--experts", "routed"),
        quantize(f"{tag}padded", *CALIB, "--pad", "--threads", "3"),
        quantize(f"{tag}packed", *CALIB, "--pack"),
        quantize(f"{tag}bf16", *IDS, "--precision", "bf16"),
        quantize(f"{tag}small", *IDS, "--ram", "24MB", "--scratch", "{out}"),
        quantize(f"{tag}stats", "--stats", f"{{out}}/{tag}statistics.json"),
        verify("data", "--source", "{src}", *EVAL, "--noise-floor", "--save-logits", f"{{out}}/{tag}logits.bin",
               "--json", f"{{out}}/{tag}data.json"),
        verify("shared-scale", "--source", "{src}", *EVAL, "--lines", "w4a4", "--shared-expert-scale"),
        verify("logits", "--source", "{src}", *EVAL, "--logits", f"{{out}}/{tag}logits.bin"),
        (f"{tag}run-source", ["run", "{src}", *TEXT, "--greedy", "--json", *options]),
        (f"{tag}run-sampled", ["run", "{src}", *TEXT, "--temp", "0.8", "--seed", "7", "--json", *options]),
        (f"{tag}run-w4a4", ["run", f"{{out}}/{tag}w4a4", *TEXT, "--greedy", "--json", *options]),
        (f"{tag}run-w4a16", ["run", f"{{out}}/{tag}w4a4", *TEXT, "--greedy", "--json", "--weights-only", *options]),
        (f"{tag}run-streamed", ["run", f"{{out}}/{tag}w4a4", *TEXT, "--greedy", "--json", "--ram", "24MB", *options]),
        (f"{tag}run-dump", ["run", "{src}", "--prompt", "a b c d e f g", "--dump", f"{{out}}/{tag}dump.safetensors",
                            "--tap", "layer.3.self_attn.q_norm", "--tap", "layer.0.linear_attn.out_proj", *options]),
    ]


def plain_cases():
    """Cases without a forward pass."""
    cases = [
        ("quantize-w4a16", ["quantize", "{src}", "-o", "{out}/w4a16", "--scheme", "nvfp4a16"]),
        ("quantize-shards", ["quantize", "{src}", "-o", "{out}/shards", "--scheme", "nvfp4a16", "--shard-size", "5MB"]),
        ("quantize-kept", ["quantize", "{src}", "-o", "{out}/kept", "--scheme", "nvfp4a16", "--keep", ".*self_attn.*"]),
        ("quantize-experts", ["quantize", "{src}", "-o", "{out}/experts", "--scheme", "nvfp4a16", "--preset",
                              "experts-only"]),
        ("plan", ["quantize", "{src}", "--scheme", "nvfp4a16", "--dry-run", "--no-estimate"]),
        ("plan-json", ["quantize", "{src}", "--scheme", "nvfp4a16", "--dry-run", "--no-estimate", "--json", "{out}/plan.json"]),
        ("plan-calibrated", ["quantize", "{src}", "--dry-run", "--no-estimate", *CALIB, "--ram", "64MB", "--device", "cpu"]),
        ("verify-all", ["verify", "{out}/w4a4", "--source", "{src}", "--device", "cpu", "--json", "{out}/verify.json"]),
        ("verify-text", ["verify", "{out}/w4a4", "--source", "{src}", "--device", "cpu"]),
        ("verify-structure", ["verify", "{out}/w4a16", "--structure"]),
        ("verify-self-test", ["verify", "{out}/w4a4", "--self-test", "--source", "{src}", "--device", "cpu"]),
        ("verify-source", ["verify", "{src}"]),
        ("inspect", ["inspect", "{out}/w4a4", "--tensors"]),
        ("inspect-json", ["inspect", "{src}", "--json", "{out}/inspect.json"]),
        ("inspect-tensor", ["inspect", "{out}/w4a4", "--values", "--tensor",
                            "model.language_model.layers.3.self_attn.q_proj"]),
        ("inspect-compare", ["inspect", "{out}/w4a4", "--compare", "{src}"]),
        ("show-stats", ["quantize", "--show-stats", "--stats", "{out}/statistics.json"]),
        ("dataset", ["dataset", "{src}", *CALIB, "--tokens-out", "{out}/tokens.json", "--json"]),
        ("dataset-text", ["dataset", "{src}", *CALIB, "--show", "2"]),
    ]
    for name in sorted(os.listdir(f"{DATA}/dataset")):
        cases.append((f"dataset-{name}", ["dataset", "{src}", "--calib", f"{DATA}/dataset/{name}", "--samples", "5",
                                          "--seq-len", "64", "--show", "5"]))
    for name in sorted(os.listdir(f"{DATA}/configs")):
        stem = name.removesuffix(".json")
        cases.append((f"shape-{stem}", ["make-checkpoint", f"{DATA}/configs/{name}", "-o", f"{{out}}/{stem}",
                                        "--headers-only"]))
        cases.append((f"shape-plan-{stem}", ["quantize", f"{{out}}/{stem}", "--scheme", "nvfp4a16", "--dry-run", "--no-estimate",
                                             "--json", f"{{out}}/{stem}.json"]))
        cases.append((f"shape-plan-text-{stem}", ["quantize", f"{{out}}/{stem}", "--scheme", "nvfp4a16", "--dry-run", "--no-estimate"]))
    return cases


def find_program(build, name):
    for folder in ("bin", "tests/bin"):
        path = os.path.join(build, folder, name)
        if os.path.exists(path):
            return path
    sys.exit(f"{build} has no program {name}: build it first")


def run_case(build, out, name, command):
    """Runs one program; its output and exit status become files beside the files that it writes."""
    values = {"out": out, "src": os.path.join(build, "data", "qwen36-tiny")}
    arguments = [argument.format(**values) for argument in command[1:]]
    done = subprocess.run([find_program(build, command[0])] + arguments, capture_output=True, stdin=subprocess.DEVNULL)
    for suffix, content in (("stdout", done.stdout), ("stderr", done.stderr)):
        with open(f"{out}/{name}.{suffix}", "wb") as file:
            file.write(content)
    with open(f"{out}/{name}.status", "w", encoding="utf-8") as file:
        file.write(f"{done.returncode}\n")


def masked_lines(path, out, build):
    """The lines of a text or JSON file without what may differ."""
    is_json = path.endswith(".json")
    with open(path, encoding="utf-8", errors="replace") as file:
        for line in file:
            line = line.replace(out, "<out>").replace(build, "<build>")
            if is_json:  # members with a volatile key and a plain value
                yield VOLATILE_MEMBER.sub(r"\1<volatile>", line)
                continue
            for piece in re.split(r"[\r\n]+", line.rstrip()):
                for pattern, mask in MASKS:
                    piece = re.sub(pattern, mask, piece)
                if "<rate>" not in piece:  # lines of progress come and go
                    yield re.sub(r" +", " ", piece)


def is_text(path):
    """True for files of which only the words must be equal."""
    return path.endswith((".stdout", ".stderr", ".json")) and not path.endswith("statistics.json")


def files_below(folder):
    return sorted(os.path.relpath(os.path.join(path, name), folder)
                  for path, _, names in os.walk(folder) for name in names)


def compare(before, after, builds):
    """Lines about outputs that differ."""
    findings = []
    names = files_below(before), files_below(after)
    findings += [f"{name}: only before" for name in names[0] if name not in names[1]]
    findings += [f"{name}: only after" for name in names[1] if name not in names[0]]
    for name in names[0]:
        paths = os.path.join(before, name), os.path.join(after, name)
        if name not in names[1] or os.path.islink(paths[0]):
            continue
        if max(os.path.getsize(path) for path in paths) > LARGEST:  # holes in the place of data
            if os.path.getsize(paths[0]) != os.path.getsize(paths[1]):
                findings.append(f"{name}: sizes differ")
            continue
        if filecmp.cmp(*paths, shallow=False):
            continue
        if not is_text(name):
            findings.append(f"{name}: bytes differ")
            continue
        lines = [masked_lines(path, out, build) for path, out, build in zip(paths, (before, after), builds)]
        for number, (old, new) in enumerate(itertools.zip_longest(*lines, fillvalue="<the end>"), 1):
            if old != new:
                findings.append(f"{name}:{number}: was \"{old.strip()[:200]}\", is \"{new.strip()[:200]}\"")
                break
    return findings


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("before")
    parser.add_argument("after")
    parser.add_argument("--device")
    parser.add_argument("--variant", action="append", default=[])
    parser.add_argument("--only", default="")
    parser.add_argument("--keep")
    options = parser.parse_args()
    builds = [os.path.abspath(options.before), os.path.abspath(options.after)]
    cases = compute_cases("", ["--device", "cpu"]) + plain_cases()
    if options.device:
        cases += compute_cases(f"{options.device}-", ["--device", options.device])
    for variant in options.variant:
        cases += compute_cases(f"{variant}-", ["--device", "cpu", "--instructions", variant])
    cases = [case for case in cases if options.only in case[0]]
    with tempfile.TemporaryDirectory() as scratch:
        outs = [os.path.join(options.keep or scratch, name) for name in ("before", "after")]
        for build, out in zip(builds, outs):
            shutil.rmtree(out, ignore_errors=True)
            os.makedirs(out)
            for name, command in cases:
                run_case(build, out, name, command)
        findings = compare(*outs, builds)
        count = len(files_below(outs[0]))
    print("\n".join(findings + [f"compare_builds: {len(cases)} cases, {count} files, {len(findings)} differ"]))
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
