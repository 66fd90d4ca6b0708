"""The default recipe of `inpars run` on a judged collection, with several seeds: what tuning and reranking are worth.

    python scripts/reproduce/recipe.py --dataset beir/nfcorpus/test --output runs/recipe/nfcorpus

Writes one query for each of --documents documents, filters them, mines negatives and fine-tunes the bi-encoder once for
each seed. Each bi-encoder, which reads windows, is fused with BM25 and with what is there untuned, BM25 and one vector
a document; the first --depth documents of every fusion are reranked by the query likelihood of the language model that
wrote the queries. Ends with the paired tests of every system against the untuned fusion, and the means over seeds.
Steps that are done are not done again; the judgements are read at the end alone.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from inpars.datasets import load_dataset
from inpars.pipeline.reranking import rerank_pool
from inpars.pipeline.retrieving import fuse_runs
from inpars.progress import SILENT
from inpars.prompting.prompts import load_prompt
from inpars.stages.reranking import RerankOptions, run_scorer_maker

WINDOW_TOKENS = 96


def main() -> None:
    """Do what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--split", default="test")
    parser.add_argument("--unknown-judgements", choices=("error", "keep", "drop"), default="error")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--documents", type=int, default=3000)
    parser.add_argument("--queries", type=Path, help="written already, by `inpars generate`")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--prompt", default="inpars")
    parser.add_argument("--generator", default="smollm2-135m")
    parser.add_argument("--retriever", default="minilm")
    parser.add_argument("--depth", type=int, default=20, help="documents of each fusion that are reranked")
    parser.add_argument("--rerank-all", action="store_true", help="not the fusions alone")
    parser.add_argument("--no-reranking", action="store_true", help="judge the first stages alone: minutes, not hours")
    parser.add_argument("--max-length", type=int, default=128, help="tokens the bi-encoder is trained to read")
    parser.add_argument("--in-batch", action="store_true", help="train without the mined negatives")
    flags = parser.parse_args()
    flags.output.mkdir(parents=True, exist_ok=True)
    runs = _first_stages(flags)
    if not flags.no_reranking:
        firsts = {name: path for name, path in runs.items() if flags.rerank_all or name.startswith("fusion")}
        runs |= {f"{name}+ql": path for name, path in _reranked(flags, firsts).items()}
    _judge(flags, runs)


def _first_stages(flags: argparse.Namespace) -> dict[str, Path]:
    """The runs by system; `tuned-0` and so on are those of the seeds."""
    out, dataset = flags.output, _dataset(flags)
    written, kept = flags.queries or out / "queries.synthetic.jsonl", out / "queries.filtered.jsonl"
    if flags.queries is None:
        _inpars(
            *("generate", *dataset, "--model", flags.generator, "--prompt", flags.prompt),
            *("--max-documents", str(flags.documents), "--max-doc-tokens", "160", "--output", str(written)),
        )
    _inpars("filter", "--input", str(written), "--top-k", str(flags.documents), "--output", str(kept))
    retrievers = {"base": flags.retriever}
    for seed in range(flags.seeds):
        triples, model = out / f"triples.{seed}.tsv", out / f"retriever.{seed}"
        _inpars(
            *("triples", *dataset, "--split", flags.split, "--input", str(kept), "--seed", str(seed)),
            *("--positive-within", "20", "--output", str(triples)),
        )
        _inpars(
            *("train", "retriever", "--triples", str(triples), "--model", flags.retriever),
            *("--max-length", str(flags.max_length), *(["--no-negatives"] if flags.in_batch else [])),
            *("--seed", str(seed), "--output", str(model)),
        )
        retrievers[f"tuned-{seed}"] = str(model)
    # the bar: as it is searched without any of this, one vector a document
    bar = _search(flags, "fusion", "bm25", flags.retriever, windows=False)
    runs = {"fusion": bar, "bm25": _search(flags, "bm25", "bm25")}
    for name, model in retrievers.items():
        runs[name] = _search(flags, name, model)
        both = [bar, _search(flags, f"windows-{name}", "bm25", model)]
        runs[f"fusion-{name}"] = fuse_runs(both, output=out / f"fusion-{name}.trec", told={"progress": SILENT})
    return runs


def _search(flags: argparse.Namespace, name: str, *retrievers: str, windows: bool = True) -> Path:
    path = flags.output / f"{name}.trec"
    dense = windows and retrievers != ("bm25",)
    _inpars(
        *("search", *_dataset(flags), "--split", flags.split, "--k", "1000", "--output", str(path)),
        *(part for name in retrievers for part in ("--retriever", name)),
        *(("--window-tokens", str(WINDOW_TOKENS)) if dense else ()),
    )
    return path


def _reranked(flags: argparse.Namespace, runs: dict[str, Path]) -> dict[str, Path]:
    dataset = load_dataset(flags.dataset, unknown_judgements=flags.unknown_judgements)
    prompt = load_prompt(flags.prompt)
    options = RerankOptions(
        model=flags.generator,
        depth=flags.depth,
        max_length=160,
        windows="nearest",
        window_retriever=flags.retriever,
        window_tokens=WINDOW_TOKENS,
    )
    return rerank_pool(
        runs,
        dataset,
        dataset.topics(flags.split),
        options,
        make_scorer=run_scorer_maker(options, prompt),
        prompt=prompt,
        told={"progress": SILENT},
    )


def _judge(flags: argparse.Namespace, runs: dict[str, Path]) -> None:
    metrics = flags.output / "metrics.json"
    _inpars(
        *("evaluate", *_dataset(flags), "--split", flags.split, "--metrics", "nDCG@10 R@100"),
        *(part for path in runs.values() for part in ("--run", str(path))),
        *("--output", str(metrics)),
    )
    means = [system["means"]["nDCG@10"] for system in json.loads(metrics.read_text())["systems"].values()]
    found = dict(zip(runs, means, strict=True))
    for kind in ("tuned-{}", "fusion-tuned-{}", "tuned-{}+ql", "fusion-tuned-{}+ql"):
        if kind.format(0) not in found:
            continue
        values = [found[kind.format(seed)] for seed in range(flags.seeds)]
        spread = statistics.stdev(values) if len(values) > 1 else 0.0
        print(f"{kind.format('*'):20} nDCG@10 {statistics.fmean(values):.4f} over {len(values)} seeds, sd {spread:.4f}")


def _dataset(flags: argparse.Namespace) -> list[str]:
    return ["--dataset", flags.dataset, "--unknown-judgements", flags.unknown_judgements]


def _inpars(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "inpars", *arguments], check=True)


if __name__ == "__main__":
    main()
