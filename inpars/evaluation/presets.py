"""The customary measures of each collection, for numbers that compare with published ones.

BEIR: Thakur et al., 2021. MS MARCO dev: RR@10 in file order, as the official script reads runs. TREC Deep Learning 2019
and 2020: grades 0 to 3, relevant from 2 for binary measures. Robust04: Voorhees, 2004.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal, TypeAlias

from inpars.evaluation.measures import DEFAULT_METRICS
from inpars.evaluation.run_files import Order

PresetName: TypeAlias = Literal["general", "beir", "msmarco-dev", "dl19", "dl20", "robust04"]


@dataclass(frozen=True, slots=True)
class Preset:
    """Measures, the primary one first, and what ranks the results."""

    name: PresetName
    metrics: tuple[str, ...]
    order: Order = "score"


GENERAL = Preset("general", DEFAULT_METRICS)
DEEP_LEARNING = ("nDCG@10", "RR(rel=2)@10", "AP(rel=2)")
PRESETS: dict[PresetName, Preset] = {
    preset.name: preset
    for preset in (
        GENERAL,
        Preset("beir", ("nDCG@10", "R@100")),
        Preset("msmarco-dev", ("RR@10", "R@1000"), order="file"),
        Preset("dl19", DEEP_LEARNING),
        Preset("dl20", DEEP_LEARNING),
        Preset("robust04", ("nDCG@20", "AP")),
    )
}
COLLECTIONS: tuple[tuple[re.Pattern[str], PresetName], ...] = (  # ir_datasets names; the first match counts
    (re.compile(r"msmarco-passage/dev.*"), "msmarco-dev"),
    (re.compile(r"msmarco-passage/trec-dl-2019(/.*)?"), "dl19"),
    (re.compile(r"msmarco-passage/trec-dl-2020(/.*)?"), "dl20"),
    (re.compile(r"(disks45/nocr/trec-robust-2004|trec-robust04)(/.*)?"), "robust04"),
    (re.compile(r"beir/.+"), "beir"),
)


def preset_of(dataset: str | None) -> Preset:
    """The preset of an ir_datasets collection, `general` for folders, files and other names."""
    matching = (preset for pattern, preset in COLLECTIONS if dataset is not None and pattern.fullmatch(dataset))
    return PRESETS[next(matching, GENERAL.name)]
