#!/usr/bin/env python3
"""How many guesses of a draft head come true: greedy text behind the beginnings of documents.

usage: measure_drafting.py RUN TEXTS.jsonl MODEL... [--draft 1] [--characters 600] [--tokens 128] [--documents 0] [--device cpu]

RUN is the program `run`; each record of TEXTS has a field "text" or "output". For each MODEL a line: guesses, those that came, their share with its
standard error over documents, tokens of a pass, and a hash of all ids, by which models with the same text are told.
"""
import argparse
import hashlib
import json
import math
import subprocess


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("run")
    parser.add_argument("texts")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--draft", type=int, default=1)
    parser.add_argument("--characters", type=int, default=600)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--documents", type=int, default=0, help="0: all")
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    with open(args.texts, encoding="utf-8") as file:
        records = [json.loads(line) for line in file]
    prompts = [(record.get("text") or record["output"])[:args.characters] for record in records]
    if args.documents:
        prompts = prompts[:args.documents]
    for model in args.models:
        counts, ids = [], hashlib.sha256()
        for prompt in prompts:
            command = [args.run, model, "--device", args.device, "--threads", "1", "--greedy", "--n-predict", str(args.tokens),
                       "--draft", str(args.draft), "--prompt", prompt, "--json", "--quiet"]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            draft = found["draft"]
            counts.append((draft["drafted"], draft["accepted"], draft["passes"]))
            ids.update(json.dumps(found["ids"]).encode())
        drafted, accepted, passes = (sum(column) for column in zip(*counts))
        share = accepted / drafted
        # Of a ratio of sums: the documents are the sample.
        n = len(counts)
        spread = sum((a - share * d) ** 2 for d, a, _ in counts) * n / max(1, n - 1)
        error = math.sqrt(spread) / drafted
        print(f"{model}: {drafted} guesses, {accepted} came: {100 * share:.1f} % +- {100 * error:.1f}, "
              f"{1 + accepted / passes:.2f} tokens a pass, ids {ids.hexdigest()[:12]}", flush=True)


if __name__ == "__main__":
    main()
