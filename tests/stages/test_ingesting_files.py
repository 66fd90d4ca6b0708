"""Ingesting files: documents with their positions, drops by reason, and rereading only changed files."""

import json
import random
import tracemalloc

import pytest
from made_documents import PAGE, full_lines, pdf_bytes, write_pdf
from tiny_models import sentence

from inpars.documents import collection
from inpars.documents.datasets import load_dataset
from inpars.documents.folder import LINKED, NOT_ALLOWED, find_files
from inpars.errors import ConfigError, DataFormatError, MissingDependencyError
from inpars.io.manifest import manifest_path, read_manifest
from inpars.stages.ingest import IngestOptions, ingest_files


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "documents"
    (place / "sub").mkdir(parents=True)
    (place / "a.md").write_text("# Bread\n\nMix flour. Add salt.\n\n## Oven\n\nHeat it.\n", encoding="utf-8")
    (place / "sub" / "b.txt").write_text("one two three.\n\nFour\n", encoding="utf-8")
    (place / "code.exe").write_bytes(b"MZ")
    return place


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out" / "corpus.jsonl"


def ingest(places, output, *, urls=(), overwrite=False, **options):
    places = places if isinstance(places, list) else [places]
    settings = IngestOptions(**{"tokenizer": "words", **options})
    return ingest_files(places, settings, output=output, urls=urls, overwrite=overwrite)[0]


def rows(output):
    return [json.loads(line) for line in output.read_text(encoding="utf-8").splitlines()]


def test_a_folder_of_texts(folder, output):
    manifest = ingest(folder, output)
    assert [(row["_id"], row["title"], row["text"]) for row in rows(output)] == [
        ("a.md#1", "Bread", "Mix flour. Add salt."),
        ("a.md#2", "Bread / Oven", "Heat it."),
        ("sub/b.txt#1", "b", "one two three.\nFour"),
    ]
    assert rows(output)[1]["metadata"] == {
        "source": "a.md",
        "title": "Bread",
        "headings": ["Bread", "Oven"],
        "start": 40,
        "end": 48,
    }
    assert (manifest.output.records, manifest.dropped) == (3, {"skipped_files": 1})
    assert (manifest.results["read_files"], manifest.results["read_anew"]) == (2, 2)


def test_only_what_changed_is_read_again(folder, output, monkeypatch):
    ingest(folder, output)
    before = output.read_bytes()
    assert ingest(folder, output) == read_manifest(output)
    read = []
    true_extract = collection._guarded
    monkeypatch.setattr(collection, "_guarded", lambda make, path: read.append(path.name) or true_extract(make, path))
    (folder / "a.md").write_text("# Bread\n\nMix rye.\n", encoding="utf-8")
    (folder / "new.txt").write_text("New.", encoding="utf-8")
    manifest = ingest(folder, output)
    assert (read, manifest.results["read_anew"], manifest.results["read_files"]) == (["a.md", "new.txt"], 2, 3)
    assert [row["_id"] for row in rows(output)] == ["a.md#1", "new.txt#1", "sub/b.txt#1"]
    (folder / "new.txt").unlink()
    (folder / "a.md").write_text("# Bread\n\nMix flour. Add salt.\n\n## Oven\n\nHeat it.\n", encoding="utf-8")
    assert ingest(folder, output).results["read_anew"] == 0  # back to what was read before
    assert output.read_bytes() == before


def test_other_settings_cut_again_but_read_nothing(folder, output):
    ingest(folder, output)
    manifest = ingest(folder, output, max_tokens=3, overlap=0)
    assert manifest.results["read_anew"] == 0
    assert [row["text"] for row in rows(output)][:2] == ["Mix flour.", "Add salt."]


