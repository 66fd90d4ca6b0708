"""`inpars import` and `inpars export` as they are typed."""

import json
import os
import sys
from pathlib import Path

import pytest

from inpars.cli.main import main
from inpars.contrib.interchange import FORMATS

TOY = Path(__file__).parents[1] / "data" / "toy"
DATA = Path(os.environ.get("INPARS_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
GPL = DATA / "interop" / "gpl" / "fiqa"


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))


def inpars(*arguments):
    return main([*map(str, arguments), "--quiet"])


@pytest.mark.parametrize("command", ["import", "export"])
def test_help_names_every_format(command, capsys):
    with pytest.raises(SystemExit):
        main([command, "--help"])
    output = capsys.readouterr().out
    known = {name for name, file_format in FORMATS.items() if command == "export" or file_format.read is not None}
    assert all((f"  {name} " in output) == (name in known) for name in FORMATS)


def test_published_queries_become_ours(tmp_path, capsys):
    file = TOY / "queries.synthetic.v1.jsonl"
    assert inpars("import", "--format", "inpars-v1", "--input", file, "--output", tmp_path / "f", "--json") == 0
    result = json.loads(capsys.readouterr().out)
    assert result["files"]["queries.synthetic.jsonl"] == len(file.read_text().splitlines())
    kept = tmp_path / "kept.jsonl"
    assert inpars("filter", "--input", tmp_path / "f" / "queries.synthetic.jsonl", "--top-k", 2, "--output", kept) == 0


def test_made_ids_are_said(tmp_path, capsys):
    (tmp_path / "t.tsv").write_text("q\ta\tb\n")
    flags = ("--format", "inpars-triples", "--input", tmp_path / "t.tsv", "--output", tmp_path / "f")
    assert inpars("import", *flags) == 0
    assert "ids of queries and documents are derived from the texts" in capsys.readouterr().out


@pytest.mark.skipif(not GPL.is_dir(), reason="the GPL folder is not here; set INPARS_TEST_DATA")
@pytest.mark.parametrize(
    ("name", "file"),
    [
        *(("flagembedding", "o.jsonl"), ("tevatron", "o.jsonl"), ("llama-index", "o.json"), ("beir", "o")),
        *(("gpl", "o"), ("msmarco", "o"), ("msmarco-ids", "o.tsv"), ("msmarco-triples", "o.tsv")),
        *(("inpars-triples", "o.tsv"), ("trec", "o"), ("sentence-transformers", "o.parquet")),
    ],
)
def test_a_real_gpl_folder_goes_everywhere_and_back(tmp_path, capsys, name, file):
    ours, theirs = tmp_path / "ours", tmp_path / file
    assert inpars("import", "--format", "gpl", "--input", GPL, "--output", ours) == 0
    given = ("--triples", ours / "triples.tsv", "--dataset", ours, "--split", "train")
    assert inpars("export", "--format", name, *given, "--output", theirs) == 0
    capsys.readouterr()
    assert inpars("import", "--format", name, "--input", theirs, "--output", tmp_path / "again", "--json") == 0
    files = json.loads(capsys.readouterr().out)["files"]
    assert files.get("queries.jsonl", 30) == 30
    assert files.get("corpus.jsonl", 10) == 10
    assert files.get("triples.ids.tsv", 270) == 270
    assert {"queries.jsonl", "triples.ids.tsv"} & set(files)


def test_an_error_is_one_line(tmp_path, capsys):
    (tmp_path / "f.jsonl").write_text('{"query": 1}\n')
    given = ("--format", "flagembedding", "--input", tmp_path / "f.jsonl", "--output", tmp_path / "f")
    assert inpars("import", *given) == 1
    output = capsys.readouterr().err
    assert output.startswith(f"inpars: {tmp_path}/f.jsonl:1: field 'query': must be text")
    assert output.count("\n") == 1


def test_without_pyarrow_the_pip_line_is_given(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "t.parquet").write_text("x")
    given = ("--format", "sentence-transformers", "--input", tmp_path / "t.parquet", "--output", tmp_path / "f")
    assert inpars("import", *given) == 1
    output = capsys.readouterr().err
    assert output.startswith("inpars: pyarrow is needed")
    assert "t.parquet" in output
    assert "pip install 'pyarrow>=15.0'" in output
