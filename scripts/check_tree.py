#!/usr/bin/env python3
"""Checks the rules of the source tree that a compiler does not: who may include whom, what the library never does, and
how files look. Prints file:line: message for each finding; exit status 1 when there is one.

usage: check_tree.py [--self-test] [FOLDER]

--self-test plants one violation of each rule in a scratch tree and checks that it is found where it is.
"""
import os
import re
import subprocess
import sys
import tempfile

# Which folders a file may include from besides its own. Data flows one way: a row names only rows above it. A permission that no
# file uses is a finding.
MAY_INCLUDE = {
    "ggml-nvfp4/include": [],
    "ggml-nvfp4/core": [],
    "ggml-nvfp4/codec": ["core"],
    "ggml-nvfp4/formats": ["core"],
    "ggml-nvfp4/checkpoint": ["core", "codec", "formats"],
    "ggml-nvfp4/output": ["core", "formats", "checkpoint"],
    "ggml-nvfp4/graph": ["core", "codec"],
    "ggml-nvfp4/exec": ["core", "codec", "graph"],
    "ggml-nvfp4/cpu": ["core", "codec", "graph", "exec"],
    "ggml-nvfp4/cuda": ["core", "codec", "graph", "exec"],  # codec: of what kernels are twins of
    "ggml-nvfp4/model": ["core", "codec", "formats", "checkpoint", "graph"],
    "models": ["core", "formats", "model"],
    "ggml-nvfp4/run": ["core", "codec", "formats", "graph", "exec", "model"],
    "ggml-nvfp4/pass": ["core", "formats", "output", "exec", "model", "run"],
    "ggml-nvfp4/tokenizer": ["core", "formats"],
    "ggml-nvfp4/images": ["core", "formats"],
    "ggml-nvfp4/chat/values": ["core", "formats"],
    "ggml-nvfp4/chat/functions": ["core", "values"],
    "ggml-nvfp4/chat/syntax": ["core", "values", "functions"],
    "ggml-nvfp4/chat": ["core", "formats", "values", "functions", "syntax"],
    "ggml-nvfp4/data/files": ["core", "formats"],
    "ggml-nvfp4/data/parquet": ["core", "formats", "files"],
    "ggml-nvfp4/data/arrow": ["core", "formats", "files"],
    "ggml-nvfp4/data/records": ["core", "formats", "images", "files", "parquet", "arrow"],
    "ggml-nvfp4/data": ["core", "formats", "tokenizer", "images", "chat", "records"],
    "ggml-nvfp4/session/sampling": ["core", "formats"],
    "ggml-nvfp4/session": ["core", "exec", "run", "sampling"],
    "ggml-nvfp4/session/texts": ["core", "tokenizer", "sampling", "session"],
    "ggml-nvfp4/quant/quantizers": ["core", "codec", "formats", "checkpoint", "graph", "model"],
    "ggml-nvfp4/quant": ["core", "codec", "formats", "checkpoint", "output", "graph", "model", "quantizers"],
    "ggml-nvfp4/report": ["core", "codec", "formats", "exec"],
    "ggml-nvfp4/quantize/packing": ["codec", "formats", "exec", "run", "quantizers", "quant"],
    "ggml-nvfp4/quantize/estimate": ["core", "formats", "model", "pass", "quant", "report"],
    "ggml-nvfp4/quantize": ["core", "codec", "formats", "output", "model", "run", "pass", "quant", "report", "packing", "estimate"],
    "ggml-nvfp4/inspect": ["core", "codec", "formats", "checkpoint", "model"],
    "ggml-nvfp4/verify": ["core", "codec", "formats", "checkpoint", "exec", "model", "tokenizer", "chat", "report"],
    "ggml-nvfp4/evaluate": ["core", "codec", "formats", "output", "cpu", "model", "run", "pass"],
    "ggml-nvfp4/canary": ["core", "formats", "run", "tokenizer", "chat", "sampling", "session", "texts"],
    "ggml-nvfp4/hub/card": ["core", "formats", "checkpoint", "output"],
    "ggml-nvfp4/hub": ["core", "formats", "checkpoint", "card"],
    "ggml-nvfp4/hub/stream": ["core", "formats", "hub"],
    "ggml-nvfp4/api": ["include", "core", "codec", "checkpoint", "exec"],
    "ggml-nvfp4/api/text": ["formats", "run", "pass", "tokenizer", "images", "chat", "sampling", "session", "texts", "api"],
    "ggml-nvfp4/api/parts": ["formats", "pass", "data", "quant", "quantize", "inspect", "verify", "evaluate", "canary", "card", "hub", "stream", "api", "text"],
    "tools/common": [],  # and the public header, as <ggml-nvfp4.h>
    "tools": ["common"],
}
LIBRARY = ("ggml-nvfp4/", "models/")
TOOLS_LIBRARIES = ("CLI/", "nlohmann/json.hpp", "sys/")  # beside the standard library
INCLUDE_ROOTS = ["ggml-nvfp4/", "", "ggml-nvfp4/include/"]
OPS = "ggml-nvfp4/graph/ops.h"  # the list of ops
PUBLIC_HEADERS = "ggml-nvfp4/include/"
INCLUDED_OFTEN = {"ggml-nvfp4/codec/" + name for name in (
    "nvfp4_compare_loops.h", "nvfp4_pack_loops.h", "nvfp4_search_loops.h")} | {
    "ggml-nvfp4/cpu/" + name for name in (
    "loops_variant.h", "math_loops.h", "row_loops.h", "mixer_loops.h", "delta_loops.h", "logit_loops.h",
    "few_rows_loops.h")}
