#!/usr/bin/env python3
"""The archives, SBOMs and wheels of scripts/release: complete, the same bytes again, and as their formats want them. The program
in them is a stand-in. Exit status 0: all is well."""
import base64
import csv
import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile

TREE = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
PACK = os.path.join(TREE, "scripts/release/pack_release.py")
PROGRAM = b"\x7fELF\0GLIBC_2.17\0GLIBC_2.34\0GLIBC_2.3.4\0CUDA 13.0.48 for compute capabilities 80, 120\0"


def save(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def packages_of_table():
    """The libraries that programs contain, as cmake/dependencies.txt has them."""
    with open(os.path.join(TREE, "cmake/dependencies.txt"), encoding="utf-8") as file:
        rows = [[cell.strip() for cell in line.split("|")] for line in file if not line.startswith("#")]
    parts = {"library", "datasets", "images", "quantize", "verify", "hub", "tools"}
    return [row[0] for row in rows if len(row) > 1 and set(row[1].split(",")) & parts]


def pack(folder, results, epoch="1700000000"):
    os.makedirs(results)
    return subprocess.run([sys.executable, PACK, folder, "x86_64", results], capture_output=True, text=True,
                          env={**os.environ, "SOURCE_DATE_EPOCH": epoch})


def contents(folder):
    found = {}
    for name in os.listdir(folder):
        with open(os.path.join(folder, name), "rb") as file:
            found[name] = file.read()
    return found


def check_tar(content):
    with tarfile.open(fileobj=io.BytesIO(content), mode="r:gz") as tar:
        members = {member.name: member for member in tar.getmembers()}
        names = list(members)
        assert names == sorted(names), names
        top = names[0].split("/")[0] + "/"
        assert top == "ggml-nvfp4-0.1.0-linux-x86_64/", top
        assert members[top + "bin/ggml-nvfp4"].mode == 0o755
        assert members[top + "bin/ggml-nvfp4-quantize"].linkname == "ggml-nvfp4"
        assert all(member.mtime == 1700000000 and member.uid == 0 for member in members.values())
        assert tar.extractfile(top + "bin/ggml-nvfp4").read() == PROGRAM
        for name in ("LICENSE", "README.md", "sbom.spdx.json", "licences/libzstd-dev.txt", "licences/Apache-2.0.txt"):
            assert top + name in members, name


def check_sbom(content, packages):
    document = json.loads(content)
    assert document["spdxVersion"] == "SPDX-2.3" and document["creationInfo"]["created"] == "2023-11-14T22:13:20Z"
    program, *libraries = document["packages"]
    assert program["checksums"][0]["checksumValue"] == hashlib.sha256(PROGRAM).hexdigest()
    assert len(libraries) == len(packages) + 2  # the C++ library, CUDA's run time
    for library in libraries:
        assert library["licenseDeclared"] and library["versionInfo"], library
    zstd = next(library for library in libraries if library["name"] == "zstd")
    assert zstd["externalRefs"][0]["referenceLocator"] == "pkg:deb/debian/libzstd-dev@1.2%2B3-4?arch=amd64", zstd
    identifiers = [package["SPDXID"] for package in document["packages"]]
    assert len(set(identifiers)) == len(identifiers)
    assert {link["relatedSpdxElement"] for link in document["relationships"]} == set(identifiers)


def check_wheel(name, content):
    assert name == "ggml_nvfp4-0.1.0-py3-none-manylinux_2_34_x86_64.whl", name
    with zipfile.ZipFile(io.BytesIO(content)) as wheel:
        assert wheel.testzip() is None
        program = wheel.getinfo("ggml_nvfp4/bin/ggml-nvfp4")
        assert program.external_attr >> 16 == 0o100755 and wheel.read(program) == PROGRAM
        record = wheel.read("ggml_nvfp4-0.1.0.dist-info/RECORD").decode()
        listed = set()
        for path, digest, size in csv.reader(record.splitlines()):
            listed.add(path)
            if digest:
                data = wheel.read(path)
                expected = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
                assert digest == "sha256=" + expected and int(size) == len(data), path
        assert listed == set(wheel.namelist())
        metadata = wheel.read("ggml_nvfp4-0.1.0.dist-info/METADATA").decode()
        assert "Requires-Dist: nvidia-cublas>=13,<14; extra == 'cuda'" in metadata
        assert "Tag: py3-none-manylinux_2_34_x86_64" in wheel.read("ggml_nvfp4-0.1.0.dist-info/WHEEL").decode()


def main():
    packages = packages_of_table()
    assert "libsimdjson-dev" in packages and "libcurl4-openssl-dev" in packages, packages
    with tempfile.TemporaryDirectory() as scratch:
        folder = os.path.join(scratch, "in")
        lines = "".join(f"{package} 1.2+3-4\n" for package in packages) + "libstdc++ 12.2.0\n"
        save(os.path.join(folder, "ggml-nvfp4"), PROGRAM)
        save(os.path.join(folder, "packages"), lines.encode())
        for package in [*packages, "libstdc++6"]:
            save(os.path.join(folder, "root/usr/share/doc", package, "copyright"), b"a notice\n")
        if not os.path.exists("/usr/share/common-licenses/Apache-2.0"):
            print("left out: releases are made on Debian and Ubuntu")
            return
        first = pack(folder, os.path.join(scratch, "first"))
        assert first.returncode == 0, first.stderr
        made = contents(os.path.join(scratch, "first"))
        assert len(made) == 3, list(made)
        assert pack(folder, os.path.join(scratch, "second")).returncode == 0
        assert contents(os.path.join(scratch, "second")) == made, "the same input gives other bytes"
        for name, content in made.items():
            if name.endswith(".tar.gz"):
                check_tar(content)
            elif name.endswith(".whl"):
                check_wheel(name, content)
            else:
                check_sbom(content, packages)
        save(os.path.join(folder, "packages"), (lines + "libnew-dev 1.0\n").encode())
        refused = pack(folder, os.path.join(scratch, "third"))
        assert refused.returncode != 0 and "libnew-dev: its name and licence are missing" in refused.stderr, refused.stderr


main()
