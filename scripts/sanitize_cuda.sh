#!/bin/sh
# CUDA's compute-sanitizer over the kernels and over a whole run: memory that is not theirs (memcheck), and shared memory
# that two threads use at once (racecheck). Shapes are the tests' own.
#
# usage: sanitize_cuda.sh [BUILD] [TOOL...]     tools, by default all: memcheck racecheck run
set -eu
cd "$(dirname "$0")/.."
build=${1:-build}
[ $# -gt 0 ] && shift
tools=" ${*:-memcheck racecheck run} "
wants() { case $tools in *" $1 "*) return 0 ;; *) return 1 ;; esac; }
command -v compute-sanitizer >/dev/null || {
    echo "compute-sanitizer is missing: it comes with the CUDA toolkit (cuda-sanitizer-XX-Y)" >&2
    exit 2
}
check() {
    tool=$1
    shift
    echo "=== $tool: $*"
    # Kernels of a library are its maker's business.
    compute-sanitizer --tool "$tool" --error-exitcode 3 --print-limit 20 --kernel-name-exclude kernel_substring=cutlass \
        "$@"
}
# What asks for memory that is not there on purpose would count as a failure.
if wants memcheck; then check memcheck "$build/tests/bin/test_cuda" --test-case-exclude="failures:*"; fi
if wants racecheck; then
    check racecheck "$build/tests/bin/test_cuda" --test-case="experts,largest magnitudes,attention,Gated DeltaNet"
fi
if wants run; then
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    check memcheck "$build/bin/quantize" "$build/data/qwen36-tiny" -o "$folder/out" --calib tests/data/calibration.jsonl.zst \
        --samples 4 --seq-len 128 --no-shuffle --device cuda --quiet
fi
