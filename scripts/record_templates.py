#!/usr/bin/env python3
"""Records what Python's Jinja2 makes of the templates of template_cases.py and tests/data/templates, configured as the Transformers
library's apply_chat_template does, in tests/data/templates.json.

usage: record_templates.py [--check]

--check compares instead, and prints what differs. Needs jinja2 3.1.6.
"""
import datetime
import json
import os
import sys

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedEnvironment

DATA = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tests", "data")
NOW = datetime.datetime(2026, 7, 4, 15, 6, 9)  # what strftime_now() writes
SECONDS = int((NOW - datetime.datetime(1970, 1, 1)).total_seconds())


class Generation(Extension):
    """{% generation %}...{% endgeneration %}: a call block, as in Transformers."""
    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_render"), [], [], body).set_lineno(line)

    def _render(self, caller):
        return caller()


def tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def make_environment(mutable):
    kind = SandboxedEnvironment if mutable else ImmutableSandboxedEnvironment
    environment = kind(trim_blocks=True, lstrip_blocks=True, extensions=[Generation, "jinja2.ext.loopcontrols"])
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = NOW.strftime
    return environment


def record(case):
    """The case with what Jinja2 says: "text", or "error"."""
    out = dict(case)
    try:
        environment = make_environment(out.pop("mutable", False))
        variables = {"add_generation_prompt": False, **case["variables"]}
        out["text"] = environment.from_string(case["template"]).render(**variables)
    except Exception as error:  # every kind of failure is one
        out["error"] = f"{type(error).__name__}: {error}".split("\n")[0][:120]
    return out


def main():
    sys.dont_write_bytecode = True
    import template_cases  # beside this file
    import template_conversations
    cases = [record(case) for case in template_cases.all_cases()]
    for name in sorted(os.listdir(os.path.join(DATA, "templates"))):
        with open(os.path.join(DATA, "templates", name), encoding="utf-8") as file:
            source = file.read()
        for conversation in template_conversations.CONVERSATIONS:
            case = record({"template": source, "variables": {"bos_token": "<s>", "eos_token": "</s>", **conversation}})
            cases.append({"file": name, **{key: value for key, value in case.items() if key != "template"}})
    cases = [case for case in cases if " at 0x" not in case.get("text", "")]  # an address
    path = os.path.join(DATA, "templates.json")
    for case in cases:
        if case["variables"] is template_cases.V:
            del case["variables"]  # those of the file
    rows = ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases)
    shared = json.dumps(template_cases.V, ensure_ascii=False)
    text = '{"jinja2": "%s", "local_time": %d, "variables": %s, "cases": [\n%s\n]}\n' % (
        jinja2.__version__, SECONDS, shared, rows)
    if "--check" in sys.argv:
        with open(path, encoding="utf-8") as file:
            sys.exit("tests/data/templates.json is not what Jinja2 gives" if file.read() != text else 0)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
    print(len(cases), "cases,", sum("error" in case for case in cases), "of them errors")


if __name__ == "__main__":
    main()
