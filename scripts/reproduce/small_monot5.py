"""A monoT5 of some ten million weights, from random ones, through the whole recipe: what no checkpoint at all comes to.

    python scripts/reproduce/small_monot5.py --dataset beir/nfcorpus/test --queries FILE --output runs/small-monot5

FILE is what `inpars filter` keeps. The vocabulary is the collection's own. Trained on the queries' triples alone, it
reranks BM25's first documents by itself and added to BM25's scores. Steps that are done are not done again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from inpars.documents.datasets import load_dataset

sys.path.append(str(Path(__file__).parents[1] / "bench"))
from untrained_t5 import WORDS, untrained_t5


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--queries", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--width", type=int, default=256, help="of a token's vector")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--epochs", type=float, default=4)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--max-length", type=int, default=256, help="tokens of query and document")
    parser.add_argument("--depth", type=int, default=50, help="of BM25's documents that are reranked")
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    out, dataset = flags.output, ("--dataset", flags.dataset)
    triples, model, bm25 = out / "triples.tsv", out / "reranker", out / "run.bm25.trec"
    _inpars("triples", *dataset, "--input", str(flags.queries), "--per-query", "4", "--output", str(triples))
    recipe = ("--recipe", "small", "--epochs", str(flags.epochs), "--learning-rate", str(flags.learning_rate))
    lengths = ("--max-length", str(flags.max_length), "--seed", str(flags.seed))
    start = str(_untrained(flags))
    _inpars("train", "reranker", "--triples", str(triples), "--model", start, *recipe, *lengths, "--output", str(model))
    _inpars("search", *dataset, "--split", flags.split, "--retriever", "bm25", "--k", "1000", "--output", str(bm25))
    scores, fused = out / "run.reranked.trec", out / "run.fused.trec"
    depth = ("--depth", str(flags.depth))
    _inpars(
        *("rerank", *dataset, "--split", flags.split, "--run", str(bm25), "--model", str(model), *depth),
        *("--max-length", str(flags.max_length), "--output", str(scores)),
    )
    _inpars("rerank", *dataset, "--run", str(bm25), "--scores", str(scores), *depth, "--output", str(fused))
    runs = [bm25, scores, fused]
    judged = [part for run in runs for part in ("--run", str(run))]
    _inpars("evaluate", *dataset, "--split", flags.split, *judged, "--output", str(out / "metrics.json"))


def _untrained(flags: argparse.Namespace) -> Path:
    folder = flags.output / "untrained"
    if not (folder / "tokenizer_config.json").exists():  # written last
        texts = (document.full_text for document in load_dataset(flags.dataset).corpus)
        sizes = {"d_model": flags.width, "d_kv": flags.width // 4, "d_ff": 4 * flags.width, "num_heads": 4}
        untrained_t5(texts, folder, seed=flags.seed, **sizes, num_layers=flags.layers, vocab_size=WORDS + 2)
    return folder


def _inpars(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "inpars", *arguments], check=True)


if __name__ == "__main__":
    main()
