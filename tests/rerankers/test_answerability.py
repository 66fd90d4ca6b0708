"""Answerability: the best span by hand and by brute force, windows over long documents, refused models."""

import math

import pytest
import tiny_models
import torch
from transformers import BertForQuestionAnswering

from inpars.errors import ConfigError
from inpars.rerankers import answerability
from inpars.rerankers.answerability import AnswerabilityScorer, best_spans


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    return tiny_models.bert_reader(tmp_path_factory.mktemp("reader"))


START = torch.tensor([[9.0, 1.0, 2.0, 0.0, 3.0]])
END = torch.tensor([[9.0, 5.0, 1.0, 4.0, 0.0]])


@pytest.mark.parametrize(
    ("allowed", "longest", "best"),
    [
        ([1, 1, 1, 1, 1], 5, 18.0),  # the first token alone: 9 + 9
        ([0, 1, 1, 1, 1], 5, 6.0),  # 1 to 1 (1 + 5) and 2 to 3 (2 + 4); 4 to 1 would be 8 but runs backwards
        ([0, 0, 1, 1, 1], 5, 6.0),  # 2 to 3
        ([0, 0, 1, 1, 1], 1, 4.0),  # one token: 3 (0 + 4)
        ([0, 0, 0, 0, 1], 5, 3.0),
        ([0, 0, 0, 0, 0], 5, -math.inf),
    ],
)
def test_the_best_span_by_hand(allowed, longest, best):
    values, _, _ = best_spans(START, END, torch.tensor([allowed], dtype=torch.bool), longest)
    assert values == [best]


def test_margins_are_those_of_a_plain_search(reader):
    scorer = AnswerabilityScorer(str(reader), device="cpu", dtype="float32")
    pairs = [("amber lemon", tiny_models.sentence(1, 12)), ("why", tiny_models.sentence(2, 5)), ("river", "  ")]
    network, tokenizer = BertForQuestionAnswering.from_pretrained(reader).eval(), tiny_models.bert_tokenizer()
    expected = []
    for query, document in pairs:
        inputs = tokenizer(query, document.strip() or ".", return_tensors="pt")
        with torch.inference_mode():
            output = network(**inputs)
        start, end = output.start_logits[0], output.end_logits[0]
        tokens = [token for token, part in enumerate(inputs.sequence_ids(0)) if part == 1]
        spans = [start[a] + end[b] for a in tokens for b in tokens if a <= b < a + answerability.MAX_ANSWER_TOKENS]
        expected.append(float(max(spans) - start[0] - end[0]))
    assert scorer.score(pairs) == pytest.approx(expected, abs=1e-4)
    assert scorer.score(pairs[::-1]) == pytest.approx(expected[::-1], abs=1e-4)


def test_long_documents_are_read_to_their_end(reader):
    """A long document is as answerable as its best window, so more of it never lowers the best span."""
    scorer = AnswerabilityScorer(str(reader), device="cpu", dtype="float32", max_length=32)
    document = tiny_models.sentence(3, 80)
    windows = scorer._windows([("amber lemon", document)])
    assert len(windows) > 3
    assert max(map(len, windows)) <= 32
    read = [token for window in windows for token in window.inputs["input_ids"]]
    assert set(tiny_models.bert_tokenizer()(document)["input_ids"]) <= set(read)
    start, end, allowed, no_answer = scorer._logits(windows)
    spans, _, _ = best_spans(start, end, allowed)
    assert scorer.score([("amber lemon", document)]) == pytest.approx([max(spans) - min(no_answer.tolist())], abs=1e-4)


def test_a_query_longer_than_a_window_is_cut(reader):
    scorer = AnswerabilityScorer(str(reader), device="cpu", dtype="float32", max_length=24)
    (score,) = scorer.score([(tiny_models.sentence(4, 60), tiny_models.sentence(5, 30))])
    assert math.isfinite(score)


def test_a_model_that_marks_no_answers_is_refused(tmp_path):
    folder = tiny_models.bert_classifier(tmp_path / "classifier")
    with pytest.raises(ConfigError, match=r"marks answers .*BertForSequenceClassification"):
        AnswerabilityScorer(str(folder))
