"""Damaged or hand-edited files of ours: a one-line error with the path, or the file is rebuilt."""

import json

import numpy as np
import pytest

from inpars.cards.card import kind_of
from inpars.contrib.remote.mirror import Mirror
from inpars.errors import DataFormatError, StaleInputError
from inpars.io.manifest import FileStamp, Manifest, manifest_path, read_manifest, write_manifest
from inpars.io.storage import to_json_line
from inpars.pipeline.folder import read_run_folder
from inpars.pipeline.mark import FOLDER_MARK
from inpars.pipeline.measurement import METRICS
from inpars.progress import SILENT
from inpars.records import Document
from inpars.retrieval.index_state import STATE, read_state
from inpars.retrieval.segments import DOCUMENTS, VECTORS, Segment, save_array, write_rows, write_vectors
from inpars.stages.distillation import read_mined, read_taught, teacher_path
from inpars.stages.partial import CHUNK_END, Partial, ScoreCache, header_line, partial_path
from inpars.stages.rerank import read_scores
from inpars.stages.shard_folder import ShardFolder, shards_path

NOT_JSON = ["", "{", "\0", "[" * 100_000, "9" * 5000, '{"a": ' + "9" * 5000 + "}"]
OTHER_JSON = ["[]", "null", "5", '"text"', "{}"]
STAMP = {"path": "a", "sha256": "b", "size": 1, "records": None}
MANIFEST = {"stage": "s", "arguments": {}, "inputs": {}, "output": STAMP}


@pytest.mark.parametrize("text", NOT_JSON + OTHER_JSON, ids=range(len(NOT_JSON + OTHER_JSON)))
def test_a_torn_manifest_is_one_line(tmp_path, text):
    manifest_path(tmp_path / "out").write_text(text)
    with pytest.raises(DataFormatError, match=r"out\.manifest\.json: not a manifest .* remove it"):
        read_manifest(tmp_path / "out")


@pytest.mark.parametrize(
    "change",
    [
        *({name: value} for name in ("arguments", "results", "dropped") for value in ([], 5, "x")),
        {"seconds": "5"},
        {"stage": 5},
        {"started": None},
        {"dropped": {"copied": "7"}},
        {"output": {**STAMP, "size": "1"}},
        {"output": {**STAMP, "records": 1.5}},
        {"inputs": {"corpus": {**STAMP, "path": 5}}},
        {"inputs": []},
        {"more": 1},
    ],
    ids=str,
)
def test_a_manifest_with_fields_of_another_kind_is_refused(tmp_path, change):
    manifest_path(tmp_path / "out").write_text(json.dumps({**MANIFEST, **change}))
    with pytest.raises(DataFormatError, match=r"out\.manifest\.json: not a manifest"):
        read_manifest(tmp_path / "out")


def test_a_result_that_was_taken_out_is_named_with_the_manifest(tmp_path):
    write_manifest(Manifest("s", {}, {}, FileStamp("a", "b", 1), results={"queries": 3}), tmp_path / "out")
    found = read_manifest(tmp_path / "out")
    assert found is not None
    assert (found.results["queries"], found.results.get("files")) == (3, None)
    with pytest.raises(DataFormatError, match=r"out\.manifest\.json: no 'files' in its results; remove"):
        found.results["files"]


@pytest.mark.parametrize("text", NOT_JSON + OTHER_JSON, ids=range(len(NOT_JSON + OTHER_JSON)))
def test_a_torn_state_of_an_index_is_one_line(tmp_path, text):
    (tmp_path / STATE).write_text(text)
    with pytest.raises(DataFormatError, match=rf"{STATE}: not an index .* build it again"):
        read_state(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"model": 5},
        {"width": "384"},
        {"generation": None},
        {"segments": [5]},
        {"segments": [{"name": "../out", "documents": 1, "structure": "exact"}]},
        {"segments": [{"name": "a", "documents": "1", "structure": "exact"}]},
        {"segments": [{"name": "a", "documents": 1, "structure": "tree"}]},
        {"segments": [{"name": "a", "documents": 1, "structure": "exact", "deleted": 5}]},
    ],
    ids=str,
)
def test_a_state_with_fields_of_another_kind_is_refused(tmp_path, change):
    whole = {"format": 1, "model": "m", "weights": "w", "width": 2, "segments": []}
    (tmp_path / STATE).write_text(json.dumps(whole))
    read_state(tmp_path)
    (tmp_path / STATE).write_text(json.dumps({**whole, **change}))
    with pytest.raises(DataFormatError, match=rf"{STATE}: not an index"):
        read_state(tmp_path)