# once per instruction set, by design
CUDA_WITHOUT_TWIN = {"backend_cuda", "kernels", "tiles", "fusions",  # files of cuda/ that are no op's own
                     "gated_delta_net_chunked", "gated_delta_net_hopper", "gated_delta_prepare",
                     "gated_delta_prepare_hopper", "grouped_product", "grouped_product_hopper",
                     "attention_hopper", "attention_decode_hopper", "attention_text_hopper",  # one of its forms, or a part of one
                     "candidates_hopper", "expert_inputs_hopper", "listed_experts_hopper", "many_rows_hopper", "rotate_hopper",  # parts of one
                     "few_choices", "few_rows_experts", "normed_rope", "one_row", "one_row_experts",
                     "one_text_delta",  # several ops at once
                     "fp4_product",  # one of the forms of linears
                     "moment_pack", "moment_rows", "moment_state"}  # twins of quant/quantizers/moments.cpp and moment_search.cpp
MAX_LINES = 800
MAX_FOLDER_LINES = 3000  # its own sources, without its subfolders
LARGE_FOLDERS = {"ggml-nvfp4/cpu", "ggml-nvfp4/cuda", "ggml-nvfp4/verify"}  # many files of one kind: kernels, checks

SOURCE = re.compile(r"\.(h|c|cpp|cu|cuh)$")
TEXT = re.compile(r"(\.(h|c|cpp|cu|cuh|cmake|in|md|py|sh|txt|dict)|(^|/)(Makefile|LICENSE|run|\.clang-format|\.gitignore))$")
DATA = ("tests/data/", "tests/fuzz/corpus/")
SELF = "scripts/check_tree.py"
FOLDERS = "docs/architecture.md"