def test_five_passages_are_found_verbatim_where_they_stand(tmp_path, output):
    """One passage each of a PDF's two pages, a web page, a Markdown and a text file."""
    pytest.importorskip("pypdf", reason="PDF needs pypdf (pip install inpars[documents])")
    pytest.importorskip("trafilatura", reason="web pages need trafilatura (pip install inpars[documents])")
    first, second = (sentence(seed, 50).capitalize() + "." for seed in (1, 2))
    place = tmp_path / "documents"
    place.mkdir()
    write_pdf(place / "report.pdf", [full_lines(first), full_lines(second)])
    (place / "page.html").write_text(PAGE, encoding="utf-8")
    (place / "guide.md").write_text("# Guide\n\n## Setup\n\nRun `make`\\. Then *wait*\\.\n", encoding="utf-8")
    (place / "note.txt").write_text("Erste Größe.\n", encoding="latin-1")
    ingest(place, output)
    oven = ["Making bread", "The oven"]
    for text, source, page, headings in [
        (first, "report.pdf", 1, None),
        (second, "report.pdf", 2, None),
        ("so that the stone inside is as hot as the air around it.", "page.html", None, oven),
        ("Run make. Then wait.", "guide.md", None, ["Guide", "Setup"]),
        ("Erste Größe.", "note.txt", None, None),
    ]:
        (result,) = [row for row in rows(output) if text in row["text"]]
        metadata = result["metadata"]
        assert (metadata["source"], metadata.get("page"), metadata.get("headings")) == (source, page, headings)
    raw = (place / "guide.md").read_text(encoding="utf-8")
    (metadata,) = [row["metadata"] for row in rows(output) if row["_id"].startswith("guide.md")]
    assert raw[metadata["start"] : metadata["end"]] == "Run `make`\\. Then *wait*\\."


def test_files_that_cannot_be_read_are_named_and_the_rest_goes_on(folder, output):
    pytest.importorskip("pypdf", reason="PDF needs pypdf (pip install inpars[documents])")
    (folder / "cut.pdf").write_bytes(pdf_bytes([["Some text."]])[:150])
    write_pdf(folder / "scan.pdf", [None])
    (folder / "renamed.txt").write_bytes(random.Random(1).randbytes(999))
    (folder / "empty.txt").write_bytes(b"")
    (folder / "wide.txt").write_bytes("Größe.".encode("utf-16"))
    (folder / "broken.json").write_text("{", encoding="utf-8")
    manifest = ingest(folder, output)
    assert sorted(name for names in manifest.results["unreadable"].values() for name in names) == [
        "broken.json",
        "cut.pdf",
        "empty.txt",
        "renamed.txt",
        "scan.pdf",
    ]
    assert manifest.dropped["unreadable_files"] == 5
    assert "Größe." in {row["text"] for row in rows(output)}
    assert manifest.results["remarks"] == {"wide.txt": ["read as utf-16"]}


def test_repetitions_are_dropped_and_counted(folder, output):
    text = sentence(3, 60)
    (folder / "p.txt").write_text(text, encoding="utf-8")
    (folder / "q.txt").write_text(text.upper(), encoding="utf-8")
    (folder / "r.txt").write_text(" ".join([*text.split()[:-1], "end"]), encoding="utf-8")
    manifest = ingest(folder, output)
    assert (manifest.dropped["duplicate"], manifest.dropped["near_duplicate"]) == (1, 1)
    assert [row["_id"] for row in rows(output) if row["_id"] > "p"] == ["p.txt#1", "sub/b.txt#1"]
    assert "near_duplicate" not in ingest(folder, output, drop_near_duplicates=False).dropped


def test_what_many_files_begin_with_is_dropped(folder, output):
    for number, word in enumerate(("one", "two", "six")):
        text = f"The company's handbook, page {number}.\n\nChapter {word} tells of {word} things.\n"
        (folder / f"h{number}.txt").write_text(text, encoding="utf-8")
    manifest = ingest(folder, output)
    assert manifest.dropped["boilerplate"] == 2
    assert [row["text"] for row in rows(output) if row["_id"].startswith("h")] == [
        "The company's handbook, page 0.\nChapter one tells of one things.",
        "Chapter two tells of two things.",
        "Chapter six tells of six things.",
    ]
    assert "boilerplate" not in ingest(folder, output, drop_boilerplate=False).dropped


