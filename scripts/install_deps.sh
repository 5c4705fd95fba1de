#!/bin/sh
# Installs what cmake/dependencies.txt names and this machine lacks, with apt-get; says nothing when nothing is missing.
# Elsewhere it prints what is missing and fails.
# usage: install_deps.sh [check|fuzz|format]...    the words add to what build, library, tools and tests need
set -eu
list=$(dirname "$0")/../cmake/dependencies.txt
purposes=" build library tools tests $* "

has_header() {
    for folder in /usr/include /usr/local/include; do
        [ -e "$folder/$1" ] && return 0
    done
    printf '#include <%s>\n' "$1" | c++ -E -x c++ - >/dev/null 2>&1
}

# is_present PACKAGE KIND NAME [HEADER]
is_present() {
    dpkg-query -W -f '${Status}' "$1" 2>/dev/null | grep -q ' installed$' && return 0
    case $2 in
        program) command -v "$3" >/dev/null ;;
        package) ! command -v dpkg-query >/dev/null ;;
        module) pkg-config --exists "$3" 2>/dev/null ;;
        header) has_header "$3" ;;
        library) has_header "$4" ;;
    esac
}

packages=
libraries=
while IFS='|' read -r package purpose found library; do
    case $package in '#'* | '') continue ;; esac
    package=$(echo $package) purpose=$(echo $purpose) # without the blanks of the table
    case $purposes in *" $purpose "*) ;; *) continue ;; esac
    if ! is_present $package $found; then
        packages="$packages $package"
        libraries="$libraries
  $package:$library"
    fi
done < "$list"
[ -n "$packages" ] || exit 0

if ! command -v apt-get >/dev/null; then
    echo "These are missing, with headers where they are libraries (named first as Debian calls them):$libraries" >&2
    echo "Install them with the package manager of this system and run this again." >&2
    exit 1
fi
run=
if [ "$(id -u)" -ne 0 ]; then
    run=sudo
    if ! command -v sudo >/dev/null; then
        echo "These are missing:$libraries" >&2
        echo "As root:  apt-get update && apt-get install$packages" >&2
        exit 1
    fi
fi
echo "Installing:$packages"
export DEBIAN_FRONTEND=noninteractive
if ! { $run apt-get update -qq && $run apt-get install -qq -y --no-install-recommends $packages >/dev/null; }; then
    echo "apt-get failed. Missing:$libraries" >&2
    echo "As root:  apt-get update && apt-get install$packages" >&2
    exit 1
fi
