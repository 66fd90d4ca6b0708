"""The worked example of docs/extending.md: a reranker kind that is one module and one line."""

import re
import sys
from pathlib import Path
from types import MappingProxyType, ModuleType

import pytest
import torch

from inpars.cards.card import kind_of
from inpars.rerankers import kinds, load_scorer
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.pair_model import save_pair_model

TEXT = (Path(__file__).parents[2] / "docs" / "extending.md").read_text(encoding="utf-8")
EXACT = {"device": "cpu", "dtype": "float32"}
PAIRS = [("amber lake", "the amber lake is cold"), ("amber lake", "a raven")]


@pytest.fixture
def example(monkeypatch):
    """The module and the line of the page, as if they stood in the package."""
    page = re.search(r"<!-- example: .*? -->\n```python\n(.*?)```\n\n```python\n(.*?)```", TEXT, re.DOTALL)
    code, line = page.groups()
    module = ModuleType("inpars.rerankers.dot_product")
    exec(code, module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    registry = {**kinds.RERANKERS, **eval(f"{{{line}}}", vars(kinds))}
    for user in ("inpars.rerankers.kinds", "inpars.rerankers.load"):
        monkeypatch.setattr(f"{user}.RERANKERS", MappingProxyType(registry))
    return module


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
