"""The score stage: unchanged rows with new numbers, documents from the corpus or the rows, resuming."""

import json

import pytest

from inpars.errors import BackendError, ConfigError, DataFormatError
from inpars.generation.teacher_forcing import QueryScore
from inpars.io.corpus import Corpus
from inpars.io.formats import write_documents
from inpars.io.manifest import read_manifest
from inpars.io.storage import write_jsonl
from inpars.prompts.mixture import PromptMixture
from inpars.prompts.templates import Prompt
from inpars.records import Document
from inpars.stages.score import ScoreOptions, score_file

PROMPT = Prompt(name="test", form="Document: {document}\nQuery: {query}")
DOCUMENTS = [Document(f"d{number}", f"text of {number}", f"Title {number}") for number in range(7)]
ROWS = [
    {
        "query_id": f"{document.doc_id}-q0",
        "doc_id": document.doc_id,
        "query": f"query {document.doc_id}",
        "log_probs": [-9.0],
        "token_ids": [5, 6],
        "finish_reason": "length" if number == 2 else "stop",
        "log_prob_kind": "processed",
        "model": "abacus" if number == 1 else "another",
        "text": document.full_text,
        "mark": number,
    }
    for number, document in enumerate(DOCUMENTS)
]


class Abacus:
    """Two tokens per query: minus the number in its document's id, and minus a half; raises after `chunks` chunks."""

    name, device = "abacus", "wood"

    def __init__(self, chunks=99):
        self.chunks, self.seen = chunks, []

    def plan(self, queries):
        order = sorted(range(len(queries)), reverse=True)
        return [order[start : start + 3] for start in range(0, len(order), 3)]

    def score(self, queries):
        if not self.chunks:
            raise BackendError("the power is gone")
        self.chunks -= 1
        self.seen += queries
        return [
            QueryScore(query.token_ids or (1, 2), (-float(query.document.doc_id[1:]), -0.5), -0.25) for query in queries
        ]


class Stage:
    def __init__(self, folder, rows=None):
        self.folder, self.output = folder, folder / "scored.jsonl"
        self.partial = folder / "scored.jsonl.partial"
        write_jsonl(folder / "queries.jsonl", rows or ROWS)

    def __call__(self, abacus=None, **settings):
        self.abacus = abacus or Abacus()
        options = settings.pop("options", ScoreOptions(model="abacus"))
        manifest = score_file(
            self.folder / "queries.jsonl",
            settings.pop("prompt", PROMPT),
            options,
            output=self.output,
            make_scorer=lambda: self.abacus,
            **settings,
        )
        return manifest, [json.loads(line) for line in self.output.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def stage(tmp_path):
    return Stage(tmp_path)


def test_the_rows_come_out_as_they_were_with_new_numbers(stage):
    manifest, rows = stage()
    assert [row["mark"] for row in rows] == list(range(7))
    assert [row["log_probs"] for row in rows] == [[-float(number), -0.5] for number in range(7)]
    assert {row["log_prob_kind"] for row in rows} == {"raw"}
    assert all(row["scored_by"] == {"model": "abacus", "prompt": "test"} for row in rows)
    assert [row["stop_log_prob"] for row in rows] == [-0.25, -0.25, None, -0.25, -0.25, -0.25, -0.25]
    # sum of 0..6 is 21, and seven halves: -24.5 over 14 tokens
    assert manifest.results == {"tokens": 14, "mean_log_prob": -1.75}
    assert (manifest.output.records, manifest.device) == (7, "wood")
    assert not stage.partial.exists()


def test_token_ids_are_used_and_kept_only_of_the_same_model(stage):
    _, rows = stage()
    assert {query.document.doc_id: query.token_ids for query in stage.abacus.seen}["d1"] == (5, 6)
    assert [query.token_ids for query in stage.abacus.seen].count(()) == 6
    assert [row.get("token_ids") for row in rows] == [None, [5, 6], None, None, None, None, None]


def test_of_a_mixture_each_row_has_the_prompt_that_it_names(tmp_path):
    other = Prompt(name="other", form="{document} {query}")
    stage = Stage(tmp_path, [row | {"prompt": "other" if row["mark"] % 3 else "test"} for row in ROWS])
    _, rows = stage(prompt=PromptMixture(((PROMPT, 0.5), (other, 0.5))))
    assert [row["scored_by"]["prompt"] for row in rows] == ["test", "other", "other"] * 2 + ["test"]
    assert {(q.document.doc_id, q.prompt) for q in stage.abacus.seen} == {(r["doc_id"], r["prompt"]) for r in rows}
    with pytest.raises(DataFormatError, match=r"'d1-q0'.*'other'"):
        stage(prompt=PromptMixture(((PROMPT, 1.0),)))


def test_documents_come_from_the_rows_or_the_corpus(stage):
    stage()
    assert {query.document.full_text for query in stage.abacus.seen} == {d.full_text for d in DOCUMENTS}
    write_documents(stage.folder / "corpus.jsonl", [Document(d.doc_id, "other") for d in DOCUMENTS])
    stage(corpus=Corpus(stage.folder / "corpus.jsonl", stage.folder / "cache"), overwrite=True)
    assert {query.document.full_text for query in stage.abacus.seen} == {"other"}


def test_rows_of_people_need_no_more_than_document_and_query(tmp_path):
    people = [{"doc_id": "d3", "query": "who?", "doc_text": "somebody"}, {"doc_id": "d3", "question": "when?"}]
    with pytest.raises(DataFormatError, match=r"query 'd3-q1' has no document text; .*--dataset"):
        Stage(tmp_path, people)()
    _, rows = Stage(tmp_path, people[:1])()
    assert rows[0]["query_id"] == "d3-q0"
    assert rows[0]["log_probs"] == [-3.0, -0.5]


@pytest.mark.parametrize("chunks", range(3))
def test_an_interrupted_run_goes_on_where_it_stopped(stage, chunks):
    stage()
    expected = stage.output.read_bytes()
    stage.output.unlink()
    with pytest.raises(BackendError):
        stage(Abacus(chunks))
    with stage.partial.open("ab") as stream:
        stream.write(b'{"query_id": "d0-')  # a truncated line
    stage()
    assert stage.output.read_bytes() == expected
    assert len(stage.abacus.seen) == 7 - 3 * chunks


def test_other_settings_begin_anew_and_what_is_finished_is_skipped(stage):
    with pytest.raises(BackendError):
        stage(Abacus(1))
    stage(prompt=Prompt(name="test", form="{document}\nQ: {query}"))
    assert len(stage.abacus.seen) == 7
    stage(prompt=Prompt(name="test", form="{document}\nQ: {query}"))
    assert stage.abacus.seen == []


def test_limit_and_no_queries(stage):
    assert stage(options=ScoreOptions(model="abacus", limit=2))[0].output.records == 2
    (stage.folder / "queries.jsonl").write_text("\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="no queries to score"):
        stage()
    assert read_manifest(stage.output).output.records == 2, "what was finished stays"
