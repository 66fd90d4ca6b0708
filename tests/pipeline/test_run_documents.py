"""From a folder of documents to tuned models and a report, by the command line, with the embedded models."""

import html
import json

import pytest
import small_run

from inpars.cli.main import main
from inpars.io.formats import read_documents, read_qrels
from inpars.io.storage import write_jsonl
from inpars.models.folders import EMBEDDED
from inpars.retrieval.java import find_jar, find_java

SMALL = [
    *("--max-documents", "12", "--max-doc-tokens", "48", "--max-new-tokens", "12", "--positive-within", "30"),
    *("--rerank-depth", "2", "--k", "10", "--dev-share", "0.4", "--training", "always", "--quiet"),
]

TEXTS = """Honey hardens when glucose crystals form in it, and melts again in a bath of warm water.
The Dead Sea falls by a metre a year because the river Jordan is diverted to farms and towns.
A sourdough starter is fed with flour and water every day until it doubles within six hours.
Lithium batteries age faster when they are kept full in the heat than half full in a cool room.
Swifts sleep on the wing and may stay in the air for ten months before they nest again.
A violin's strings were made of sheep gut long before steel strings became common.
The printing press of Gutenberg used movable letters of lead, tin and antimony.
Glaciers carve valleys with round floors, while rivers cut valleys shaped like a letter V.
Penicillin was found because a mould had killed the bacteria around it in a forgotten dish.
Bicycles stay upright at speed because the front wheel steers into the direction of a fall.
The potato came from the Andes to Europe in the sixteenth century on Spanish ships.
Lighthouses are told apart by the rhythm of their flashes, which is printed on sea charts.""".splitlines()

needs_embedded = pytest.mark.skipif(
    not (EMBEDDED["smollm2-135m"].installed and EMBEDDED["minilm"].installed and find_jar() and find_java()),
    reason="needs the embedded models and pyserini with a Java (inpars doctor says how to install them)",
)


@needs_embedded
def test_a_folder_is_enough(new_cache, tmp_path, capsys):
    folder, run = tmp_path / "documents", tmp_path / "run"
    folder.mkdir()
    for number, text in enumerate(TEXTS):
        (folder / f"part{number}.md").write_text(f"# Part {number}\n\n{text}\n", encoding="utf-8")
    (folder / "renamed.txt").write_bytes(bytes(range(256)))
    assert main(["run", "--documents", str(folder), "--output", str(run), *SMALL]) == 0
    shown = capsys.readouterr().out
    assert "synthetic queries, held out by" in shown
    assert len(list(read_documents(run / "documents" / "corpus.jsonl"))) == 12
    assert (run / "models" / "retriever").is_dir()
    assert (run / "models" / "reranker").is_dir()
    measured = read_qrels(run / "queries.dev.qrels.tsv")
    trained_on = [json.loads(line)["doc_id"] for line in (run / "queries.train.jsonl").read_text().splitlines()]
    files = {doc_id.partition("#")[0] for grades in measured.values() for doc_id in grades}
    assert files
    assert files.isdisjoint(doc_id.partition("#")[0] for doc_id in trained_on)
    page = html.unescape((run / "report.html").read_text(encoding="utf-8"))
    assert "It does not show how people's own queries fare" in page
    assert main(["verify", str(run), "--quiet"]) == 0


@pytest.mark.skipif(not (find_jar() and find_java()), reason="needs pyserini with a Java")
def test_a_file_that_changes_is_told_and_made_anew(tiny, tmp_path, monkeypatch, capsys):
    """It is no other dataset. The run's own files, among the documents here, are never read as documents."""
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    folder, run = tmp_path / "documents", tmp_path / "documents" / "run"
    corpus, other = run / "documents" / "corpus.jsonl", tmp_path / "other"
    for number in range(12):
        for place in (folder, other):
            place.mkdir(exist_ok=True)
            (place / f"part{number}.md").write_text(f"# {place.name} {number}\n\n{small_run.text(number)}\n")
    options = ["--output", str(run), *small_run.models(tiny, tmp_path), *small_run.SMALL, "--dev-share", "0.4"]
    options += ["--training", "never", "--quiet"]
    command = ["run", "--documents", str(folder), *options]
    assert main(command) == 0
    made = corpus.read_bytes()
    for places, said in ((other, "run of another dataset"), (run, "--output")):
        capsys.readouterr()
        assert main(["run", "--documents", str(places), *options]) == 1
        assert said in capsys.readouterr().err
    for spelt in (f"{folder}/../documents", str(folder)):
        assert main(["run", "--documents", spelt, *options]) == 0
    assert corpus.read_bytes() == made
    assert main(["verify", str(run), "--sample", "0", "--quiet"]) == 0
    (folder / "part0.md").write_text("# Part 0\n\nSomething else stands here now.\n", encoding="utf-8")
    capsys.readouterr()
    assert main(["verify", str(run), "--sample", "0", "--quiet"]) == 1
    assert "documents/corpus.jsonl: its input files" in capsys.readouterr().out
    assert main(command) == 0
    assert "Something else stands here now." in corpus.read_text(encoding="utf-8")


@pytest.mark.skipif(not (find_jar() and find_java()), reason="needs pyserini with a Java")
@pytest.mark.parametrize("texts", [[small_run.text(0)], [small_run.text(0)] * 9])
def test_a_collection_without_negatives_is_not_trained_on(tiny, tmp_path, monkeypatch, capsys, texts):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    corpus, run = tmp_path / "corpus.jsonl", tmp_path / "run"
    write_jsonl(corpus, ({"_id": f"d{n}", "text": text} for n, text in enumerate(texts)))
    command = ["run", "--corpus", str(corpus), "--output", str(run), *small_run.models(tiny, tmp_path)]
    command += [*small_run.SMALL, "--reranker", tiny("bert_classifier")]
    assert main(command) == 0, capsys.readouterr().err
    assert capsys.readouterr().err.count("no negative is found") == 2, "neither is trained"
    assert not (run / "triples.tsv").exists()
    assert main(["verify", str(run), "--sample", "0", "--quiet"]) == 0
    assert main([*command, "--training", "always", "--overwrite"]) == 1
    assert "no negative is found" in capsys.readouterr().err
