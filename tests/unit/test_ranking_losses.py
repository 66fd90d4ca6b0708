"""Each loss by hand on two queries of two documents, and against sentence-transformers where it has the same."""

import math
from types import SimpleNamespace

import pytest
import torch
from sentence_transformers.cross_encoder import losses as theirs

from inpars.training.ranking_losses import FUNCTIONS, Tables, tables

ln = math.log
MARGINS = torch.tensor([[ln(3), 0.0], [0.0, ln(7)]])  # the first query's positive wins, the second's loses
BINARY = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
TEACHER = torch.tensor([[4.0, 1.0], [2.0, 3.0]])  # margins 3 and -1


def two_by_two(labels):
    return Tables(MARGINS, labels, torch.ones(2, 2, dtype=torch.bool))


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        # sigmoid(ln 3) = 3/4, sigmoid(0) = 1/2, sigmoid(ln 7) = 7/8; labels 1 0 / 1 0
        ("bce", BINARY, -(ln(3 / 4) + ln(1 / 2) + ln(1 / 2) + ln(1 / 8)) / 4),
        # softmax of the positive: 3/4 and 1/8
        ("pairwise", BINARY, -(ln(3 / 4) + ln(1 / 8)) / 2),
        ("listwise", BINARY, -(ln(3 / 4) + ln(1 / 8)) / 2),
        ("ranknet", BINARY, -(ln(3 / 4) + ln(1 / 8)) / 2),
        # the teacher finds the second query's negative better: 7/8 in place of 1/8
        ("ranknet", TEACHER, -(ln(3 / 4) + ln(7 / 8)) / 2),
        # softmax of labels 1, 0 is e/(e+1), 1/(e+1)
        (
            "listnet",
            BINARY,
            -(math.e * (ln(3 / 4) + ln(1 / 8)) + ln(1 / 4) + ln(7 / 8)) / (math.e + 1) / 2,
        ),
        # (ln 3 - 3)^2 and (-ln 7 + 1)^2
        ("margin-mse", TEACHER, ((ln(3) - 3) ** 2 + (1 - ln(7)) ** 2) / 2),
        # the ideal DCG is 1, so gains are 1 and 0; ranks are 1 and 2 in both: 1/D differs by w = 1 - 1/log2(3), and the
        # delta of neighbours is w too: weight 10 w + w; log2 of 4/3 and of 8
        ("lambda", BINARY, 11 * (1 - 1 / math.log2(3)) * (math.log2(4 / 3) + math.log2(8)) / 2),
    ],
)
def test_each_loss_by_hand(name, labels, expected):
    assert FUNCTIONS[name](two_by_two(labels)).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_what_is_absent_changes_nothing(name):
    labels = TEACHER if name == "margin-mse" else BINARY
    wide = [torch.cat([table, torch.full((2, 1), value)], dim=1) for table, value in ((MARGINS, 9.0), (labels, 5.0))]
    present = torch.tensor([[True, True, False]] * 2)
    wide[0].requires_grad_()
    loss = FUNCTIONS[name](Tables(*wide, present))
    assert loss.item() == pytest.approx(FUNCTIONS[name](two_by_two(labels)).item(), abs=1e-6)
    loss.backward()
    assert torch.isfinite(wide[0].grad).all()
    assert wide[0].grad[:, 2].tolist() == [0.0, 0.0]
    assert (wide[0].grad[:, 0] < 0).any()


def test_pairs_become_tables_in_any_order():
    group, place = torch.tensor([1, 0, 0]), torch.tensor([0, 1, 0])
    made = tables(torch.tensor([5.0, 6.0, 7.0]), torch.tensor([1, 0, 1]), group, place)
    assert made.margins.tolist() == [[7.0, 6.0], [5.0, 0.0]]
    assert made.labels.tolist() == [[1.0, 0.0], [1.0, 0.0]]
    assert made.present.tolist() == [[True, True], [True, False]]


class FakeCrossEncoder(torch.nn.Module):
    """Gives the texts, which are numbers, as scores."""

    num_labels, device = 1, torch.device("cpu")

    def preprocess(self, pairs, **_):
        return {"scores": torch.tensor([float(document) for _, document in pairs])}

    def forward(self, features):
        return features


@pytest.mark.parametrize(
    ("name", "their_loss", "factor"),
    [
        ("listnet", theirs.ListNetLoss, 1),
        ("lambda", theirs.LambdaLoss, 1),
        ("ranknet", theirs.RankNetLoss, ln(2)),  # theirs is in bits
    ],
)
def test_the_same_values_as_sentence_transformers(name, their_loss, factor):
    generator = torch.Generator().manual_seed(2)
    sizes = [5, 3, 4]
    margins = [torch.randn(size, generator=generator).tolist() for size in sizes]
    labels = [torch.tensor([2.0, *torch.randint(0, 2, (size - 1,), generator=generator).tolist()]) for size in sizes]
    expected = their_loss(FakeCrossEncoder())(
        [["q"] * 3, [[repr(margin) for margin in row] for row in margins]], labels
    )
    group = torch.tensor([number for number, size in enumerate(sizes) for _ in range(size)])
    place = torch.tensor([place for size in sizes for place in range(size)])
    made = tables(torch.tensor([m for row in margins for m in row]), torch.cat(labels), group, place)
    assert FUNCTIONS[name](made).item() == pytest.approx(expected.item() * factor, rel=1e-5)


def test_nothing_to_order_is_no_loss():
    same = SimpleNamespace(margins=MARGINS, labels=torch.ones(2, 2), present=torch.ones(2, 2, dtype=torch.bool))
    assert [FUNCTIONS[name](same).item() for name in ("ranknet", "lambda")] == [0.0, 0.0]