@pytest.fixture
def segment(tmp_path):
    folder = tmp_path / "segment"
    folder.mkdir()
    write_rows(folder, [Document("a", "x"), Document("b", "y")])
    write_vectors(folder, [np.eye(2, dtype=np.float32)], 2, 2)
    Segment(folder)
    return folder


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        (VECTORS, lambda raw: raw[:-4]),
        (VECTORS, lambda raw: b""),
        ("offsets.npy", lambda raw: b"\x93NUMPY"),
        (DOCUMENTS, lambda raw: b""),
        (DOCUMENTS, lambda raw: raw[: len(raw) // 3]),
    ],
)
def test_a_torn_segment_is_one_line(segment, name, damage):
    path = segment / name
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DataFormatError, match=r"segment: .* damaged .* build the index again"):
        Segment(segment)


def test_vectors_of_other_documents_are_refused(segment):
    save_array(segment / VECTORS, np.eye(3, dtype=np.float32))
    with pytest.raises(DataFormatError, match="damaged"):
        Segment(segment)


@pytest.mark.parametrize("line", ["[" * 50_000, "{", "[]"])
def test_a_document_that_somebody_changed_is_named(segment, line):
    (segment / DOCUMENTS).write_text(f"{line}\n" + "x" * 100)
    with pytest.raises(DataFormatError, match="document 1: "):
        Segment(segment).document(0)


HEADERS = [*NOT_JSON, *OTHER_JSON, '{"made_from": "h", "total": 4, "size": 0}', '{"made_from": "h", "total": 4}']


@pytest.mark.parametrize("text", HEADERS, ids=range(len(HEADERS)))
def test_a_folder_of_shards_with_a_torn_header_is_begun_anew(tmp_path, text):
    folder = ShardFolder.open(tmp_path / "out", "h", 2, 4, SILENT)
    folder.finish(0, {"items": 2})
    assert ShardFolder.open(tmp_path / "out", "h", 4, 4, SILENT).done() == {0}
    (shards_path(tmp_path / "out") / "header.json").write_text(text)
    assert ShardFolder.open(tmp_path / "out", "h", 4, 4, SILENT) == ShardFolder(folder.path, 4, 4)


@pytest.mark.parametrize("text", [*NOT_JSON, "[]", "5"], ids=range(len(NOT_JSON) + 2))
def test_a_shard_with_a_torn_mark_is_not_done(tmp_path, text):
    folder = ShardFolder.open(tmp_path / "out", "h", 2, 4, SILENT)
    folder.finish(0, {"items": 2})
    folder.finish(1, {"items": 2})
    (folder.path / "000000.done.json").write_text(text)
    (folder.path / "notes.done.json").write_text("{}")
    assert folder.done() == {1}


@pytest.mark.parametrize("text", [*NOT_JSON, "[]", "5"], ids=range(len(NOT_JSON) + 2))
def test_a_torn_note_on_a_copy_is_as_none(tmp_path, text):
    mirror = Mirror(tmp_path)
    path = mirror._state_path(tmp_path / "s3" / "bucket" / "key")
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert mirror._state(tmp_path / "s3" / "bucket" / "key") == {}


@pytest.mark.parametrize("text", [*NOT_JSON, *OTHER_JSON, '{"systems": {"a": {"per_query": {"AP": {"q": "1"}}}}}'])
def test_torn_measures_of_a_run_are_one_line(tmp_path, text):
    manifest_path(tmp_path / "out").write_text(json.dumps(MANIFEST))
    (tmp_path / FOLDER_MARK).write_text('{"dataset": "d"}')
    (tmp_path / METRICS).write_text(text)
    with pytest.raises(DataFormatError, match=rf"{METRICS}: not the measures"):
        read_run_folder(tmp_path).measures()


