"""Search and reranking with late-interaction and sparse retrievers give the scores of sentence-transformers."""

import json
import random

import numpy as np
import pytest
import torch
from sentence_transformers import MultiVectorEncoder, SentenceTransformer, SparseEncoder
from tiny_models import WORDS, sentence

from inpars.errors import BackendError, ConfigError, DataFormatError, UntrainedModelError
from inpars.io.corpus import Corpus
from inpars.io.formats import write_documents
from inpars.io.runs import rank
from inpars.models.retrievers import retriever_kind
from inpars.progress import SILENT
from inpars.records import Document, Query
from inpars.rerankers import load_scorer
from inpars.retrieval import dense, multi_vector, sparse
from inpars.retrieval.retrievers import retriever_class

EXACT = {"device": "cpu", "dtype": "float32"}
KINDS = ["multi-vector", "sparse"]
QUERIES = [Query(f"q{number}", " ".join(random.Random(number).sample(WORDS, 3))) for number in range(5)]
LONG = 40


def documents(count=LONG):
    return [Document(f"d{number:02}", sentence(number, 1 + number % 17)) for number in range(count)]


def build_corpus(found, path):
    write_documents(path, found)
    return Corpus(path)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("INPARS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def corpus(tmp_path):
    return build_corpus(documents(), tmp_path / "corpus.jsonl")


def model(tiny, kind):
    return tiny(kind.replace("-", "_"))


def expected(folder, kind, queries=QUERIES, texts=None):
    """Scores of the library itself, (queries, documents)."""
    found = {"multi-vector": MultiVectorEncoder, "sparse": SparseEncoder}[kind](folder, device="cpu")
    texts = [document.full_text for document in documents()] if texts is None else texts
    sides = [found.encode_query([query.text for query in queries]), found.encode_document(texts)]
    return found.similarity(*(one.to_dense() if kind == "sparse" else one for one in sides)).numpy()


def retriever(tiny, kind, **settings):
    folder = model(tiny, kind)
    return retriever_class(folder)(folder, **EXACT | settings)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_scores_are_the_library_s_and_the_best_come_first(tiny, corpus, kind, batch_size):
    scores = expected(model(tiny, kind), kind)
    run = retriever(tiny, kind, batch_size=batch_size).index(corpus).search(QUERIES, 10)
    ids = [document.doc_id for document in documents()]
    for query, own in zip(QUERIES, scores, strict=True):
        found = dict(zip(ids, own.tolist(), strict=True))
        assert list(run[query.query_id]) == [doc_id for doc_id, _ in rank(run[query.query_id])]
        assert run[query.query_id] == pytest.approx({name: found[name] for name in run[query.query_id]}, rel=1e-5)
        left = set(ids) - set(run[query.query_id])
        assert max(found[name] for name in left) <= min(run[query.query_id].values()) * (1 + 1e-5)


@pytest.mark.parametrize(("asked", "stored"), [("auto", "float16"), ("float32", "float32")])
def test_token_vectors_are_stored_in_float32_where_that_was_asked_for(tiny, corpus, cache, asked, stored):
    retriever(tiny, "multi-vector", dtype=asked).index(corpus).search(QUERIES, 10)
    dtypes = {np.load(path).dtype for path in cache.rglob("*.npy")}
    assert {str(dtype) for dtype in dtypes if dtype.kind == "f"} == {stored}


@pytest.mark.parametrize("kind", KINDS)
def test_embeddings_of_nan_are_refused(tiny, corpus, kind):
    encoder = retriever(tiny, kind)
    with torch.no_grad():
        for weights in encoder._encoder.model.parameters():
            weights.fill_(torch.nan)
    with pytest.raises(BackendError, match="embeds some texts as NaN or infinity"):
        encoder.index(corpus)


@pytest.mark.parametrize("kind", KINDS)
def test_of_equals_the_greater_id_stays(tiny, tmp_path, kind):
    same = build_corpus([Document(name, "amber anchor") for name in ("b", "d", "a", "c")], tmp_path / "same.jsonl")
    run = retriever(tiny, kind).index(same).search([Query("q", "amber")], 2)
    assert list(run["q"]) == ["d", "c"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 1 << 30])
def test_what_is_searched_together_does_not_matter(tiny, corpus, kind, size, monkeypatch):
    whole = retriever(tiny, kind).index(corpus).search(QUERIES, 7)
    monkeypatch.setattr(sparse, "SCORES_AT_ONCE", size)
    monkeypatch.setattr(multi_vector, "SIMILARITIES_AT_ONCE", size)
    monkeypatch.setattr(multi_vector, "QUERIES_PER_BLOCK", 2)
    parts = retriever(tiny, kind).index(corpus).search(QUERIES, 7)
    assert {name: list(scores) for name, scores in parts.items()} == {name: list(s) for name, s in whole.items()}
    assert all(parts[name] == pytest.approx(whole[name], abs=1e-5) for name in whole)


