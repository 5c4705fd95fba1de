#!/usr/bin/env python3
"""Checks that the documents name only what exists: files and folders, targets of make, programs and their tests, headings that
links point to. Prints file:line: message for each finding; exit status 1 when there is one.

usage: check_docs.py [--self-test] [FOLDER]

It reads links, and words of code (`like/this.h`, fenced blocks) that have the form of a path. A path may lack its first folder
(`graph/ops.h`) or all folders (`ops.h`), hold * or {a,b}, or begin with build/, whose programs and tests are targets of CMake.

--self-test plants a reference of each kind to nothing and checks that it is found.
"""
import fnmatch
import os
import re
import sys
import tempfile

sys.dont_write_bytecode = True
from check_tree import list_files  # noqa: E402

DOCUMENTS = re.compile(r"(^|/)[\w-]+\.md$")
OTHER_PLACES = ("CHANGELOG.md",)  # speaks of files that are gone
ROOTS = ["", "ggml-nvfp4/", "ggml-nvfp4/include/", "tests/", "tests/data/"]
ENDINGS = r"(?:h|cpp|cu|cuh|py|sh|md|txt|cmake|jsonl\.zst|tar\.zst)"
PATH = re.compile(rf"^\.?[\w.*{{}},-]+(?:/[\w.*{{}},-]+)*/?$")
# Names that look like paths and are not of this tree: of results, of examples, of other projects.
FOREIGN = [r"images/.*", r"merges\.txt", r"data/qwen36-tiny", r"blobs/", r"recipe\.yaml", r"models/qwen3\w*\.py", r"(\.cache|\.git)/?", r"cpu/scale\.cpp",
           r"cuda/scale\.cu", r"DST.*", r"out\d?/.*", r"libggml-nvfp4\..*"]


def expand(name):
    """`a.{h,cpp}` -> [`a.h`, `a.cpp`]"""
    match = re.search(r"\{([^{}]*)\}", name)
    if not match:
        return [name]
    return [found for part in match.group(1).split(",") for found in expand(name[:match.start()] + part + name[match.end():])]


class Tree:
    def __init__(self, root):
        self.root = root
        self.files = list_files(root)
        self.names = set(self.files)
        for path in self.files:
            while "/" in path:
                path = path.rsplit("/", 1)[0]
                self.names.add(path)
        self.targets = set(re.findall(r"^([a-z-]+):", self.read("Makefile"), flags=re.M))
        self.built = set()
        for path in self.files:
            if path.endswith("CMakeLists.txt"):
                self.built |= set(re.findall(r"\b(?:gnv_\w+|add_executable)\((\w[\w-]*)", self.read(path)))
                self.built |= set(re.findall(r"[\w-]+", " ".join(re.findall(r"foreach\(\w+ ([^)]*)\)", self.read(path)))))

    def read(self, path):
        with open(os.path.join(self.root, path), encoding="utf-8") as file:
            return file.read()

    def has(self, name, folder):
        if name.startswith("build/"):
            last = os.path.basename(name)
            return not name.startswith(("build/bin/", "build/tests/bin/")) or last in self.built
        name = name.rstrip("/")
        if "/" not in name and fnmatch.filter([os.path.basename(path) for path in self.files], name):
            return True
        return any(fnmatch.filter(self.names, os.path.normpath(root + name)) for root in ROOTS + [folder + "/"])


def words_of(line, fenced):
    for code in [line] if fenced else re.findall(r"`([^`]+)`", line):
        for word in re.split(r"[\s:=()'\"]+", code):
            yield word.strip(".,;")


def is_path(word):
    if not PATH.match(word) or re.search(r"[A-Z]{3,}", word.split("/")[0]) and "." not in word:
        return False
    if re.fullmatch(r"[A-Z.]+", word.split("/")[-1].split(".")[0]) and not word.endswith(".md"):
        return False
    return bool(re.search(rf"\w\.{ENDINGS}$", word)) or bool(re.match(r"(ggml-nvfp4|models|tools|tests|docs|scripts|examples|cmake|build|\.ci|"
                r"core|codec|formats|graph|exec|cpu|cuda|model|run|tokenizer|data|session|quant|report|quantize|inspect|verify|evaluate|"
                r"api|golden|configs)/", word))


def anchors_of(text):
    return {re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in re.findall(r"^#+ (.*)$", text, flags=re.M)}


def check(root):
    tree, findings = Tree(root), []
    documents = [path for path in tree.files if DOCUMENTS.search(path) and path not in OTHER_PLACES]
    for path in documents:
        folder, fenced = os.path.dirname(path), False
        for number, line in enumerate(tree.read(path).split("\n"), 1):
            if line.lstrip().startswith("```"):
                fenced = not fenced
                continue
            for link in re.findall(r"\]\(([^)]+)\)", line):
                if re.match(r"[a-z]+:", link):
                    continue
                target, _, anchor = link.partition("#")
                place = os.path.normpath(os.path.join(folder, target)) if target else path
                if place not in tree.names:
                    findings.append((path, number, f"a link to no file: {link}"))
                elif anchor and anchor not in anchors_of(tree.read(place)):
                    findings.append((path, number, f"a link to no heading: {link}"))
            for word in words_of(line, fenced):
                if not is_path(word) or any(re.fullmatch(pattern, word) for pattern in FOREIGN):
                    continue
                for name in expand(word):
                    if not tree.has(name, folder):
                        findings.append((path, number, f"no such file in the tree: {name}"))
            for code in [line] if fenced else re.findall(r"`([^`]+)`", line):
                for words in re.findall(r"(?:^|[;&]\s*)make ((?:[a-z][\w-]*\s*)+)", code.split("#")[0]):
                    for target in words.split():
                        if target not in tree.targets:
                            findings.append((path, number, f"no target of the Makefile: {target}"))
                for test in re.findall(r"\b(?:test|bench|fuzz)_[a-z]\w*\b(?![./(])", code):
                    if test not in tree.built and not any(f"/{test}." in name for name in tree.files):
                        findings.append((path, number, f"no such test: {test}"))
    return findings, len(documents)


PLANTS = {
    "`core/gone.h`": "no such file", "`core/{text,gone}.h`": "no such file", "[x](docs/gone.md)": "link to no file",
    "[x](#no-heading)": "link to no heading", "`make gone`": "no target", "`build/bin/gone`": "no such file", "`test_gone`": "no such test",
}
CLEAN = "# A heading\n`core/text.h` `text.h` `core/*.h` [x](#a-heading) `make all` `build/bin/tool` `test_text`\n"


def self_test():
    failed = []
    for plant, message in [("", "")] + list(PLANTS.items()):
        with tempfile.TemporaryDirectory() as root:
            for path, text in {"README.md": CLEAN + plant + "\n", "Makefile": "all:\n", "ggml-nvfp4/core/text.h": "",
                               "CMakeLists.txt": "gnv_tool(tool)\ngnv_test(test_text)\n"}.items():
                os.makedirs(os.path.dirname(os.path.join(root, path)), exist_ok=True)
                with open(os.path.join(root, path), "w", encoding="utf-8") as file:
                    file.write(text)
            found = check(root)[0]
        if [line for _, line, _ in found] != [3] * bool(plant) or any(message not in text for _, _, text in found):
            failed.append(f"{plant or 'a clean tree'}: expected \"{message}\", got {found}")
    print("\n".join(failed + [f"check_docs self-test: {len(PLANTS) + 1 - len(failed)} passed, {len(failed)} failed"]))
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
    print(f"check_docs: {count} documents, {len(findings)} findings")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
