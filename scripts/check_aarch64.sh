#!/bin/sh
# Compiles the library for aarch64 with the cross compiler of Debian and Ubuntu (g++-aarch64-linux-gnu), where that is
# installed. Nothing is linked, so the headers of this machine's libraries serve.
set -eu
cd "$(dirname "$0")/.."
compiler=aarch64-linux-gnu-g++
if ! command -v $compiler >/dev/null; then
    echo "aarch64: not done, $compiler is not installed"
    exit 0
fi
build=${1:-build-aarch64}
headers="-idirafter /usr/include -idirafter /usr/include/$(c++ -dumpmachine)"
cmake -S . -B "$build" -DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR=aarch64 -DCMAKE_CXX_COMPILER=$compiler \
    -DCMAKE_CXX_FLAGS="$headers" -DGNV_LIBRARY_libsnappy-dev=not-linked -DGNV_INCLUDE_libsnappy-dev=/usr/include \
    -DGNV_CUDA=OFF -DGNV_WERROR=ON -DGNV_BUILD_TESTS=OFF >/dev/null
cmake --build "$build" --parallel "${2:-$(nproc)}" --target gnv_base gnv_parts
echo "aarch64: the library compiles"
