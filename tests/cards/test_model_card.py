"""Cards name what a model was made from, without paths; numbers are put in later; pushing is one call or one line."""

import json
from pathlib import Path

import huggingface_hub
import pytest
from huggingface_hub.errors import OfflineModeIsEnabled

from inpars.cards.card import CARD, NOT_MEASURED, NOT_VALIDATED, CardFacts, Measured, add_numbers, kind_of, write_card
from inpars.errors import BackendError, ConfigError, DataFormatError
from inpars.io.manifest import FileStamp, Manifest, manifest_path, stamp, why_stale, write_manifest
from inpars.models.publication import push_folder

LICENCES = "- the documents have licences of their own"


def made(path, stage, arguments, **inputs):
    """A file with its manifest."""
    path.write_text(stage, encoding="utf-8")
    stamps = {name: found if isinstance(found, FileStamp) else stamp(found) for name, found in inputs.items()}
    write_manifest(Manifest(stage=stage, arguments=arguments, inputs=stamps, output=stamp(path, 70)), path)
    return path


@pytest.fixture
def triples(tmp_path):
    """Triples of filtered queries that smollm2-135m wrote."""
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("{}", encoding="utf-8")
    prompt = FileStamp("medical", "0", 0)
    queries = made(tmp_path / "q.jsonl", "generate", {"model": "smollm2-135m"}, corpus=corpus, prompt=prompt)
    kept = made(tmp_path / "kept.jsonl", "filter", {"scoring_function": "mean_log_probs"}, queries=queries)
    arguments = {"negatives": "bm25", "ranks": "1-100", "per_query": 4}
    return made(tmp_path / "triples.tsv", "triples", arguments, queries=kept, corpus=corpus)


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "my-reranker"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({"inpars": {"kind": "monot5"}}), encoding="utf-8")
    return folder


def card(folder, triples, parent="minilm", results=None, **settings):
    write_card(folder, CardFacts(parent, triples, settings, {"examples": 9, **(results or {})}, "cpu, float32"))
    return (folder / CARD).read_text(encoding="utf-8")


def test_a_card_names_data_prompt_generator_recipe_and_licences(folder, triples, tmp_path):
    text = card(folder, triples, learning_rate=3e-4, teacher="gemma3-270m", model="minilm", max_length=None)
    for part in (
        "# my-reranker: a monoT5 reranker",
        "- 9 examples from `triples.tsv`",
        "- queries written by `smollm2-135m`",
        "- prompt: `medical`",
        "- documents: `corpus.jsonl`",
        "- negatives: bm25, ranks 1-100, 4 of each positive",
        "- of the queries 70 were kept by `mean_log_probs`",
        "| learning rate | 0.0003 |",
        "- `minilm`, whose weights these began as: Apache-2.0",
        "- `smollm2-135m`, which wrote the queries: Apache-2.0",
        "- `gemma3-270m`, whose scores were learnt: Gemma Terms of Use",
        NOT_MEASURED,
        'load_scorer("my-reranker")',
        "license: apache-2.0",
    ):
        assert part in text
    assert "max length" not in text
    assert str(tmp_path) not in text


def test_a_parent_of_unknown_licence_and_triples_of_unknown_origin(folder, tmp_path):
    text = card(folder, tmp_path / "alone.tsv", parent="castorini/monot5-base-msmarco")
    assert "base_model: castorini/monot5-base-msmarco" in text
    assert "whose weights these began as: see the parent's card" in text
    assert "license:" not in text
    assert "who wrote the queries, and with which prompt, is not recorded" in text


def test_a_parents_path_is_not_told(folder, triples, tmp_path):
    assert str(tmp_path) not in card(folder, triples, parent=str(tmp_path / "models" / "parent"))


def test_numbers_of_the_validation_and_of_runs(folder, triples):
    results = {"start": 0.25, "best": {"step": 30, "nDCG@10": 0.5}, "validated_by": "12 synthetic dev queries"}
    text = card(folder, triples, results=results)
    assert NOT_VALIDATED not in text
    assert NOT_MEASURED in text
    assert "| 12 synthetic dev queries | this model (step 30) | nDCG@10 | 0.5000 |" in text
    write_manifest(Manifest(stage="train", arguments={}, inputs={}, output=stamp(folder), results=results), folder)
    before = manifest_path(folder).read_bytes()
    for value in (0.1, 0.2):
        add_numbers(
            folder, [Measured("nfcorpus", "nDCG@10", "bm25", 0.322), Measured("nfcorpus", "nDCG@10", "tuned", value)]
        )
    add_numbers(folder, [Measured("sci|fact", "nDCG@10", "tuned", 0.3)])
    text = (folder / CARD).read_text()
    assert text.count("| nfcorpus | bm25 | nDCG@10 | 0.3220 |") == 1
    assert "0.1000" not in text
    assert "| nfcorpus | tuned | nDCG@10 | 0.2000 |\n| sci\\|fact | tuned | nDCG@10 | 0.3000 |" in text
    assert NOT_MEASURED not in text
    assert "this model (step 30)" in text
    assert text.endswith(f"{LICENCES}\n")
    assert why_stale(folder, "train", {}, {}) is None, "to measure a model does not change it"
    assert manifest_path(folder).read_bytes() == before


