"""Exported folders are loaded by other libraries; the archive's handler answers in a process of its own."""

import json
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest

from inpars.contrib.deploy.archive import write_archive
from inpars.contrib.deploy.folder import export_folder
from inpars.errors import ConfigError

TEXTS = ["amber apple", "river valley willow winter", "copper desert"]


def test_a_bi_encoder_loads_in_sentence_transformers_with_equal_embeddings(tiny, tmp_path):
    from sentence_transformers import SentenceTransformer

    model = tiny("sentence_transformer")
    assert export_folder(model, tmp_path / "out") == ("bi-encoder", [])
    for name in ("config.json", "modules.json", "tokenizer.json", "model.safetensors", "1_Pooling/config.json"):
        assert (tmp_path / "out" / name).is_file()  # as Text Embeddings Inference reads them
    found = SentenceTransformer(str(tmp_path / "out"), device="cpu").encode(TEXTS)
    np.testing.assert_allclose(found, SentenceTransformer(model, device="cpu").encode(TEXTS), atol=1e-6)


def test_a_cross_encoder_loads_in_sentence_transformers_with_equal_order(tiny, tmp_path):
    from sentence_transformers import CrossEncoder

    from inpars.rerankers import load_scorer

    model = tiny("bert_classifier")
    assert export_folder(model, tmp_path / "out") == ("cross-encoder", [])
    pairs = [("amber", text) for text in TEXTS]
    found = CrossEncoder(str(tmp_path / "out"), device="cpu").predict(pairs, show_progress_bar=False)
    expected = load_scorer(model, device="cpu", dtype="float32").score(pairs)
    assert np.argsort(found).tolist() == np.argsort(expected).tolist()


def test_what_other_servers_cannot_do_is_said(tiny, tmp_path):
    kind, notes = export_folder(tiny("t5"), tmp_path / "t5")
    assert kind == "monot5"
    assert notes == ["Text Embeddings Inference and sentence-transformers do not rerank with a T5; inpars serve does"]
    with pytest.raises(ConfigError, match="is a decoder"):
        export_folder(tiny("llama"), tmp_path / "llama")
    assert not (tmp_path / "llama").exists()


def test_a_classifier_with_two_labels_is_deployed_with_the_one_that_ranks(tiny, tmp_path):
    assert export_folder(tiny("bert_classifier", labels=2), tmp_path / "out") == ("cross-encoder", [])
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    assert list(config["id2label"]) == ["0"]


HANDLER = """
import json, sys
sys.path.insert(0, "code")  # as the container does
import inference
model = inference.model_fn(".")
for line in sys.stdin:
    try:
        found = inference.predict_fn(inference.input_fn(line, "application/json"), model)
        print(inference.output_fn(found, "application/json")[0], flush=True)
    except ValueError as error:
        print(json.dumps({"refused": str(error)}), flush=True)
print(json.dumps(sys.modules["inpars"].__file__))
"""


def handled(archive, folder, requests):
    """Answers of the handler in the unpacked archive, which imports only the package inside it."""
    with tarfile.open(archive) as packed:
        packed.extractall(folder, filter="data")
    done = subprocess.run(
        [sys.executable, "-c", HANDLER],
        input="".join(json.dumps(request) + "\n" for request in requests),
        capture_output=True,
        text=True,
        check=False,
        cwd=folder,
        env={"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", "OMP_NUM_THREADS": "1", "PATH": ""},
    )
    assert done.stderr == ""
    *answers, package = [json.loads(line) for line in done.stdout.splitlines()]
    assert Path(package).resolve().is_relative_to(folder.resolve())
    return answers


def test_the_archives_handler_embeds(tiny, tmp_path):
    from inpars.retrieval.dense import Encoder

    model = tiny("sentence_transformer")
    export_folder(model, tmp_path / "model")
    write_archive(tmp_path / "model", tmp_path / "model.tar.gz")
    requests = [{"input": TEXTS, "encoding_format": "float", "dimensions": None}]
    requests += [{"inputs": TEXTS[0], "input_type": "query"}, {"input": []}, {"input": [1]}, {}]
    requests += [{"input": TEXTS, "dimensions": 8}, {"input": TEXTS, "input_type": "search_query"}]
    good, query, *bad, dimensions, kind = handled(tmp_path / "model.tar.gz", tmp_path / "unpacked", requests)
    expected = Encoder(model, device="cpu").encode_documents(TEXTS)
    found = np.array([row["embedding"] for row in good["data"]])
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(query["data"]) == 1
    assert all("input must be a text" in answer["refused"] for answer in bad)
    assert ("dimensions: not supported" in dimensions["refused"], "input_type" in kind["refused"]) == (True, True)


def test_the_archives_handler_reranks(tiny, tmp_path):
    from inpars.rerankers import load_scorer

    model = tiny("bert_classifier")
    export_folder(model, tmp_path / "model")
    write_archive(tmp_path / "model", tmp_path / "model.tar.gz")
    requests = [
        {"query": "amber", "documents": [*TEXTS[:2], {"text": TEXTS[2]}], "top_n": 2},
        {"query": "", "documents": TEXTS},
        {"query": "amber", "documents": TEXTS, "top_n": 0},
        {"query": "amber", "documents": [{"text": TEXTS[2], "title": "amber"}]},
    ]
    good, *bad, titled = handled(tmp_path / "model.tar.gz", tmp_path / "unpacked", requests)
    scores = load_scorer(model, device="cpu").score([("amber", text) for text in TEXTS])
    assert [row["index"] for row in good["results"]] == sorted(range(3), key=lambda n: -scores[n])[:2]
    assert ["refused" in answer for answer in bad] == [True, True]
    [with_title] = load_scorer(model, device="cpu").score([("amber", f"amber {TEXTS[2]}")])
    assert titled["results"][0]["score"] == pytest.approx(with_title, abs=1e-4)


def test_the_same_model_gives_the_same_archive(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}", encoding="utf-8")
    for name in ("a.tar.gz", "b.tar.gz"):
        write_archive(folder, tmp_path / name)
    assert (tmp_path / "a.tar.gz").read_bytes() == (tmp_path / "b.tar.gz").read_bytes()
    with tarfile.open(tmp_path / "a.tar.gz") as packed:
        names = packed.getnames()
        requirements = packed.extractfile("code/requirements.txt").read().decode()
    assert {"config.json", "code/inference.py", "code/inpars/rerankers/__init__.py"} <= set(names)
    assert not any("__pycache__" in name or name.startswith(("/", "..")) for name in names)
    assert "sentence-transformers>=6.0,<7\n" in requirements
    assert "torch" not in requirements  # the container's own build stays
    with pytest.raises(ConfigError, match=r"must end in \.tar\.gz"):
        write_archive(folder, tmp_path / "model.zip")