@pytest.mark.parametrize("kind", KINDS)
def test_scores_of_pairs_are_told_whether_found_or_not(tiny, corpus, kind):
    index = retriever(tiny, kind).index(corpus)
    scores = expected(model(tiny, kind), kind)
    _, told = index.search_with_scores(QUERIES, 1, [("q2", "d07"), ("q2", "d30"), ("q4", "d00")])
    assert told == pytest.approx(
        {("q2", "d07"): scores[2, 7], ("q2", "d30"): scores[2, 30], ("q4", "d00"): scores[4, 0]}, rel=1e-5
    )
    with pytest.raises(DataFormatError, match="'d99'"):
        index.search_with_scores(QUERIES, 1, [("q2", "d99")])


@pytest.mark.parametrize("kind", KINDS)
def test_documents_are_encoded_once_and_after_an_interruption_only_the_rest(tiny, corpus, cache, kind, monkeypatch):
    module = {"multi-vector": multi_vector, "sparse": sparse}[kind]
    monkeypatch.setattr(module, "DOCUMENTS_PER_SHARD", 16)
    whole = retriever(tiny, kind).index(corpus).search(QUERIES, 5)
    (folder,) = (cache / kind).iterdir()
    (folder / "doc_ids.json").unlink()
    last = next(folder.glob("00002.np[yz]"))
    last.unlink()
    encoded = []

    def watched(self, texts, *more):
        encoded.extend(texts)
        return encode(self, texts, *more)

    encode = module.Encoder.encode_documents
    monkeypatch.setattr(module.Encoder, "encode_documents", watched)
    assert retriever(tiny, kind).index(corpus).search(QUERIES, 5) == whole
    assert len(encoded) == LONG - 32
    assert retriever(tiny, kind).index(corpus).search(QUERIES, 5) == whole
    assert len(encoded) == LONG - 32
    last.write_bytes(b"torn")
    with pytest.raises(DataFormatError, match=r"damaged .* again"):
        retriever(tiny, kind).index(corpus).search(QUERIES, 5)


def test_a_sparse_document_without_a_word_of_the_query_is_not_found(tiny, corpus):
    encoder = retriever(tiny, "sparse")
    weights = encoder.encode_documents([document.full_text for document in documents()])
    dense = expected(tiny("sparse"), "sparse")
    assert weights.nnz < np.prod(weights.shape)
    run = encoder.index(corpus).search(QUERIES, 1000)
    assert [len(run[query.query_id]) for query in QUERIES] == (dense > 0).sum(axis=1).tolist()


def test_a_document_of_skipped_words_alone_is_not_found_by_max_sim(tiny, tmp_path):
    folder = tiny("multi_vector", skipped="amber [CLS] [SEP]")
    found = build_corpus([Document("a", "amber"), Document("b", "amber anchor")], tmp_path / "two.jsonl")
    run = retriever_class(folder)(folder, **EXACT).index(found).search([Query("q", "anchor")], 5)
    assert list(run["q"]) == ["b"]


