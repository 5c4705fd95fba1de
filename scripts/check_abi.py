#!/usr/bin/env python3
"""Compares the binary interface of the public headers with that of the last release, tests/data/abi.json (docs/abi.md).

Functions, callbacks, numbers of enumerations, and sizes, offsets and types of fields must stay. New functions and numbers
may be added, and fields at the end of structures that begin with struct_size. The layout is what the C compiler says.

usage: check_abi.py              compare; exit status 1 where something changed
       check_abi.py --record     write the record anew: after a release, and for a version that may break
       check_abi.py --library libggml-nvfp4.so    compare, and look that the library exports each function and nothing else
       check_abi.py --self-test  plant changes and see that each is found
"""
import copy
import glob
import json
import os
import re
import subprocess
import sys
import tempfile

TREE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
INCLUDE = os.path.join(TREE, "ggml-nvfp4/include")
RECORD = os.path.join(TREE, "tests/data/abi.json")


def squeeze(text):
    return re.sub(r"\s*([*(),])\s*", r"\1", " ".join(text.split()))


def parts_of(text, separator):
    """Splits at separators outside of parentheses."""
    parts, depth = [""], 0
    for char in text:
        depth += (char == "(") - (char == ")")
        if char == separator and depth == 0:
            parts.append("")
        else:
            parts[-1] += char
    return [part.strip() for part in parts if part.strip()]


def fields_of(body):
    """[(name, type)]: "int32_t a, b[2];" and pointers to functions."""
    fields = []
    for declaration in parts_of(body, ";"):
        callback = re.search(r"\(\*\s*(\w+)\)", declaration)
        if callback:
            fields.append((callback.group(1), squeeze(declaration.replace(callback.group(1), "", 1))))
            continue
        first, *others = parts_of(declaration, ",")
        base = re.match(r"(.*?)[\s*]*\w+\s*(\[\w+\])*$", first, flags=re.S).group(1)
        for declarator in [first[len(base):], *others]:
            name = re.search(r"\w+", declarator).group(0)
            fields.append((name, squeeze(base + " " + declarator.replace(name, "", 1))))
    return fields