# Patterns that must not occur: (where, except in, pattern, message). Comments and literals of sources are blanked first.
NEVER_IN_CODE = [
    (LIBRARY + ("tools/",), {"tools/common/hub.h", "tools/common/terminal.h"}, r"\b(secure_)?getenv\b",
     "nothing reads the environment but tools/common/hub.h, which finds the hub's cache, and tools/common/terminal.h"),
    (LIBRARY, {"ggml-nvfp4/core/status.cpp"}, r"(?<!format\()\b(v?f?printf|f?puts|putchar|perror|std::(cout|cerr|clog))\b",
     "the library never prints"),
    (LIBRARY, {"ggml-nvfp4/core/status.cpp"}, r"\b(exit|_exit|quick_exit|abort|terminate)\s*\(",
     "the library never ends the process"),
    (LIBRARY, {"ggml-nvfp4/core/status.cpp"}, r"\bthrow\b", "the library never throws"),
]
# The same over the whole text of every file.
NEVER_IN_TEXT = [
    (r"(?<![\w.])/(work|root)/", "a path of one machine"),
    (r"\b(deb\.debian\.org|pypi\.org|pythonhosted\.org|npmjs\.org|crates\.io|proxy\.golang\.org)\b",
     "the host of a package registry"),
    (r"\b(TODO|FIXME|XXX)\b", "an open end: finish it or file an issue"),
    (r"(?<!\w)-{1,2}(ffast-math|use_fast_math|Ofast)\b", "fast-math changes results"),
]
CUDA_HEADER = re.compile(r"^(cuda|cublas|cusparse|cusolver|nvrtc|nccl|nvtx|nvml|cub/|thrust/|cutlass/)")


def list_files(root):
    """Paths below root: what git tracks or would add; every file where there is no git."""
    command = ["git", "-C", root, "ls-files", "-co", "--exclude-standard", "-z"]
    if os.path.exists(os.path.join(root, ".git")):
        output = subprocess.run(command, check=True, capture_output=True).stdout.decode()
        return sorted(path for path in output.split("\0") if path and os.path.isfile(os.path.join(root, path)))
    return sorted(os.path.relpath(os.path.join(folder, name), root)
                  for folder, _, names in os.walk(root) for name in names)


def blank(match):
    return re.sub(r"[^\n]", " ", match.group(0))


def code_of(text):
    """The text of a source with comments and literals replaced by blanks, line numbers kept."""
    raw, comment = r'R"(\w*)\(.*?\)\1"', r'//[^\n]*|/\*.*?\*/'
    literal = r'"(?:\\.|[^"\\\n])*"|\'(?:\\.|[^\'\\\n])\''
    return re.sub(f"{raw}|{comment}|{literal}", blank, text, flags=re.S)


class Tree:
    def __init__(self, root):
        self.root = root
        self.paths = list_files(root)
        self.findings = []
        self.texts = {}
        for path in self.paths:
            if (SOURCE.search(path) or TEXT.search(path)) and not path.startswith(DATA):
                with open(os.path.join(root, path), encoding="utf-8", newline="") as file:
                    self.texts[path] = file.read()

    def sources(self):
        return [(path, text) for path, text in self.texts.items() if SOURCE.search(path)]

    def report(self, path, line, message):
        self.findings.append((path, line, message))

    def report_matches(self, path, text, pattern, message):
        for match in re.finditer(pattern, text):
            self.report(path, text.count("\n", 0, match.start()) + 1, message + ": " + match.group(0).strip())


def folder_of(path):
    """The row of MAY_INCLUDE that `path` falls under; the longest, since data/files lies in data."""
    return max((folder for folder in MAY_INCLUDE if path.startswith(folder + "/")), key=len, default=None)


def resolve(tree, path, name):
    """The file of the tree that #include "name" in `path` means, or None."""
    folders = [os.path.dirname(path) + "/"] + INCLUDE_ROOTS
    if path.startswith("tests/"):
        folders.append("tests/")
    return next((folder + name for folder in folders if folder + name in tree.texts), None)


