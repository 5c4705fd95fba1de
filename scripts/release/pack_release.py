#!/usr/bin/env python3
"""Packs a program of make_dist.sh: a tar archive with its notices and an SBOM (SPDX 2.3), and a wheel. The same input and
SOURCE_DATE_EPOCH give the same bytes.

usage: pack_release.py FOLDER ARCHITECTURE RESULTS    FOLDER/ggml-nvfp4, FOLDER/packages, maybe FOLDER/root
"""
import gzip
import hashlib
import io
import json
import os
import re
import sys
import tarfile
import time
import urllib.parse

import make_wheel

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
# What a program contains, by the package of Debian that it is built with: name, licence as SPDX spells it. A package that is
# not here stops the release. docs/licences.md has the same for readers.
CONTENTS = {
    "libbrotli-dev": ("brotli", "MIT"),
    "libcli11-dev": ("CLI11", "BSD-3-Clause"),
    "libcurl4-openssl-dev": ("libcurl", "curl"),
    "libjpeg-dev": ("libjpeg-turbo", "IJG AND BSD-3-Clause AND Zlib"),
    "libjpeg62-turbo-dev": ("libjpeg-turbo", "IJG AND BSD-3-Clause AND Zlib"),
    "liblz4-dev": ("lz4", "BSD-2-Clause"),
    "libpcre2-dev": ("pcre2", "BSD-3-Clause"),
    "libpng-dev": ("libpng", "libpng-2.0"),
    "libsimdjson-dev": ("simdjson", "Apache-2.0"),
    "libsnappy-dev": ("snappy", "BSD-3-Clause"),
    "libssl-dev": ("openssl", "Apache-2.0"),
    "libstdc++": ("libstdc++ and libgcc", "GPL-3.0-or-later WITH GCC-exception-3.1"),
    "libutf8proc-dev": ("utf8proc", "MIT AND Unicode-DFS-2015"),
    "libwebp-dev": ("libwebp", "BSD-3-Clause"),
    "libyaml-dev": ("libyaml", "MIT"),
    "libzstd-dev": ("zstd", "BSD-3-Clause"),
    "nlohmann-json3-dev": ("nlohmann-json", "MIT"),
    "zlib1g-dev": ("zlib", "Zlib"),
}
DOCUMENTED_BY = {"libstdc++": "libstdc++6"}  # the package with its notices
COMMON_LICENCES = ("Apache-2.0", "GPL-3")  # to which notices of Debian point


def fail(message):
    sys.exit(f"error: {message}")


def read(path):
    with open(path, "rb") as file:
        return file.read()


def version_of_tree():
    header = read(os.path.join(TREE, "ggml-nvfp4/include/ggml-nvfp4-base.h")).decode()
    return ".".join(re.search(rf"^#define GNV_VERSION_{part} +(\d+)$", header, flags=re.M).group(1)
                    for part in ("MAJOR", "MINOR", "PATCH"))


def commands_of_tree():
    return re.findall(r'^    \{"(\w+)", tools::run_', read(os.path.join(TREE, "tools/ggml-nvfp4.cpp")).decode(), flags=re.M)


def contents_of(folder, program):
    """[(package, name, version, licence)], one for each name."""
    found = {}
    for line in read(os.path.join(folder, "packages")).decode().splitlines():
        package, version = line.split(" ", 1)
        if package not in CONTENTS:
            fail(f"{package}: its name and licence are missing in scripts/release/pack_release.py")
        name, licence = CONTENTS[package]
        found[name] = (package, name, version, licence)
    cuda = re.search(rb"CUDA ([0-9.]+) for compute capabilities", program)
    if cuda:
        found["cuda"] = ("", "CUDA run time", cuda.group(1).decode(), "LicenseRef-NVIDIA-CUDA-EULA")
    return [found[name] for name in sorted(found)], cuda.group(1).decode() if cuda else ""