def test_a_card_of_an_earlier_version_takes_numbers_and_keeps_its_hash(folder):
    (folder / CARD).write_text("# m\n<!-- numbers -->\n?\n<!-- end of numbers -->\n\n## Licence\n", encoding="utf-8")
    before = stamp(folder)
    for value in (0.1, 0.2):
        add_numbers(folder, [Measured("nfcorpus", "nDCG@10", "tuned", value)])
    assert (folder / CARD).read_text().count("| nfcorpus | tuned | nDCG@10 |") == 1
    assert stamp(folder) == before


def test_a_card_that_people_wrote_is_left_alone(folder):
    (folder / CARD).write_bytes(b"# mine \xff\n")
    with pytest.raises(DataFormatError, match="not a model card"):
        add_numbers(folder, [Measured("nfcorpus", "nDCG@10", "tuned", 0.1)])
    assert (folder / CARD).read_bytes() == b"# mine \xff\n"


@pytest.mark.parametrize(
    ("arguments", "score"),
    [
        ({"scoring_function": None}, "mean_log_probs"),
        ({"scoring_function": None, "select": ["bm25_rank:max=20", "reranker:top-k=9"]}, "reranker"),
        ({"scoring_function": "cluster", "select": ["reranker:top-k=9"]}, "cluster"),
    ],
)
def test_what_queries_were_kept_by_is_named_where_no_flag_did(folder, tmp_path, arguments, score):
    kept = made(tmp_path / "kept.jsonl", "filter", arguments)
    assert f"70 were kept by `{score}`" in card(folder, made(tmp_path / "triples.tsv", "triples", {}, queries=kept))


@pytest.mark.parametrize(
    ("parent", "line"),
    [
        ("minilm", "base_model: sentence-transformers/all-MiniLM-L6-v2"),
        ("smollm2-135m", "base_model: HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("models/parent", "base_model: owner/grandparent"),  # a folder here, no hub id, whose card knows its own
    ],
)
def test_the_parent_is_named_as_the_hub_does(folder, tmp_path, monkeypatch, parent, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "models" / "parent").mkdir(parents=True)
    header = "---\nbase_model: owner/grandparent\nlicense: apache-2.0\n---\n# parent\nbase_model: no\n"
    (tmp_path / "models" / "parent" / CARD).write_text(header, encoding="utf-8")
    text = card(folder, tmp_path / "none.tsv", parent=parent)
    assert f"\n{line}\n" in text.partition("\n---\n\n")[0] + "\n"
    assert "license: apache-2.0" in text
    assert "whose weights these began as: Apache-2.0" in text


def test_no_card_no_numbers(tmp_path):
    with pytest.raises(DataFormatError, match="no model card here"):
        add_numbers(tmp_path, [])


@pytest.mark.parametrize(
    ("file", "content", "kind"),
    [("modules.json", "[]", "bi-encoder"), ("config.json", "{}", "cross-encoder")],
)
def test_how_each_kind_is_loaded(tmp_path, file, content, kind):
    (tmp_path / file).write_text(content, encoding="utf-8")
    assert kind_of(tmp_path) == kind
    loader = {"bi-encoder": "SentenceTransformer(", "cross-encoder": "CrossEncoder("}[kind]
    assert loader in card(tmp_path, tmp_path / "none.tsv")


class FakeHub:
    """Records what it is asked."""

    calls = None
    error = None

    def create_repo(self, name, **settings):
        if self.error:
            raise self.error
        self.calls.append(("create", name, settings))
        return huggingface_hub.RepoUrl(f"https://hub.invalid/me/{name}", endpoint="https://hub.invalid")

    def upload_folder(self, **settings):
        self.calls.append(("upload", settings))


@pytest.fixture
def hub(monkeypatch):
    FakeHub.calls, FakeHub.error = [], None
    monkeypatch.setattr(huggingface_hub, "HfApi", FakeHub)
    return FakeHub


def test_a_finished_folder_is_uploaded_into_a_private_repository(hub, folder):
    manifest_path(folder).write_text("{}", encoding="utf-8")
    assert push_folder(folder, "tuned") == "https://hub.invalid/me/tuned"
    assert hub.calls == [
        ("create", "tuned", {"private": True, "exist_ok": True}),
        ("upload", {"folder_path": folder, "repo_id": "me/tuned", "commit_message": "Upload my-reranker"}),
    ]


@pytest.mark.parametrize("error", [OfflineModeIsEnabled("no network\nand more"), OSError("no network")])
def test_a_hub_that_refuses_is_one_line(hub, folder, error):
    manifest_path(folder).write_text("{}", encoding="utf-8")
    hub.error = error
    with pytest.raises(BackendError) as caught:
        push_folder(folder, "me/tuned")
    assert "was not pushed to me/tuned: no network; log in" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["", "a/b/c", "with blank"])
def test_what_is_no_repository_is_refused(hub, folder, name):
    with pytest.raises(ConfigError, match="is no repository; give NAME or OWNER/NAME"):
        push_folder(folder, name)
    assert hub.calls == []


def test_an_unfinished_model_is_not_pushed(hub, folder):
    with pytest.raises(ConfigError, match=r"not finished: .*no manifest"):
        push_folder(Path(folder), "tuned")
