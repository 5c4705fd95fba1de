"""A wheel that carries the program: `pip install` gives the command ggml-nvfp4, as does `uvx ggml-nvfp4`. A wheel is a zip
file with a list of what is in it, so nothing but Python is needed. For pack_release.py."""
import base64
import hashlib
import os
import re
import time
import zipfile

PACKAGE = '''"""The program ggml-nvfp4: main() becomes it."""
import os
import sys

PROGRAM = os.path.join(os.path.dirname(os.path.abspath(__file__)), "bin", "ggml-nvfp4")


def main():
    os.execv(PROGRAM, ["ggml-nvfp4", *sys.argv[1:]])
'''
MAIN = "from ggml_nvfp4 import main\n\nmain()\n"


def oldest_glibc(program):
    """(2, 34): the version of the C library that the program's symbols ask for; they stand in it as text."""
    return max(tuple(map(int, match.split(b"."))) for match in re.findall(rb"\0GLIBC_(\d+\.\d+)(?=[.\d]*\0)", program))


def write(results, version, architecture, program, texts, cuda, epoch):
    """texts: {name: bytes} of notices; cuda: its version, or "" for a program without."""
    major, minor = oldest_glibc(program)
    tag = f"py3-none-manylinux_{major}_{minor}_{architecture}"
    info = f"ggml_nvfp4-{version}.dist-info"
    metadata = ["Metadata-Version: 2.1", "Name: ggml-nvfp4", f"Version: {version}",
                "Summary: BF16 mixture-of-experts checkpoints to NVFP4 for vLLM and SGLang, with proof",
                "License: MIT", "Requires-Python: >=3.8", "Description-Content-Type: text/markdown"]
    if cuda:  # cuBLAS, which the program looks for beside its package
        cublas = "nvidia-cublas-cu12" if cuda.startswith("12.") else f"nvidia-cublas>={cuda.split('.')[0]},<{int(cuda.split('.')[0]) + 1}"
        metadata += ["Provides-Extra: cuda", f"Requires-Dist: {cublas}; extra == 'cuda'"]
    files = {
        "ggml_nvfp4/__init__.py": (PACKAGE.encode(), 0o644),
        "ggml_nvfp4/__main__.py": (MAIN.encode(), 0o644),
        "ggml_nvfp4/bin/ggml-nvfp4": (program, 0o755),
        f"{info}/METADATA": ("\n".join(metadata).encode() + b"\n\n" + texts["README.md"], 0o644),
        f"{info}/WHEEL": (f"Wheel-Version: 1.0\nGenerator: ggml-nvfp4\nRoot-Is-Purelib: false\nTag: {tag}\n".encode(), 0o644),
        f"{info}/entry_points.txt": (b"[console_scripts]\nggml-nvfp4 = ggml_nvfp4:main\n", 0o644),
    }
    files.update({f"{info}/{name}": (content, 0o644) for name, content in texts.items()
                  if name == "LICENSE" or name.startswith("licences/") or name == "sbom.spdx.json"})
    rows = []
    for name, (content, _) in files.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
        rows.append(f"{name},sha256={digest},{len(content)}")
    rows.append(f"{info}/RECORD,,")
    files[f"{info}/RECORD"] = ("\n".join(rows).encode() + b"\n", 0o644)
    path = os.path.join(results, f"ggml_nvfp4-{version}-{tag}.whl")
    date = time.gmtime(max(epoch, 315532800))[:6]  # a zip file knows no year before 1980
    with zipfile.ZipFile(path + ".partial", "w") as wheel:
        for name in sorted(files, key=lambda name: (name.startswith(info), name)):  # the metadata last, as wheels have it
            content, mode = files[name]
            entry = zipfile.ZipInfo(name, date)
            entry.external_attr, entry.create_system = (0o100000 | mode) << 16, 3
            entry.compress_type = zipfile.ZIP_DEFLATED
            wheel.writestr(entry, content, compresslevel=9)
    os.rename(path + ".partial", path)
