#!/bin/sh
# The CUDA kernels beside their limits, then the full 35B shape on one GPU: makes a synthetic source of 72 GB in a
# memory-backed folder, calibrates it with 256 x 2048 ids from a tokens file through all experts, through routed ones, and
# with a small budget, compares and hashes the bytes, verifies them, and removes everything, also after a failure.
#
# usage: bench_cuda.sh [BUILD] [SOURCE_FOLDER] [OUTPUT_FOLDER] [PART...]
#
# BUILD (build) holds bin/ and tests/bin/ with the programs and data/qwen36-tiny, whose tokenizer the source gets. The source
# is made in SOURCE_FOLDER (/dev/shm), the results in OUTPUT_FOLDER (.). Parts, by default all of them:
#   kernels  tests/bin/test_cuda --bench; tests/bin/bench_images: preprocessing of pictures beside the vision tower
#   limits   the rate of the experts' products alone, 10 s before the run of `all`, beside what the run reaches
#   all      every expert sees every token, as the recipe does
#   several  all again on cuda:0,1, and with four cards on cuda:0,1,2,3; the same bytes. Not by default
#   routed   --experts routed
#   small    --experts routed --vram 16GB --ram 6GB; the same bytes as routed
#   trace    a timeline of `routed`, in OUTPUT_FOLDER/ggml-nvfp4-bench-trace.json: the only file that stays
#   verify   verify --source --device cuda of the last result
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
source_parent=${2:-/dev/shm}
output_parent=${3:-.}
if [ $# -gt 3 ]; then shift 3; else set --; fi
parts=" ${*:-kernels limits all routed small trace verify} "
wants() { case $parts in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
for part in $parts; do
    case $part in
    kernels | limits | all | several | routed | small | trace | verify) ;;
    *)
        echo "$part is no part: kernels, limits, all, several, routed, small, trace, verify" >&2
        exit 2
        ;;
    esac
done
if wants all || wants routed || wants small; then
    runs=true
elif [ "$parts" = " kernels " ]; then
    runs=false
else
    echo "limits, trace and verify go with a run: add all, routed or small" >&2
    exit 2
fi
if wants several && ! wants all; then
    echo "several compares with all: add all" >&2
    exit 2
fi

source=$source_parent/ggml-nvfp4-bench-source
output=$output_parent/ggml-nvfp4-bench-output
trace=$output_parent/ggml-nvfp4-bench-trace.json

if wants kernels; then
    "$build/tests/bin/test_cuda" --bench
    "$build/tests/bin/bench_images" tests/data/configs/qwen36-35b-a3b.json
fi
$runs || exit 0

# need FOLDER GB WHAT: room for the run, before anything is made.
need() {
    free=$(df -Pk "$1" | awk 'NR == 2 { print int($4 * 1024 / 1e9) }')
    [ "$free" -ge "$2" ] && return
    echo "$1 has $free GB of free space; $3 needs $2 GB there" >&2
    exit 2
}
[ -e "$source" ] || need "$source_parent" 73 "the synthetic source"
need "$output_parent" "$(wants small && echo 50 || echo 26)" "the result"
remove_all() { rm -rf "$source" "$output" "$output.partial" "$output.small" "$output.small.partial" "$output.json" "$output.txt"; }
trap remove_all EXIT
trap 'exit 130' INT TERM
remove_all
rm -f "$trace"

"$build/bin/make-checkpoint" tests/data/configs/qwen36-35b-a3b.json -o "$source" --shards 26
for file in tokenizer.json tokenizer_config.json preprocessor_config.json generation_config.json chat_template.jinja; do
    cp "$build/data/qwen36-tiny/$file" "$source"
done
# Ids that every tokenizer has; experts see random ones as well as any others. The generator is Park and Miller's: awk's own
# gives other numbers on other machines.
awk 'BEGIN { x = 1; printf "{\"input_ids\": ["; for (s = 0; s < 256; s++) { printf "%s[", s ? ", " : "";
     for (t = 0; t < 2048; t++) { x = x * 16807 % 2147483647; printf "%s%d", t ? "," : "", x % 4000 } printf "]" } print "]}" }' \
    >"$source/tokens.json"

# One line for a checkpoint: the hash of its files' hashes.
hash_of() { (cd "$1" && ls ./*.safetensors | xargs -P 16 -n 1 sha256sum | sort -k 2 | sha256sum | cut -c 1-16); }
echo "source: bytes $(hash_of "$source"), tokens $(sha256sum "$source/tokens.json" | cut -c 1-16)"

device=cuda
# run NAME FOLDER OPTION...: one run from an idle disk, with as much free memory as the first; its table of times.
run() {
    name=$1 folder=$2
    shift 2
    rm -rf "$folder" "$output.json"
    sync
    for file in "$output"/*.safetensors; do # leaves the page cache
        [ ! -e "$file" ] || dd if="$file" iflag=nocache count=0 status=none
    done
    echo "=== $name"
    "$build/bin/quantize" "$source" -o "$folder" --tokens "$source/tokens.json" --device "$device" --json "$output.json" "$@" 2>&1 |
        grep -v 'tensors, .* GB/s'
    [ -e "$output.json" ] || exit 2 # it failed, and said why
    grep -E '"(calibrate|stream|sync|finish|total|cpu_seconds|peak_rss_bytes|device_bytes_in_use)"' "$output.json"
    echo "$name: bytes $(hash_of "$folder")"
}

if wants all; then
    if wants limits; then
        run "all experts" "$output" --experts all --measure-limits
    else
        run "all experts" "$output" --experts all
    fi
fi
if wants several; then
    cards=$(nvidia-smi -L | wc -l)
    expected=$(hash_of "$output")
    for device in cuda:0,1 cuda:0,1,2,3; do
        [ "$device" = cuda:0,1 ] || [ "$cards" -ge 4 ] || continue
        run "all experts on $device" "$output" --experts all
        [ "$(hash_of "$output")" = "$expected" ] || { echo "other bytes on $device" >&2 && exit 1; }
        echo "the same bytes on $device"
    done
    device=cuda
fi
if wants routed; then
    if wants trace; then
        run "routed experts" "$output" --experts routed --trace "$trace"
    else
        run "routed experts" "$output" --experts routed
    fi
fi
if wants small; then
    run "routed experts, 16 GB of device memory, 6 GB of host memory" "$output.small" --experts routed --vram 16GB --ram 6GB
    if wants routed; then
        for shard in "$output"/*.safetensors; do cmp "$shard" "$output.small/$(basename "$shard")"; done
        echo "the same bytes with --vram 16GB --ram 6GB"
        rm -rf "$output.small"
    else
        rm -rf "$output"
        mv "$output.small" "$output"
    fi
fi
if wants verify; then
    echo "=== verify"
    code=0
    "$build/bin/verify" "$output" --source "$source" --device cuda >"$output.txt" || code=$?
    tail -n 30 "$output.txt"
    exit "$code"
fi