SQUAD = {
    "data": [
        {
            "title": "Rome",
            "paragraphs": [
                {
                    "context": "Rome was founded in 753 BC. It lies on the Tiber.",
                    "qas": [
                        {"id": "q1", "question": "When?", "answers": [{"text": "753 BC", "answer_start": 20}]},
                        {"id": "q2", "question": "Which river?", "answers": [{"text": "Tiber", "answer_start": 43}]},
                        {"id": "q3", "question": "Who?", "answers": [], "is_impossible": True},
                    ],
                }
            ],
        }
    ]
}


def test_questions_are_judged_by_the_documents_that_hold_their_answers(tmp_path, output):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(SQUAD), encoding="utf-8")
    manifest = ingest(path, output, max_tokens=8, overlap=0)
    made = load_dataset(str(output.parent))
    assert manifest.results["files"] == ["queries.jsonl", "qrels/test.tsv"]
    assert made.topics().queries == {"q1": "When?", "q2": "Which river?"}
    assert made.topics().qrels == {"q1": {"squad.json#1": 1}, "q2": {"squad.json#2": 1}}
    assert manifest.dropped == {"question_without_answer": 1}
    path.write_text(json.dumps([{"text": "no questions"}]), encoding="utf-8")
    ingest(path, output)
    assert load_dataset(str(output.parent)).splits == {}


def test_records_keep_their_ids(tmp_path, output):
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": "x 1", "text": "A b. C d."}\n{"id": 2, "text": "e"}\n', encoding="utf-8")
    ingest(path, output, id_column="id", max_tokens=3, overlap=0)
    assert [row["_id"] for row in rows(output)] == ["x%201", "x%201#2", "2"]


def test_ids_of_one_word_stay_as_they_are(tmp_path, output):
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": "http://a.example/b%20c", "text": "A."}\n', encoding="utf-8")
    ingest(path, output, id_column="id")
    assert [row["_id"] for row in rows(output)] == ["http://a.example/b%20c"]


def test_records_that_differ_in_their_titles_are_different(tmp_path, output):
    path = tmp_path / "r.csv"
    path.write_text("title,text\nRed shoe,Out of stock.\nBlue hat,Out of stock.\nRed shoe,Out of stock.\n")
    manifest = ingest(path, output)
    assert [row["title"] for row in rows(output)] == ["Red shoe", "Blue hat"]
    assert manifest.dropped == {"duplicate": 1}


def test_an_output_and_the_cache_inside_the_folder_are_not_read_again(folder, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(folder / "cache"))
    output = folder / "corpus.jsonl"
    first = ingest(folder, output)
    assert ingest(folder, output) == first
    assert ingest(folder, output, overwrite=True).output == first.output


def test_a_limit(folder, output):
    assert ingest(folder, output, limit=1).output.records == 1


def test_a_limit_keeps_the_questions_of_its_documents(tmp_path, output):
    path = tmp_path / "squad.json"
    path.write_text(json.dumps(SQUAD), encoding="utf-8")
    manifest = ingest(path, output, max_tokens=8, overlap=0, limit=1)
    assert load_dataset(str(output.parent)).topics().qrels == {"q1": {"squad.json#1": 1}}
    assert manifest.dropped["not_in_limit"] == 1


def test_a_file_that_may_not_be_read_is_named(folder, monkeypatch):
    monkeypatch.setattr("os.access", lambda path, mode: path.name != "a.md")
    found = find_files([folder])
    assert ([file.name for file in found.readable], found.skipped[NOT_ALLOWED]) == (["sub/b.txt"], ["a.md"])


def test_a_folder_without_any_text(tmp_path, output):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "a.txt").write_text(" \n", encoding="utf-8")
    with pytest.raises(DataFormatError, match=r"there is no text in any file here \(no text in it: a\.txt\)"):
        ingest(tmp_path / "empty", output)
    assert not output.exists()
    assert not manifest_path(output).exists()


