#!/bin/sh
# The full 35B shape on one GPU: makes a synthetic source of 72 GB in a memory-backed folder, calibrates it with 256 x 2048
# random tokens through all experts and through routed ones, checks the result, prints times and hashes, removes everything.
#
# usage: bench_cuda.sh [BUILD] [SOURCE_FOLDER] [OUTPUT_FOLDER]
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
source_parent=${2:-/dev/shm}
output_parent=${3:-.}
source=$source_parent/ggml-nvfp4-bench-source
output=$output_parent/ggml-nvfp4-bench-output
free_gb() { df -Pk "$1" | awk 'NR == 2 { print int($4 / 1e6) }'; }

[ "$(free_gb "$source_parent")" -ge 73 ] || { echo "$source_parent needs 73 GB of free space" >&2; exit 2; }
[ "$(free_gb "$output_parent")" -ge 52 ] || { echo "$output_parent needs 52 GB of free space" >&2; exit 2; }
trap 'rm -rf "$source" "$output" "$output.partial" "$output.small" "$output.small.partial"' EXIT

"$build/bin/make-checkpoint" tests/data/configs/qwen36-35b-a3b.json -o "$source" --shards 26
cp "$build"/data/qwen36-tiny/tokenizer.json "$build"/data/qwen36-tiny/tokenizer_config.json \
    "$build"/data/qwen36-tiny/preprocessor_config.json "$build"/data/qwen36-tiny/generation_config.json \
    "$build"/data/qwen36-tiny/chat_template.jinja "$source"
# Ids that every tokenizer has; experts see random ones as well as any others.
awk 'BEGIN { srand(1); printf "{\"input_ids\": ["; for (s = 0; s < 256; s++) { printf "%s[", s ? ", " : "";
     for (t = 0; t < 2048; t++) printf "%s%d", t ? "," : "", int(rand() * 4000); printf "]" } print "]}" }' \
    >"$source/tokens.json"

for experts in all routed; do
    rm -rf "$output"
    sync
    "$build/bin/quantize" "$source" -o "$output" --tokens "$source/tokens.json" --device cuda --experts $experts \
        --json - --quiet | grep -E '"(calibrate|stream|sync|finish|total|peak_rss_bytes)"' | sed "s/^/experts $experts: /"
done
"$build/bin/quantize" "$source" -o "$output.small" --tokens "$source/tokens.json" --device cuda --experts routed \
    --vram 16GB --ram 6GB --quiet
for shard in "$output"/*.safetensors; do
    cmp "$shard" "$output.small/$(basename "$shard")"
done && echo "the same bytes with --vram 16GB --ram 6GB"
rm -rf "$output.small"
"$build/bin/verify" "$output" --source "$source" 2>/dev/null | tail -n 30
