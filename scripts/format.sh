#!/bin/sh
# Formats the sources with clang-format, or with --check says which are not formatted. Versions of clang-format differ in
# details, so another version than the one named here changes nothing and checks nothing.
set -eu
version=14
cd "$(dirname "$0")/.."
program=
for name in clang-format-$version clang-format; do
    if "$name" --version 2>/dev/null | grep -q "version $version\."; then
        program=$name
        break
    fi
done
if [ -z "$program" ]; then
    echo "format: not done, clang-format $version is not installed"
    exit 0
fi
files=$(git ls-files '*.h' '*.c' '*.cpp' '*.cu' '*.cuh')
if [ "${1:-}" = --check ]; then
    $program --dry-run -Werror $files || { echo "format: run 'make format'" >&2; exit 1; }
    echo "format: $(echo "$files" | wc -l) files are formatted"
else
    $program -i $files
fi
