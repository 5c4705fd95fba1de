#!/bin/sh
# usage: fuzz.sh BUILD_FOLDER SECONDS JOBS
# Builds the fuzz targets with clang and runs each for SECONDS, starting from its corpus. New inputs go to
# BUILD_FOLDER/corpus; an input that fails to BUILD_FOLDER/crash-*: fix the bug and add the input to the corpus.
set -eu
build=$1 seconds=$2 jobs=$3
cd "$(dirname "$0")/.."
cmake -S . -B "$build" -DCMAKE_CXX_COMPILER=clang++ -DCMAKE_BUILD_TYPE=RelWithDebInfo -DGNV_CUDA=OFF -DGNV_FUZZER=ON \
    -DGNV_SANITIZE=address,undefined -DGNV_BUILD_TOOLS=OFF -DGNV_BUILD_TESTS=ON >/dev/null
cmake --build "$build" --parallel "$jobs" --target fuzzers
"$build/bin/mutate_headers" 1000000
failed=0 count=0
for program in "$build"/bin/fuzz_*; do
    name=$(basename "$program")
    mkdir -p "$build/corpus/$name"
    echo "$name: $seconds s"
    count=$((count + 1))
    set -- -max_total_time="$seconds" -timeout=30 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0
    dictionary=tests/fuzz/dictionaries/$name.dict
    test ! -e "$dictionary" || set -- "$@" -dict="$dictionary"
    "$program" "$@" -artifact_prefix="$build/crash-$name-" "$build/corpus/$name" "tests/fuzz/corpus/$name" ||
        failed=$((failed + 1))
done
echo "$((count - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
