"""The example server as a process, and its clients: what tests share."""
import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import time

PATIENCE = 300  # seconds before a test gives up on a server that may run under a sanitizer
# The HTTP library is not compiled for the sanitizer of threads, which does not see its locks.
ENVIRONMENT = {**os.environ, "TSAN_OPTIONS": os.environ.get("TSAN_OPTIONS", "") + " ignore_noninstrumented_modules=1"}
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"


class Server:
    """A running server on a port of its own."""

    def __init__(self, program, model, *options, key_file=None, errors=None):
        command = [program, model, "--port", "0", "--threads", "1", "--name", "tiny", "--quiet", *options]
        self.key = None
        if key_file:
            command += ["--api-key-file", key_file]
            with open(key_file, encoding="utf-8") as file:
                self.key = file.read().rstrip("\n")
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=ENVIRONMENT)
        self.process.stdout.readline()
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://127.0.0.1:"), line
        self.port = int(line.rsplit(":", 1)[1])

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE)

    def open_socket(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def headers(self, key=""):
        key = key if key != "" else self.key
        return {"Content-Type": "application/json", **({"Authorization": "Bearer " + key} if key else {})}

    def send(self, path, body, headers=None):
        """A connection whose answer is to be read."""
        connection = self.connect()
        text = body if isinstance(body, (bytes, str)) else json.dumps(body)
        connection.request("POST" if body is not None else "GET", path, text if body is not None else None,
                           self.headers() if headers is None else headers)
        return connection

    def ask(self, path, body=None, headers=None):
        """(status, JSON of the answer)."""
        with contextlib.closing(self.send(path, body, headers)) as connection:
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())

    def stream(self, path, body):
        """The JSON of all events, after checking the form of the stream."""
        with contextlib.closing(self.send(path, {**body, "stream": True})) as connection:
            answer = connection.getresponse()
            text = answer.read().decode()
        assert answer.status == 200 and answer.getheader("Content-Type") == "text/event-stream", (answer.status, text)
        events = text.split("\n\n")
        assert events[-2:] == ["data: [DONE]", ""], events[-3:]
        return [json.loads(event[len("data: "):]) for event in events[:-2]]

    def load(self):
        return self.ask("/health")[1]

    def wait_until(self, condition):
        end = time.monotonic() + PATIENCE
        while not condition(self.load()):
            assert time.monotonic() < end, self.load()
            time.sleep(0.02)

    def resident_bytes(self):
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def end(self):
        """For a test that has failed: no process is left."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return code


def chat(text="Hello", **options):
    return {"model": "tiny", "messages": [{"role": "user", "content": text}], "seed": 1, **options}


def prompt(text="The function returns", **options):
    return {"model": "tiny", "prompt": text, "seed": 1, **options}
