"""An OpenAI-compatible server on loopback that fails as real ones do, and counts what it was asked.

It knows documents by the number in their text: the query for `... number 17 ...` is always the same, and so are its
log-probabilities, so that any test can work out what must come back.
"""

from __future__ import annotations

import itertools
import json
import re
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from inpars.records import Document

KEY = "sk-test-not-to-be-seen-0123456789"
INPUT_TOKENS, USD_IN, USD_OUT = 30, 10.0, 20.0  # tokens of each prompt, USD per million
PRICES = f"as_of: 2026-01-01\nmodels:\n  fake: {{input: {USD_IN}, output: {USD_OUT}}}\n"


def document(number):
    return Document(f"d{number}", f"This is document number {number} of a long series.")


def tokens_of(number):
    return [" which", " text", " is", f" n{number}"]


def log_probs_of(number):
    return [-0.25, -0.5, -0.125, -(number % 1000) / 1000]


def query_of(number):
    return "".join(tokens_of(number)).strip()


def usd_of_one():
    return (INPUT_TOKENS * USD_IN + len(tokens_of(0)) * USD_OUT) / 1e6


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_POST(self):
        raw = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.api.keys.add(self.headers["Authorization"])
        self.server.api.paths.append(self.path)
        self.server.api.headers.append(dict(self.headers))
        if self.path.partition("?")[0].endswith("/completions"):
            self.server.api.complete(self, json.loads(raw), chat="/chat/" in self.path)
        elif self.path == "/v1/files":
            self.server.api.upload(self, raw)
        else:
            self.server.api.create_batch(self, json.loads(raw))

    def do_GET(self):
        self.server.api.look(self, self.path)

    def send(self, status, body, **headers):
        """Headers and body in one write, so that nothing waits for an acknowledgement."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        lines = {"Content-Type": "application/json", "Content-Length": len(raw), **headers}
        head = f"HTTP/1.1 {status} X\r\n" + "".join(f"{k.replace('_', '-')}: {v}\r\n" for k, v in lines.items())
        self.wfile.write(head.encode() + b"\r\n" + raw)
        self.wfile.flush()

    def cut(self, raw):
        """Promise all and send half."""
        self.wfile.write(f"HTTP/1.1 200 X\r\nContent-Length: {len(raw)}\r\n\r\n".encode() + raw[: len(raw) // 2])
        self.wfile.flush()
        self.close_connection = True

    def send_error_body(self, status, message, **headers):
        self.send(status, {"error": {"message": message, "code": None}}, **headers)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 256

    def handle_error(self, *_):
        pass  # clients are killed on purpose


class FakeApi:
    """`fault(number, attempt)` names what goes wrong with a document's attempt, counted from 0; None is an answer."""

    def __init__(
        self, fault=lambda number, attempt: None, *, log_probs="openai", delay=0.0, slow=3.0, tokens=tokens_of
    ):
        self.fault, self.log_probs, self.delay, self.slow = fault, log_probs, delay, slow
        self.tokens = tokens  # four of each number, as `log_probs_of` has values
        self.asked, self.answered, self.keys, self.usd = Counter(), Counter(), set(), 0.0
        self.paths, self.headers = [], []
        self.bodies, self.under_way, self.most_under_way = [], 0, 0
        self.files, self.batches, self.batch_faults = {}, {}, []
        self.lock = threading.Lock()
        self.ids = itertools.count()
        self.server = Server(("127.0.0.1", 0), Handler)
        self.server.api = self
        threading.Thread(target=self.server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server.server_port}/v1"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def complete(self, handler, body, chat):
        number = number_in(body, chat)
        with self.lock:
            attempt, self.asked[number] = self.asked[number], self.asked[number] + 1
            self.bodies.append(body)
            self.under_way += 1
            self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            time.sleep(self.delay)
            self.answer(handler, body, chat, number, self.fault(number, attempt))
        finally:
            with self.lock:
                self.under_way -= 1

    def answer(self, handler, body, chat, number, fault):
        raw = json.dumps(self.reply(body, chat, number)).encode()
        if isinstance(fault, tuple):
            handler.send_error_body(*fault[:2], **(fault[2] if len(fault) > 2 else {}))
        elif fault == "limit":
            handler.send_error_body(429, "slow down", Retry_After=0)
        elif fault == "500":
            handler.send_error_body(500, "oops", retry_after_ms=5)
        elif fault == "broken":
            handler.send(200, raw[: len(raw) // 2])
        elif isinstance(fault, dict | list | bytes):  # an odd answer
            handler.send(200, fault)
        elif fault == "empty":
            handler.send(200, {"choices": []})
        elif fault == "cut":
            handler.cut(raw)
        elif fault == "slow":
            time.sleep(self.slow)
            handler.cut(raw)
        else:
            self.count(number, 1)
            try:
                handler.send(200, raw)
            except OSError:
                self.count(number, -1)
                raise

    def count(self, number, answers):
        with self.lock:
            self.answered[number] += answers
            self.usd += answers * usd_of_one()

    def reply(self, body, chat, number):
        tokens, values = self.tokens(number), log_probs_of(number)
        text, wanted = "".join(tokens), body.get("logprobs") and self.log_probs
        if self.log_probs == "vllm":  # keeps the token of the stop string
            tokens, values = [*tokens, "\n"], [*values, -0.75]
        log_probs = None
        if wanted and chat:
            entries = zip(tokens, values, strict=True)
            log_probs = {"content": [{"token": t, "bytes": list(t.encode()), "logprob": v} for t, v in entries]}
        elif wanted:
            log_probs = {"tokens": tokens, "token_logprobs": values, "text_offset": [0] * len(tokens)}
        shown = {"message": {"role": "assistant", "content": text}} if chat else {"text": text}
        usage = {"prompt_tokens": INPUT_TOKENS, "completion_tokens": len(tokens_of(number)), "total_tokens": 0}
        return {
            "id": "x",
            "object": "chat.completion" if chat else "text_completion",
            "created": 0,
            "model": body["model"],
            "choices": [{"index": 0, "finish_reason": "stop", "logprobs": log_probs, **shown}],
            "usage": usage,
        }

    def upload(self, handler, raw):
        boundary = raw.split(b"\r\n", 1)[0]
        part = next(part for part in raw.split(boundary) if b'name="file"' in part)
        name = f"file-{next(self.ids)}"
        self.files[name] = part.split(b"\r\n\r\n", 1)[1].rstrip(b"\r\n")
        values = {"bytes": len(raw), "created_at": 0, "filename": "x", "purpose": "batch", "status": "processed"}
        handler.send(200, {"id": name, "object": "file", **values})

    def create_batch(self, handler, body):
        fault = self.batch_faults.pop(0) if self.batch_faults else None
        if fault == "refuse":
            handler.send_error_body(400, f"no such endpoint for {KEY}")
            return
        if fault == "500":  # before anything is made
            handler.send_error_body(500, "oops")
            return
        name = f"batch-{next(self.ids)}"
        self.batches[name] = {"looks": 0, "body": body, "fault": fault}
        if fault == "lost":  # made, and nobody hears of it
            handler.cut(b"x" * 10)
            return
        handler.send(200, self.batch(name))

    def batch(self, name):
        """In progress at the first look, completed at the second."""
        made = self.batches[name]
        status = "completed" if made["looks"] > 1 else "in_progress"
        if made["fault"] in ("failed", "cancelled") and made["looks"] > 1:
            status = made["fault"]
        found = {"id": name, "object": "batch", "created_at": 0, "status": status, "metadata": made["body"]["metadata"]}
        found |= {"completion_window": "24h", "endpoint": made["body"]["endpoint"]}
        found["input_file_id"] = made["body"]["input_file_id"]
        if status == "failed":
            found["errors"] = {"object": "list", "data": [{"code": "x", "message": f"too many tokens for {KEY}"}]}
        if status == "completed":
            self.run_batch(name)
            found |= {"output_file_id": f"out-{name}", "error_file_id": f"err-{name}"}
        return found

    def run_batch(self, name):
        """Answers in reverse order; lines with a fault go to the error file."""
        if f"out-{name}" in self.files:
            return
        made, good, bad = self.batches[name]["body"], [], []
        for line in self.files[made["input_file_id"]].splitlines():
            request = json.loads(line)
            chat = made["endpoint"].endswith("chat/completions")
            number = number_in(request["body"], chat)
            attempt, self.asked[number] = self.asked[number], self.asked[number] + 1
            fault = self.fault(number, attempt)
            if isinstance(fault, tuple):
                response = {"status_code": fault[0], "body": {"error": {"message": fault[1]}}}
                bad.append(json.dumps({"custom_id": request["custom_id"], "response": response, "error": None}))
            elif fault == "broken":
                good.append('{"custom_id": "' + request["custom_id"])
            elif fault == "expired":
                error = {"code": "batch_expired", "message": "too late"}
                bad.append(json.dumps({"custom_id": request["custom_id"], "response": None, "error": error}))
            else:
                self.answered[number] += 1
                response = {"status_code": 200, "body": self.reply(request["body"], chat, number)}
                good.append(json.dumps({"custom_id": request["custom_id"], "response": response, "error": None}))
        self.files[f"out-{name}"] = "\n".join(reversed(good)).encode()
        self.files[f"err-{name}"] = "\n".join(bad).encode()

    def look(self, handler, path):
        if path.startswith("/v1/batches?"):
            listed = [self.batch(name) for name in reversed(self.batches)]
            handler.send(200, {"object": "list", "data": listed, "has_more": False})
        elif path.startswith("/v1/batches/"):
            name = path.rpartition("/")[2]
            self.batches[name]["looks"] += 1
            handler.send(200, self.batch(name))
        else:
            handler.send(200, self.files[path.split("/")[3]])


def number_in(body, chat):
    shown = body["messages"][-1]["content"] if chat else body["prompt"]
    return int(re.findall(r"document number (\d+)", shown)[-1])
