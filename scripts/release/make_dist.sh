#!/bin/sh
# make dist: for each architecture an archive with ggml-nvfp4 and a wheel with the same program, then SHA256SUMS
# (docs/release.md). Runs on Debian and Ubuntu; the C library of the machine is the oldest that the programs run with.
# usage: make_dist.sh FOLDER JOBS ARCHITECTURE...    x86_64, aarch64; CMAKE_ARGS in the environment
set -eu
cd "$(dirname "$0")/../.."
tree=$PWD build=$1 jobs=$2
shift 2
mkdir -p "$build"
build=$(cd "$build" && pwd)
results=$build/results
rm -rf "$results"
mkdir -p "$results"
commit=$(git describe --always --dirty --exclude='*' 2>/dev/null || true)
# The time that files in archives have: that of the commit.
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct 2>/dev/null || echo 0)}
export SOURCE_DATE_EPOCH

for architecture in "$@"; do
    folder=$build/$architecture cross= settings=
    if [ "$architecture" != "$(uname -m)" ]; then
        [ "$architecture" = aarch64 ] || { echo "error: $architecture is not built on $(uname -m)" >&2; exit 1; }
        command -v aarch64-linux-gnu-g++ >/dev/null || { echo "error: aarch64 needs g++-aarch64-linux-gnu" >&2; exit 1; }
        cross=aarch64-linux-gnu-
        settings="-DCMAKE_TOOLCHAIN_FILE=$tree/cmake/aarch64.cmake -DGNV_ROOT=$folder/root -DGNV_CUDA=OFF"
    fi
    scripts/release/library_archives.sh "$folder" "$architecture" "$jobs"
    map="-ffile-prefix-map=$tree=. -ffile-prefix-map=$folder=." # no path of this machine in the program
    # shellcheck disable=SC2086 # lists of words
    CXXFLAGS="$map" CUDAFLAGS="-Xcompiler=-ffile-prefix-map=$tree=." \
        PKG_CONFIG_PATH=$folder/archives/lib/pkgconfig cmake -S . -B "$folder/build" $settings ${CMAKE_ARGS:-} \
        -DCMAKE_LIBRARY_PATH="$folder/archives/lib" -DGNV_STATIC=ON -DGNV_BUILD_TESTS=OFF -DGNV_WITH_HUB=ON \
        -DGNV_CUDA_ARCHITECTURES="${DIST_CUDA_ARCHITECTURES:-release}" -DCMAKE_BUILD_WITH_INSTALL_RPATH=ON \
        -DGNV_COMMIT="$commit"
    cmake --build "$folder/build" --parallel "$jobs" --target ggml-nvfp4-program
    cp "$folder/build/bin/ggml-nvfp4" "$folder/ggml-nvfp4"
    "${cross}strip" "$folder/ggml-nvfp4"
    needed=$("${cross}readelf" -d "$folder/ggml-nvfp4" | sed -n 's/.*(NEEDED).*\[\(.*\)\]/\1/p' |
        grep -Ev '^(libc|libm|libdl|libpthread|librt|ld-linux.*)\.so\.[0-9]+$' || true)
    [ -z "$needed" ] || { echo "error: $folder/ggml-nvfp4 needs more than the C library:" $needed >&2; exit 1; }
    python3 scripts/release/pack_release.py "$folder" "$architecture" "$results"
done
(cd "$results" && sha256sum -- * >SHA256SUMS.partial && mv SHA256SUMS.partial SHA256SUMS && cat SHA256SUMS)
