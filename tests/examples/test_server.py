#!/usr/bin/env python3
"""Tests the example server as a client: every route, bad requests, clients that vanish, texts beside others.

usage: test_server.py SERVER MODEL TEST_DATA SCRATCH SANITIZERS
"""
import contextlib
import http.client
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import threading
import unittest

from server_client import CHAT, PATIENCE, TEXT, Server, chat, prompt

SERVER, MODEL, DATA, SCRATCH, SANITIZERS = (sys.argv[1:] + [""] * 5)[:5]
KEY = "a-key-for-tests"


class ServerTest(unittest.TestCase):
    options, key, make_model = (), None, staticmethod(lambda: MODEL)

    @classmethod
    def setUpClass(cls):
        key_file = os.path.join(SCRATCH, "key") if cls.key else None
        if cls.key:
            with open(key_file, "w", encoding="utf-8") as file:
                file.write(cls.key + "\n")
        cls.server = Server(SERVER, cls.make_model(), *cls.options, key_file=key_file)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def refused(self, path, body, status, part, param=None):
        found, answer = self.server.ask(path, body)
        error = answer.get("error", {})
        self.assertEqual(found, status, (str(body)[:500], answer))
        self.assertIn(part, error["message"])
        self.assertEqual(set(error), {"message", "type", "param", "code"})
        if param:
            self.assertEqual(error["param"], param)