def check_includes(tree):
    used = {folder: set() for folder in MAY_INCLUDE}
    for path, text in tree.sources():
        for number, line in enumerate(text.split("\n"), 1):
            match = re.match(r'\s*#\s*include\s*([<"])([^>"]+)[>"]', line)
            if not match:
                continue
            name, quoted = match.group(2), match.group(1) == '"'
            if CUDA_HEADER.match(name) and not path.startswith(("ggml-nvfp4/cuda/", "tests/cuda/")):
                tree.report(path, number, f"a CUDA header outside cuda/: {name}")
            if not quoted:
                if path.startswith("tools/") and "/" in name and not name.startswith(TOOLS_LIBRARIES):
                    tree.report(path, number, f"programs use no such library: {name}")
                continue
            target, own = resolve(tree, path, name), folder_of(path)
            if target is None:
                tree.report(path, number, f"no such file in the tree: {name}")
            elif own and folder_of(target) != own:
                room = (folder_of(target) or target).rsplit("/", 1)[-1]
                used[own].add(room)
                if room not in MAY_INCLUDE[own]:
                    tree.report(path, number, f"{own} may not include {name}")
    if SELF in tree.texts: # the tree that the table is about
        for folder, rooms in MAY_INCLUDE.items():
            for room in sorted(set(rooms) - used[folder]):
                tree.report(SELF, 1, f"{folder} may include {room}, and no file does: remove the permission")


def upward_permissions(table):
    """(folder, room) for each permission to include a room that is not above in the table: with none there are no cycles."""
    above = set()
    for folder, rooms in table.items():
        yield from ((folder, room) for room in rooms if room not in above)
        above.add(folder.rsplit("/", 1)[-1])


def check_table(tree):
    if SELF in tree.texts:
        names = [folder.rsplit("/", 1)[-1] for folder in MAY_INCLUDE]
        for name in {name for name in names if names.count(name) > 1}:
            tree.report(SELF, 1, f"two folders are called {name}: a permission would mean both")
        for folder, room in upward_permissions(MAY_INCLUDE):
            tree.report(SELF, 1, f"{folder} may include {room}, which is not above it in the table")


def documented_rooms(text):
    """{folder: the last names of the folders that it may include}: the rows of the table of folders in docs/architecture.md."""
    return {folder: {room.strip().rsplit("/", 1)[-1] for room in rooms.replace("the public header", "include").split(",")} - {""}
            for folder, rooms in re.findall(r"^\| `([\w./-]+)` \|[^|]*\|([^|]*)\|$", text, flags=re.M)}


def check_documented(tree):
    documented = documented_rooms(tree.texts.get(FOLDERS, ""))
    if SELF in tree.texts:
        for folder, rooms in MAY_INCLUDE.items():
            if folder.startswith(LIBRARY) and folder + "/" != PUBLIC_HEADERS and documented.get(folder) != set(rooms):
                tree.report(FOLDERS, 1, f"the row of {folder} in the table of folders must say that it may include: {', '.join(rooms)}")


def check_folders(tree):
    lines = {}
    for path, text in tree.sources():
        if path.startswith(LIBRARY + ("tools/",)):
            folder = os.path.dirname(path)
            lines[folder] = lines.get(folder, 0) + text.count("\n")
    for folder, count in lines.items():
        if folder not in MAY_INCLUDE:
            tree.report(folder, 1, "the folder has no row in MAY_INCLUDE")
        if count > MAX_FOLDER_LINES and folder not in LARGE_FOLDERS:
            tree.report(folder, 1, f"{count} lines: over {MAX_FOLDER_LINES}, split the folder where data flows one way")


def check_patterns(tree):
    for path, text in tree.texts.items():
        if path == SELF:
            continue
        for pattern, message in NEVER_IN_TEXT:
            tree.report_matches(path, text, pattern, message)
        if SOURCE.search(path):
            code = code_of(text)
            for folders, exceptions, pattern, message in NEVER_IN_CODE:
                if path.startswith(folders) and path not in exceptions:
                    tree.report_matches(path, code, pattern, message)


