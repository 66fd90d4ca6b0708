"""Saved models in other libraries and for other users: the same scores, and readable files."""

import json
import os
import shutil

import numpy as np
import pytest
from tiny_models import WORDS, sentence

from inpars.cards.card import CardFacts, write_card
from inpars.contrib.deploy.folder import export_folder
from inpars.errors import ConfigError
from inpars.io.manifest import CARD
from inpars.io.storage import replace_folder
from inpars.models.loading import resolve_model
from inpars.rerankers import load_scorer, yes_no
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.pair_model import IDENTITY, keep_settings, save_pair_model
from inpars.training.examples import Group
from inpars.training.reader import Example, ReaderOptions, train_reader
from inpars.training.reranker import RerankerOptions, train_reranker
from inpars.training.retriever import RetrieverOptions, TripleTexts, train_retriever

EXACT = {"device": "cpu", "dtype": "float32"}
# the last document is longer than what the trained models below read
PAIRS = [(sentence(n, 2)[:-1], sentence(50 + n, 1 + 4 * n)) for n in range(9)]


def predicted(folder):
    from sentence_transformers import CrossEncoder

    return CrossEncoder(str(folder), device="cpu").predict(PAIRS, show_progress_bar=False)


def train(tiny, kind, output, model=None, **settings):
    model = model or tiny({"cross-encoder": "bert_classifier", "monot5": "t5"}.get(kind, "llama"))
    options = RerankerOptions(model=model, kind=kind, batch_size=4, max_steps=1, **EXACT, **settings)
    groups = [Group(WORDS[n], WORDS[n + 9], (WORDS[n + 20],)) for n in range(4)]
    train_reranker(groups, options, output=output, fingerprint={})


@pytest.mark.parametrize("labels", [1, 2])
def test_plain_predict_gives_our_scores_of_a_trained_cross_encoder(tiny, tmp_path, labels):
    start = tiny("bert_classifier", labels=labels)
    train(tiny, "cross-encoder", tmp_path / "model", start, max_length=24)
    expected = load_scorer(str(tmp_path / "model"), **EXACT).score(PAIRS)
    np.testing.assert_allclose(predicted(tmp_path / "model"), expected, atol=1e-5)
    assert max(map(abs, expected)) > 0.01, "a sigmoid of these would be another number"


def saved_by_an_earlier_version(tiny, folder):
    """A cross-encoder with 24 tokens and no activation in its config."""
    save_pair_model(load_pair_model(tiny("bert_classifier"), max_length=24, **EXACT), folder)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    del config["sentence_transformers"]
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")
    tokenizer = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    (folder / "tokenizer_config.json").write_text(json.dumps(tokenizer | {"model_max_length": 128}), encoding="utf-8")
    return load_scorer(str(folder), **EXACT).score(PAIRS)


def test_a_cross_encoder_of_an_earlier_version_scores_as_before_and_is_deployed_with_its_scores(tiny, tmp_path):
    expected = saved_by_an_earlier_version(tiny, tmp_path / "old")
    save_pair_model(load_pair_model(str(tmp_path / "old"), **EXACT), tmp_path / "new")
    assert load_scorer(str(tmp_path / "new"), **EXACT).score(PAIRS) == expected
    assert export_folder(str(tmp_path / "old"), tmp_path / "out") == ("cross-encoder", [])
    np.testing.assert_allclose(predicted(tmp_path / "out"), expected, atol=1e-5)
    assert abs(predicted(tmp_path / "old") - np.array(expected)).max() > 0.01, "which it did not do of itself"


def code_of(card):
    """The last Python block of a model card."""
    return card.partition("## How to load it")[2].partition("## Data")[0].split("```python\n")[-1].partition("```")[0]


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("model", ["llama", "gpt_neox"])  # with a first token, and without
@pytest.mark.parametrize("kind", ["causal", "query-likelihood"])
def test_the_code_of_a_decoders_card_gives_its_scores_without_us(tiny, tmp_path, monkeypatch, capsys, kind, model):
    monkeypatch.chdir(tmp_path)
    options = RerankerOptions(model=tiny(model), kind=kind, batch_size=4, max_steps=1, max_length=40, **EXACT)
    groups = [Group(WORDS[n], WORDS[n + 9], (WORDS[n + 20],)) for n in range(4)]
    train_reranker(groups, options, output=tmp_path / "model", fingerprint={})
    write_card(tmp_path / "model", CardFacts(tiny(model), tmp_path / "t.tsv", {}, {}, "cpu"))
    code = code_of((tmp_path / "model" / CARD).read_text(encoding="utf-8"))
    assert "inpars." not in code.replace("config.inpars", "")
    there = {}
    exec(code, there)
    expected = load_scorer("model", **EXACT).score([*PAIRS, ("a query", "a passage")])
    assert [there["score"](*pair) for pair in PAIRS] == pytest.approx(expected[:-1], abs=1e-4)
    assert float(capsys.readouterr().out) == pytest.approx(expected[-1], abs=1e-4)


