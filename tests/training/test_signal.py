"""Whether training would help: steps counted by hand, and the untrained model's ranking."""

import math
import random

import pytest
from tiny_models import WORDS

from inpars.errors import ConfigError, UntrainedModelError
from inpars.prompts.templates import Example, Prompt
from inpars.training import signal
from inpars.training.options import RerankerOptions, RetrieverOptions
from inpars.training.signal import SAMPLE, reranker_signal, retriever_signal


class Fixed:
    """A scorer with a fixed margin between positives and negatives; records its pairs."""

    name = "fixed"

    def __init__(self, margin, wrong=0):
        self.margin, self.wrong, self.asked = margin, wrong, []

    def score(self, pairs):
        first = len(self.asked) // 2
        self.asked += pairs
        margins = [-self.margin if first + place < self.wrong else self.margin for place in range(len(pairs) // 2)]
        return [score for margin in margins for score in (margin - 7.0, -7.0)]


def write(folder, count, per_query=1):
    lines = [f"query {n}\tpositive {n}\tnegative {n} {k}\n" for n in range(count) for k in range(per_query)]
    path = folder / "triples.tsv"
    path.write_text("".join(lines))
    return path


def retriever(**settings):
    return RetrieverOptions(model="none", **settings)


def reranker(**settings):
    return RerankerOptions(model="none", **settings)


def by_steps(path, **settings):
    return reranker_signal(path, reranker(**settings), make_scorer=lambda: Fixed(0.0))


@pytest.mark.parametrize(
    ("count", "settings", "taught"),
    [
        (192, {}, False),  # 6 steps of 32
        (928, {}, False),  # 29
        (929, {}, True),  # the 30th is smaller
        (192, {"epochs": 5}, True),
        (192, {"epochs": 4.5}, False),  # 27
        (192, {"max_steps": 30}, True),
        (1000, {"max_steps": 29}, False),
        (1000, {"limit": 928}, False),
        (240, {"batch_size": 8}, True),
        (240, {"batch_size": 8, "gradient_accumulation": 2}, False),
    ],
)
def test_a_retriever_needs_thirty_steps(tmp_path, count, settings, taught):
    path = write(tmp_path, count)
    assert (retriever_signal(path, retriever(**settings), count_first=lambda *_: (9, 16)) is None) == taught


def test_a_short_training_is_told_with_its_numbers_and_what_helps(tmp_path):
    line = retriever_signal(write(tmp_path, 192), retriever())
    assert line.startswith("192 triples are 6 steps of 32, ")
    assert " 5 times as many documents (--max-documents)" in line
    assert "--max-steps" not in line
    assert "\n" not in line


def test_more_documents_are_no_remedy_where_steps_are_limited(tmp_path):
    line = retriever_signal(write(tmp_path, 1000), retriever(max_steps=9))
    assert line.startswith("1,000 triples are 32 steps of 32, of which 9 may be taken, ")
    assert "--max-steps" in line
    assert "--max-documents" not in line
    both = retriever_signal(write(tmp_path, 192), retriever(max_steps=3))
    assert "are 6 steps of 32, of which 3 " in both
    assert "--max-documents" in both
    assert "--max-steps" in both


def test_without_negatives_a_pair_counts_once(tmp_path):
    path = write(tmp_path, 480, per_query=2)
    assert retriever_signal(path, retriever(), count_first=lambda *_: (9, 16)) is None
    assert retriever_signal(path, retriever(negatives=False)).startswith("480 triples are 15 steps")


@pytest.mark.parametrize(("first", "taught"), [(128, False), (126, False), (125, True), (0, True)])
def test_what_a_bi_encoder_ranks_already_is_not_taught(tmp_path, first, taught):
    line = retriever_signal(write(tmp_path, 960), retriever(), count_first=lambda *_: (first, 128))
    assert (line is None) == taught
    assert taught or line.startswith(f"it ranks {first} of 128 positives above all other documents of their batches")


@pytest.mark.parametrize(
    "settings", [{"loss": "margin-mse"}, {"loss": "margin-mse", "teacher": "any"}, {"kind": "sparse"}]
)
def test_other_losses_and_kinds_are_trained_unseen(tmp_path, settings):
    def count_first(*_):
        raise AssertionError("not asked for")

    assert retriever_signal(write(tmp_path, 960), retriever(**settings), count_first=count_first) is None


def test_a_loaded_bi_encoder_is_asked_what_it_ranks_first(tiny, tmp_path):
    """Queries equal to their documents are ranked first already; queries of other documents are not."""
    texts = [" ".join(random.Random(n).sample(WORDS, 6)) for n in range(40)]
    settings = {"kind": "dense", "batch_size": 4, "epochs": 4, "dtype": "float32"}
    options = RetrieverOptions(model=tiny("sentence_transformer"), **settings)
    same, other = (tmp_path / name for name in ("same.tsv", "other.tsv"))
    same.write_text("".join(f"{text}\t{text}\t{texts[n - 1]}\n" for n, text in enumerate(texts)))
    other.write_text("".join(f"{texts[n - 2]}\t{text}\t{texts[n - 1]}\n" for n, text in enumerate(texts)))
    assert retriever_signal(same, options).startswith("it ranks 16 of 16 positives ")
    assert retriever_signal(other, options) is None


def test_no_triples_are_the_trainings_own_error(tmp_path):
    for found in (retriever_signal, reranker_signal):
        with pytest.raises(ConfigError, match="no triples"):
            found(write(tmp_path, 0), retriever() if found is retriever_signal else reranker())


@pytest.mark.parametrize(
    ("margin", "wrong", "taught"),
    [
        (7.6, 0, False),  # log(1 + exp(-7.6)) = .0005
        (2.7, 0, False),  # .065, below a tenth of .693
        (2.6, 0, True),  # .072
        (7.6, 1, True),  # one of 48 wrong by 7.6: .16
        (math.nan, 0, True),
        (0.0, 0, True),
    ],
)
def test_what_a_reranker_tells_already_is_not_taught(tmp_path, margin, wrong, taught):
    line = reranker_signal(write(tmp_path, 300), reranker(), make_scorer=lambda: Fixed(margin, wrong))
    assert (line is None) == taught


def test_what_a_reranker_tells_already_is_said_with_its_loss(tmp_path):
    line = reranker_signal(write(tmp_path, 300), reranker(), make_scorer=lambda: Fixed(7.6))
    assert line.startswith("it tells 48 of 48 positives from negatives already (loss 0.0005, by chance 0.69); ")
    few = reranker_signal(write(tmp_path, 5), reranker(), make_scorer=lambda: Fixed(7.6))
    assert few.startswith("it tells 5 of 5 positives ")


def test_the_sample_is_even_the_same_each_time_and_of_whole_triples(tmp_path):
    path, first, again, other = write(tmp_path, 300), Fixed(7.0), Fixed(7.0), Fixed(7.0)
    for scorer, seed in ((first, 0), (again, 0), (other, 1)):
        reranker_signal(path, reranker(seed=seed), make_scorer=lambda scorer=scorer: scorer)
    assert first.asked == again.asked != other.asked
    numbers = [int(query.split()[1]) for query, _ in first.asked[::2]]
    assert len(set(numbers)) == SAMPLE
    assert min(numbers) < 60
    assert max(numbers) >= 240
    assert first.asked == [(f"query {n}", text) for n in numbers for text in (f"positive {n}", f"negative {n} 0")]


def test_scoring_ends_once_there_is_something_to_learn(tmp_path):
    for margin, asked in ((7.6, SAMPLE), (0.0, 8)):  # 5 pairs of .693 are 3.47, a tenth of 48 by chance 3.33
        scorer = Fixed(margin)
        reranker_signal(write(tmp_path, 300), reranker(), make_scorer=lambda scorer=scorer: scorer)
        assert len(scorer.asked) == 2 * asked


def test_a_reranker_that_starts_from_chance_needs_thirty_steps_too(tmp_path):
    path = write(tmp_path, 192, per_query=3)
    halves = {"batch_size": 4, "gradient_accumulation": 2}
    assert by_steps(path, **halves).startswith("192 queries are 24 steps of 8, ")
    assert by_steps(path, **halves, epochs=1.25) is None  # 30
    limited = by_steps(path, batch_size=4, max_steps=8)
    assert "192 queries are 48 steps of 4, of which 8 " in limited
    assert "--reranker-steps" in limited
    assert by_steps(path, **halves, max_steps=29).startswith("192 queries are 29 steps of 8, "), "more than one pass"


@pytest.mark.parametrize("settings", [{"teacher": "any"}, {"loss": "margin-mse"}])
def test_a_teachers_scores_are_something_to_learn(tmp_path, settings):
    def load():
        raise AssertionError("not asked for")

    assert reranker_signal(write(tmp_path, 300), reranker(**settings), make_scorer=load) is None


def words(folder, count=240):
    chooser = random.Random(3)
    path = folder / "triples.tsv"
    path.write_text(
        "".join("\t".join(" ".join(chooser.sample(WORDS, 4)) for _ in range(3)) + "\n" for _ in range(count))
    )
    return path


@pytest.mark.parametrize(
    ("model", "kind", "scores"),
    [
        ("llama", "query-likelihood", True),
        ("bert_classifier", "cross-encoder", True),
        ("t5", "monot5", False),
        ("llama", "causal", False),
        ("sentence_transformer", "cross-encoder", False),
    ],
)
def test_models_of_every_kind_are_asked_or_start_from_chance(tiny, tmp_path, monkeypatch, model, kind, scores):
    losses = []
    monkeypatch.setattr(signal, "_logistic", lambda margin: losses.append(margin) or 1.0)
    options = RerankerOptions(model=tiny(model), kind=kind, batch_size=8, device="cpu", dtype="float32")
    assert reranker_signal(words(tmp_path), options) is None, "240 queries are 30 steps"
    assert bool(losses) == scores


def test_other_refusals_are_errors(tiny, tmp_path):
    options = RerankerOptions(model=tiny("bert_classifier", labels=3), device="cpu", dtype="float32")
    with pytest.raises(ConfigError, match="3") as raised:
        reranker_signal(words(tmp_path, 8), options)
    assert not isinstance(raised.value, UntrainedModelError)


def test_the_model_reads_as_its_training_does(tiny):
    """The untrained model reads the same number of tokens after the same prompt."""
    model, ends = tiny("llama"), [("amber", "beacon " * 40 + end) for end in ("ember", "falcon")]

    def scores(prompt=None, **settings):
        exact = {"kind": "query-likelihood", "device": "cpu", "dtype": "float32"}
        return signal._load(RerankerOptions(model=model, **exact, **settings), prompt).score(ends)

    cut, whole = scores(max_length=16), scores(max_length=256)
    assert cut[0] == cut[1], "the ends are cut off"
    assert whole[0] != whole[1]
    prompt = Prompt(name="p", form="Text: {document}\nAsks: {query}", examples=(Example("a lake", "lakes"),))
    assert scores(prompt, max_length=256) != whole
