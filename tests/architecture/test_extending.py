"""The worked examples of docs/extending.md: a reranker kind and a filter's score, each one module and one line."""

import json
import re
import sys
from pathlib import Path
from types import MappingProxyType, ModuleType

import pytest
import torch

from inpars.cards.card import kind_of
from inpars.cli.main import main
from inpars.io.storage import write_jsonl
from inpars.rerankers import kinds, load_scorer
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.pair_model import save_pair_model
from inpars.stages import score_kinds
from inpars.stages.query_scores import score_column_file
from inpars.stages.score import ScoreOptions

TEXT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
EXACT = {"device": "cpu", "dtype": "float32"}
PAIRS = [("amber lake", "the amber lake is cold"), ("amber lake", "a raven")]


def made(monkeypatch, module, registry, line_of):
    """The module of the page, as if it stood in the package, and the registry with its line."""
    page = re.search(
        rf"<!-- example: {module.rpartition('.')[2]}.py -->\n```python\n(.*?)```\n\n```python\n(.*?)```",
        TEXT,
        re.DOTALL,
    )
    code, line = page.groups()
    example = ModuleType(module)
    exec(code, example.__dict__)
    monkeypatch.setitem(sys.modules, module, example)
    return example, MappingProxyType({**registry, **eval(f"{{{line}}}", vars(line_of))})


@pytest.fixture
def example(monkeypatch):
    module, registry = made(monkeypatch, "inpars.rerankers.dot_product", kinds.RERANKERS, kinds)
    for user in ("inpars.rerankers.kinds", "inpars.rerankers.load"):
        monkeypatch.setattr(f"{user}.RERANKERS", registry)
    return module


def test_the_example_filters(monkeypatch, tmp_path):
    _, registry = made(monkeypatch, "inpars.stages.new_words", score_kinds.SCORES, score_kinds)
    for user in ("score_kinds", "query_scores"):
        monkeypatch.setattr(f"inpars.stages.{user}.SCORES", registry)
    queries = [("q1", "amber lake"), ("q2", "how deep is the amber lake"), ("q3", "a raven")]
    rows = [
        {"query_id": name, "doc_id": "d1", "query": text, "text": "the amber lake is cold", "log_probs": [-0.5] * 3}
        for name, text in queries
    ]
    write_jsonl(tmp_path / "q.jsonl", rows)
    options = ScoreOptions(kind="new-words")
    score_column_file(tmp_path / "q.jsonl", options, output=tmp_path / "new.jsonl")
    scores = [json.loads(line) for line in (tmp_path / "new.jsonl").read_text().splitlines()]
    assert [score["new_words"] for score in scores] == [0.0, 2.0, 2.0]
    flags = ["--scores", str(tmp_path / "new.jsonl"), "--select", "new_words:min=1", "--quiet"]
    kept = tmp_path / "kept.jsonl"
    assert (
        main(["filter", "--input", str(tmp_path / "q.jsonl"), "--output", str(kept), "--no-drop-copied", *flags]) == 0
    )
    assert sorted(json.loads(line)["query_id"] for line in kept.read_text().splitlines()) == ["q2", "q3"]
    assert "new-words (words that its document lacks)" in score_kinds.kind_help()


def test_the_example_scores_is_saved_and_is_known_again(example, tiny, tmp_path):
    model = load_pair_model(tiny("bert_classifier"), kind="dot-product", **EXACT)
    assert isinstance(model, example.DotProduct)
    save_pair_model(model, tmp_path / "saved")
    scores = load_scorer(str(tmp_path / "saved"), **EXACT).score(PAIRS)
    encoded = model.encode(PAIRS[:1])[0]
    ids = torch.tensor([encoded.ids])
    with torch.inference_mode():
        hidden = model.network.base_model(input_ids=ids, attention_mask=torch.ones_like(ids))[0][0]
    first = len(encoded) - encoded.second_tokens
    assert scores[0] == pytest.approx(float(hidden[:first].mean(0) @ hidden[first:].mean(0)), rel=1e-4)
    assert scores[0] != scores[1]


def test_its_words_come_from_its_line(example):
    assert "dot-product (a BERT whose mean states are multiplied)" in kinds.kind_help("what it is")
    assert "2e-5 for dot-product" in kinds.learning_rates()


def test_a_model_card_knows_every_kind(tmp_path):
    from inpars.cards import card

    for kind, known in kinds.RERANKERS.items():
        (tmp_path / "config.json").write_text(f'{{"inpars": {{"kind": "{kind}"}}}}', encoding="utf-8")
        assert card.TITLES[kind_of(tmp_path)] == known.title


def test_the_tests_that_hold_each_promise_exist():
    root = Path(__file__).parents[2]
    named = re.findall(r"`(tests/\S+)::(test_\w+)`", (root / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) > 10
    gone = [name for path, name in named if f"def {name}(" not in (root / path).read_text(encoding="utf-8")]
    assert gone == []
