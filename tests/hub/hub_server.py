#!/usr/bin/env python3
"""A small Hugging Face hub on this machine, for tests: repositories are folders, large files come from a second host, as from
the hub's content network, and faults are planted on request. The real clients of huggingface_hub accept it.

usage: hub_server.py ROOT [--tls CERTIFICATE KEY] [--token TOKEN]

ROOT/ORG/NAME/... are models, ROOT/datasets/ORG/NAME/... are data sets; commits of uploads write there. Prints one line of
JSON: {"hub": URL, "files": URL}; ends when its standard input ends. Repositories of the organization "private" need TOKEN.

POST /_control takes {"seed": N, "faults": {NAME: SHARE}, "only": PART}: each answer with a file whose path holds PART has a fault
with this share of all: cut, 429, 503, 500, short (a wrong length), long, flip (a wrong byte), whole (the range is ignored),
place (another range), endless, slow (a byte at a time). "every": NAME plants one in each answer. "whole": true spares answers
to requests for a range. "listing": TEXT replaces the next lists of files.
GET /_seen gives what was asked so far: {"requests": N, "leaked": N of requests with a token on the second host, ...}.
"""
import base64
import hashlib
import json
import os
import random
import socket
import ssl
import sys
import threading
import urllib.parse
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

LARGE_BYTES = 4096  # and more: Git LFS
PART_BYTES = 5000  # of an upload
KINDS = {"models": "", "datasets": "datasets/"}
FAULTS = ("cut", "429", "503", "500", "short", "long", "flip", "whole", "place", "endless", "slow")


class Hub:
    def __init__(self, root, token):
        self.root, self.token = root, token
        self.lock = threading.Lock()
        self.objects = {}  # uploaded large files by SHA-256
        self.read, self.commits = {}, {}
        self.parts = {}
        self.plan = {"faults": {}}
        self.random = random.Random(1)
        self.seen = {"requests": 0, "leaked": 0, "faults": 0, "commits": [], "sent": 0, "batches": 0, "ranges": 0}

    def control(self, plan):
        with self.lock:
            self.plan = {"faults": {}, **plan}
            self.random = random.Random(plan.get("seed", 1))

    def next_fault(self, path, is_range=False):
        with self.lock:
            if self.plan.get("only", "") not in path or (is_range and self.plan.get("whole")):
                return None
            if self.plan.get("every"):
                return self.plan["every"]
            point = self.random.random()
            for name, share in self.plan["faults"].items():
                if point < share:
                    self.seen["faults"] += 1
                    return name
                point -= share
            return None

    def draw(self, bound):
        with self.lock:
            return self.random.randrange(max(bound, 1))

    def folder(self, kind, name):
        return os.path.join(self.root, KINDS[kind] + name)

    def files(self, kind, name):
        """The files of a repository by name; read again when one of them changed."""
        top = self.folder(kind, name)
        paths = sorted(os.path.join(folder, file) for folder, _, names in os.walk(top) for file in names)
        state = [(path, os.stat(path).st_mtime_ns, os.stat(path).st_size) for path in paths]
        with self.lock:
            known = self.read.get(top)
            if known and known[0] == state:
                return known[1]
        found = {}
        for path in paths:
            with open(path, "rb") as opened:
                found[os.path.relpath(path, top)] = opened.read()
        with self.lock:
            self.read[top] = (state, found)
        return found

    def commit_of(self, files):
        with self.lock:
            known = self.commits.get(id(files))
            if known and known[0] is files:
                return known[1]
        digest = hashlib.sha1()
        for name, data in files.items():
            digest.update(f"{name}\0{len(data)}\0".encode() + data)
        with self.lock:
            self.commits[id(files)] = (files, digest.hexdigest())
        return digest.hexdigest()


def is_large(data):
    return len(data) >= LARGE_BYTES


def git_hash(data):
    return hashlib.sha1(f"blob {len(data)}\0".encode() + data).hexdigest()


def name_of(data):
    return hashlib.sha256(data).hexdigest() if is_large(data) else git_hash(data)


