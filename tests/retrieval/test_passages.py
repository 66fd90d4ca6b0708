"""Windows of long documents: their positions, their titles, and search by the nearest window."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.errors import ConfigError
from inpars.progress import Silent
from inpars.records import Document, Query
from inpars.retrieval.dense import Encoder
from inpars.retrieval.passages import document_windows, require_offsets, window_spans

WORDS = ["lake", "water", "river", "mountain", "snow", "town", "road", "bridge", "field", "forest"]


class Blanks:
    """A tokenizer whose tokens are words."""

    is_fast = True

    def __call__(self, texts, **_):
        return {"offset_mapping": [list(self._places(text)) for text in texts]}

    def _places(self, text):
        start = 0
        for word in text.split(" "):
            if word:
                yield start, start + len(word)
            start += len(word) + 1


def test_windows_overlap_by_a_third_and_begin_with_the_title():
    document = Document("d", " ".join(f"w{n}" for n in range(10)), title="Ten words")
    assert document_windows([document, Document("e", "w0 w1 w2 w3 w4 w5 w6 w7 w8")], Blanks(), 6) == [
        ["Ten words w0 w1 w2 w3 w4 w5", "Ten words w4 w5 w6 w7 w8 w9"],
        ["w0 w1 w2 w3 w4 w5 w6 w7 w8"],  # one and a half windows stay whole
    ]


@given(st.integers(1, 60), st.integers(2, 12))
def test_windows_leave_no_token_out(tokens, width):
    places = [(n * 3, n * 3 + 2) for n in range(tokens)]
    spans = list(window_spans(places, width, max(1, width * 2 // 3)))
    assert all(any(start <= place[0] and place[1] <= end for start, end in spans) for place in places)
    assert spans[-1][1] == places[-1][1]


def test_a_document_is_as_near_as_its_nearest_window(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path))
    encoder = Encoder(tiny("sentence_transformer"), device="cpu", dtype="float32", window_tokens=8)
    documents = [Document(f"d{n}", " ".join(WORDS[(n + i) % 10] for i in range(5 * n + 1))) for n in range(7)]
    index = encoder.index(FakeCorpus(documents))
    asked = [Query("q", "snow town")]
    run, beside = index.search_with_scores(asked, 3, [("q", document.doc_id) for document in documents])
    vectors, counts = encoder.encode_in_windows(documents)
    assert counts.sum() > len(documents)
    near = np.split(vectors @ encoder.encode_queries(["snow town"])[0], np.cumsum(counts)[:-1])
    expected = {document.doc_id: float(values.max()) for document, values in zip(documents, near, strict=True)}
    assert {doc_id: beside["q", doc_id] for doc_id in expected} == pytest.approx(expected, abs=1e-5)
    best = sorted(expected, key=expected.get, reverse=True)[:3]
    assert run["q"] == pytest.approx({doc_id: expected[doc_id] for doc_id in best}, abs=1e-5)


def test_windows_have_an_index_of_their_own(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path))
    corpus = FakeCorpus([Document("d", " ".join(WORDS))])
    encoders = [Encoder(tiny("sentence_transformer"), device="cpu", window_tokens=width) for width in (None, 4, 6)]
    assert len({encoder.fingerprint for encoder in encoders}) == 1
    for encoder in encoders:
        encoder.index(corpus)
    assert len(list((tmp_path / "dense").iterdir())) == 3


def test_a_slow_tokenizer_is_refused():
    with pytest.raises(ConfigError, match="slow tokenizer"):
        require_offsets(object(), "model")


class FakeCorpus(list):
    """Documents with a hash."""

    sha256 = "0" * 64


def test_progress_counts_documents_batch_by_batch(tiny):
    class Counted(Silent):
        def __init__(self):
            self.counts = []

        def advance(self, count, detail=""):
            self.counts.append(count)

    progress = Counted()
    documents = [Document(str(n), " ".join(WORDS * 3)) for n in range(5)]
    encoder = Encoder(tiny("sentence_transformer"), device="cpu", dtype="float32", window_tokens=8, batch_size=4)
    encoder.encode_in_windows(documents, progress)
    assert sum(progress.counts) == len(documents)
    assert max(progress.counts) == 1, "not all of them at the end"


def test_a_document_that_is_its_only_window_is_embedded_once(tiny, tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path))
    whole = Encoder(tiny("sentence_transformer"), device="cpu", dtype="float32")
    windows = whole.reading(8)
    documents = [Document(f"d{n}", " ".join(WORDS[(n + i) % 10] for i in range(5 * n + 1))) for n in range(7)]
    vectors, counts = windows.encode_in_windows(documents)
    whole.index(FakeCorpus(documents))
    texts = []
    monkeypatch.setattr(Encoder, "_encode", _counting(Encoder._encode, texts))
    windows.index(FakeCorpus(documents))
    assert len(texts) == counts[counts > 1].sum() < len(vectors)
    (folder,) = (found.parent for found in (tmp_path / "dense").glob("*/*.counts.npy"))
    assert np.load(folder / "00000.npy") == pytest.approx(vectors, abs=1e-6)


def _counting(encode, texts):
    def counted(self, method, asked, done):
        texts.extend(asked)
        return encode(self, method, asked, done)

    return counted
