"""Published figures of real runs, where the collections are at hand; see scripts/reproduce for the others."""

import os
from pathlib import Path

import pytest

from inpars.evaluation.measures import evaluate
from inpars.evaluation.presets import PRESETS
from inpars.evaluation.run_files import read_checked_run
from inpars.io.formats import read_qrels

DATA = Path(os.environ.get("INPARS_TEST_DATA") or Path(__file__).parents[3] / "shared" / "data")
DL19 = DATA / "msmarco-dl19"


@pytest.mark.skipif(not DL19.is_dir(), reason="the DL19 run is not here; set INPARS_TEST_DATA")
def test_bm25_on_dl19():
    """Anserini's BM25 (k1 0.9, b 0.4), its first 100 documents."""
    qrels = read_qrels(DL19 / "qrels.dl19-passage.txt")
    checked = read_checked_run(DL19 / "run.bm25.top100.trec", qrels)
    result = evaluate(checked.run, qrels, PRESETS["dl19"].metrics)
    assert {name: round(mean, 4) for name, mean in result.means.items()} == {
        "nDCG@10": 0.5058,
        "RR(rel=2)@10": 0.7024,
        "AP(rel=2)": 0.2476,
    }
    assert (result.queries, result.missing) == (43, 0)