def sbom(version, architecture, program, contents, epoch):
    digest = hashlib.sha256(program).hexdigest()
    debian = {"x86_64": "amd64", "aarch64": "arm64"}[architecture]
    common = {"downloadLocation": "NOASSERTION", "filesAnalyzed": False, "copyrightText": "NOASSERTION"}

    def package(number, name, versioned, licence, purl, **more):
        return {"SPDXID": f"SPDXRef-{number}", "name": name, "versionInfo": versioned, "licenseConcluded": licence,
                "licenseDeclared": licence, **common,
                "externalRefs": [{"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl",
                                  "referenceLocator": purl}], **more}

    packages = [package("program", "ggml-nvfp4", version, "MIT", f"pkg:generic/ggml-nvfp4@{version}",
                        checksums=[{"algorithm": "SHA256", "checksumValue": digest}])]
    for number, (source, name, versioned, licence) in enumerate(contents):
        quoted = urllib.parse.quote(versioned, safe="")
        purl = f"pkg:deb/debian/{source}@{quoted}?arch={debian}" if source.endswith("-dev") else \
            f"pkg:generic/{urllib.parse.quote(name.split(' ')[0], safe='')}@{quoted}"
        packages.append(package(number, name, versioned, licence, purl))
    document = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": "SPDXRef-DOCUMENT",
        "name": f"ggml-nvfp4-{version}-linux-{architecture}",
        "documentNamespace": f"https://spdx.org/spdxdocs/ggml-nvfp4-{version}-linux-{architecture}-{digest}",
        "creationInfo": {"created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
                         "creators": ["Tool: ggml-nvfp4-pack_release"]},
        "packages": packages,
        "relationships": [{"spdxElementId": "SPDXRef-DOCUMENT", "relationshipType": "DESCRIBES",
                           "relatedSpdxElement": "SPDXRef-program"}] +
                         [{"spdxElementId": "SPDXRef-program", "relationshipType": "STATIC_LINK",
                           "relatedSpdxElement": f"SPDXRef-{number}"} for number in range(len(contents))],
    }
    if any(licence.startswith("LicenseRef") for _, _, _, licence in contents):
        document["hasExtractedLicensingInfos"] = [{"licenseId": "LicenseRef-NVIDIA-CUDA-EULA",
                                                   "extractedText": "https://docs.nvidia.com/cuda/eula/"}]
    return (json.dumps(document, indent=1) + "\n").encode()


def notices(folder, contents):
    """{path: bytes}: the licences of everything inside."""
    found = {}
    for package, _, _, _ in contents:
        for root in (os.path.join(folder, "root"), "/"):  # folders of documents may point to packages that the root lacks
            path = os.path.join(root, "usr/share/doc", DOCUMENTED_BY.get(package, package), "copyright")
            if package and os.path.exists(path):
                found[f"licences/{package}.txt"] = read(path)
                break
        else:
            if package:
                fail(f"{path}: the notices of {package} are missing")
    for name in COMMON_LICENCES:
        found[f"licences/{name}.txt"] = read(f"/usr/share/common-licenses/{name}")
    return found


def write_tar(path, top, files, links, epoch):
    """files: {name: (bytes, mode)}; links: {name: target}."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted([*files, *links]):
            info = tarfile.TarInfo(f"{top}/{name}")
            info.mtime, info.uname, info.gname = epoch, "root", "root"
            if name in links:
                info.type, info.linkname, info.mode = tarfile.SYMTYPE, links[name], 0o777
                tar.addfile(info)
            else:
                content, info.mode = files[name]
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    with open(path + ".partial", "wb") as file:
        with gzip.GzipFile(filename="", mode="wb", compresslevel=9, fileobj=file, mtime=0) as packed:
            packed.write(buffer.getvalue())
    os.rename(path + ".partial", path)


def main():
    folder, architecture, results = sys.argv[1:]
    epoch = int(os.environ.get("SOURCE_DATE_EPOCH", "0"))
    version, program = version_of_tree(), read(os.path.join(folder, "ggml-nvfp4"))
    contents, cuda = contents_of(folder, program)
    files = {"bin/ggml-nvfp4": (program, 0o755)}
    texts = {name: read(os.path.join(TREE, name)) for name in ("LICENSE", "README.md", "CHANGELOG.md")}
    texts.update(notices(folder, contents))
    texts["sbom.spdx.json"] = sbom(version, architecture, program, contents, epoch)
    files.update({name: (content, 0o644) for name, content in texts.items()})
    links = {f"bin/ggml-nvfp4-{command}": "ggml-nvfp4" for command in commands_of_tree()}
    top = f"ggml-nvfp4-{version}-linux-{architecture}"
    write_tar(os.path.join(results, top + ".tar.gz"), top, files, links, epoch)
    with open(os.path.join(results, top + ".spdx.json"), "wb") as file:
        file.write(texts["sbom.spdx.json"])
    make_wheel.write(results, version, architecture, program, texts, cuda, epoch)


if __name__ == "__main__":
    main()
