#!/bin/sh
# Installs what cmake/dependencies.txt names and this machine lacks, with apt-get; says nothing when nothing is missing. As root,
# and where CI=true, it says what it installs and does; others are asked first, and without a terminal it prints the command
# and fails. Where there is no apt-get it prints what is missing and fails. What only an example needs is installed where no answer
# is needed; else, and if that fails, it says that the example is left out.
# usage: install_deps.sh [check|fuzz|format|dist|cross]...    the words add to what build, library, tools and tests need
set -eu
list=$(dirname "$0")/../cmake/dependencies.txt
purposes=" build library datasets images quantize verify hub tools tests server $* "

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
optional=
while IFS='|' read -r package purpose found library; do
    case $package in '#'* | '') continue ;; esac
    package=$(echo $package) purpose=$(echo $purpose) # without the blanks of the table
    purpose=${purpose%%,*} # a row with several is one of a part, and all parts are wanted
    case $purposes in *" $purpose "*) ;; *) continue ;; esac
    is_present $package $found && continue
    if [ "$purpose" = server ]; then
        optional="$optional $package"
    else
        packages="$packages $package"
        libraries="$libraries
  $package:$library"
    fi
done < "$list"
export DEBIAN_FRONTEND=noninteractive
run=
[ "$(id -u)" -eq 0 ] || run=sudo
install_optional() {
    [ -n "$optional" ] || exit 0
    if command -v apt-get >/dev/null && { [ -z "$run" ] || [ "${CI:-}" = true ]; }; then
        echo "Installing with apt-get, for an example:$optional"
        limits="-o Acquire::Retries=0 -o Acquire::http::Timeout=20 -o Acquire::https::Timeout=20"
        $run apt-get $limits update -qq >/dev/null 2>&1 || true # the package may be on the machine all the same
        $run apt-get $limits install -qq -y --no-install-recommends $optional >/dev/null 2>&1 && exit 0
    fi
    echo "The example server is left out: it needs$optional"
    exit 0
}
[ -n "$packages" ] || install_optional

if ! command -v apt-get >/dev/null; then
    echo "These are missing, with headers where they are libraries (named first as Debian calls them):$libraries" >&2
    echo "Install them with the package manager of this system and run this again." >&2
    exit 1
fi
command="${run:+$run }apt-get update && ${run:+$run }apt-get install --no-install-recommends$packages"
fail() {
    echo "$1:$libraries" >&2
    echo "To install them:  $command" >&2
    exit 1
}
if [ -n "$run" ]; then
    if ! command -v sudo >/dev/null; then
        command="(as root)  apt-get update && apt-get install --no-install-recommends$packages"
        fail "These are missing"
    fi
    if [ "${CI:-}" != true ]; then
        [ -t 0 ] || fail "These are missing, and there is no terminal to ask on (CI=true installs without asking)"
        printf 'These are missing:%s\nInstall them with  %s  ? [y/N] ' "$libraries" "$command" >&2
        read -r answer || answer=
        case $answer in [yY] | [yY][eE][sS]) ;; *) fail "Not installed" ;; esac
    fi
fi
echo "Installing with apt-get:$packages"
if ! { $run apt-get update -qq && $run apt-get install -qq -y --no-install-recommends $packages >/dev/null; }; then
    fail "apt-get failed. Missing"
fi
install_optional
