#!/bin/sh
# CUDA's compute-sanitizer over the kernels and over a whole run: memory that is not theirs (memcheck), and shared memory
# that two threads use at once (racecheck). Shapes are the tests' own.
#
# usage: sanitize_cuda.sh [BUILD] [PART...]
#
# BUILD (build) holds bin/ and tests/bin/ with the programs and data/qwen36-tiny. Parts, by default all of them:
#   memcheck   tests/bin/test_cuda
#   racecheck  its cases of our kernels with shared memory
#   run        memcheck of a quantize that calibrates
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
[ $# -gt 0 ] && shift
parts=" ${*:-memcheck racecheck run} "
wants() { case $parts in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
for part in $parts; do
    case $part in
    memcheck | racecheck | run) ;;
    *)
        echo "$part is no part: memcheck, racecheck, run" >&2
        exit 2
        ;;
    esac
done
command -v compute-sanitizer >/dev/null || {
    echo "compute-sanitizer is missing: it comes with the CUDA toolkit (cuda-sanitizer-XX-Y)" >&2
    exit 2
}
check() {
    tool=$1
    shift
    echo "=== $tool: $*"
    compute-sanitizer --tool "$tool" --error-exitcode 3 --print-limit 20 "$@"
}
# What asks for memory that is not there on purpose would count as a failure; of whole runs one is enough, below.
if wants memcheck; then
    check memcheck --kernel-name-exclude kernel_substring=cutlass \
        "$build/tests/bin/test_cuda" --test-case-exclude="failures:*,a whole run*"
fi
# Cases without products of a library: how its kernels use shared memory is its maker's business.
if wants racecheck; then
    check racecheck "$build/tests/bin/test_cuda" \
        --test-case="experts*,inputs of experts*,linear of few rows*,largest magnitudes*,statistics of columns*,statistics of the rows*,\
magnitudes*,attention*,Gated DeltaNet*,fused*,largest of*"
fi
if wants run; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT TERM
    check memcheck --kernel-name-exclude kernel_substring=cutlass "$build/bin/quantize" "$build/data/qwen36-tiny" -o "$folder/out" --calib tests/data/calibration.jsonl.zst \
        --samples 4 --seq-len 128 --no-shuffle --device cuda --quiet
fi
