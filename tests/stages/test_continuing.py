"""Queries of an earlier output for fewer documents are reused."""

import dataclasses

import pytest

from inpars.documents.datasets import load_dataset
from inpars.generation import GeneratedQuery
from inpars.progress import SILENT, Silent
from inpars.prompts.load import load_prompt
from inpars.stages.generate import GenerateOptions, generate_queries

FEW = GenerateOptions(max_documents=4)
MANY = GenerateOptions(max_documents=9)


class Counts(Silent):
    """What progress counted, call by call."""

    def __init__(self):
        self.counts = []

    def advance(self, count, detail=""):
        self.counts.append(count)


class Writer:
    name, log_prob_kind, device = "smollm2-135m", "raw", "cpu"
    on_finished = None

    def __init__(self, written, most=99):
        self.written, self.most = written, most

    def plan(self, documents):
        places = list(range(len(documents)))
        return [places[:2], places[2:]] if len(places) > 2 else [places]

    def generate(self, documents):
        if len(self.written) + len(documents) > self.most:
            raise KeyboardInterrupt
        self.written += [document.doc_id for document in documents]
        for _ in documents:
            self.on_finished(1)
        return [
            [GeneratedQuery(f"what is {document.doc_id}", (1, 2), (-1 / 3, -0.25), -0.1, "stop")]
            for document in documents
        ]


@pytest.fixture
def write(tmp_path):
    corpus = tmp_path / "corpus.jsonl"
    corpus.write_text("".join(f'{{"_id": "d{n}", "text": "text {n}"}}\n' for n in range(20)))
    dataset = load_dataset(None, corpus=corpus)

    def run(options, name, written=None, prompt="inpars", most=99, progress=SILENT):
        documents, made = [], []

        def make():
            made.append(True)
            return Writer(documents, most)

        output = tmp_path / name
        place = (dataset.corpus, load_prompt(prompt), options)
        manifest = generate_queries(*place, output=output, make_generator=make, written=written, progress=progress)
        return output, documents, bool(made), manifest

    return run


def test_the_bytes_are_the_same_and_only_the_others_are_written(write):
    few, first, *_ = write(FEW, "few.jsonl")
    alone, every, _, manifest = write(MANY, "alone.jsonl")
    both, others, _, continued = write(MANY, "both.jsonl", few)
    assert both.read_bytes() == alone.read_bytes()
    assert (len(first), len(every), len(others)) == (4, 9, 5)
    assert {*first, *others} == {*every}
    assert dataclasses.replace(continued.output, path="") == dataclasses.replace(manifest.output, path="")


def test_progress_counts_each_document_once_as_it_is_written(write):
    counts = Counts()
    few, *_ = write(FEW, "few.jsonl", progress=counts)
    assert counts.counts == [1, 1, 0, 1, 1, 0]
    counts.counts.clear()
    write(MANY, "both.jsonl", few, progress=counts)
    assert counts.counts == [4, 1, 1, 0, 1, 1, 1, 0]


def test_where_all_is_known_no_model_is_loaded(write):
    few, *_ = write(FEW, "few.jsonl")
    again, documents, made, _ = write(GenerateOptions(max_documents=3), "again.jsonl", few)
    assert (documents, made) == ([], False)
    assert len(again.read_text().splitlines()) == 3


def test_an_interrupted_run_goes_on_with_the_same_bytes(write):
    few, *_ = write(FEW, "few.jsonl")
    alone, *_ = write(MANY, "alone.jsonl")
    with pytest.raises(KeyboardInterrupt):
        write(MANY, "both.jsonl", few, most=2)  # four known documents and two others
    both, documents, *_ = write(MANY, "both.jsonl", few)
    assert len(documents) == 3
    assert both.read_bytes() == alone.read_bytes()


@pytest.mark.parametrize("change", [{"seed": 1}, {"max_doc_tokens": 9}, {"prompt": "keywords"}])
def test_queries_of_other_settings_are_not_taken(write, change):
    prompt = change.pop("prompt", "inpars")
    few, *_ = write(FEW, "few.jsonl")
    assert len(write(dataclasses.replace(MANY, **change), "other.jsonl", few, prompt)[1]) == 9


def test_changed_queries_are_not_taken(write):
    few, *_ = write(FEW, "few.jsonl")
    few.write_text(few.read_text().replace("what is", "who is"))
    assert len(write(MANY, "many.jsonl", few)[1]) == 9
