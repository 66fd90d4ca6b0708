"""Which queries of people a choice may rest on."""

from dataclasses import replace
from pathlib import Path

import pytest

from inpars.documents.datasets import load_dataset
from inpars.errors import ConfigError
from inpars.io.topics import Topics
from inpars.pipeline.evidence import MAX_JUDGED, EvidenceOptions, read_evidence
from inpars.progress import SILENT

TOY = Path(__file__).parents[1] / "data" / "toy" / "beir"
NOTHING = EvidenceOptions()


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPARS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield load_dataset(str(TOY))


class Noted:
    """Progress that keeps its notes."""

    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)


def file(tmp_path, name, *lines):
    path = tmp_path / name
    path.write_text("".join(f"{line}\n" for line in lines))
    return path


def judged(tmp_path, count, qrels=None):
    queries = file(tmp_path, "dev.tsv", *(f"q{n}\tquery number {n}" for n in range(count)))
    grades = qrels or [f"q{n} 0 d01 1" for n in range(count)]
    return EvidenceOptions(dev_queries=queries, dev_qrels=file(tmp_path, "dev.qrels", *grades))


def test_nothing_named_is_no_evidence(dataset):
    found = read_evidence(NOTHING, dataset, None, SILENT)
    assert (found.judged, found.unlabelled, found.real) == (None, None, [])


def test_a_split_of_the_dataset_is_judged(dataset):
    found = read_evidence(EvidenceOptions(dev_split="dev"), dataset, None, SILENT)
    assert found.judged is not None
    assert found.judged.queries.keys() == found.judged.qrels.keys()
    assert found.real == list(found.judged.queries.values())


def test_what_is_measured_by_and_what_has_no_answer_is_left_out(dataset, tmp_path):
    options = judged(tmp_path, 4, ["q0 0 d01 1", "q1 0 d01 1", "q2 0 d01 0", "q3 0 d02 2"])
    progress, measured = Noted(), Topics("test", {"x": "Query  Number 1"}, {})
    found = read_evidence(options, dataset, measured, progress)
    assert list(found.judged.queries) == ["q0", "q3"]
    (note,) = progress.notes
    assert note.startswith("1 ")
    with pytest.raises(ConfigError, match="relevant"):
        read_evidence(judged(tmp_path, 1, ["q0 0 d01 0"]), dataset, None, SILENT)


def test_so_many_judged_queries_are_enough(dataset, tmp_path):
    progress = Noted()
    found = read_evidence(judged(tmp_path, MAX_JUDGED + 1), dataset, None, progress)
    assert len(found.judged.queries) == MAX_JUDGED
    assert str(MAX_JUDGED) in progress.notes[0]


def test_too_few_real_queries_are_refused(dataset, tmp_path):
    options = EvidenceOptions(unlabelled_queries=file(tmp_path, "real.tsv", "a\tone query", "b\tanother query"))
    with pytest.raises(ConfigError, match=r"real\.tsv"):
        read_evidence(options, dataset, None, SILENT)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (replace(NOTHING, dev_queries=Path("q")), "--dev-qrels"),
        (replace(NOTHING, dev_queries=Path("q"), dev_qrels=Path("r"), dev_split="dev"), "--dev-split"),
        (replace(NOTHING, dev_split="test"), "--dev-split test"),
        (replace(NOTHING, match_queries=True), "--unlabelled-queries"),
    ],
)
def test_flags_that_contradict_each_other_are_refused(options, said):
    with pytest.raises(ConfigError, match=said):
        options.check("test")


def test_files_are_settings_by_their_content(tmp_path):
    first = judged(tmp_path, 2).settings
    assert first != judged(tmp_path, 3).settings
    assert NOTHING.settings == dict.fromkeys(NOTHING.settings) | {"match_queries": False}