def check_files(tree):
    seen = {}
    for path, text in tree.texts.items():
        lines = text.split("\n")
        if text and not text.endswith("\n"):
            tree.report(path, len(lines), "no newline at the end")
        for number, line in enumerate(lines, 1):
            if line != line.rstrip():
                tree.report(path, number, "blanks at the end of the line")
            if "\t" in line and os.path.basename(path) != "Makefile":
                tree.report(path, number, "a tab")
            if path.endswith(".dict") and not re.fullmatch(r'(".+")?|#.*', line):
                tree.report(path, number, "no entry of a fuzzer's dictionary")  # which refuses the whole of it
        if not SOURCE.search(path):
            continue
        name = os.path.basename(path)
        if name in seen and not path.startswith("tools/"):  # a program is named after what it does
            tree.report(path, 1, f"the file name is taken: {seen[name]}")
        seen.setdefault(name, path)
        first_comment = re.match(r"\s*/\*.*?\*/|(\s*//[^\n]*\n)*", text, flags=re.S).group(0)
        if len(lines) - 1 > MAX_LINES and "long because" not in first_comment:
            tree.report(path, 1, f"{len(lines) - 1} lines: over {MAX_LINES}, the first comment says \"long because\"")
        if re.search(r"\.(h|cuh)$", path) and not path.startswith(PUBLIC_HEADERS) and path not in INCLUDED_OFTEN:
            if not re.match(r"\s*#pragma once\n", code_of(text)):
                tree.report(path, 1, "the first line after the comment is not #pragma once")


def check_ops(tree):
    """Each op of GNV_OPS has its kernels in cpu/<op>.cpp and cuda/<op>.cu, also where no CUDA compiler would miss them."""
    text = tree.texts.get(OPS, "")
    begin = text.find("#define GNV_OPS(X)")
    for match in re.finditer(r"^ +X\((\w+), \w+\)", text[max(begin, 0):], flags=re.M):
        op, line = match.group(1), text.count("\n", 0, begin + match.start()) + 1
        for path in (f"ggml-nvfp4/cpu/{op}.cpp", f"ggml-nvfp4/cuda/{op}.cu"):
            if f"const KernelEntry {op}_entry = " not in tree.texts.get(path, ""):
                tree.report(OPS, line, f"the op {op} has no kernel: {path} must define {op}_entry")


def check_kernel_pairs(tree):
    for path in tree.texts:
        match = re.fullmatch(r"ggml-nvfp4/cuda/(\w+)\.cu", path)
        if match and match.group(1) not in CUDA_WITHOUT_TWIN:
            twins = [f"ggml-nvfp4/{room}/{match.group(1)}.cpp" for room in ("cpu", "codec")]
            if not any(twin in tree.texts for twin in twins):
                tree.report(path, 1, f"a kernel without its CPU twin {twins[0]}")


def check_listed(tree):
    """Every source is named, once, in the CMake files of its folder or of one above; fuzz targets are globbed."""
    for path, text in tree.texts.items():
        if path.startswith("ggml-nvfp4/") and path.endswith("CMakeLists.txt"):
            seen = set()
            for number, line in enumerate(text.split("\n"), 1):
                if line in seen and re.fullmatch(r"\s+[\w/]+\.(c|cpp|cu)", line):
                    tree.report(path, number, "listed twice: " + line.strip())
                seen.add(line)
    for path, _ in tree.sources():
        if path.endswith((".h", ".cuh")) or re.fullmatch(r"tests/fuzz/fuzz_\w+\.cpp", path):
            continue
        stem = re.escape(os.path.splitext(os.path.basename(path))[0])
        folder = os.path.dirname(path)
        while True:
            lists = tree.texts.get(os.path.join(folder, "CMakeLists.txt"), "")
            lists += "".join(text for name, text in tree.texts.items()
                             if name.startswith(folder + "/") and name.endswith(".cmake"))  # it may include those
            relative = re.escape(os.path.relpath(path, folder or "."))
            if re.search(rf"(?<![\w./]){relative}(?![\w.])", lists):
                break
            if folder == os.path.dirname(path) and re.search(rf"\({stem}\)|\b(add_executable|gnv_tool)\({stem}\b", lists):
                break
            if not folder:
                tree.report(path, 1, "in no CMakeLists.txt")
                break
            folder = os.path.dirname(folder)


