"""A folder that looks like llama.cpp's: a converter that keeps the model, and a server that embeds with it.

It shows how both are called and what becomes of their answers. tests/reference/test_exports.py runs the real ones.
"""

import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import numpy as np

CONVERTER = """
import shutil, sys
source, path = sys.argv[1], sys.argv[sys.argv.index("--outfile") + 1]
if "{fails}":
    sys.exit("ERROR: Model BertModel is not supported")
shutil.copytree(source, "{kept}", dirs_exist_ok=True)
open(path, "wb").write(b"GGUF" + sys.argv[-1].encode())
"""
SERVER = """#!{python}
import os, sys, urllib.request
from http.server import BaseHTTPRequestHandler, HTTPServer
if "{server_fails}":
    sys.exit("error: failed to load the model")
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass
    def answer(self, found):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(found)
    def do_GET(self):
        self.answer(b'{"status": "ok"}')
    def do_POST(self):
        if "{dies}":
            os._exit(11)
        body = self.rfile.read(int(self.headers["Content-Length"]))
        assert self.path == "/v1/embeddings"
        self.answer(urllib.request.urlopen("http://127.0.0.1:{embedder}", body).read())
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def embedder(kept: Path, error: float) -> int:
    """The port of a thread that embeds with the model in `kept`: a process of its own would import torch again."""

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *words):
            pass

        def do_POST(self):
            from sentence_transformers import SentenceTransformer

            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert body["embd_normalize"] == -1
            vectors = SentenceTransformer(str(kept), device="cpu").encode(body["input"])
            vectors = vectors + error * np.arange(vectors.shape[1])
            data = [{"index": n, "embedding": vector.tolist()} for n, vector in enumerate(vectors)]
            self.send_response(200)
            self.end_headers()
            self.wfile.write(json.dumps({"data": data[::-1]}).encode())

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def make(
    folder: Path, *, fails: str = "", server_fails: str = "", dies: str = "", error: float = 0.0, server: bool = True
) -> Path:
    """The folder; with `error`, the server's first number of each vector is wrong by it."""
    values = {
        "fails": fails,
        "server_fails": server_fails,
        "dies": dies,
        "kept": folder / "kept",
        "embedder": embedder(folder / "kept", error) if server else 0,
        "python": sys.executable,
    }
    (folder / "build" / "bin").mkdir(parents=True)
    texts = {"convert_hf_to_gguf.py": CONVERTER} | ({"build/bin/llama-server": SERVER} if server else {})
    for name, text in texts.items():
        program = text
        for key, value in values.items():
            program = program.replace(f"{{{key}}}", str(value))
        (folder / name).write_text(program, encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder
