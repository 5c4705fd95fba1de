#!/bin/sh
# usage: test_chat.sh EXAMPLE RUN MODEL    the example of a chat answers as the program does
set -eu
chat() {
    printf 'Hello\nGrüße, "you" \\ there\n' | "$@"
}
found=$(chat "$1" "$3")
expected=$(chat "$2" "$3" --chat --quiet --n-predict 256)
echo "$found"
[ -n "$found" ] && [ "$found" = "$expected" ]