def test_of_a_large_corpus_faiss_proposes_what_max_sim_scores(tiny, corpus, cache, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(multi_vector, "DOCUMENTS_PER_SHARD", 16)
    encoder = retriever(tiny, "multi-vector")
    pairs = [("q2", "d07"), ("q2", "d30")]
    whole, of_pairs = encoder.index(corpus).search_with_scores(QUERIES, 5, pairs)
    monkeypatch.setattr(multi_vector, "MAX_EXHAUSTIVE", LONG - 1)
    for _ in range(2):  # the second time by the file
        found, scores = encoder.index(corpus).search_with_scores(QUERIES, 5, pairs)
        assert [list(results) for results in found.values()] == [list(results) for results in whole.values()]
        assert all(found[name] == pytest.approx(whole[name], rel=1e-5) for name in whole)
        assert scores == pytest.approx(of_pairs, rel=1e-5)
    (path,) = cache.rglob("tokens.faiss")
    path.write_bytes(b"torn")
    with pytest.raises(DataFormatError, match=r"tokens.faiss: damaged .* again"):
        encoder.index(corpus)


def test_documents_that_faiss_does_not_propose_are_not_found(tiny, corpus, monkeypatch):
    token_lists = pytest.importorskip("inpars.retrieval.token_lists")
    monkeypatch.setattr(multi_vector, "MAX_EXHAUSTIVE", LONG - 1)
    monkeypatch.setattr(token_lists.TokenLists, "propose", lambda self, query, k: np.array([3, 7]))
    scores = expected(model(tiny, "multi-vector"), "multi-vector")
    run = retriever(tiny, "multi-vector").index(corpus).search(QUERIES, 10)
    for query, own in zip(QUERIES, scores, strict=True):
        assert run[query.query_id] == pytest.approx({"d03": own[3], "d07": own[7]}, rel=1e-5)


def test_the_lists_propose_the_documents_of_the_nearest_tokens(tmp_path, monkeypatch):
    token_lists = pytest.importorskip("inpars.retrieval.token_lists")
    monkeypatch.setattr(token_lists, "MIN_DOCUMENTS", 0)
    monkeypatch.setattr(token_lists, "DOCUMENTS_PER_RESULT", 1)
    counts = np.array([3, 0, 2, 4, 1] * 8)
    vectors = np.random.default_rng(0).standard_normal((int(counts.sum()), 32)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    token_lists.build_token_lists([vectors[:30], vectors[30:]], tmp_path / "lists", SILENT)
    lists = token_lists.TokenLists(tmp_path / "lists", counts)
    ends = np.cumsum(counts)
    for row in np.flatnonzero(counts).tolist():
        document = vectors[ends[row] - counts[row] : ends[row]]
        assert lists.propose(document, 1).tolist() == [row]  # itself


@pytest.mark.parametrize("kind", KINDS)
def test_windows_are_refused(tiny, kind):
    with pytest.raises(ConfigError, match="--window-tokens"):
        retriever(tiny, kind, window_tokens=16)


@pytest.mark.parametrize("kind", KINDS)
def test_the_length_limit_is_kept(tiny, kind):
    short = retriever(tiny, kind, max_length=9).encode_documents([" ".join(WORDS[:30])])
    cut = retriever(tiny, kind).encode_documents([" ".join(WORDS[:7])])  # [CLS] and [SEP] beside them
    if kind == "sparse":
        short, cut = short.toarray(), cut.toarray()
    assert np.allclose(short[0], cut[0], atol=1e-5)


def test_max_sim_reranks_with_the_library_s_scores_whatever_is_wanted(tiny):
    scorer = load_scorer(tiny("multi_vector"), **EXACT)
    texts = [document.full_text for document in documents()]
    scores = expected(tiny("multi_vector"), "multi-vector", texts=texts)
    pairs = [(query.text, text) for query in QUERIES for text in texts]
    assert np.allclose(scorer.score(pairs), scores.ravel(), atol=1e-4)
    wanted = {3, 77, 199}
    found = dict(item for part in scorer.score_in_parts(pairs, wanted) for item in part)
    assert wanted <= set(found)
    whole = scorer.score(pairs)
    assert all(found[place] == whole[place] for place in found)


@pytest.mark.parametrize("settings", [{"kind": "cross-encoder"}, {"windows": "maxp"}, {"true_token": "yes"}])
def test_what_max_sim_does_not_know_is_refused(tiny, settings):
    with pytest.raises(ConfigError, match="MaxSim; leave --"):
        load_scorer(tiny("multi_vector"), **settings, **EXACT)


def test_kinds_are_read_off_the_folder(tiny, tmp_path):
    names = ("sentence_transformer", "multi_vector", "sparse", "masked_lm", "t5")
    assert [retriever_kind(tiny(name)) for name in names] == ["dense", "multi-vector", "sparse", "dense", "dense"]
    assert retriever_kind("minilm") == retriever_kind("some/hub-id") == "dense"
    for file, content in (
        ("config_sentence_transformers.json", {"model_type": "ColBERT"}),  # PyLate's
        ("config.json", {"architectures": ["HF_ColBERT"]}),  # Stanford's
    ):
        folder = tmp_path / file
        folder.mkdir()
        (folder / "config.json").write_text("{}")
        (folder / file).write_text(json.dumps(content))
        assert retriever_kind(str(folder)) == "multi-vector"


@pytest.mark.parametrize(("kind", "start"), [("multi-vector", "sentence_transformer"), ("sparse", "masked_lm")])
def test_what_was_not_trained_is_no_retriever(tiny, kind, start):
    module = {"multi-vector": multi_vector, "sparse": sparse}[kind]
    with pytest.raises(UntrainedModelError, match=f"train retriever --kind {kind}"):
        module.Encoder(tiny(start), **EXACT)


def test_the_share_read_of_texts_by_hand(tiny):
    """One token per word and two special ones: of 4 + 12 tokens, a limit of 8 keeps 4 + 8, or 12 of 16."""
    encoder = dense.Encoder(tiny("sentence_transformer"), max_length=8)
    assert encoder.share_read([" ".join(WORDS[:2]), " ".join(WORDS[:10])]) == 12 / 16
    assert encoder.share_read([]) == 0


def test_embeddings_that_are_no_numbers_are_refused(tiny, monkeypatch):
    encoder = dense.Encoder(tiny("sentence_transformer"), device="cpu", dtype="float32")
    monkeypatch.setattr(encoder._model, "encode_query", lambda texts, **_: torch.full((len(texts), 4), torch.nan))
    with pytest.raises(BackendError, match="rank nothing; try --dtype float32"):
        encoder.encode_queries(["amber"])


def test_max_sim_of_a_plain_bi_encoder_is_that_of_its_token_states(tiny):
    folder, (query, document) = tiny("sentence_transformer"), (sentence(1, 3)[:-1], sentence(2, 9))
    model = SentenceTransformer(folder, device="cpu")
    states = []
    for text in (query, document):
        found = model.encode(text, output_value="token_embeddings", convert_to_numpy=False).numpy()
        states.append(found / np.linalg.norm(found, axis=1, keepdims=True))
    expected = (states[0] @ states[1].T).max(1).sum()
    scorer = load_scorer(folder, kind="multi-vector", device="cpu", dtype="float32")
    assert scorer.score([(query, document)]) == pytest.approx([expected], abs=1e-4)
    with pytest.raises(UntrainedModelError):
        multi_vector.Encoder(folder, device="cpu")