def parse(text):
    """The interface without its layout."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.S)
    text = re.sub(r"^\s*#.*(?:\\\n.*)*", "", text, flags=re.M)
    found = {"functions": {}, "callbacks": {}, "enums": {}, "structs": {}}
    for declaration, name in re.findall(r"GNV_API\s+([^;{}]*?\b(gnv_\w+)\s*\([^;{}]*\))\s*;", text):
        found["functions"][name] = squeeze(declaration)
    for declaration, name in re.findall(r"typedef\s+([^;{}]*\(\*\s*(gnv_\w+)\)[^;{}]*);", text):
        found["callbacks"][name] = squeeze(declaration)
    for name, body in re.findall(r"typedef\s+enum\s+(\w+)\s+GNV_INT\s*\{([^}]*)\}", text):
        found["enums"][name] = re.findall(r"\b(GNV_\w+)\b\s*(?:=|,|$)", body)
    for name, body in re.findall(r"typedef\s+struct\s+(\w+)\s*\{([^}]*)\}", text):
        found["structs"][name] = fields_of(body)
    return found


def measure(found, folder=INCLUDE):
    """Puts the numbers in that a compiler gives."""
    lines = ["#include <ggml-nvfp4.h>", "#include <stdio.h>", "int main(void) {"]
    for names in found["enums"].values():
        lines += [f'printf("%d\\n", (int) {name});' for name in names]
    for struct, fields in found["structs"].items():
        lines.append(f'printf("%zu\\n", sizeof({struct}));')
        for name, _ in fields:
            lines.append(f'printf("%zu\\n%zu\\n", offsetof({struct}, {name}), sizeof((({struct} *) 0)->{name}));')
    with tempfile.TemporaryDirectory() as scratch:
        source, program = os.path.join(scratch, "layout.c"), os.path.join(scratch, "layout")
        with open(source, "w", encoding="utf-8") as file:
            file.write("\n".join([*lines, "return 0;", "}", ""]))
        subprocess.run(["cc", "-I", folder, source, "-o", program], check=True)
        numbers = iter(map(int, subprocess.run([program], check=True, capture_output=True, text=True).stdout.split()))
    enums = {enum: {name: next(numbers) for name in names} for enum, names in found["enums"].items()}
    structs = {}
    for struct, fields in found["structs"].items():
        size = next(numbers)
        structs[struct] = {"size": size,
                           "fields": [[name, kind, next(numbers), next(numbers)] for name, kind in fields]}
    return {**found, "enums": enums, "structs": structs}


def read_headers():
    texts = []
    for path in sorted(glob.glob(os.path.join(INCLUDE, "*.h"))):
        with open(path, encoding="utf-8") as file:
            texts.append(file.read())
    return "\n".join(texts)


def differences(old, new):
    """What breaks a program that was built with `old`."""
    found = []
    for kind in ("functions", "callbacks"):
        for name, text in old[kind].items():
            if new[kind].get(name) != text:
                found.append(f"{name} was  {text}  and is  {new[kind].get(name, 'gone')}")
    for enum, numbers in old["enums"].items():
        for name, number in numbers.items():
            now = new["enums"].get(enum, {}).get(name)
            if now != number:
                found.append(f"{enum}: {name} was {number} and is {'gone' if now is None else now}")
    for struct, was in old["structs"].items():
        now = new["structs"].get(struct)
        if now is None:
            found.append(f"{struct} is gone")
            continue
        for at, field in enumerate(was["fields"]):
            here = now["fields"][at] if at < len(now["fields"]) else None
            if here != field:
                found.append(f"{struct}: field {at} was {field[0]} ({field[1]}, {field[3]} bytes at {field[2]}) and is " +
                             (f"{here[0]} ({here[1]}, {here[3]} bytes at {here[2]})" if here else "gone"))
                break
        else:
            if was["fields"][0][0] != "struct_size" and now != was:
                found.append(f"{struct} has no struct_size: nothing can be added to it")
    return found


def self_test():
    text = """
    typedef enum gnv_kind GNV_INT { GNV_A = 0, /* x = 1, */ GNV_B = 7 } gnv_kind;
    typedef int (*gnv_callback)(void * user, const char * text);
    typedef struct gnv_options { uint64_t struct_size; int32_t a, b[2]; void (*log)(void * user, int level);
        const char * name; } gnv_options;
    GNV_API gnv_status gnv_go(gnv_kind kind,
                              const gnv_options * options);"""
    found = parse(text)
    assert found["functions"] == {"gnv_go": "gnv_status gnv_go(gnv_kind kind,const gnv_options*options)"}, found
    assert found["enums"] == {"gnv_kind": ["GNV_A", "GNV_B"]} and list(found["callbacks"]) == ["gnv_callback"], found
    assert [name for name, _ in found["structs"]["gnv_options"]] == ["struct_size", "a", "b", "log", "name"], found
    assert dict(found["structs"]["gnv_options"])["b"] == "int32_t [2]", found

    now = measure(parse(read_headers()))
    assert len(now["functions"]) > 80 and len(now["structs"]) > 20 and differences(now, now) == []

    def change(edit):
        other = copy.deepcopy(now)
        edit(other)
        return differences(now, other)

    options = lambda it: it["structs"]["gnv_engine_options"]
    assert change(lambda it: it["functions"].pop("gnv_version"))
    assert change(lambda it: it["functions"].update(gnv_version="int gnv_version(void)"))
    assert change(lambda it: it["callbacks"].pop("gnv_progress_callback"))
    assert change(lambda it: it["enums"]["gnv_status"].update(GNV_IO=44))
    assert change(lambda it: it["enums"]["gnv_status"].pop("GNV_IO"))
    assert change(lambda it: options(it)["fields"].pop())
    assert change(lambda it: options(it)["fields"].insert(2, ["new", "int32_t", 12, 4]))
    assert change(lambda it: options(it)["fields"][1].__setitem__(1, "float"))
    assert change(lambda it: it["structs"]["gnv_document"]["fields"].append(["new", "int32_t", 99, 4]))
    assert not change(lambda it: options(it)["fields"].append(["new", "int32_t", 99, 4]))
    assert not change(lambda it: it["enums"]["gnv_status"].update(GNV_NEW=99))
    assert not change(lambda it: it["functions"].update(gnv_new="int gnv_new(void)"))


def check_exports(library, functions):
    names = subprocess.run(["nm", "-D", "--defined-only", "-j", library], check=True, capture_output=True, text=True).stdout
    exported = {name.split("@")[0] for name in names.split()}
    return [f"{library} does not export {name}" for name in sorted(set(functions) - exported)] + \
        [f"{library} exports {name}, which no public header has" for name in sorted(exported - set(functions))]


def main(words):
    if words == ["--self-test"]:
        self_test()
        return 0
    now = measure(parse(read_headers()))
    if words == ["--record"]:
        with open(RECORD, "w", encoding="utf-8") as file:
            # A line for each entry, so that a change reads well.
            text = json.dumps(now, indent=1, sort_keys=True)
            file.write(re.sub(r"\[\n\s+\"(.*?)\n\s+\]", lambda match: " ".join(match.group(0).split()), text, flags=re.S) + "\n")
        return 0
    if words and (len(words) != 2 or words[0] != "--library"):
        sys.exit(__doc__)
    with open(RECORD, encoding="utf-8") as file:
        found = differences(json.load(file), now)
    if words:
        found += check_exports(words[1], now["functions"])
    for text in found:
        print(text)
    if found:
        print(f"{len(found)} changes break programs that were built with the last release: see docs/abi.md")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
