"""Partial files: headers by settings, whole lines, chunks. The tests of the stages cover resuming."""

from dataclasses import replace

import pytest

from inpars.io.manifest import FileStamp
from inpars.io.storage import to_json_line
from inpars.progress import SILENT
from inpars.stages.partial import (
    CHUNK_END,
    Partial,
    header_line,
    partial_path,
    remove_partial,
    write_in_order,
)

HEADER = header_line("stage", {"k": 1}, {})


@pytest.fixture
def partial(tmp_path):
    return Partial("stage", partial_path(tmp_path / "out.jsonl"), HEADER, SILENT)


def test_headers_differ_by_stage_settings_and_inputs():
    stamped = {"queries": FileStamp("q", "ab", 2)}
    headers = [HEADER, header_line("other", {"k": 1}, {}), header_line("stage", {"k": 2}, {})]
    headers += [header_line("stage", {"k": 1}, stamped), header_line("stage", {"k": 1}, {"q": stamped["queries"]})]
    assert len(set(headers)) == 5
    elsewhere = {"queries": FileStamp("moved", "ab", 2, 7)}
    assert header_line("stage", {"k": 1}, elsewhere) == headers[3], "inputs count by content"


def test_a_torn_line_is_dropped_and_other_settings_begin_anew(partial):
    assert partial.kept() == 0
    with partial.append(0) as lines:
        lines.append(["{}", "{}"])
    with partial.path.open("ab") as stream:
        stream.write(b'{"torn')
    assert partial.kept() == 2
    with partial.append(1) as lines:
        lines.append(['{"a": 1}'])
    assert partial.path.read_text(encoding="utf-8").splitlines() == [HEADER, "{}", '{"a": 1}']
    assert replace(partial, header=header_line("stage", {"k": 2}, {})).kept() == 0
    assert not partial.path.exists()
    remove_partial(partial.path)  # nothing is there, and nothing happens


def test_chunks_end_where_a_line_says_so(partial):
    with partial.append(0) as lines:
        lines.append(["{}", "{}", to_json_line({CHUNK_END: 2}), "{}"])  # lines 2 to 5; the second chunk has no end
        lines.append([to_json_line({CHUNK_END: 3}), "{}"])
    assert partial.chunk_ends(9) == {0: 0, 2: 3, 5: 5}
    assert replace(partial, path=partial.path.with_name("absent")).chunk_ends(9) == {0: 0}


def test_lines_are_written_in_the_documents_order(partial, tmp_path):
    rows = [to_json_line({"doc_id": doc_id, "n": n, "é": "ü"}) for n, doc_id in enumerate("baba")]
    with partial.append(0) as lines:
        lines.append([*rows, to_json_line({CHUNK_END: 2})])
    assert write_in_order(partial.path, tmp_path / "out.jsonl", ["a", "none", "b"]) == [2, 0, 2]
    written = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert written == [rows[1], rows[3], rows[0], rows[2]]
