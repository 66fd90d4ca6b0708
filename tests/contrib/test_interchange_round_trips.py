"""Ours to theirs and back, with texts of any signs: what each format can hold comes back as it was."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from inpars.contrib.interchange import FORMATS
from inpars.contrib.interchange.folder import CORPUS, QUERIES, RUN, Folder
from inpars.contrib.interchange.items import Example, Negative, Synthetic, document_of, grouped, query_of
from inpars.contrib.interchange.source import Source, Written
from inpars.documents.datasets import load_dataset
from inpars.io.corpus import Corpus
from inpars.io.fields import one_line
from inpars.io.formats import read_run
from inpars.io.storage import read_jsonl
from inpars.io.triples import read_triple_ids
from inpars.records import Document, Query, ScoredDocument, SyntheticQuery

WORDS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\ufeff"), max_size=20) | st.sampled_from(
    [
        '"',
        '"quoted" start',
        "tab\there",
        "two\nlines",
        "null",
        "NA",
        "None",
        '""',
        "a\r\nb",
        "\u2028",
        "\x00",
        "'",
        "\\",
    ]
)
TEXTS = WORDS.filter(str.strip)
IDS = st.text(st.characters(categories=["L", "N", "P"]), min_size=1, max_size=6)


@st.composite
def examples(draw):
    """Queries with positives and negatives, all documents of different texts."""
    found = draw(
        st.lists(
            st.builds(Document, IDS, TEXTS, st.just("") | WORDS), min_size=3, max_size=6, unique_by=lambda d: d.doc_id
        )
    )
    documents = list({one_line(document.full_text): document for document in found}.values())
    queries = draw(st.lists(st.builds(Query, IDS, TEXTS), min_size=1, max_size=3, unique_by=lambda q: q.query_id))
    made = []
    for query in queries:
        order = draw(st.permutations(documents))
        negatives = tuple(Negative(d, "bm25", rank, 9.0 - rank) for rank, d in enumerate(order[1:], start=1))
        made.append(Example(query, order[0], negatives, 9.5))
    return made


def into_folder(folder, items, name="test"):
    with Folder(folder, name, Path("test")) as written:
        written.add(items)
    return written


def exported(folder, name, path, layout="triplet", triples=True):
    """The format's file or folder, written from a folder of ours."""
    file = folder / "triples.tsv"
    given = file if triples and file.exists() else None
    source = Source(triples=given, dataset=load_dataset(str(folder)), split="train")
    written = Written()
    if FORMATS[name].folder:
        path.mkdir()
    FORMATS[name].write(source, path, layout, written)
    return written


@pytest.fixture(autouse=True, scope="module")
def _cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("INPARS_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory() as name:
        yield Path(name)


def with_negatives(made):
    """Documents that are alone in the file have no negatives and so no triples."""
    return [example for example in made if example.negatives]


def back(path, name):
    return list(FORMATS[name].read(path))


def expected(made, text):
    """For each query its positive and negatives, as the format's texts."""
    return [
        (text(e.query.text), text(e.positive.full_text), [text(n.document.full_text) for n in e.negatives])
        for e in made
    ]


def found_examples(items):
    groups = grouped(item for item in items if isinstance(item, Example))
    return [
        (g.query.text, positive.full_text, [n.document.full_text for n in g.negatives])
        for g in groups
        for positive in g.positives
    ]


def merged(rows):
    """Neighbours of one query text are one group in a format without ids."""
    groups = {}
    for query, positive, negatives in rows:
        groups.setdefault((query, positive), []).extend(negatives)
    return {key: sorted(set(negatives) - {key[1]}) for key, negatives in groups.items()}


@pytest.mark.parametrize("name", ["inpars-triples", "msmarco-triples"])
@settings(max_examples=12)
@given(made=examples())
def test_triples_of_texts_keep_every_sign_but_tabs_and_newlines(name, made):
    made = with_negatives(made)
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder, "ours")
        into_folder(ours, made)
        if not made:
            return
        exported(ours, name, Path(folder, "t.tsv"))
        assert merged(found_examples(back(Path(folder, "t.tsv"), name))) == merged(expected(made, one_line))


