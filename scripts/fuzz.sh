#!/bin/sh
# usage: fuzz.sh BUILD_FOLDER SECONDS JOBS
# Builds the fuzz targets with clang and runs each for SECONDS, JOBS of them at a time, starting from its corpus. New inputs go to
# BUILD_FOLDER/corpus, what a target prints to BUILD_FOLDER/log; an input that fails to BUILD_FOLDER/crash-*: fix the bug and
# add the input to the corpus.
set -eu
cd "$(dirname "$0")/.."

if [ "$1" = --target ]; then # of the calls below: --target BUILD_FOLDER SECONDS PROGRAM
    build=$2 seconds=$3 program=$4
    name=$(basename "$program")
    mkdir -p "$build/corpus/$name" "$build/log"
    set -- -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0
    dictionary=tests/fuzz/dictionaries/$name.dict
    test ! -e "$dictionary" || set -- "$@" -dict="$dictionary"
    log=$build/log/$name
    if "$program" "$@" -artifact_prefix="$build/crash-$name-" "$build/corpus/$name" "tests/fuzz/corpus/$name" \
        >"$log" 2>&1; then
        echo "$name: passed, $(sed -n 's/.*number_of_executed_units: *//p' "$log") inputs in $seconds s"
    else
        echo "$name: FAILED"
        tail -n 60 "$log"
        exit 1
    fi
    exit 0
fi

build=$1 seconds=$2 jobs=$3
cmake -S . -B "$build" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo -DGNV_CUDA=OFF -DGNV_FUZZER=ON \
    -DGNV_SANITIZE=address,undefined -DGNV_BUILD_TOOLS=OFF -DGNV_BUILD_TESTS=ON >/dev/null
cmake --build "$build" --parallel "$jobs" --target fuzzers
"$build/bin/mutate_headers" 1000000
failed=0
printf '%s\n' "$build"/bin/fuzz_* | xargs -P "$jobs" -n 1 scripts/fuzz.sh --target "$build" "$seconds" || failed=1
echo "$(ls "$build/log" | wc -l) targets, $(if [ $failed = 0 ]; then echo all passed; else echo "some FAILED"; fi)"
exit $failed
