"""A folder that looks like llama.cpp's: a converter that keeps the model, and a server that embeds with it.

It shows how both are called and what becomes of their answers. tests/reference/test_exports.py runs the real ones.
"""

import sys
from pathlib import Path

CONVERTER = """
import shutil, sys
source, path = sys.argv[1], sys.argv[sys.argv.index("--outfile") + 1]
if "{fails}":
    sys.exit("ERROR: Model BertModel is not supported")
shutil.copytree(source, "{kept}", dirs_exist_ok=True)
open(path, "wb").write(b"GGUF" + sys.argv[-1].encode())
"""
SERVER = """#!{python}
import json, os, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
if "{server_fails}":
    sys.exit("error: failed to load the model")
from sentence_transformers import SentenceTransformer
model = SentenceTransformer("{kept}", device="cpu")
class Handler(BaseHTTPRequestHandler):
    def log_message(self, *words):
        pass
    def answer(self, found):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(json.dumps(found).encode())
    def do_GET(self):
        self.answer(dict(status="ok"))
    def do_POST(self):
        if "{dies}":
            os._exit(11)
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        assert body["embd_normalize"] == -1 and self.path == "/v1/embeddings"
        vectors = model.encode(body["input"]) + {error}
        data = [dict(index=n, embedding=vector.tolist()) for n, vector in enumerate(vectors)]
        self.answer(dict(data=data[::-1]))
HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


def make(
    folder: Path, *, fails: str = "", server_fails: str = "", dies: str = "", error: float = 0.0, server: bool = True
) -> Path:
    """The folder; with `error`, the server's first number of each vector is wrong by it."""
    values = {
        "fails": fails,
        "server_fails": server_fails,
        "dies": dies,
        "kept": folder / "kept",
        "python": sys.executable,
    }
    added = f"({error} * __import__('numpy').arange(32))"
    (folder / "build" / "bin").mkdir(parents=True)
    texts = {"convert_hf_to_gguf.py": CONVERTER} | ({"build/bin/llama-server": SERVER} if server else {})
    for name, text in texts.items():
        program = text
        for key, value in {**values, "error": added}.items():
            program = program.replace(f"{{{key}}}", str(value))
        (folder / name).write_text(program, encoding="utf-8")
        (folder / name).chmod(0o755)
    return folder