@pytest.mark.parametrize("name", ["flagembedding", "sentence-transformers"])
@settings(max_examples=12)
@given(made=examples())
def test_formats_of_texts_keep_every_sign(name, made):
    made = with_negatives(made)
    with tempfile.TemporaryDirectory() as folder:
        ours = Path(folder, "ours")
        into_folder(ours, made)
        if not made:
            return
        exported(ours, name, Path(folder, "t.x"))
        wanted = expected(made, lambda text: text)
        wanted = [(one_line(query), *rest) for query, *rest in wanted]  # triples.tsv holds the query as one line
        assert merged(found_examples(back(Path(folder, "t.x"), name))) == merged(wanted)


@settings(max_examples=12)
@given(made=examples())
def test_tevatron_keeps_ids_titles_and_texts(made):
    made = with_negatives(made)
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "t.jsonl")
        into_folder(ours, made)
        if not made:
            return
        exported(ours, "tevatron", theirs)
        read = list(back(theirs, "tevatron"))
        assert [(e.query.query_id, e.positive, [n.document for n in e.negatives]) for e in read] == [
            (e.query.query_id, e.positive, [n.document for n in e.negatives]) for e in made
        ]


@pytest.mark.parametrize("name", ["beir", "gpl"])
@settings(max_examples=12)
@given(made=examples())
def test_collections_keep_documents_queries_and_judgements(name, made):
    with tempfile.TemporaryDirectory() as folder:
        ours, again = Path(folder, "ours"), Path(folder, "again")
        into_folder(ours, made)
        exported(ours, name, Path(folder, "theirs"), triples=False)
        into_folder(again, back(Path(folder, "theirs"), name))
        for file in (CORPUS, QUERIES, "qrels/train.tsv"):
            assert lines(again / file) == lines(ours / file)


def lines(path):
    return sorted(path.read_text(encoding="utf-8").split("\n"))


@settings(max_examples=12)
@given(made=examples())
def test_msmarcos_folder_keeps_ids_and_texts_in_one_line(made):
    with tempfile.TemporaryDirectory() as folder:
        ours, again = Path(folder, "ours"), Path(folder, "again")
        into_folder(ours, made)
        exported(ours, "msmarco", Path(folder, "theirs"))
        into_folder(again, back(Path(folder, "theirs"), "msmarco"))
        assert lines(again / "qrels/train.tsv") == lines(ours / "qrels/train.tsv")
        assert [d.text for d in Corpus(again / CORPUS)] == [one_line(d.full_text) for d in Corpus(ours / CORPUS)]
        if (ours / "triples.ids.tsv").exists():
            assert list(read_triple_ids(again / "triples.ids.tsv")) == list(read_triple_ids(ours / "triples.ids.tsv"))


@settings(max_examples=12)
@given(made=examples())
def test_llama_index_keeps_queries_documents_and_what_belongs_together(made):
    with tempfile.TemporaryDirectory() as folder:
        ours, again = Path(folder, "ours"), Path(folder, "again")
        into_folder(ours, made)
        exported(ours, "llama-index", Path(folder, "l.json"), triples=False)
        into_folder(again, back(Path(folder, "l.json"), "llama-index"))
        assert lines(again / "qrels/train.tsv") == lines(ours / "qrels/train.tsv")
        assert [d.text for d in Corpus(again / CORPUS)] == [d.full_text for d in Corpus(ours / CORPUS)]
        assert lines(again / QUERIES) == lines(ours / QUERIES)


@pytest.mark.parametrize("suffix", ["json", "jsonl"])
@settings(max_examples=12)
@given(made=examples())
def test_rank_llm_keeps_documents_queries_and_the_order(suffix, made):
    with tempfile.TemporaryDirectory() as folder:
        ours, again, theirs = Path(folder, "ours"), Path(folder, "again"), Path(folder, f"r.{suffix}")
        into_folder(ours, made)
        runs = [
            ScoredDocument(e.query.query_id, d.doc_id, 5.0 - place)
            for e in made
            for place, d in enumerate([e.positive, *(n.document for n in e.negatives)])
        ]
        into_folder(ours / "ranked", runs)
        dataset = load_dataset(str(ours))
        source = Source(run=ours / "ranked" / RUN, dataset=dataset, split="train")
        FORMATS["rank-llm"].write(source, theirs, "triplet", Written())
        into_folder(again, back(theirs, "rank-llm"))
        assert read_run(again / RUN) == read_run(ours / "ranked" / RUN)
        assert lines(again / QUERIES) == lines(ours / QUERIES)
        assert set(lines(again / CORPUS)) <= set(lines(ours / CORPUS))


