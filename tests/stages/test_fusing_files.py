"""Fusion of TREC runs; the manifest tells which run is BM25's."""

from pathlib import Path

from inpars.io.formats import read_run, write_run
from inpars.io.manifest import read_manifest
from inpars.io.runs import fuse_z_scores
from inpars.pipeline.system_runs import fuse_runs
from inpars.progress import SILENT
from inpars.stages.rerank import RerankOptions
from inpars.stages.search import SearchOptions
from inpars.stages.stage import Outcome, Stage

LEXICAL = {"q": {"rare": 7.0}, "full": {"a": 2.0, "b": 1.0}}
DENSE = {"q": {"a": 0.9, "b": 0.8, "rare": 0.7}, "full": {"c": 0.9, "a": 0.8}}


class Noted:
    """Progress that keeps its notes."""

    def __init__(self):
        self.notes = []

    def note(self, message):
        self.notes.append(message)

    def stage(self, name, output, *, up_to_date):
        """Nothing to show."""


def searched(path, run, options, progress=SILENT):
    def work():
        return Outcome(write_run(path, run, path.stem))

    Stage("search", options, path, {}, progress=progress).run(work)
    return path


def fused(sources, depth, progress=SILENT):
    output = fuse_runs(
        sources, output=Path("fused.trec"), depth=depth, stage_kwargs={"progress": progress, "overwrite": False}
    )
    return read_run(output), read_manifest(output)


def test_a_run_of_bm25_gets_zeros_and_its_manifest_says_so(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = [searched(Path("words.trec"), LEXICAL, SearchOptions(k=100))]
    paths.append(searched(Path("dense.trec"), DENSE, SearchOptions(retriever=("minilm",), k=100)))
    made, manifest = fused(paths, 3)
    assert list(made["q"]) == ["a", "rare", "b"]
    assert manifest.arguments["lexical"] == [["words.trec", 100]]
    # lists of as many documents as were asked for may have been cut
    made, manifest = fused([searched(paths[0], LEXICAL, SearchOptions(k=1)), paths[1]], 3)
    assert list(made["q"]) == ["a", "b", "rare"]


def test_a_run_of_unknown_origin_is_fused_as_it_is_and_its_short_lists_are_said(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths, progress = [Path("one.trec"), Path("other.trec")], Noted()
    for path, run in zip(paths, (LEXICAL, DENSE), strict=True):
        write_run(path, run, path.stem)
    made, manifest = fused(paths, 2, progress)
    plain = fuse_z_scores([LEXICAL, {q: dict(list(scores.items())[:2]) for q, scores in DENSE.items()}], 100)
    assert {q: list(scores) for q, scores in made.items()} == {q: list(scores) for q, scores in plain.items()}
    assert "lexical" not in manifest.arguments
    (note,) = progress.notes
    assert note.startswith("one.trec: 1 of 2 queries")


def test_scores_below_a_rerankers_depth_are_noted(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path, progress = Path("reranked.trec"), Noted()
    options = RerankOptions(depth=2)
    Stage("rerank", options, path, {}).run(lambda: Outcome(write_run(path, DENSE, "x")))
    other = searched(Path("dense.trec"), DENSE, SearchOptions(retriever=("minilm",)))
    fused([path, other], 2, progress)
    assert progress.notes == []
    fused([path, other], 3, progress)
    assert "reranked.trec: its reranker" in progress.notes[-1]
