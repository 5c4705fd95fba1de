#!/bin/sh
# What a program of GNV_STATIC links and the distribution does not have in that form: an archive of simdjson, and a libcurl with
# HTTP alone (the distribution's archive needs Kerberos, which has none). Both are built from the distribution's own source
# packages. For aarch64 on another machine also the distribution's packages of libraries, unpacked. Runs on Debian and Ubuntu;
# changes nothing outside FOLDER and asks the package sources that the machine has.
# usage: library_archives.sh FOLDER ARCHITECTURE JOBS
#     FOLDER/root       the unpacked packages; missing for the machine's own architecture
#     FOLDER/archives   lib/*.a, include/, lib/pkgconfig/; FOLDER/root/usr/local where there is a root
#     FOLDER/packages   a line each: package, version
set -eu
list=$(cd "$(dirname "$0")/../.." && pwd)/cmake/dependencies.txt
mkdir -p "$1"
folder=$(cd "$1" && pwd) architecture=$2 jobs=$3
case $architecture in x86_64) debian=amd64 ;; aarch64) debian=arm64 ;; *) echo "error: no such architecture: $architecture" >&2; exit 1 ;; esac
[ ! -e "$folder/packages" ] || exit 0 # complete
own=$(dpkg --print-architecture)
libraries=$(sed -n 's/^\([a-z0-9.+-]*\) *| *\(library\|datasets\|images\|quantize\|verify\|hub\)[ ,].*/\1/p' "$list")
extra="libssl-dev zlib1g-dev"
[ "$debian" = "$own" ] || extra="$extra libjpeg62-turbo-dev" # what libjpeg-dev stands for

# A state of apt of our own, with sources and the other architecture; the machine's stays as it is.
apt=$folder/apt
mkdir -p "$apt/lists/partial" "$apt/archives/partial" "$apt/parts"
for file in /etc/apt/sources.list.d/*.sources; do
    [ ! -e "$file" ] || sed 's/^Types: deb$/Types: deb deb-src/' "$file" >"$apt/parts/${file##*/}"
done
for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
    [ ! -e "$file" ] || sed 's/^deb \(.*\)/deb \1\ndeb-src \1/' "$file" >"$apt/parts/x-${file##*/}"
done
[ ! -e "$apt/parts/x-sources.list" ] || mv "$apt/parts/x-sources.list" "$apt/parts/main.list"
apt_get() {
    apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/parts" -o Dir::State="$apt" \
        -o Dir::Cache="$apt" -o APT::Architectures::="$debian" -o APT::Sandbox::User=root "$@"
}
apt_get update || echo "warning: some package sources were not read" >&2

cross=
root=
archives=$folder/archives prefix=$folder/archives
if [ "$debian" != "$own" ]; then
    cross=$architecture-linux-gnu-
    root=$folder/root
    archives=$root/usr/local prefix=/usr/local
    mkdir -p "$apt/debs"
    # shellcheck disable=SC2086 # a list of words
    (cd "$apt/debs" && for package in $libraries $extra; do echo "$package:$debian"; done | sort -u | xargs apt-get -qq \
        -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$apt/parts" -o Dir::State="$apt" -o Dir::Cache="$apt" \
        -o APT::Architectures::="$debian" -o APT::Sandbox::User=root download)
    for file in "$apt/debs"/*.deb; do dpkg-deb -x "$file" "$root"; done
fi

mkdir -p "$archives/lib/pkgconfig" "$archives/include"
source_of() { # PACKAGE: the folder of its source
    rm -rf "$apt/$1"
    mkdir "$apt/$1"
    (cd "$apt/$1" && apt_get source "$1" >/dev/null)
    find "$apt/$1" -mindepth 1 -maxdepth 1 -type d
}
cd "$apt"
flags="-O2 -fPIC -ffile-prefix-map=$apt=."

simdjson=$(source_of simdjson)
"${cross}g++" $flags -O3 -std=c++17 -DSIMDJSON_THREADS_ENABLED=1 -I "$simdjson/include" -I "$simdjson/src" \
    -c "$simdjson/src/simdjson.cpp" -o simdjson.o
rm -f "$archives/lib/libsimdjson.a"
"${cross}ar" rcD "$archives/lib/libsimdjson.a" simdjson.o

curl=$(source_of curl)
CFLAGS=$flags cmake -S "$curl" -B curl-build ${cross:+-DCMAKE_TOOLCHAIN_FILE="$(dirname "$list")/aarch64.cmake" -DGNV_ROOT="$root"} \
    -DCMAKE_BUILD_TYPE=Release -DBUILD_SHARED_LIBS=OFF -DBUILD_CURL_EXE=OFF -DBUILD_TESTING=OFF \
    -DENABLE_MANUAL=OFF -DHTTP_ONLY=ON -DCURL_USE_OPENSSL=ON -DCURL_USE_LIBSSH2=OFF -DCURL_USE_LIBPSL=OFF \
    -DUSE_LIBIDN2=OFF -DUSE_NGHTTP2=OFF -DCURL_ZLIB=OFF -DCURL_BROTLI=OFF -DCURL_ZSTD=OFF \
    -DCURL_CA_BUNDLE=/etc/ssl/certs/ca-certificates.crt -DCURL_CA_PATH=/etc/ssl/certs >curl.log 2>&1 || { tail -20 curl.log; exit 1; }
cmake --build curl-build --parallel "$jobs" --target libcurl >>curl.log 2>&1 || { tail -20 curl.log; exit 1; }
cp "$(find curl-build -name libcurl.a)" "$archives/lib/"
rm -rf "$archives/include/curl"
cp -r "$curl/include/curl" "$archives/include/"
version=$(sed -n 's/^#define LIBCURL_VERSION "\([0-9.]*\).*/\1/p' "$curl/include/curl/curlver.h")
cat >"$archives/lib/pkgconfig/libcurl.pc" <<EOF
Name: libcurl
Description: HTTP alone
Version: $version
Cflags: -I$prefix/include
Libs: -L$prefix/lib -lcurl
Libs.private: -lssl -lcrypto -ldl -lpthread
EOF

# What will be inside: by the packages that the archives and headers come from.
dpkg-query -W -f '${Package} ${Version}\n' nlohmann-json3-dev libcli11-dev >packages
if [ "$debian" = "$own" ]; then
    for package in $libraries; do dpkg-query -W -f '${Package} ${Version}\n' "$package"; done >>packages
    "g++" -dumpfullversion | sed 's/^/libstdc++ /' >>packages
else
    for file in "$apt/debs"/*.deb; do dpkg-deb -W --showformat '${Package} ${Version}\n' "$file"; done >>packages
    "${cross}g++" -dumpfullversion | sed 's/^/libstdc++ /' >>packages
fi
sort -u packages >"$folder/packages.partial"
mv "$folder/packages.partial" "$folder/packages"
