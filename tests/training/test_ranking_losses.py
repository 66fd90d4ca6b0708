"""Each loss by hand on two queries with two documents, and compared with sentence-transformers."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sentence_transformers.cross_encoder import losses as theirs

from inpars.training.losses import LOSSES
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


LIST = torch.tensor([[ln(2), ln(5), 0.0]])  # softmax 1/4, 5/8, 1/8
GRADES = torch.tensor([[2.0, 1.0, 0.0]])
W = 1 / math.log2(3)  # 1/D of rank 2; of rank 3 it is 1/2
IDEAL = 3 + W  # gains 3, 1 and 0 in this order


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        # both grades count as 1; sigmoids 2/3, 5/6 and 1/2
        ("bce", -(ln(2 / 3) + ln(5 / 6) + ln(1 / 2)) / 3),
        # shares of the grades are 2/3 and 1/3
        ("listwise", -(2 * ln(1 / 4) + ln(5 / 8)) / 3),
        # pairs 2 over 1, 2 over 0, 1 over 0: 2/(2+5), 2/(2+1), 5/(5+1)
        ("ranknet", -(ln(2 / 7) + ln(2 / 3) + ln(5 / 6)) / 3),
        # softmax of the grades: e^2, e and 1 over their sum
        ("listnet", -(math.e**2 * ln(1 / 4) + math.e * ln(5 / 8) + ln(1 / 8)) / (math.e**2 + math.e + 1)),
        # by margins the order is grade 1, 2, 0. Gains differ by 2, 3 and 1 over the ideal DCG; 2 over 1 are on ranks 2
        # and 1: delta and 1/D both differ by 1 - W; 2 over 0 on ranks 2 and 3: 1 - W and W - 1/2; 1 over 0 on ranks 1
        # and 3: W - 1/2 and 1/2. log2(1 + e^-(difference of margins)): 7/2, 3/2 and 6/5
        (
            "lambda",
            (
                2 * (10 * (1 - W) + (1 - W)) * math.log2(7 / 2)
                + 3 * (10 * (1 - W) + (W - 1 / 2)) * math.log2(3 / 2)
                + 1 * (10 * (W - 1 / 2) + 1 / 2) * math.log2(6 / 5)
            )
            / IDEAL
            / 3,
        ),
    ],
)
def test_graded_lists_by_hand(name, expected):
    assert LOSSES[name].several
    whole = Tables(LIST, GRADES, torch.ones(1, 3, dtype=torch.bool))
    assert FUNCTIONS[name](whole).item() == pytest.approx(expected, abs=1e-6)
    order = torch.tensor([1, 2, 0])  # which column holds what makes no difference to a graded list
    assert FUNCTIONS[name](Tables(LIST[:, order], GRADES[:, order], whole.present)).item() == pytest.approx(
        expected, abs=1e-6
    )


@given(st.integers(1, 5), st.integers(2, 6), st.integers(0, 2**31))
def test_of_one_positive_of_grade_1_the_numbers_are_those_of_before(queries, documents, seed):
    """Without grades, listwise is bit for bit -log softmax of column 0, gradients included."""
    generator = torch.Generator().manual_seed(seed)
    present = torch.rand(queries, documents, generator=generator) < 0.7
    present[:, :2] = True
    labels = torch.zeros(queries, documents)
    labels[:, 0] = 1
    margins = 5 * torch.randn(queries, documents, generator=generator)
    now, before = (margins.clone().requires_grad_() for _ in range(2))
    loss = FUNCTIONS["listwise"](Tables(now, labels, present))
    old = -before.masked_fill(~present, -torch.inf).log_softmax(dim=1)[:, 0].mean()
    loss.backward()
    old.backward()
    assert loss.item() == old.item()
    assert torch.equal(now.grad, before.grad)
    plain = torch.nn.functional.binary_cross_entropy_with_logits(margins[present], labels[present])
    assert FUNCTIONS["bce"](Tables(margins, labels, present)).item() == plain.item()


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
    """Returns the texts, which are numbers, as scores."""

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


@pytest.mark.parametrize("name", ["pairwise", "margin-mse"])
def test_a_positive_alone_is_no_loss(name):
    alone = SimpleNamespace(margins=MARGINS[:1, :1], labels=torch.ones(1, 1), present=torch.ones(1, 1).bool())
    assert FUNCTIONS[name](alone).item() == 0.0