def test_a_yes_no_reranker_asks_by_the_prompt_it_was_saved_with(tiny, tmp_path):
    train(tiny, "causal", tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    expected = load_scorer(str(tmp_path / "model"), **EXACT).score(PAIRS)
    stored = config["inpars"].pop("prompt")
    assert stored == yes_no.PROMPT

    def scores(prompt):
        settings = config["inpars"] | ({} if prompt is None else {"prompt": prompt})
        path.write_text(json.dumps(config | {"inpars": settings}), encoding="utf-8")
        return load_scorer(str(tmp_path / "model"), **EXACT).score(PAIRS)

    assert scores(None) == expected, "saved by an earlier version"
    assert scores("{document} amber {query}") != expected
    for broken in (7, "{document}", "{query} {document}", "{document}{document}{query}"):
        with pytest.raises(ConfigError, match=r"config\.json: the prompt of a yes/no reranker"):
            scores(broken)


def test_what_is_deployed_has_the_models_card_under_its_new_name_and_its_licence(tiny, tmp_path):
    train(tiny, "cross-encoder", tmp_path / "model")
    write_card(tmp_path / "model", CardFacts("minilm", tmp_path / "t.tsv", {}, {}, "cpu"))
    (tmp_path / "model" / "LICENSE.txt").write_text("as it is", encoding="utf-8")
    export_folder(str(tmp_path / "model"), tmp_path / "out")
    card = (tmp_path / "out" / CARD).read_text(encoding="utf-8")
    for part in (
        "license: apache-2.0\n",
        "base_model: sentence-transformers/all-MiniLM-L6-v2\n",
        "# out: a cross-encoder reranker",
        'CrossEncoder("out")',
        "- `minilm`, whose weights these began as: Apache-2.0",
        "`inpars deploy folder` from `model`",
    ):
        assert part in card
    assert str(tmp_path) not in card
    assert (tmp_path / "out" / "LICENSE.txt").read_text(encoding="utf-8") == "as it is"


def test_a_deployed_model_without_a_card_gets_one_that_names_its_parent(tiny, tmp_path):
    export_folder(tiny("t5"), tmp_path / "out")
    card = (tmp_path / "out" / CARD).read_text(encoding="utf-8")
    assert "# out" in card
    assert "- `t5`: see the parent's card" in card


def test_an_activation_of_the_parent_is_replaced_and_its_other_settings_stay(tiny):
    model = load_pair_model(tiny("bert_classifier"), **EXACT)
    model.network.config.sentence_transformers = {"activation_fn": "torch.nn.modules.activation.Sigmoid", "version": 5}
    keep_settings(model)
    assert model.network.config.sentence_transformers == {"activation_fn": IDENTITY, "version": 5}


@pytest.fixture
def _umask_022():
    before = os.umask(0o022)
    yield
    os.umask(before)


def modes(folder):
    return {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.usefixtures("_umask_022")
@pytest.mark.parametrize("kind", ["cross-encoder", "monot5", "causal", "query-likelihood"])
def test_everybody_may_read_a_trained_reranker(tiny, tmp_path, kind):
    train(tiny, kind, tmp_path / "model")  # decoders with adapters, merged
    assert modes(tmp_path / "model") == {"0o644"}


@pytest.mark.usefixtures("_umask_022")
def test_everybody_may_read_a_trained_retriever_a_reader_and_what_is_deployed(tiny, tmp_path):
    encoder = tiny("sentence_transformer")
    options = RetrieverOptions(model=encoder, batch_size=4, max_steps=1, **EXACT)
    rows = [TripleTexts(WORDS[n], WORDS[n + 9], WORDS[n + 20]) for n in range(4)]
    train_retriever(rows, options, output=tmp_path / "retriever", fingerprint={})
    options = ReaderOptions(model=tiny("bert_reader"), max_steps=1, max_length=16, **EXACT)
    train_reader([Example("amber", "amber lake")], [], options, output=tmp_path / "reader", fingerprint={})
    for name, model in (("a", encoder), ("b", tiny("bert_classifier")), ("c", tiny("t5"))):
        export_folder(model, tmp_path / name)
    assert modes(tmp_path) == {"0o644"}


@pytest.mark.parametrize(("umask", "expected"), [(0o022, "0o644"), (0o002, "0o664"), (0o077, "0o600")])
def test_files_have_the_rights_that_the_umask_gives(tmp_path, umask, expected):
    before = os.umask(umask)
    try:
        (tmp_path / "working" / "part").mkdir(parents=True)
        (tmp_path / "working" / "part" / "weights").write_bytes(b"x")
        (tmp_path / "working" / "part" / "weights").chmod(0o600)
        replace_folder(tmp_path / "working", tmp_path / "model")
    finally:
        os.umask(before)
    assert modes(tmp_path / "model") == {expected}


def test_a_model_taken_out_of_a_package_may_be_read(tiny, tmp_path, monkeypatch):
    from inpars.models import loading

    monkeypatch.setenv("INPARS_CACHE", str(tmp_path))

    def convert(parts, working, name):
        shutil.copytree(tiny("llama"), working, dirs_exist_ok=True)
        (working / "model.safetensors").chmod(0o600)

    monkeypatch.setattr(loading, "_convert", convert)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    before = os.umask(0o022)
    try:
        assert modes(tmp_path / resolve_model(str(tmp_path / "m.gguf"))) == {"0o644"}
    finally:
        os.umask(before)
