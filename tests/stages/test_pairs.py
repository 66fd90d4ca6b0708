"""Queries of people: extraction from headings, FAQs, logs and votes, and their use in later stages."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.documents.datasets import load_dataset
from inpars.errors import ConfigError, DataFormatError
from inpars.filtering.checks import FilterOptions
from inpars.filtering.filters import filter_queries
from inpars.io.formats import read_synthetic_queries, synthetic_query, synthetic_query_record
from inpars.pairs.clicks import click_pairs, vote_pairs
from inpars.pairs.faq import match_answers, read_faq
from inpars.pairs.headings import heading_pairs, name_in
from inpars.pairs.records import Pair, united
from inpars.records import Document, SyntheticQuery
from inpars.stages.pairs import PairFiles, PairsOptions, answers_path, write_pairs_file
from inpars.stages.split import SplitFiles, SplitOptions, split_file

LONG = "one two three four five six seven eight nine"


def chunk(doc_id, text, *headings, source="a.md", title="Guide"):
    shown = " / ".join((title, *headings))
    metadata = {"source": source, "headings": [title, *headings]} if headings else {"source": source}
    return Document(doc_id, text, shown, metadata)


def write(path, text):
    path.write_text(text, encoding="utf-8")
    return path


def corpus_of(folder, documents):
    rows = [{"_id": d.doc_id, "title": d.title, "text": d.text, "metadata": d.metadata} for d in documents]
    path = write(folder / "corpus.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    return load_dataset(None, corpus=path)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))


def test_a_title_and_each_heading_stand_for_their_first_passage():
    dropped = Counter()
    result = heading_pairs(
        [
            chunk("d1", LONG),
            chunk("d2", "too short", "Refunds"),  # 2 of 8 words: the next passage of the section is taken
            chunk("d3", LONG, "Refunds"),
            chunk("d4", LONG, "Refunds"),
            chunk("d5", LONG, "Set up"),
            chunk("d6", LONG, "Set up", source="b.md", title="Handbook"),  # a heading of two pages, and a new page
        ],
        dropped,
    )
    assert [(pair.kind, pair.text, [*pair.grades]) for pair in result] == [
        ("title", "Guide", ["d1"]),
        ("heading", "Refunds", ["d3"]),
        ("heading", "Guide Set up", ["d5"]),
        ("title", "Handbook", ["d6"]),
        ("heading", "Handbook Set up", ["d6"]),
    ]
    assert dropped == {"short_passage": 1}


def test_a_heading_of_several_sections_of_one_page_says_too_little():
    documents = [chunk("d1", LONG, "A", "Notes"), chunk("d2", LONG, "B", "Notes")]
    dropped = Counter()
    assert [pair.text for pair in heading_pairs(documents, dropped)] == ["Guide"]
    assert dropped == {"ambiguous": 2}


@pytest.mark.parametrize(
    ("query", "name"),
    [
        ("Guide Refunds", "Refunds"),
        ("the guide", "Guide"),
        ("refunds?", "Refunds"),
        ("how are refunds paid", "Refunds"),
    ],
)
def test_the_innermost_heading_that_a_query_has(query, name):
    assert name_in(query, chunk("d1", LONG, "Refunds")) == name
    assert name_in("something else", chunk("d1", LONG, "Refunds")) is None


FAQS = {
    "f.csv": 'question,answer,doc_id\n"How, then?","So,\nand so.",\nWhy?,Because.,d7\nEmpty?,,\n',
    "f.jsonl": '{"question": "How, then?", "answer": "So,\\nand so."}\n'
    '{"question": "", "q": "Why?", "a": "Because.", "doc_id": "d7"}\n'
    '{"question": "Empty?", "answer": " "}\n',
}


@pytest.mark.parametrize("name", FAQS)
def test_tables_of_questions(name, tmp_path):
    dropped = Counter()
    result = [(one.question, one.answer, one.doc_id) for one in read_faq(write(tmp_path / name, FAQS[name]), dropped)]
    assert result == [("How, then?", "So,\nand so.", None), ("Why?", "Because.", "d7")]
    assert dropped == {"empty": 1}


def test_pages_whose_headings_or_bold_words_ask(tmp_path):
    page = write(
        tmp_path / "faq.md",
        "# FAQ\n\nIntroduction\n\n## How are refunds *paid*?\n\nBy card.\n\nWithin a week.\n\n## Contact\n\nWrite.\n\n"
        "1. **Is it free?**\n\n   Yes.\n\n**And after?**  \nNo.\n",
    )
    result = [(one.question, one.answer) for one in read_faq(page, Counter())]
    assert result == [
        ("How are refunds paid?", "By card.\nWithin a week."),
        ("Is it free?", "Yes."),
        ("And after?", "No."),
    ]


def test_a_page_that_asks_nothing_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"page\.md: .*--headings"):
        list(read_faq(write(tmp_path / "page.md", "# Title\n\ntext\n"), Counter()))


def test_answers_are_found_whole_or_in_part():
    answers = [LONG, f"{LONG} ten eleven {LONG[::-1]}", "short one", "nowhere to be found in any of these documents"]
    documents = [
        Document("same", LONG.upper() + "!"),
        Document("begin", f"{LONG} ten"),
        Document("holds", f"before all {LONG} ten eleven {LONG[::-1]} after"),
        Document("titled", "one", "short"),
    ]
    # the first answer is a document itself; the second holds `same` and `begin`, and `holds` holds it
    result = [{"same": 1}, {"same": 1, "begin": 1, "holds": 1}, {"titled": 1}, {}]
    assert match_answers(answers, documents) == result
    assert match_answers(answers, documents[::-1]) == result


LOG = (
    "query\tdoc_id\tclicks\timpressions\n"
    "hot bread\td1\t3\t10\nHot  Bread\td2\t1\t1\nhot bread\td1\t0\t10\ncold\td3\t0\t5\n"
)


def test_clicks_are_summed_by_the_words_of_the_query(tmp_path):
    log, dropped = write(tmp_path / "log.tsv", LOG), Counter()
    (pair,) = click_pairs([log], min_clicks=1, min_click_rate=0.0, dropped=dropped)
    # hot bread: d1 3 of 20, d2 1 of 1; most clicks first, the most frequent spelling
    assert (pair.text, [*pair.grades], dict(pair.about["impressions"])) == (
        "hot bread",
        ["d1", "d2"],
        {"d1": 20, "d2": 1},
    )
    assert dropped == {"not_clicked": 1}


@pytest.mark.parametrize(
    ("limits", "kept", "reasons"),
    [
        ({"min_clicks": 2}, ["d1"], {"too_few_clicks": 1, "not_clicked": 1}),
        ({"min_click_rate": 0.5}, ["d2"], {"low_click_rate": 1, "not_clicked": 1}),  # 3 < 0.5 * 20
    ],
)
def test_limits_of_clicks(limits, kept, reasons, tmp_path):
    dropped, log = Counter(), write(tmp_path / "log.tsv", LOG)
    (pair,) = click_pairs([log], **{"min_clicks": 1, "min_click_rate": 0.0, **limits}, dropped=dropped)
    assert ([*pair.grades], dropped) == (kept, reasons)


def test_a_log_of_clicks_alone(tmp_path):
    log = write(
        tmp_path / "log.jsonl", '{"query": "a b", "doc_id": 7}\n{"query": "a b", "doc_id": 7, "clicked": false}\n'
    )
    (pair,) = click_pairs([log], min_clicks=1, min_click_rate=0.0, dropped=Counter())
    assert pair.about == {"clicks": {"7": 1}, "impressions": {"7": 2}}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("log.csv", "query,doc_id,clicked\na b,d1,t\na b,d2,\na b,,\n,d1,t\nc d,d3,f\n"),
        (
            "log.jsonl",
            '{"query": "a b", "doc_id": "d1", "clicks": 1}\n{"query": "a b", "doc_id": "d2", "clicks": null}\n'
            '{"query": "a b", "doc_id": null, "id": 9}\n{"query": NaN, "doc_id": "d1"}\n'
            '{"query": "c d", "doc_id": "d3", "clicks": ""}\n',
        ),
    ],
)
def test_a_search_without_a_click_is_none(name, text, tmp_path):
    """As a left join writes it: no document, or no clicks."""
    dropped = Counter()
    (pair,) = click_pairs([write(tmp_path / name, text)], min_clicks=1, min_click_rate=0.0, dropped=dropped)
    assert (pair.text, [*pair.grades]) == ("a b", ["d1"])
    assert dropped == {"not_clicked": 2, "no_document": 1, "empty": 1}


@pytest.mark.parametrize("clicks", ["-1", "many"])
def test_clicks_that_are_no_number_are_named(clicks, tmp_path):
    log = write(tmp_path / "log.tsv", f"query\tdoc_id\tclicks\na b\td1\t{clicks}\n")
    with pytest.raises(DataFormatError, match=r"log\.tsv:2.*clicks"):
        list(click_pairs([log], min_clicks=1, min_click_rate=0.0, dropped=Counter()))


@given(st.permutations([("a b", "d1"), ("a  B", "d1"), ("a b", "d2"), ("c d", "d2"), ("c d", "d1"), ("c d", "d2")]))
def test_the_order_of_a_log_does_not_matter(tmp_path_factory, rows):
    log = write(tmp_path_factory.mktemp("log") / "log.tsv", "".join(f"{q}\t{d}\n" for q, d in rows))
    result = click_pairs([log], min_clicks=1, min_click_rate=0.0, dropped=Counter())
    assert {pair.text: [*pair.grades] for pair in result} == {"a b": ["d1", "d2"], "c d": ["d2", "d1"]}


def test_the_last_vote_counts(tmp_path):
    votes = [("q", "d1", 1), ("q", "d2", 1), ("Q", "d2", None), ("q", "d3", 0), ("other", "d1", -1)]
    rows = [{"query": query, "doc_id": doc_id, "relevance": relevance} for query, doc_id, relevance in votes]
    dropped = Counter()
    (pair,) = vote_pairs([write(tmp_path / "v.jsonl", "".join(json.dumps(row) + "\n" for row in rows))], dropped)
    assert (pair.text, pair.grades) == ("q", {"d1": 1})
    assert dropped == {"taken_back": 1, "voted_down": 2}


def test_the_same_words_are_one_pair_with_the_documents_of_both():
    dropped = Counter()
    (pair,) = united([Pair("Hot bread?", "vote", {"d1": 1}), Pair("hot bread", "title", {"d2": 2, "d1": 1})], dropped)
    assert (pair.kind, pair.grades, dropped) == ("vote", {"d1": 1, "d2": 2}, {"duplicate": 1})
    query = pair.query()
    assert (query.doc_id, query.grades, query.model) == ("d2", {"d1": 1, "d2": 2}, "people")
    assert query.query_id == Pair("HOT BREAD", "vote", {"d9": 1}).query().query_id


def test_records_are_read_as_they_were_written(tmp_path):
    query = Pair("hot bread", "click", {"d1": 1, "d2": 3}).query()
    record = json.loads(json.dumps(synthetic_query_record(query)))
    assert synthetic_query(record, query.query_id, query.doc_id, tmp_path) == query
    assert "grades" not in synthetic_query_record(Pair("hot bread", "click", {"d1": 1}).query())
    with pytest.raises(DataFormatError, match="grades"):
        synthetic_query({**record, "grades": {"d1": 3}}, query.query_id, "d2", tmp_path)


DOCUMENTS = [
    chunk("d1", LONG),
    chunk("d2", f"How are all of our refunds paid {LONG}", "How are all of our refunds paid"),
    chunk("d3", f"Some {LONG}", "Refunds"),
    chunk("d4", f"More {LONG}", "Refunds"),
]


def pairs(folder, *, headings=True, **files):
    dataset = corpus_of(folder, DOCUMENTS)
    where = {"corpus": dataset.corpus, "output": folder / "pairs.jsonl"}
    options = PairsOptions(headings=headings, min_words=1)
    return dataset, write_pairs_file(PairFiles(**files), options, **where)


def test_the_stage_joins_all_sources_and_counts_by_reason(tmp_path):
    log = write(tmp_path / "log.tsv", "refunds\td4\nrefunds\td9\nbaker street\td8\n")
    _, manifest = pairs(tmp_path, clicks=[log])
    result = {query.text: query for query in read_synthetic_queries(tmp_path / "pairs.jsonl")}
    # the heading Refunds (of d3) has the words of the clicked query; the other one stands in its passage
    assert {text: (query.prompt, dict(query.positives)) for text, query in result.items()} == {
        "refunds": ("click", {"d4": 1, "d3": 1}),
        "Guide": ("title", {"d1": 1}),
    }
    assert manifest.dropped == {"document_not_in_corpus": 2, "duplicate": 1, "copied": 1}
    assert manifest.results["by_prompt"] == {
        "click": {"kept": 1},
        "heading": {"kept": 0, "copied": 1},
        "title": {"kept": 1},
    }
    again = pairs(tmp_path, clicks=[log])[1]
    assert again.started == manifest.started  # nothing is done twice


def test_an_faq_alone_makes_a_corpus_of_its_answers(tmp_path):
    faq = write(tmp_path / "faq.csv", "question,answer\nHow so?,This way.\nWhy so?,This way.\n")
    manifest = write_pairs_file(PairFiles(faq=[faq]), PairsOptions(), output=tmp_path / "pairs.jsonl")
    dataset = load_dataset(None, corpus=answers_path(tmp_path / "pairs.jsonl"))
    queries = list(read_synthetic_queries(tmp_path / "pairs.jsonl"))
    assert [dataset.corpus[query.doc_id].text for query in queries] == ["This way."] * 2
    assert (len(dataset.corpus), manifest.output.records) == (1, 2)


def test_two_answers_of_one_document_are_refused(tmp_path):
    faq = write(tmp_path / "faq.csv", "question,answer,doc_id\nHow so?,This way.,d1\nWhy so?,That way.,d1\n")
    with pytest.raises(ConfigError, match=r"faq\.csv:3: document 'd1' .*--corpus"):
        write_pairs_file(PairFiles(faq=[faq]), PairsOptions(), output=tmp_path / "pairs.jsonl")


@pytest.mark.parametrize("files", [{}, {"clicks": ["log.tsv"]}])
def test_what_cannot_be_made_is_said(files, tmp_path):
    with pytest.raises(ConfigError, match=r"--headings, --faq|--clicks is about"):
        write_pairs_file(PairFiles(**files), PairsOptions(), output=tmp_path / "pairs.jsonl")


def written(number, mean=-1.0, text=None):
    return SyntheticQuery(
        f"d{number}-q0",
        f"d{number}",
        text or f"query number {number} of many",
        (mean,) * 3,
        None,
        "stop",
        "raw",
        "inpars",
        "m",
    )


def test_a_filter_by_likelihood_keeps_what_people_wrote():
    people = [Pair(f"people ask number {number}", "click", {"d1": 1}).query() for number in range(3)]
    same = Pair("query number 1 of many", "faq", {"d7": 1}).query()
    result = filter_queries([*(written(n, -n) for n in range(4)), *people, same], FilterOptions(top_k=2))
    # two of a model's are kept: 0 is the likeliest, 1 has the words of a person's, 2 is the next
    assert {outcome.query.query_id for outcome in result.kept} == {
        "d0-q0",
        "d2-q0",
        same.query_id,
        *(p.query_id for p in people),
    }
    assert result.dropped == {"below_top_k": 1, "duplicate": 1}


def test_headings_are_on_no_side_where_their_document_is_held_out(tmp_path):
    documents = [
        Document(f"d{number}", f"text {number} of " + "word " * number, f"Title {number}") for number in range(40)
    ]
    dataset = corpus_of(tmp_path, documents)
    queries = [written(number) for number in range(40)] + [
        Pair(f"Title {n}", "title", {f"d{n}": 1}).query() for n in range(40)
    ]
    queries += [Pair(f"people ask {n}", "click", {f"d{n}": 1}).query() for n in range(40)]
    source = tmp_path / "queries.jsonl"
    source.write_text("".join(json.dumps(synthetic_query_record(query)) + "\n" for query in queries), encoding="utf-8")
    for dev_pairs, reason, of_dev in ((True, "heading_of_a_dev_document", 2), (False, "pair_of_a_dev_document", 1)):
        files = SplitFiles.named(tmp_path / f"train-{dev_pairs}.jsonl", tmp_path / f"dev-{dev_pairs}.jsonl")
        options = SplitOptions(dev_share=0.25, threshold=1.0, dev_pairs=dev_pairs)
        manifest = split_file(source, dataset.corpus, options, files=files)
        dev, train = (list(read_synthetic_queries(path)) for path in (files.dev, files.train))
        held_out = {query.doc_id for query in dev}
        assert not held_out & {query.doc_id for query in train}
        assert len(dev) == of_dev * len(held_out)
        assert manifest.dropped[reason] == (3 - of_dev) * len(held_out)
        assert {query.prompt for query in dev} == ({"inpars", "click"} if dev_pairs else {"inpars"})


def test_all_documents_of_a_query_are_on_one_side(tmp_path):
    dataset = corpus_of(tmp_path, [Document(f"d{number}", f"text {number} {'x ' * number}") for number in range(30)])
    queries = [Pair(f"people ask {n}", "click", {f"d{n}": 1, f"d{n + 10}": 2}).query() for n in range(10)]
    queries += [written(number) for number in range(30)]
    source = tmp_path / "queries.jsonl"
    source.write_text("".join(json.dumps(synthetic_query_record(query)) + "\n" for query in queries), encoding="utf-8")
    files = SplitFiles.named(tmp_path / "train.jsonl", tmp_path / "dev.jsonl")
    split_file(source, dataset.corpus, SplitOptions(dev_share=0.3, threshold=1.0), files=files)
    dev, train = (
        {doc_id for query in read_synthetic_queries(path) for doc_id in query.positives}
        for path in (files.dev, files.train)
    )
    assert dev
    assert train
    assert not dev & train
    linked = {frozenset(query.grades) for query in queries if query.grades}
    assert any(group <= dev for group in linked)
    assert "\t2\n" in files.qrels_dev.read_text()