CHECKS = [check_includes, check_table, check_documented, check_folders, check_patterns, check_files, check_ops,
          check_kernel_pairs, check_listed]


def check(root):
    tree = Tree(root)
    for rule in CHECKS:
        rule(tree)
    return sorted(set(tree.findings)), len(tree.texts)


# --- Self-test --------------------------------------------------------------------------------------------------------

OP_LIST = "#pragma once\n#define GNV_OPS(X) \\\n    {}\n"
CLEAN = {
    "CMakeLists.txt": "add_subdirectory(ggml-nvfp4)\n",
    "Makefile": "all:\n\techo\n",
    "ggml-nvfp4/CMakeLists.txt": "target_sources(o PRIVATE\n    core/status.cpp\n    core/text.cpp\n    cpu/pack.cpp\n"
                                 "    cuda/pack.cu\n    formats/file.cpp\n)\n",
    "ggml-nvfp4/graph/ops.h": OP_LIST.format("X(pack, PackParams)"),
    "ggml-nvfp4/include/ggml-nvfp4.h": "#ifndef G\n#define G\n#endif\n",
    "ggml-nvfp4/core/status.h": "// printf, throw and getenv in a comment are no matter.\n#pragma once\n",
    "ggml-nvfp4/core/status.cpp": '#include "core/status.h"\nvoid f() { fprintf(stderr, "x"); abort(); }\n',
    "ggml-nvfp4/core/text.cpp": 'const char * e() { return "getenv(1)"; }\n',
    "ggml-nvfp4/formats/file.cpp": '#include "core/status.h"\nconst char * s = "throw exit(1) printf";\n'
                                  'const char * r = R"(throw\n" printf)";\n',
    "ggml-nvfp4/cpu/pack.cpp": "const KernelEntry pack_entry = {run};\n",
    "ggml-nvfp4/cuda/pack.cu": "#include <cuda_runtime.h>\nconst KernelEntry pack_entry = {run};\n",
    "tools/CMakeLists.txt": "foreach(tool quantize)\n    gnv_tool(quantize)\nendforeach()\n",
    "tools/common/args.h": "#pragma once\n",
    "tools/quantize.cpp": '#include "common/args.h"\n#include <CLI/CLI.hpp>\n#include <cstdio>\n#include <ggml-nvfp4.h>\n',
    "tests/data/any.json": "\t /work" + "/ \n\n ",
}