def test_places_that_cannot_be_used(folder, tmp_path, output):
    with pytest.raises(DataFormatError, match="no such folder of documents; check the path"):
        ingest(tmp_path / "nowhere", output)
    (tmp_path / "a.md").write_text("x", encoding="utf-8")
    with pytest.raises(ConfigError, match="have one name; give the folder above both"):
        ingest([folder / "a.md", tmp_path / "a.md"], output)
    ingest([folder], tmp_path / "once.jsonl")
    ingest([folder, folder / "a.md", folder / "sub", folder / "sub" / ".."], tmp_path / "twice.jsonl")
    assert (tmp_path / "twice.jsonl").read_bytes() == (tmp_path / "once.jsonl").read_bytes()
    (tmp_path / "programs").mkdir()
    (tmp_path / "programs" / "a.exe").write_bytes(b"MZ")
    with pytest.raises(DataFormatError, match=r"no file here that can be read, 1 others; read are \.txt"):
        ingest(tmp_path / "programs", output)
    with pytest.raises(ConfigError, match="--overlap is 9; it must be below --max-tokens 9"):
        ingest(folder, output, max_tokens=9, overlap=9)


def test_a_package_that_is_needed_is_asked_for_before_anything_is_read(folder, output, monkeypatch):
    import inpars.documents.readers as module

    (folder / "a.pdf").write_bytes(b"%PDF")
    monkeypatch.setattr(module.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingDependencyError, match=r"pypdf\[crypto\] is needed to read PDF .* pip install 'pypdf"):
        ingest(folder, output)


def test_memory_does_not_grow_with_a_text_file(folder, tmp_path, output):
    """5 MB of text, one line of 1 MB in it: the peak stays far below its size."""
    path = tmp_path / "big.txt"
    with path.open("w", encoding="utf-8") as stream:
        stream.write("x" * 1_000_000 + "\n\n")
        for number in range(6000):
            stream.write(f"Line {number}. " + "A" * 600 + ".\n\n")
    assert path.stat().st_size > 4_500_000
    ingest(folder, output, overwrite=True)  # what has to be loaded is loaded
    tracemalloc.start()
    manifest = ingest(path, output, max_tokens=20, overlap=0, drop_near_duplicates=False)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert manifest.output.records > 200
    assert peak < 3_500_000


def test_file_names_that_are_not_utf8(tmp_path, output):
    # run-llama/llama_index#10369; such names hold half surrogates in Python
    folder = tmp_path / "documents"
    folder.mkdir()
    (folder / "good.txt").write_text("One.", encoding="utf-8")
    try:
        (folder / "bad\udcff.txt").write_text("Two.", encoding="utf-8")
    except OSError:
        pytest.skip("this file system takes no such names")
    manifest = ingest(folder, output)
    assert [(row["_id"], row["title"]) for row in rows(output)] == [
        ("bad%FF.txt#1", "bad\ufffd"),
        ("good.txt#1", "good"),
    ]
    assert manifest.output.records == 2


def test_places_that_are_not_utf8(tmp_path):
    folder = tmp_path / "bad\udcff"
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no such names")
    (folder / "a.txt").write_text("One.", encoding="utf-8")
    assert ingest(folder, folder / "corpus.jsonl").output.records == 1
    corpus = load_dataset(None, corpus=folder / "corpus.jsonl").corpus
    assert corpus["a.txt#1"].text == "One."
    assert json.loads(manifest_path(folder / "corpus.jsonl").read_text(encoding="utf-8"))["output"]["records"] == 1


def test_links_to_folders_are_named(tmp_path):
    folder, other = tmp_path / "in", tmp_path / "other"
    for path in (folder / "a.txt", other / "b.txt"):
        path.parent.mkdir()
        path.write_text("Some text of its own.\n", encoding="utf-8")
    (folder / "linked").symlink_to(other)
    (folder / "broken").symlink_to(tmp_path / "nothing")
    assert find_files([folder]).skipped == {LINKED: ["broken", "linked"]}
