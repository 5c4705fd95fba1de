#!/usr/bin/env python3
"""Runs many requests of random kind and length against the example server, with clients that vanish or send slowly, and bad
requests. Each answer must be that of the request alone, and the server's memory and descriptors must not grow.

usage: soak_server.py SERVER MODEL REQUESTS [SANITIZERS [OPTION...]]

Each OPTION goes to the server that is measured, and not to the one that answers alone: `--draft 3` must change no answer.

`make test` runs 150 requests; 10,000 take some minutes: soak_server.py build/bin/example_server build/data/qwen36-tiny 10000
"""
import contextlib
import http.client
import json
import random
import socket
import sys
import threading
import time

from server_client import CHAT, TEXT, Server, chat, prompt

CLIENTS = 8
SYSTEM = "You are a careful assistant. You answer in one short sentence, and you say so when you do not know. " * 5
# Patience for a server that runs under a sanitizer.
OPTIONS = ("--capacity", "512", "--body-limit", "100000", "--read-seconds", "60", "--queue", "64", "--queue-seconds", "600")


def make_requests(source, count):
    """Requests that have an answer: texts, ids and chats, drawn and greedy, with all options."""
    requests = []
    for i in range(count):
        options = {"max_tokens": source.randint(1, 8), "seed": source.randrange(2**32)}
        options["temperature"] = 0 if i % 3 == 0 else source.choice((0.7, 1.0))
        if i % 4 == 1:
            options.update(top_k=20, min_p=0.01, repetition_penalty=1.2)
        if i % 4 == 2:
            options.update(top_p=0.9, presence_penalty=0.5, frequency_penalty=0.2, logit_bias={"42": 3})
        if i % 5 == 3:
            options["stop"] = ["e", " the"]
        if i % 16 == 5:
            options["response_format"] = {"type": "json_object"}
        words = " ".join(source.choice(("one", "memory", "returns", "the", "Zahl", "\u2603")) for _ in range(source.randint(1, 40)))
        if i % 3 == 1 and "response_format" not in options:
            requests.append((TEXT, prompt([source.randrange(4000) for _ in range(source.randint(1, 300))], **options)))
        elif i % 3 == 2 and "response_format" not in options:
            requests.append((TEXT, prompt(words, **options)))
        else:
            messages = [{"role": "system", "content": SYSTEM}, {"role": "user", "content": words}]
            if i % 2 == 0:
                messages += [{"role": "assistant", "content": "Yes."}, {"role": "user", "content": "And now?"}]
            requests.append((CHAT, chat(messages=messages, **options)))
    return requests


BAD = (prompt(temperature=-1), prompt(max_tokens=2**31), prompt(max_tokens=2**63), prompt(seed=2**64), prompt(top_p=1e308),
       '{"model": "tiny", "prompt": "a", "temperature": NaN}', '{"model": "tiny", "prompt": "a", "min_p": 1e999}',
       prompt([1] * 600), prompt([-1]), prompt([4096]), prompt([2**31]), prompt([2**63]), prompt([1e308]), prompt(""),
       "", "[" * 1000, "{", b"\xff\xfe", {"model": "other", "prompt": "a"})