class Answers(ServerTest):
    options = ("--capacity", "512")

    def test_recorded_text(self):
        """Greedy texts are those recorded from Transformers, whole and streamed, given as ids and as text."""
        with open(os.path.join(DATA, "golden", "greedy.json"), encoding="utf-8") as file:
            recorded = json.load(file)
        for text in recorded:
            expected = text["text"].removesuffix("<|im_end|>")
            body = prompt(text["prompt_ids"], temperature=0, max_tokens=len(text["new_ids"]))
            status, answer = self.server.ask(TEXT, body)
            self.assertEqual(status, 200, answer)
            choice = answer["choices"][0]
            self.assertEqual(choice["text"], expected)
            self.assertEqual(choice["finish_reason"], "stop" if text["text"] != expected else "length")
            self.assertEqual(answer["usage"], {"prompt_tokens": len(text["prompt_ids"]),
                                               "completion_tokens": len(text["new_ids"]),
                                               "total_tokens": len(text["prompt_ids"]) + len(text["new_ids"]),
                                               "prompt_tokens_details": {"cached_tokens": 0}})
            events = self.server.stream(TEXT, {**body, "stream_options": {"include_usage": True}})
            self.assertEqual("".join(event["choices"][0]["text"] for event in events[:-1]), expected)
            self.assertEqual(events[-2]["choices"][0]["finish_reason"], choice["finish_reason"])
            self.assertEqual((events[-1]["choices"], events[-1]["usage"]), ([], answer["usage"]))

    def test_chat(self):
        status, answer = self.server.ask(CHAT, chat(max_tokens=30, temperature=0.8))
        self.assertEqual((status, answer["object"], answer["model"]), (200, "chat.completion", "tiny"))
        message = answer["choices"][0]["message"]
        self.assertEqual((message["role"], set(message)), ("assistant", {"role", "content"}))
        events = self.server.stream(CHAT, chat(max_tokens=30, temperature=0.8))
        deltas = [event["choices"][0]["delta"] for event in events]
        self.assertEqual(deltas[0], {"role": "assistant", "content": ""})
        self.assertEqual("".join(delta.get("content", "") for delta in deltas), message["content"])
        self.assertEqual({event["object"] for event in events}, {"chat.completion.chunk"})
        self.assertEqual(len({event["id"] for event in events}), 1)
        # The same text for the same seed, another for another; parts, null and unknown roles of the template.
        again = self.server.ask(CHAT, chat([{"type": "text", "text": "Hello"}], max_completion_tokens=30, temperature=0.8,
                                           stop=None, user="x", n=1))[1]
        self.assertEqual(again["choices"][0]["message"], message)
        other = self.server.ask(CHAT, chat(max_tokens=30, temperature=0.8, seed=-(2**63)))[1]
        self.assertNotEqual(other["choices"][0]["message"], message)

    def test_sampling(self):
        whole = self.server.ask(TEXT, prompt(temperature=0, max_tokens=24))[1]["choices"][0]["text"]
        stop = whole[10:18]
        status, answer = self.server.ask(TEXT, prompt(temperature=0, max_tokens=24, stop=["never", stop]))
        self.assertEqual(status, 200, answer)
        self.assertEqual(answer["choices"][0]["text"], whole[:whole.index(stop)])
        self.assertEqual(answer["choices"][0]["finish_reason"], "stop")
        biased = prompt(temperature=0, max_tokens=3, logit_bias={"42": 100})
        text = self.server.ask(TEXT, biased)[1]["choices"][0]["text"]
        self.assertEqual(text, text[:len(text) // 3] * 3)  # the same token thrice
        self.assertNotEqual(self.server.ask(TEXT, {**biased, "repetition_penalty": 1e6})[1]["choices"][0]["text"], text)
        stopped = self.server.ask(TEXT, {**biased, "stop_token_ids": [42]})[1]
        self.assertEqual((stopped["choices"][0]["text"], stopped["usage"]["completion_tokens"]), ("", 1))

    def test_json_answers(self):
        """A model that knows nothing of JSON writes objects, and ends them when it is inclined to."""
        with open(os.path.join(MODEL, "tokenizer.json"), encoding="utf-8") as file:
            vocabulary = json.load(file)["model"]["vocab"]
        bias = {str(vocabulary["}"]): 8, str(vocabulary['"']): 6}
        ended = 0
        for seed in range(8):
            choice = self.server.ask(CHAT, chat(response_format={"type": "json_object"}, seed=seed, max_tokens=60,
                                                logit_bias=bias))[1]["choices"][0]
            content = choice["message"]["content"]
            self.assertTrue(content.lstrip().startswith("{"), content)
            if choice["finish_reason"] == "stop":
                ended += 1
                self.assertIsInstance(json.loads(content), dict)
        self.assertGreater(ended, 2)

    def test_other_routes(self):
        status, models = self.server.ask("/v1/models")
        self.assertEqual((status, models["data"][0]["id"], models["data"][0]["max_model_len"]), (200, "tiny", 512))
        self.assertEqual(self.server.ask("/health")[1]["status"], "ok")
        self.refused("/v1/nothing", None, 404, "GET /v1/nothing does not exist")
        self.refused("/v1/models", {}, 404, "POST /v1/models does not exist")

    def test_bad_values(self):
        absurd = [-1, 2**31, 2**63, 2**64, 1e308, -1e308, "1", [1], {}, True]
        for name in ("temperature", "top_p", "min_p", "presence_penalty", "frequency_penalty", "repetition_penalty"):
            for number in absurd:
                allowed = {"repetition_penalty": (2**31, 2**63, 2**64), "presence_penalty": (-1,),
                           "frequency_penalty": (-1,)}
                if number is not True and number in allowed.get(name, ()):
                    continue
                self.refused(TEXT, prompt(**{name: number}), 400, name, name)
        for name in ("max_tokens", "seed", "top_k", "n"):
            for number in absurd:
                if number is not True and number in {"seed": (-1, 2**31), "top_k": (-1,)}.get(name, ()):
                    continue
                self.refused(TEXT, prompt(**{name: number}), 400, name, name)
        for body in ('{"a": NaN}', '{"a": 1e999}', "[1", "", "null", "[]", "{}x", '"x"', b'{"model": "\xff"}', "[" * 100000,
                     '{"a":' * 100000, json.dumps({str(i): 0 for i in range(30000)})):
            self.refused(TEXT, body, 400, "the body")

    def test_bad_members(self):
        for body, part, param in (
                (prompt(model=None), "the name of the model is missing", "model"),
                (prompt(prompt=None), "the prompt is missing", "prompt"), (prompt(""), "the prompt is empty", "prompt"),
                (prompt([]), "the prompt is empty", "prompt"), (prompt([1, -1]), "-1", "prompt"),
                (prompt([4096]), "4096", "prompt"), (prompt([2**31]), str(2**31), "prompt"), (prompt([2**63]), str(2**63), "prompt"),
                (prompt([1e308]), "1e+308", "prompt"), (prompt([1, "a"]), "a", "prompt"),
                (prompt(["a", "b"]), "one prompt", "prompt"),
                (prompt([1] * 512), "the context has 512 tokens, the prompt 512", "prompt"),
                (prompt([1] * 500, max_tokens=13), "more than is left", "prompt"), (prompt(5), "neither", "prompt"),
                (prompt(unknown=1), "'unknown'", "unknown"), (prompt(echo=True), "echo", "echo"),
                (prompt(logprobs=3), "logprobs", "logprobs"), (prompt(stream="yes"), "stream", "stream"),
                (prompt(stream_options={}), "stream_options", "stream_options"), (prompt(stop=""), "stop", "stop"),
                (prompt(stop=["a"] * 17), "stop", "stop"), (prompt(stop=[5]), "stop", "stop"), (prompt(stop="\0"), "stop", "stop"),
                (prompt(logit_bias={"x": 1}), "'x'", "logit_bias"), (prompt(logit_bias={"-1": 1}), "'-1'", "logit_bias"),
                (prompt(logit_bias={"4096": 1}), "'4096'", "logit_bias"), (prompt(logit_bias={"5": 101}), "token 5", "logit_bias"),
                (prompt(stop_token_ids=[4096]), "4096", "stop_token_ids"),
                (prompt(stop_token_ids=[2**63]), str(2**63), "stop_token_ids"), (prompt(stop_token_ids=5), "no list", "stop_token_ids"),
                (prompt(logit_bias={"5": 1e308}), "token 5", "logit_bias"), (prompt(logit_bias={"5": "1"}), "token 5", "logit_bias"),
                (prompt(logit_bias={str(2**63): 1}), str(2**63), "logit_bias"), (prompt(logit_bias=[1]), "logit_bias", "logit_bias")):
            self.refused(TEXT, body, 400, part, param)
        image = [{"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}]
        call = [{"type": "function", "function": {"name": "f", "arguments": "{broken"}}]
        for body, part, param in (
                (chat(messages=[]), "messages", "messages"), (chat(messages="x"), "messages", "messages"),
                (chat(messages=[5]), "messages[0] has no role", "messages"), (chat(5), "messages[0].content", "messages"),
                (chat(image), "a part that is no text", "messages"), (chat(tools="x"), "tools", "tools"),
                (chat(tools=[{"type": "function"}]), "tools", "tools"), (chat(tool_choice="required"), "tool_choice", "tool_choice"),
                (chat(messages=[{"role": "assistant", "content": None, "tool_calls": call}]), "the body is no JSON", None),
                (chat(response_format={"type": "json_schema"}), "schemas", "response_format"),
                (chat(response_format="json_object"), "response_format", "response_format"),
                (chat(chat_template_kwargs={"messages": 1}), "messages", "chat_template_kwargs"),
                (chat("x " * 2000), "the context has 512 tokens", "messages")):
            self.refused(CHAT, body, 400, part, param)
        self.refused(CHAT, chat(model="other"), 404, "does not exist", "model")
        self.assertEqual(self.server.ask(TEXT, prompt(), {"Content-Type": "text/plain"})[0], 415)
        self.assertEqual(self.server.ask(TEXT, prompt(), {"Content-Type": "multipart/form-data; boundary=x"})[0] // 100, 4)


class DraftedAnswers(Answers):
    """The same texts with drafting."""
    options = (*Answers.options, "--draft", "3")

    def test_counts(self):
        self.server.ask(TEXT, prompt(temperature=0, max_tokens=24))
        draft = self.server.ask("/health", None)[1]["draft"]
        self.assertGreater(draft["drafted"], 0)
        self.assertLessEqual(draft["accepted"], draft["drafted"])


class Tools(ServerTest):
    """A model that is made to write calls: tokens whose text is a part of one, in the order of their biases."""
    options = ("--capacity", "1024")
    parts = ["Thinking.\n</thi", "nk>\n\nLet me look.\n\n<tool_", "call>\n<function=weather>\n<parameter=city>\nPar",
             "is\n</parameter>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>"]
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {
        "type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}}}}]

    @classmethod
    def make_model(cls):
        folder = os.path.join(SCRATCH, "tools")
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(MODEL, folder, symlinks=True)
        with open(os.path.join(folder, "tokenizer.json"), encoding="utf-8") as file:
            tokenizer = json.load(file)
        os.remove(os.path.join(folder, "tokenizer_config.json"))  # which repeats the names of tokens
        unused = [token for token in tokenizer["added_tokens"] if token["content"] not in ("<|im_end|>", "<|endoftext|>")]
        cls.ids = [token["id"] for token in unused[-4:]]
        cls.end = next(token["id"] for token in tokenizer["added_tokens"] if token["content"] == "<|endoftext|>")
        for token, text in zip(unused[-4:], cls.parts):
            tokenizer["model"]["vocab"].pop(token["content"], None)
            token["content"] = text
        with open(os.path.join(folder, "tokenizer.json"), "w", encoding="utf-8") as file:
            json.dump(tokenizer, file)
        shutil.copyfile(os.path.join(DATA, "templates", "qwen36-style.jinja"), os.path.join(folder, "chat_template.jinja"))
        return folder

    def body(self, **options):
        # A chosen token's logit is divided by a million: the next largest bias follows, the end last.
        bias = dict(zip(map(str, [*self.ids, self.end]), (100, 85, 70, 55, 40)))
        return chat("How is the weather in Paris?", temperature=0, repetition_penalty=1e6, logit_bias=bias, max_tokens=50,
                    **options)

    def test_calls(self):
        answer = self.server.ask(CHAT, self.body(tools=self.tools))[1]
        choice = answer["choices"][0]
        self.assertEqual(choice["finish_reason"], "tool_calls", answer)
        message = choice["message"]
        self.assertEqual((message["reasoning_content"], message["content"]), ("Thinking.", "Let me look."))
        call, = message["tool_calls"]
        self.assertEqual((call["type"], call["function"]), ("function", {"name": "weather",
                                                                        "arguments": '{"city":"Paris","days":3}'}))
        deltas = [event["choices"][0]["delta"] for event in self.server.stream(CHAT, self.body(tools=self.tools))]
        self.assertEqual("".join(delta.get("reasoning_content", "") for delta in deltas), "Thinking.")
        self.assertEqual("".join(delta.get("content", "") for delta in deltas), "Let me look.")
        (streamed,), = [delta["tool_calls"] for delta in deltas if "tool_calls" in delta]
        self.assertEqual((streamed["index"], streamed["function"]), (0, call["function"]))
        # The answer and the tool's result go back into the template.
        messages = [*self.body()["messages"], message, {"role": "tool", "tool_call_id": call["id"], "content": "Sunny."}]
        status, follow_up = self.server.ask(CHAT, {**self.body(tools=self.tools), "messages": messages})
        self.assertEqual(status, 200, follow_up)
        self.assertGreater(follow_up["usage"]["prompt_tokens"], answer["usage"]["prompt_tokens"] + 20)

    def test_without_tools(self):
        with_tools = self.server.ask(CHAT, self.body(tools=self.tools))[1]["usage"]["prompt_tokens"]
        for options in ({}, {"tools": []}, {"tools": self.tools, "tool_choice": "none"}):
            answer = self.server.ask(CHAT, self.body(**options))[1]
            self.assertEqual(answer["choices"][0]["message"]["content"], "".join(self.parts).split("</think>\n\n")[1])
            self.assertEqual(answer["choices"][0]["finish_reason"], "stop")
            self.assertLess(answer["usage"]["prompt_tokens"], with_tools)
        quiet = self.server.ask(CHAT, self.body(chat_template_kwargs={"enable_thinking": False}))[1]
        self.assertNotIn("reasoning_content", quiet["choices"][0]["message"])


class PassedOver(unittest.TestCase):
    def test_warning(self):
        """The small checkpoint's template writes contents alone: the server says what it passes over, once."""
        tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
        earlier = {"role": "assistant", "content": "", "reasoning_content": "Because.", "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "weather", "arguments": "{}"}}]}
        body = chat(max_tokens=2, tools=tools)
        body["messages"] += [earlier, {"role": "tool", "tool_call_id": "a", "content": "Sunny."}]
        path = os.path.join(SCRATCH, "errors")
        with open(path, "w", encoding="utf-8") as errors:
            server = Server(SERVER, MODEL, "--capacity", "512", errors=errors)
            for _ in range(2):
                status, answer = server.ask(CHAT, body)
                self.assertEqual(status, 200, answer)
            self.assertEqual(server.stop(), 0)
        with open(path, encoding="utf-8") as errors:
            lines = [line for line in errors.read().splitlines() if line.startswith("warning: ")]
        said = "warning: the chat template passes over {}: the text lacks them"
        at = len(body["messages"]) - 2
        self.assertEqual(lines, [said.format(name) for name in (
            "tools", f"messages[{at}].tool_calls", f"messages[{at}].reasoning_content")])


class Together(ServerTest):
    """Texts beside others, and beginnings of prompts that they share."""
    options = ("--capacity", "1024", "--texts", "4")
    # A text without end: no token that could stop it.
    endless = {"temperature": 1.0, "logit_bias": {"4074": -100, "4072": -100}}

    def idle(self):
        self.server.wait_until(lambda load: load["running"] == load["waiting"] == 0)

    def test_texts_beside_others(self):
        """Drawn and greedy texts, streamed or not, all at once: each is what it is alone."""
        bodies = [prompt([source.randrange(4000) for _ in range(1 + 23 * i)], temperature=i % 3 / 2, max_tokens=12, seed=i,
                         repetition_penalty=1 + i % 2 / 5, stop=["e"] if i % 4 == 3 else None)
                  for i, source in enumerate(map(random.Random, range(8)))]
        alone = [self.server.ask(TEXT, body)[1]["choices"] for body in bodies]
        connections = [self.server.send(TEXT, body) for body in bodies]
        together = [json.loads(connection.getresponse().read())["choices"] for connection in connections]
        for connection in connections:
            connection.close()
        self.assertEqual(together, alone)

    def test_shared_prompts(self):
        """The end of a system's turn and that of a prompt are run once. The texts are those of a server that keeps nothing."""
        system = {"role": "system", "content": "You answer briefly, and in the words of a sailor. " * 12}
        def ask(server, *turns, **options):
            messages = [system, *({"role": "assistant" if i % 2 else "user", "content": turn} for i, turn in enumerate(turns))]
            answer = server.ask(CHAT, chat(messages=messages, max_tokens=8, **options))[1]
            return answer["choices"][0]["message"]["content"], answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        plain = Server(SERVER, MODEL, "--capacity", "1024", "--prefixes", "0")
        self.addCleanup(plain.end)
        reused = []
        for turns, options in ((["Where are we? " * 30], {}), (["Name a port. " * 30], {}), (["How is the weather?"], {}),
                               (["How is the weather?"], {"temperature": 0}), (["How is the weather?", "Fine.", "And now?" * 40], {})):
            text, count = ask(self.server, *turns, **options)
            self.assertEqual((text, 0), ask(plain, *turns, **options))
            reused.append(count)
        self.assertEqual(plain.stop(), 0)
        # The second parts from the first, and leaves there what the third takes. The fourth repeats the first.
        self.assertEqual(reused[:2], [0, 0])
        self.assertGreater(reused[2], 64)
        self.assertGreaterEqual(min(reused[3:]), reused[2])

    def test_positions(self):
        """Texts wait for positions, in their order; 503 after a while."""
        server = Server(SERVER, MODEL, "--capacity", "4096", "--texts", "4", "--positions", "8400", "--queue-seconds", "1")
        self.addCleanup(server.end)
        streams = [server.send(TEXT, prompt(max_tokens=4000, stream=True, **self.endless)) for _ in range(2)]
        server.wait_until(lambda load: load["running"] == 2)
        status, answer = server.ask(TEXT, prompt(max_tokens=400, **self.endless))
        self.assertEqual((status, answer["error"]["type"]), (503, "server_error"), answer)
        streams[0].close()
        server.wait_until(lambda load: load["running"] == 1)
        self.assertEqual(server.ask(TEXT, prompt(max_tokens=400))[0], 200)
        streams[1].close()
        self.assertEqual(server.stop(), 0)

    def test_slow_readers(self):
        """A client that takes nothing of its stream delays no other."""
        self.idle()
        slow = self.server.send(TEXT, prompt(max_tokens=1000, stream=True, **self.endless))
        self.server.wait_until(lambda load: load["running"] == 1)
        for _ in range(3):
            self.assertEqual(self.server.ask(TEXT, prompt(max_tokens=2))[0], 200)
        slow.close()
        self.idle()


class Limits(ServerTest):
    options = ("--texts", "1", "--capacity", "4096", "--queue", "2", "--body-limit", "100000", "--read-seconds", "2", "--connections", "24")
    key = KEY
    endless = {"max_tokens": 3500, "temperature": 1.0, "logit_bias": {"4074": -100, "4072": -100}}

    def idle(self):
        self.server.wait_until(lambda load: load["running"] == load["waiting"] == 0)

    def running(self, path, body):
        """A connection whose text is being written."""
        self.idle()
        connection = self.server.send(path, body)
        self.server.wait_until(lambda load: load["running"] == 1)
        return connection

    def check_alive(self):
        status, answer = self.server.ask(TEXT, prompt(max_tokens=2))
        self.assertEqual(status, 200, answer)

    def test_key(self):
        for key in (None, "wrong", KEY + "x", KEY[:-1]):
            headers = self.server.headers(key)
            for path, body in (("/v1/models", None), (TEXT, prompt()), (CHAT, chat())):
                status, answer = self.server.ask(path, body, headers)
                self.assertEqual((status, answer["error"]["code"]), (401, "invalid_api_key"))
        self.assertEqual(self.server.ask("/health", None, {})[0], 200)
        self.assertEqual(self.server.ask("/v1/models")[0], 200)

    def test_vanishing_clients(self):
        """The text of a client that goes ends: in its prompt, in its answer, streamed or not, and in the queue."""
        for body in (prompt(**self.endless), prompt(**self.endless, stream=True), chat(**self.endless, stream=True),
                     prompt([7] * 3900, max_tokens=100)):
            before = self.server.load()["tokens"]
            connection = self.running(CHAT if "messages" in body else TEXT, body)
            waiting = self.server.send(TEXT, prompt(**self.endless))
            self.server.wait_until(lambda load: load["waiting"] == 1)
            waiting.close()
            connection.close()
            self.idle()
            self.assertLess(self.server.load()["tokens"] - before, body["max_tokens"])
        self.check_alive()

    def test_full_queue(self):
        first = self.running(TEXT, prompt(**self.endless))
        others = [self.server.send(TEXT, prompt(max_tokens=1)) for _ in range(2)]
        self.server.wait_until(lambda load: load["waiting"] == 2)
        with contextlib.closing(self.server.send(TEXT, prompt(max_tokens=1))) as connection:
            answer = connection.getresponse()
            self.assertEqual((answer.status, answer.getheader("Retry-After")), (429, "1"))
            self.assertEqual(json.loads(answer.read())["error"]["type"], "rate_limit_error")
        first.close()
        for other in others:
            self.assertEqual(other.getresponse().status, 200)
            other.close()

    def test_large_bodies(self):
        self.refused(TEXT, prompt("x" * 100001), 413, "100000 bytes")
        with contextlib.closing(self.server.connect()) as connection:
            pieces = (b"x" * 1000 for _ in range(200))
            connection.request("POST", TEXT, pieces, self.server.headers(), encode_chunked=True)
            self.assertEqual(connection.getresponse().status // 100, 4)
        self.check_alive()

    def test_slow_and_rubbish(self):
        slow = []
        for text in (b"", b"POST ", b"POST /v1/completions HTTP/1.1\r\nHost: x\r\n",
                     b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\nAuthorization: Bearer "
                     + KEY.encode() + b"\r\nContent-Length: 50\r\n\r\n{") * 4:
            slow.append(self.server.open_socket())
            slow[-1].sendall(text)
        self.check_alive()  # while they wait
        source = random.Random(1)
        head = b"POST /v1/completions HTTP/1.1\r\nContent-Type: application/json\r\n"
        for text in (source.randbytes(3000), b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * 20000,
                     b"GET /health HTTP/1.1\r\n" + b"X: " + b"a" * 20000 + b"\r\n\r\n", head + b"Content-Length: -1\r\n\r\n{}",
                     head + b"Content-Length: 99999999999999999999\r\n\r\n{}", head + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
                     head + b"Transfer-Encoding: chunked\r\n\r\n-5\r\n{}\r\n", b"GET /health HTTP/1.1\r\nRange: bytes=" + b"0-1," * 1500
                     + b"\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00"):
            with contextlib.closing(self.server.open_socket()) as connection:
                with contextlib.suppress(OSError):  # the server may close before it has read all
                    connection.sendall(text)
                    connection.shutdown(socket.SHUT_WR)
                    while connection.recv(65536):
                        pass
        for connection in slow:
            with contextlib.suppress(OSError):
                while connection.recv(65536):
                    pass  # until the server has had enough
            connection.close()
        self.check_alive()

    def test_soak(self):
        """Short requests of all kinds, several at once; the memory after many is that after some."""
        def make(source):
            options = {"max_tokens": source.randint(1, 4), "stream": source.random() < 0.5}
            kind = source.randrange(6)
            if kind == 0:
                options["temperature"] = -1  # refused
            if kind == 1:
                options["stop"] = ["e", "the"]
            return (CHAT, chat("Hi " * source.randint(1, 9), **options)) if kind % 2 else (TEXT, prompt(**options))

        failures = []

        def client(seed, count):
            source = random.Random(seed)
            for _ in range(count):
                path, body = make(source)
                try:
                    with contextlib.closing(self.server.send(path, body)) as connection:
                        if source.random() < 0.1:
                            continue  # gone at once
                        answer = connection.getresponse()
                        answer.read()
                        expected = 400 if body.get("temperature") == -1 else 200
                        if answer.status not in (expected, 429):
                            failures.append((answer.status, body))
                except (OSError, http.client.HTTPException) as error:
                    failures.append((error, body))

        def run(seed, count):
            clients = [threading.Thread(target=client, args=(seed + i, count)) for i in range(3)]
            for thread in clients:
                thread.start()
            for thread in clients:
                thread.join()
            self.idle()

        run(0, 40)
        before, open_before = self.server.resident_bytes(), self.server.descriptors()
        run(100, 120)
        self.assertEqual(failures, [])
        self.assertLessEqual(self.server.descriptors(), open_before + 2)
        if not SANITIZERS:  # they keep what is freed
            self.assertLess(self.server.resident_bytes() - before, 8 << 20)


class Endings(unittest.TestCase):
    def test_signal_ends_running_texts(self):
        server = Server(SERVER, MODEL, "--capacity", "4096")
        self.addCleanup(server.end)
        streams = [server.send(TEXT, prompt(**Limits.endless, stream=True)) for _ in range(2)]
        server.wait_until(lambda load: load["running"] + load["waiting"] == 2 and load["tokens"] > 0)
        self.assertEqual(server.stop(), 0)
        self.assertIn(b"shutting down", streams[0].getresponse().read())
        for stream in streams:
            stream.close()

    def test_bad_starts(self):
        for options, part in (([os.path.join(SCRATCH, "nothing")], "does not exist"), ([MODEL, "--port", "65536"], "--port"),
                              ([MODEL, "--capacity", "-1"], "--capacity"), ([MODEL, "--capacity", "0"], "--capacity"),
                              ([MODEL, "--texts", "0"], "--texts"), ([MODEL, "--draft", "16"], "--draft"), ([MODEL, "--draft", "some"], "--draft"), ([MODEL, "--positions", "100"], "choose more --positions"), ([SCRATCH], "tokenizer.json"),
                              ([MODEL, "--api-key-file", "/dev/null"], "has no key"), ([MODEL, "--host", "nowhere."], "listen")):
            ended = subprocess.run([SERVER, *options], capture_output=True, text=True, timeout=PATIENCE, check=False)
            self.assertNotEqual(ended.returncode, 0)
            self.assertIn(part, ended.stdout + ended.stderr)


if __name__ == "__main__":
    os.makedirs(SCRATCH, exist_ok=True)
    unittest.main(argv=sys.argv[:1] + sys.argv[6:])