def listing(hub, kind, name, blobs):
    files = hub.files(kind, name)
    siblings = []
    for path, data in files.items():
        entry = {"rfilename": path}
        if blobs:
            entry.update(size=len(data), blobId=git_hash(data))
            if is_large(data):
                entry["lfs"] = {"sha256": hashlib.sha256(data).hexdigest(), "size": len(data), "pointerSize": 130}
        siblings.append(entry)
    return {"id": name, "_id": "1", "modelId": name, "sha": hub.commit_of(files), "private": False, "tags": [], "downloads": 0,
            "likes": 0, "siblings": siblings}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes

    def log_message(self, *_):
        pass

    @property
    def hub(self):
        return self.server.hub

    def has_token(self):
        return self.headers.get("Authorization") == f"Bearer {self.hub.token}"

    def answer(self, status, body=b"", headers=None, length=None):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def answer_json(self, value, status=200, headers=None):
        self.answer(status, json.dumps(value).encode(), {"Content-Type": "application/json", **(headers or {})})

    def hang_up(self):
        self.close_connection = True
        try:
            self.wfile.flush()
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")  # a reset, not an end
            self.connection.close()
        except OSError:
            pass

    def body(self):
        if "chunked" in self.headers.get("Transfer-Encoding", ""):
            data = b""
            while True:
                size = int(self.rfile.readline().split(b";")[0], 16)
                data += self.rfile.read(size)
                self.rfile.readline()
                if size == 0:
                    return data
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    # --- A file, perhaps with a fault ---------------------------------------------------------------------------------

    def send_file(self, data, headers):
        fault = self.hub.next_fault(self.path, "Range" in self.headers) if self.command == "GET" else None
        if fault in ("429", "503", "500"):
            return self.answer_json({"error": "come back later"}, int(fault), {"Retry-After": "0"} if fault == "429" else {})
        begin, status, sent = 0, 200, data
        wanted = self.headers.get("Range", "")
        if wanted.startswith("bytes=") and fault != "whole":
            begin = int(wanted[6:].split("-")[0])
            if begin >= len(data):
                return self.answer(416, b"", {"Content-Range": f"bytes */{len(data)}"})
            self.hub.seen["ranges"] += 1
            if fault == "place":
                begin = self.hub.draw(len(data))
            last = wanted[6:].split("-")[1]
            end = min(int(last) + 1, len(data)) if last else len(data)
            status, sent = 206, data[begin:end]
            headers = {**headers, "Content-Range": f"bytes {begin}-{end - 1}/{len(data)}"}
        length = len(sent)
        if fault == "flip" and sent:
            at = self.hub.draw(len(sent))
            sent = sent[:at] + bytes([sent[at] ^ 1]) + sent[at + 1:]
        if fault == "short":
            sent = sent[:self.hub.draw(len(sent))]
            length = len(sent)
        if fault == "long":
            sent += b"x"
            length += 1
        if fault in ("endless", "slow"):
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            if fault == "slow":
                self.send_header("Content-Length", str(length))
            self.end_headers()
            self.close_connection = True
            try:
                for i in range(1 << 20):
                    self.wfile.write(sent[i:i + 1] if fault == "slow" else sent or b"x")
                    self.wfile.flush()
                    if fault == "slow" and self.server.stopped.wait(0.05):
                        break
            except OSError:
                pass
            return None
        if fault == "cut":
            sent = sent[:self.hub.draw(len(sent))]
            self.answer(status, sent, headers, length)
            return self.hang_up()
        return self.answer(status, sent, headers, length)

    def parse_repository(self, parts):
        """(kind, "org/name", the parts behind it), or None."""
        kind = "models"
        if parts and parts[0] in KINDS:
            kind, parts = parts[0], parts[1:]
        if len(parts) < 2:
            return None
        return kind, "/".join(parts[:2]), parts[2:]

    def find(self, kind, name, revision):
        """The files of a repository; None after a failure was sent."""
        if name.startswith("private/") and not self.has_token():
            self.answer_json({"error": "Invalid username or password."}, 401)
            return None
        files = self.hub.files(kind, name) if os.path.isdir(self.hub.folder(kind, name)) else None
        if files is None or revision not in ("main", "v1", self.hub.commit_of(files)):
            self.answer_json({"error": "Repository not found"}, 404, {"X-Error-Code": "RepoNotFound"})
            return None
        return files

    def do_GET(self):
        self.hub.seen["requests"] += 1
        url = urllib.parse.urlsplit(self.path)
        parts = [urllib.parse.unquote(part) for part in url.path.strip("/").split("/")]
        if parts == ["_seen"]:
            return self.answer_json(self.hub.seen)
        if parts[0] == "objects":  # the second host
            if "Authorization" in self.headers:
                self.hub.seen["leaked"] += 1
            kind, name, rest = self.parse_repository(parts[1:])
            return self.send_file(self.hub.files(kind, name)["/".join(rest)], {"ETag": '"other"'})
        if parts[0] == "api":
            return self.get_api(parts[1:], urllib.parse.parse_qs(url.query))
        repository = self.parse_repository(parts)
        if not repository or repository[2][:1] != ["resolve"]:
            return self.answer_json({"error": "not found"}, 404)
        kind, name, rest = repository
        files = self.find(kind, name, rest[1])
        if files is None:
            return None
        path = "/".join(rest[2:])
        if path not in files:
            return self.answer_json({"error": "Entry not found"}, 404, {"X-Error-Code": "EntryNotFound"})
        data = files[path]
        headers = {"X-Repo-Commit": self.hub.commit_of(files), "Accept-Ranges": "bytes", "ETag": f'"{name_of(data)}"'}
        if not is_large(data):
            return self.send_file(data, headers)
        headers.update({"X-Linked-Size": str(len(data)), "X-Linked-Etag": f'"{name_of(data)}"'})
        headers["Location"] = self.server.files_url + urllib.parse.quote(f"/objects/{KINDS[kind]}{name}/{path}") + "?signature=abc"
        return self.answer(302, b"", headers)

    do_HEAD = do_GET

    def get_api(self, parts, query):
        repository = self.parse_repository(parts)
        if not repository:
            return self.answer_json({"error": "not found"}, 404)
        kind, name, rest = repository
        revision = rest[1] if rest[:1] == ["revision"] else "main"
        if rest[:1] == ["tree"]:
            files = self.find(kind, name, rest[1])
            entries = [{"type": "file", "path": path, "size": len(data), "oid": git_hash(data),
                        **({"lfs": {"oid": name_of(data), "size": len(data), "pointerSize": 130}} if is_large(data) else {})}
                       for path, data in (files or {}).items()]
            return None if files is None else self.answer_json(entries)
        if self.find(kind, name, revision) is None:
            return None
        if "listing" in self.hub.plan:
            return self.answer(200, self.hub.plan["listing"].encode())
        if self.hub.plan.get("api") and self.hub.draw(2):
            return self.answer_json({"error": "busy"}, 503)
        return self.answer_json(listing(self.hub, kind, name, "blobs" in query))

    # --- Uploads --------------------------------------------------------------------------------------------------------

    def do_POST(self):
        self.hub.seen["requests"] += 1
        parts = urllib.parse.urlsplit(self.path).path.strip("/").split("/")
        data = self.body()
        if parts == ["_control"]:
            self.hub.control(json.loads(data))
            return self.answer_json({})
        if parts[:1] == ["completed"]:  # of an upload in parts
            given = json.loads(data)
            with self.hub.lock:
                pieces = [self.hub.parts[(given["oid"], part["partNumber"])] for part in given["parts"]]
                tags = [part["etag"].strip('"') for part in given["parts"]]
            if [hashlib.md5(piece).hexdigest() for piece in pieces] != tags:
                return self.answer_json({"error": "wrong parts"}, 400)
            return self.answer_json({}) if self.keep(given["oid"], b"".join(pieces)) else self.answer_json({}, 400)
        if not self.has_token():
            return self.answer_json({"error": "Invalid username or password."}, 401)
        if self.hub.plan.get("api") and self.hub.draw(2):
            return self.answer_json({"error": "busy"}, 503)
        if parts == ["api", "validate-yaml"]:
            return self.answer_json({"errors": [], "warnings": []})
        if parts == ["api", "repos", "create"]:
            return self.create(json.loads(data))
        if parts[0] == "api" and "preupload" in parts:
            return self.preupload(json.loads(data))
        if parts[0] == "api" and "commit" in parts:
            kind, name, _ = self.parse_repository(parts[1:])
            return self.commit(kind, name, data)
        if parts[-3:] == ["lfs", "objects", "batch"]:
            return self.batch(json.loads(data))
        return self.answer_json({"error": "not found"}, 404)

    def create(self, given):
        kind = given.get("type", "model") + "s"
        name = given["organization"] + "/" + given["name"] if given.get("organization") else given["name"]
        folder = self.hub.folder(kind, name)
        if os.path.isdir(folder):
            return self.answer_json({"error": "You already created this repo"}, 409, {"X-Error-Code": "RepoExists"})
        os.makedirs(folder)
        return self.answer_json({"url": f"{self.server.hub_url}/{KINDS[kind]}{name}", "name": name, "id": "1"})

    def preupload(self, given):
        kind, name, _ = self.parse_repository(self.path.strip("/").split("/")[1:])
        if self.find(kind, name, "main") is None:
            return None
        files = [{"path": file["path"], "uploadMode": "lfs" if file["size"] >= LARGE_BYTES else "regular", "shouldIgnore": False}
                 for file in given["files"]]
        return self.answer_json({"files": files})

    def batch(self, given):
        self.hub.seen["batches"] += 1
        objects = []
        for entry in given["objects"]:
            oid, size = entry["oid"], entry["size"]
            answer = {"oid": oid, "size": size}
            known = oid in self.hub.objects
            if not known and "multipart" in given.get("transfers", []) and size > PART_BYTES:
                header = {"chunk_size": str(PART_BYTES)}
                for number in range(1, (size + PART_BYTES - 1) // PART_BYTES + 1):
                    header[f"{number:05}"] = f"{self.server.files_url}/part/{oid}/{number}?signature=abc"
                answer["actions"] = {"upload": {"href": f"{self.server.files_url}/completed/{oid}", "header": header}}
            elif not known:
                answer["actions"] = {"upload": {"href": f"{self.server.files_url}/put/{oid}?signature=abc"},
                                     "verify": {"href": f"{self.server.hub_url}/api/validate-yaml"}}
            objects.append(answer)
        transfer = "multipart" if any("chunk_size" in o.get("actions", {}).get("upload", {}).get("header", {}) for o in objects) else "basic"
        return self.answer_json({"transfer": transfer, "objects": objects})

    def keep(self, oid, data):
        if hashlib.sha256(data).hexdigest() != oid:
            return False
        self.hub.objects[oid] = data
        return True

    def do_PUT(self):
        self.hub.seen["requests"] += 1
        parts = urllib.parse.urlsplit(self.path).path.strip("/").split("/")
        if "Authorization" in self.headers:
            self.hub.seen["leaked"] += 1
        fault = self.hub.next_fault(self.path)
        if fault == "cut":
            self.rfile.read(self.hub.draw(int(self.headers["Content-Length"])))
            return self.hang_up()
        data = self.body()
        if fault in ("429", "503", "500"):
            return self.answer_json({}, int(fault), {"Retry-After": "0"})
        self.hub.seen["sent"] += len(data)
        if parts[0] == "part":
            with self.hub.lock:
                self.hub.parts[(parts[1], int(parts[2]))] = data
            return self.answer(200, b"", {"ETag": '"' + hashlib.md5(data).hexdigest() + '"'})
        return self.answer(200) if self.keep(parts[1], data) else self.answer(400)

    def commit(self, kind, name, data):
        lines = [json.loads(line) for line in data.split(b"\n") if line.strip()]
        folder = self.hub.folder(kind, name)
        if not os.path.isdir(folder):
            return self.answer_json({"error": "Repository not found"}, 404)
        for line in lines:
            value = line["value"]
            if line["key"] == "header":
                continue
            path = os.path.join(folder, value["path"])
            os.makedirs(os.path.dirname(path), exist_ok=True)
            content = base64.b64decode(value["content"]) if line["key"] == "file" else self.hub.objects[value["oid"]]
            with open(path, "wb") as file:
                file.write(content)
        self.hub.seen["commits"].append({"name": name, "files": len(lines) - 1, "summary": lines[0]["value"]["summary"]})
        commit = self.hub.commit_of(self.hub.files(kind, name))
        return self.answer_json({"success": True, "commitOid": commit, "commitUrl": f"{self.server.hub_url}/{name}/commit/{commit}",
                                 "hookOutput": ""})


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):  # clients hang up, on purpose
        pass


def main(arguments):
    root, token, tls = arguments[0], "hf_test_token", None
    if "--token" in arguments:
        token = arguments[arguments.index("--token") + 1]
    if "--tls" in arguments:
        at = arguments.index("--tls")
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(arguments[at + 1], arguments[at + 2])
    hub = Hub(root, token)
    scheme = "https" if tls else "http"
    servers = [Server(("127.0.0.1", 0), Handler) for _ in range(2)]
    urls = [f"{scheme}://{host}:{server.server_port}" for host, server in zip(("127.0.0.1", "localhost"), servers)]
    for server in servers:
        server.hub, server.hub_url, server.files_url, server.stopped = hub, urls[0], urls[1], threading.Event()
        if tls:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"hub": urls[0], "files": urls[1]}), flush=True)
    sys.stdin.read()
    for server in servers:
        server.stopped.set()


if __name__ == "__main__":
    main(sys.argv[1:])