# (file, its whole content, line of the finding, part of the message[, path of the finding])
PLANTS = [
    ("ggml-nvfp4/core/text.cpp", '#include "formats/file.h"\n', 1, "no such file"),
    ("ggml-nvfp4/core/status.h", '#pragma once\n#include "tools/common/args.h"\n', 2, "may not include"),
    ("ggml-nvfp4/formats/file.cpp", '\n#include "cpu/pack.cpp"\n', 2, "may not include"),
    ("ggml-nvfp4/cpu/pack.cpp", "#include <cublasLt.h>\n", 1, "CUDA header"),
    ("tools/quantize.cpp", '#include <string>\n#include "core/status.h"\n', 2, "may not include"),
    ("tools/quantize.cpp", "#include <string>\n#include <openssl/evp.h>\n", 2, "no such library"),
    ("ggml-nvfp4/formats/new/file.h", "#pragma once\n", 1, "no row", "ggml-nvfp4/formats/new"),
    ("ggml-nvfp4/formats/file.cpp", "// long because of the test\n" + "int a;\n" * 3000, 1, "3001 lines", "ggml-nvfp4/formats"),
    ("tools/quantize.cpp", "// long because of the test\n" + "int a;\n" * 3000, 1, "3001 lines", "tools"),
    ("ggml-nvfp4/cpu/pack.cpp", 'int a;\nauto b = std::getenv("X");\n', 2, "environment"),
    ("ggml-nvfp4/cpu/pack.cpp", '/* a\nb */ void f() { printf("x"); }\n', 2, "never prints"),
    ("ggml-nvfp4/cpu/pack.cpp", "void f() {\n    std::cerr << 1;\n}\n", 2, "never prints"),
    ("ggml-nvfp4/cpu/pack.cpp", "void f() { exit(1); }\n", 1, "never ends"),
    ("ggml-nvfp4/cpu/pack.cpp", "void f() { abort(); }\n", 1, "never ends"),
    ("ggml-nvfp4/cpu/pack.cpp", "void f() { throw 1; }\n", 1, "never throws"),
    ("ggml-nvfp4/cuda/lonely.cu", "int lonely;\n", 1, "CPU twin"),
    (OPS, OP_LIST.format("X(pack, PackParams) \\\n    X(scale, ScaleParams)"), 4, "cuda/scale.cu must define scale_entry"),
    (OPS, OP_LIST.format("X(scale, ScaleParams)"), 3, "cpu/scale.cpp must define scale_entry"),
    ("ggml-nvfp4/cpu/unlisted.cpp", "int unlisted;\n", 1, "in no CMakeLists.txt"),
    ("ggml-nvfp4/CMakeLists.txt", CLEAN["ggml-nvfp4/CMakeLists.txt"] + "    core/text.cpp\n", 8, "listed twice"),
    ("ggml-nvfp4/cpu/status.h", "#pragma once\n", 1, "name is taken"),
    ("ggml-nvfp4/core/bare.h", "int bare;\n", 1, "#pragma once"),
    ("ggml-nvfp4/cpu/pack.cpp", "// a reason is missing\n" + "int a;\n" * 801, 1, "802 lines"),
    ("ggml-nvfp4/cpu/pack.cpp", "int a;", 1, "no newline"),
    ("ggml-nvfp4/cpu/pack.cpp", "int a;\n\tint b;\n", 2, "a tab"),
    ("ggml-nvfp4/cpu/pack.cpp", "int a; \n", 1, "blanks"),
    ("tests/fuzz/x.dict", '# a\n"a"\n\n"b\n', 4, "dictionary"),
    ("docs/x.md", "x\nsee /wor" + "k/there\n", 2, "path of one machine"),
    ("docs/x.md", "from deb.debian" + ".org\n", 1, "registry"),
    ("docs/x.md", "TO" + "DO: write\n", 1, "open end"),
    ("CMakeLists.txt", "add_compile_options(-ffast" + "-math)\n", 1, "fast-math"),
]


def findings_with(files):
    with tempfile.TemporaryDirectory() as root:
        for path, content in files.items():
            os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
            with open(os.path.join(root, path), "w", encoding="utf-8", newline="") as file:
                file.write(content)
        return check(root)[0]


def self_test():
    failed = [f"a clean tree: unexpected {finding}" for finding in findings_with(CLEAN)]
    for path, content, line, message, *place in PLANTS:
        found = findings_with({**CLEAN, path: content})
        if [(p, n) for p, n, text in found if message in text] != [(place[0] if place else path, line)]:
            failed.append(f"{path}:{line}: expected one finding \"{message}\", got {found}")
    upward = list(upward_permissions({"x/low": [], "x/middle": ["low", "high"], "x/high": ["low", "high"]}))
    if upward != [("x/middle", "high"), ("x/high", "high")]:
        failed.append(f"permissions upwards in a table: {upward}")
    documented = documented_rooms("| `x/low` | a | |\n| `x/api` | `b` | the public header, low, y/high |\n")
    if documented != {"x/low": set(), "x/api": {"include", "low", "high"}}:
        failed.append(f"rows of documented folders: {documented}")
    print("\n".join(failed + [f"check_tree self-test: {len(PLANTS) + 3 - len(failed)} passed, {len(failed)} failed"]))
    return 1 if failed else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    if len(arguments) > 1 or arguments and arguments[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    root = arguments[0] if arguments else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    findings, count = check(root)
    for path, line, message in findings:
        print(f"{path}:{line}: {message}")
    print(f"check_tree: {count} files, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