@settings(max_examples=12)
@given(made=examples())
def test_trec_keeps_topics_judgements_and_runs(made):
    with tempfile.TemporaryDirectory() as folder:
        ours, again, theirs = Path(folder, "ours"), Path(folder, "again"), Path(folder, "theirs")
        runs = [ScoredDocument(e.query.query_id, e.positive.doc_id, 1.5) for e in made]
        into_folder(ours, [*made, *runs])
        theirs.mkdir()
        source = Source(run=ours / RUN, dataset=load_dataset(str(ours)), split="train")
        FORMATS["trec"].write(source, theirs, "triplet", Written())
        into_folder(again, back(theirs, "trec"))
        assert read_run(again / RUN) == read_run(ours / RUN)
        assert lines(again / "qrels/test.tsv") == lines(ours / "qrels/train.tsv")
        texts = {record["_id"]: record["text"] for _, record in read_jsonl(again / QUERIES)}
        assert texts == {e.query.query_id: one_line(e.query.text) for e in made}


LOG_PROBS = st.lists(st.integers(-(10**6), 0).map(lambda n: n / 10**5), min_size=1, max_size=4).map(tuple)


@pytest.mark.parametrize("name", ["inpars", "inpars-v1"])
@settings(max_examples=12)
@given(
    made=st.lists(
        st.builds(
            SyntheticQuery,
            *(IDS, IDS, TEXTS, LOG_PROBS, st.none() | st.just(-0.25), st.sampled_from(["stop", "length"])),
            *(st.just("raw"), WORDS, WORDS, st.just((1, 2))),
        ),
        max_size=4,
        unique_by=lambda query: query.query_id,
    ),
    text=TEXTS,
)
def test_the_toolkits_queries_keep_everything(name, made, text):
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "ours"), Path(folder, "q.jsonl")
        others = {"prompt_text": "p", "fewshot_examples": ["3"], "score": 0.5}
        items = [Synthetic(query, Document(query.doc_id, text), others) for query in made]
        into_folder(ours, items)
        if not made:
            return
        FORMATS[name].write(Source(synthetic=ours / "queries.synthetic.jsonl"), theirs, "triplet", Written())
        assert back(theirs, name) == items


@pytest.mark.parametrize(
    "layout", ["triplet", "n-tuple", "pair", "labeled-pair", "labeled-list", "scored-pair", "margin"]
)
def test_every_layout_of_sentence_transformers_comes_back(layout, folder):
    first, second, third = (document_of(text) for text in ("one", 'two "quoted"', "three\nlines"))
    query = query_of("which number")
    negatives = (Negative(second, "bm25", 1, 2.0, -1.5), Negative(third, "bm25", 2, 1.0, -3.0))
    into_folder(folder / "ours", [Example(query, first, negatives, 3.0, 4.0)])
    exported(folder / "ours", "sentence-transformers", folder / "t.parquet", layout)
    again = into_folder(folder / "again", back(folder / "t.parquet", "sentence-transformers"))
    assert [d.text for d in Corpus(folder / "again" / CORPUS)][:1] == ["one"]
    if layout == "pair":
        assert again.counts == {QUERIES: 1, CORPUS: 1, "qrels/train.tsv": 1}
    elif layout == "scored-pair":
        assert read_run(folder / "again" / RUN) == {
            query.query_id: {first.doc_id: 4.0, second.doc_id: -1.5, third.doc_id: -3.0}
        }
    else:
        ids = [(t.positive_doc_id, t.negative_doc_id) for t in read_triple_ids(folder / "again" / "triples.ids.tsv")]
        assert ids == [(first.doc_id, second.doc_id), (first.doc_id, third.doc_id)]
    if layout == "margin":  # 4 - -1.5 and 4 - -3
        values = [line.split("\t")[3] for line in (folder / "again" / "margins.tsv").read_text().splitlines()]
        assert values == ["5.5", "7.0"]


def test_scores_of_a_teacher_come_back_from_flagembedding(folder):
    first, second = document_of("one"), document_of("two")
    made = Example(query_of("q"), first, (Negative(second, "dense", 7, 0.5, -2.25),), 0.75, 3.5)
    into_folder(folder / "ours", [made])
    exported(folder / "ours", "flagembedding", folder / "f.jsonl")
    (record,) = [record for _, record in read_jsonl(folder / "f.jsonl")]
    assert record == {"query": "q", "pos": ["one"], "neg": ["two"], "pos_scores": [3.5], "neg_scores": [-2.25]}
    (again,) = back(folder / "f.jsonl", "flagembedding")
    assert (again.positive_reranker_score, again.negatives[0].reranker_score) == (3.5, -2.25)
