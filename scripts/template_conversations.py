"""Conversations for the templates of tests/data/templates: roles, tools, calls, reasoning, pictures, and what is refused."""


def user(content):
    return {"role": "user", "content": content}


def assistant(content, **more):
    return {"role": "assistant", "content": content, **more}


def tool(content):
    return {"role": "tool", "content": content, "tool_call_id": "abcdefghi", "name": "get_weather"}


def call(*arguments):
    return assistant("", tool_calls=[{"id": "abcdefghi", "type": "function",
                                      "function": {"name": "get_weather", "arguments": each}} for each in arguments])


TOOLS = [{"type": "function", "function": {
    "name": "get_weather", "description": "Weather \"now\" <b>é",
    "parameters": {"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "enum": ["Paris", "Rome"]}, "days": {"type": "integer"},
        "where": {"type": "object", "properties": {"x": {"type": "number"}}},
        "list": {"type": "array", "items": {"type": "string"}}, "unit": {"type": ["string", "null"], "default": None}}}}}]
ARGUMENTS = {"city": "Paris", "days": 3, "f": 1.5, "n": None, "b": True, "l": [1, "x"], "d": {"k": 1}}
SYSTEM = {"role": "system", "content": " Be brief. "}
PICTURE = [{"type": "text", "text": "see "}, {"type": "image"}, {"type": "video"}, {"text": "this"}]
THOUGHT = "<think>\nhmm\n</think>\n\nb"

CONVERSATIONS = [
    {"messages": [user("Hi")]},
    {"messages": [SYSTEM, user("Hi é"), assistant("Hello\n"), user("  more ")], "add_generation_prompt": True},
    {"messages": [user("a"), assistant(THOUGHT), user("c")], "add_generation_prompt": True, "enable_thinking": False},
    {"messages": [user("a"), assistant(THOUGHT), user("c"), assistant(THOUGHT)], "preserve_thinking": True},
    {"messages": [user("a"), assistant("b", reasoning_content=" because\n", thinking="t"), user("c")], "enable_thinking": True},
    {"messages": [user("a"), assistant("b", reasoning_content="because")]},
    {"messages": [user("w?"), call(ARGUMENTS), tool("sunny"), assistant("It is sunny.")], "tools": TOOLS},
    {"messages": [SYSTEM, user("w"), call({"city": "Rome"}, {}), tool("{\"t\": 20}"), tool("x")], "tools": TOOLS,
     "add_generation_prompt": True},
    {"messages": [user("w"), assistant("I look.", tool_calls=[{"name": "f", "arguments": {"q": "é"}}]),
                  user("<tool_response>\n1\n</tool_response>")], "add_generation_prompt": True},
    {"messages": [user(PICTURE)], "add_generation_prompt": True},
    {"messages": [user(PICTURE), assistant("ok"), user(PICTURE)], "add_vision_id": True},
    {"messages": [{"role": "system", "content": PICTURE}, user("x")]},
    {"messages": [user([{"type": "audio"}])]},
    {"messages": [user(None), assistant(None)]},
    {"messages": [assistant("first"), user("x")]},
    {"messages": [user("x"), user("y"), {"role": "developer", "content": "d"}, {"role": "critic", "content": None}]},
    {"messages": [user("x"), SYSTEM]},
    {"messages": [SYSTEM]},
    {"messages": []},
]
