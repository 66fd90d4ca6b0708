"""What each collection is measured with."""

from typing import get_args

import ir_datasets
import pytest

from inpars.evaluation.measures import parse_metrics
from inpars.evaluation.presets import COLLECTIONS, PRESETS, PresetName, preset_of


@pytest.mark.parametrize(
    ("dataset", "metrics", "order"),
    [
        ("beir/scifact/test", "nDCG@10 R@100", "score"),
        ("beir/msmarco/dev", "nDCG@10 R@100", "score"),
        ("msmarco-passage/dev/small", "RR@10 R@1000", "file"),
        ("msmarco-passage/trec-dl-2019/judged", "nDCG@10 RR(rel=2)@10 AP(rel=2)", "score"),
        ("msmarco-passage/trec-dl-2020", "nDCG@10 RR(rel=2)@10 AP(rel=2)", "score"),
        ("disks45/nocr/trec-robust-2004", "nDCG@20 AP", "score"),
        ("trec-robust04/fold1", "nDCG@20 AP", "score"),
        ("msmarco-passage/train", "nDCG@10 RR@10 R@100", "score"),
        ("folder/beir/dl19", "nDCG@10 RR@10 R@100", "score"),  # a folder's name says nothing
        (None, "nDCG@10 RR@10 R@100", "score"),
    ],
)
def test_measures_and_order_follow_the_collection(dataset, metrics, order):
    preset = preset_of(dataset)
    assert (" ".join(preset.metrics), preset.order) == (metrics, order)


def test_all_presets_can_be_named_and_measured():
    assert set(PRESETS) == set(get_args(PresetName))
    assert all(parse_metrics(preset.metrics) for preset in PRESETS.values())


def test_every_pattern_means_a_collection_that_exists():
    names = list(ir_datasets.registry)
    assert not [pattern for pattern, _ in COLLECTIONS if not any(map(pattern.fullmatch, names))]
