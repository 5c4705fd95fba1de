#!/bin/sh
# Times quantize against a copy of the same source to the same disk, both ending in a sync, and a dry run of the 35B
# shape. Usage: scripts/bench_quantize.sh BUILD [ROUNDS]. Needs 10 GB of disk in BUILD/bench.
set -eu
build=$1
rounds=${2:-5}
configs=$(dirname "$0")/../tests/data/configs
work=$build/bench
mkdir -p "$work"

now() { date +%s.%N; }
median() { sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'; }
field() { sed -n "s/.*\"$1\": \([0-9.]*\),*/\1/p" "$2" | head -n 1; }

if [ ! -d "$work/source" ]; then
    "$build/bin/make-checkpoint" "$configs/bench-4gb.json" -o "$work/source" --shards 2 --seed 1
fi
cat "$work"/source/*.safetensors >/dev/null # both start from a warm page cache
: >"$work/copy.txt"; : >"$work/quantize.txt"; : >"$work/cpu.txt"
for round in $(seq "$rounds"); do
    rm -rf "$work/copy" "$work/result"; sync
    start=$(now); cp -r --reflink=never "$work/source" "$work/copy"; sync; end=$(now)
    echo "$end $start" | awk '{ print $1 - $2 }' >>"$work/copy.txt"
    rm -rf "$work/copy"; sync
    start=$(now)
    "$build/bin/quantize" "$work/source" -o "$work/result" --scheme nvfp4a16 --quiet --json "$work/report.json"
    sync; end=$(now)
    echo "$end $start" | awk '{ print $1 - $2 }' >>"$work/quantize.txt"
    field cpu_seconds "$work/report.json" >>"$work/cpu.txt"
done
bytes=$(field source_bytes "$work/report.json")
echo "quantize of $bytes bytes, median of $rounds, each with a final sync:"
echo "  cp -r      $(median <"$work/copy.txt") s"
echo "  quantize   $(median <"$work/quantize.txt") s, $(median <"$work/cpu.txt") CPU seconds, peak memory $(field peak_rss_bytes "$work/report.json") bytes"
rm -rf "$work/copy" "$work/result"

rm -rf "$work/headers"
"$build/bin/make-checkpoint" "$configs/qwen36-35b-a3b.json" -o "$work/headers" --headers-only --shards 26 >/dev/null
start=$(now); "$build/bin/quantize" "$work/headers" --dry-run --no-estimate --scheme nvfp4 >/dev/null; end=$(now)
echo "dry run of the 35B shape: $(echo "$end $start" | awk '{ print $1 - $2 }') s"