@pytest.mark.parametrize("text", [*NOT_JSON, "[]", "5", '{"source": "x"}'])
def test_a_torn_mark_of_a_run_is_one_line(tmp_path, text):
    manifest_path(tmp_path / "out").write_text(json.dumps(MANIFEST))
    (tmp_path / FOLDER_MARK).write_text(text)
    with pytest.raises(DataFormatError, match=rf"{FOLDER_MARK}: not the mark"):
        read_run_folder(tmp_path)


@pytest.mark.parametrize("text", [*NOT_JSON, "[]", "5", '{"inpars": 5}', '{"inpars": {"kind": "oracle"}}'])
def test_a_torn_configuration_of_a_model_is_one_line(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DataFormatError, match=r"config\.json: "):
        kind_of(tmp_path)


ROWS = [{}, {"q": "1"}, {"q": 1, "d": "a", "s": 1.0}, {"q": "1", "d": "a", "s": "x"}, {"q": "1", "d": "a", "s": True}]


@pytest.mark.parametrize("row", ROWS, ids=str)
def test_a_score_of_an_interrupted_rerank_that_somebody_changed_is_named(tmp_path, row):
    (tmp_path / "p").write_text('{"partial": "rerank"}\n{"q": "1", "d": "b", "s": 2.5}\n' + json.dumps(row) + "\n")
    with pytest.raises(DataFormatError, match=r"p:3: "):
        read_scores(tmp_path / "p")


class Scorer:
    name = "lengths"

    def score(self, pairs):
        return [float(len(document)) for _, document in pairs]


@pytest.mark.parametrize("scores", [None, 5, [1.0], ["1", "2"], [1.0, 10**400]], ids=lambda value: str(value)[:20])
def test_remembered_scores_that_somebody_changed_are_named(tmp_path, scores):
    pairs = [("q", "a"), ("q", "bb")]

    def opened():
        return ScoreCache(Partial("s", partial_path(tmp_path / "out"), header_line("s", {}, {}), SILENT), Scorer)

    with opened() as first:
        assert first.score(pairs) == [1.0, 2.0]
    path = partial_path(tmp_path / "out")
    header, line = path.read_text().splitlines()
    path.write_text(f"{header}\n{to_json_line({**json.loads(line), 'scores': scores})}\n")
    with opened() as again, pytest.raises(DataFormatError, match=r"out\.partial:2: "):
        again.score(pairs)


@pytest.mark.parametrize("size", ["2", 1.5, None, True, [1]])
def test_the_size_of_a_chunk_that_somebody_changed_is_named(tmp_path, size):
    partial = Partial("s", partial_path(tmp_path / "out"), header_line("s", {}, {}), SILENT)
    with partial.append(0) as lines:
        lines.append([to_json_line({CHUNK_END: size})])
    with pytest.raises(DataFormatError, match=rf"out\.partial:2: field '{CHUNK_END}'"):
        partial.chunk_ends(2)


@pytest.fixture
def triples(tmp_path):
    path = tmp_path / "t.tsv"
    path.write_text("q\tp\tn\n")
    path.with_name("t.ids.tsv").write_text("1\ta\tb\n")
    return path


@pytest.mark.parametrize("score", ['"x"', "null", "NaN", "true", "9" * 400])
def test_a_teachers_score_that_is_none_is_named(triples, score):
    teacher_path(triples).write_text(f'{{"score": 1}}\n{{"score": {score}}}\n')
    with pytest.raises(DataFormatError, match=r"t\.teacher\.jsonl:2: field 'score'"):
        read_taught(triples)


def test_a_teacher_of_other_triples_is_refused(triples):
    teacher_path(triples).write_text('{"score": 1}\n')
    with pytest.raises(StaleInputError, match=r"t\.teacher\.jsonl has 1 scores for 2 pairs"):
        read_taught(triples)


def test_a_mined_score_that_is_none_is_named(triples):
    row = {"query_id": "1", "positive_doc_id": "a", "negative_doc_id": "b", "reranker_score": 1}
    path = triples.with_name("t.negatives.jsonl")
    path.write_text(json.dumps({**row, "positive_reranker_score": 2}) + "\n")
    assert read_mined(triples) == {("q", "p"): 2.0, ("q", "n"): 1.0}
    path.write_text(json.dumps({**row, "positive_reranker_score": "x"}) + "\n")
    with pytest.raises(DataFormatError, match=r"t\.negatives\.jsonl:1: field 'positive_reranker_score'"):
        read_mined(triples)