class Soak:
    def __init__(self, server, requests, answers):
        self.server, self.requests, self.answers = server, requests, answers
        self.lock = threading.Lock()
        self.left, self.reused, self.failures, self.counts = 0, 0, [], {}

    def count(self, kind):
        with self.lock:
            self.counts[kind] = self.counts.get(kind, 0) + 1

    def answer(self, i, stream):
        path, body = self.requests[i]
        if stream:
            events = self.server.stream(path, body)
            pieces = [event["choices"][0] for event in events]
            text = "".join(piece["delta"].get("content", "") if path == CHAT else piece["text"] for piece in pieces)
            return [text, pieces[-1]["finish_reason"]]
        status, answer = self.server.ask(path, body)
        assert status == 200, (status, answer)
        with self.lock:
            self.reused += answer["usage"]["prompt_tokens_details"]["cached_tokens"]
        choice = answer["choices"][0]
        return [choice["message"]["content"] if path == CHAT else choice["text"], choice["finish_reason"]]

    def run_one(self, source):
        i, kind = source.randrange(len(self.requests)), source.randrange(20)
        path, body = self.requests[i]
        if kind < 13:
            found = self.answer(i, stream=kind < 5)
            assert found == self.answers[i], (body, found, self.answers[i])
            return "streamed" if kind < 5 else "whole"
        if kind < 15:
            body = source.choice(BAD)
            status, answer = self.server.ask(TEXT, body)
            assert status in (400, 404) and "message" in answer["error"], (status, answer)
            return "refused"
        with contextlib.closing(self.server.send(path, {**body, "stream": kind % 2 == 0, "max_tokens": 100})) as connection:
            if kind < 18:
                time.sleep(source.random() * 0.1)
                return "gone"
            connection.sock.shutdown(socket.SHUT_WR)  # it sends no more, and waits: the text ends, too
            with contextlib.suppress(OSError, http.client.HTTPException):
                connection.getresponse().read()
            return "half closed"

    def send_slowly(self, source):
        """A body that comes in pieces is answered; one that does not end is not waited for."""
        path, body = source.choice(self.requests)
        text = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
        with contextlib.closing(self.server.open_socket()) as connection:
            connection.sendall(head.encode())
            for begin in range(0, len(text), len(text) // 4 + 1):
                time.sleep(0.05)
                connection.sendall(text[begin:begin + len(text) // 4 + 1])
            if source.random() < 0.5:
                assert connection.recv(12).startswith(b"HTTP/1.1 200"), "a slow client"
        return "slow"

    def client(self, seed):
        source = random.Random(seed)
        while True:
            with self.lock:
                if self.left == 0 or self.failures:
                    return
                self.left -= 1
            try:
                self.count(self.send_slowly(source) if source.random() < 0.02 else self.run_one(source))
            except (AssertionError, OSError, http.client.HTTPException) as error:
                with self.lock:
                    self.failures.append(repr(error))

    def run(self, count, seed):
        self.left = count
        clients = [threading.Thread(target=self.client, args=(seed + i,)) for i in range(CLIENTS)]
        for thread in clients:
            thread.start()
        for thread in clients:
            thread.join()
        self.server.wait_until(lambda load: load["running"] == load["waiting"] == 0)
        if self.failures:
            sys.exit("failed: " + self.failures[0])


def main():
    program, model, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
    sanitizers = sys.argv[4] if len(sys.argv) > 4 else ""
    start = time.monotonic()
    requests = make_requests(random.Random(1), min(96, 12 + count // 10))
    alone = Server(program, model, *OPTIONS, "--texts", "1", "--prefixes", "0")
    reference = Soak(alone, requests, [])
    try:
        answers = [reference.answer(i, stream=False) for i in range(len(requests))]
        assert alone.stop() == 0
    finally:
        alone.end()
    # Fewer positions than the texts may have together, so some wait.
    server = Server(program, model, *OPTIONS, "--texts", "6", "--positions", "1536", *sys.argv[5:])
    try:
        soak = Soak(server, requests, answers)
        soak.run(count // 4, 1000)
        before, descriptors = server.resident_bytes(), server.descriptors()
        soak.run(count - count // 4, 2000)
        grown, opened = server.resident_bytes() - before, server.descriptors() - descriptors
        print(f"{count} requests in {time.monotonic() - start:.0f} s: {json.dumps(soak.counts)}; {soak.reused} positions reused; "
              f"memory grew by {grown} bytes, descriptors by {opened}; drafts: {server.load().get('draft')}")
        assert server.stop() == 0
    finally:
        server.end()
    assert opened <= 2, "descriptors are left"
    assert soak.reused > 0, "no beginning of a prompt was reused"
    if not sanitizers:  # they keep what is freed
        assert grown < 16 << 20, "memory grows"


if __name__ == "__main__":
    main()
