"""Pairs a second of reranking: ours against the usual ways, in one go on this machine.

The sides are the InPars toolkit's way (`generate` with one new token, pairs in the order of the run, batches of 16),
pygaggle's MonoT5 (where it cannot be imported a stand-in, named as that), and `CrossEncoder.predict` of
sentence-transformers. The T5 has random weights, so only its speed and its agreement with itself mean anything;
MiniLM's encoder is real, its head is random.

    python scripts/bench/reranking.py --data FOLDER              a slice of the queries, as --queries says
    python scripts/bench/reranking.py --data FOLDER --quick      a smaller T5 and few pairs, under a minute

FOLDER has `corpus.jsonl.gz` (or `.jsonl`), `queries.jsonl`, `qrels/test.tsv` and `run.bm25.top100.trec`, as
ir_datasets' TREC DL 2019 passages can be written. Run it on an idle machine.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from allocator import as_shipped
from machine import print_tier
from pygaggle_today import monot5
from sentence_transformers import CrossEncoder
from tokenizers import Tokenizer, decoders, pre_tokenizers, processors, trainers
from tokenizers import models as token_models
from transformers import (
    AutoConfig,
    AutoModelForSeq2SeqLM,
    AutoModelForSequenceClassification,
    AutoTokenizer,
    PreTrainedTokenizerFast,
    T5Config,
    T5ForConditionalGeneration,
)

from inpars.evaluation.measures import evaluate
from inpars.io.formats import read_documents, read_qrels, read_queries, read_run
from inpars.io.runs import rank
from inpars.models.hardware import describe, pick_device, pick_dtype
from inpars.models.loading import resolve_model
from inpars.records import Run
from inpars.rerankers import load_scorer

TRUE, FALSE = "▁true", "▁false"
TOOLKIT_BATCH, PYGAGGLE_BATCH = 16, 8
T5_BASE = {"d_model": 768, "d_kv": 64, "d_ff": 3072, "num_layers": 12, "num_heads": 12}
T5_QUICK = {"d_model": 256, "d_kv": 64, "d_ff": 1024, "num_layers": 4, "num_heads": 4}
VOCABULARY = 32128  # T5's; the tokenizer knows fewer, the head computes all
METRIC = "nDCG@10"
UNEVEN = 1.3  # of the cores two sides used on average

Pair = tuple[str, str]
Score = Callable[[Sequence[Pair]], list[float]]


@dataclass
class Pairs:
    """The pairs of a slice of the run, in its order."""

    ids: list[tuple[str, str]]
    texts: list[Pair]
    qrels: dict[str, dict[str, int]]

    def measure(self, scores: Sequence[float]) -> float:
        """nDCG@10 of the pairs' queries in the order of these scores."""
        return evaluate(self.as_run(scores), self.qrels, [METRIC]).means[METRIC]

    def as_run(self, scores: Sequence[float]) -> Run:
        """The run these scores make."""
        run: Run = {}
        for (query_id, doc_id), score in zip(self.ids, scores, strict=True):
            run.setdefault(query_id, {})[doc_id] = score
        return run


@dataclass
class Side:
    """One way of scoring: rates of every repeat, and the scores of the first pairs."""

    score: Score
    pairs: int
    rates: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)  # processor time over time: low where others computed too
    scores: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        """The median."""
        return statistics.median(self.rates)


def read_pairs(folder: Path, queries: int, depth: int) -> Pairs:
    """The run's top of evenly spaced queries."""
    run, texts = (
        read_run(folder / "run.bm25.top100.trec"),
        {q.query_id: q.text for q in read_queries(folder / "queries.jsonl")},
    )
    judged = read_qrels(folder / "qrels" / "test.tsv")
    chosen = list(run)[:: max(1, len(run) // queries)][:queries]
    ids = [(query_id, doc_id) for query_id in chosen for doc_id, _ in rank(run[query_id], depth)]
    wanted = {doc_id for _, doc_id in ids}
    corpus = next(path for name in ("corpus.jsonl", "corpus.jsonl.gz") if (path := folder / name).exists())
    documents = {
        document.doc_id: document.full_text for document in read_documents(corpus) if document.doc_id in wanted
    }
    return Pairs(
        ids,
        [(texts[query_id], documents[doc_id]) for query_id, doc_id in ids],
        {query_id: judged.get(query_id, {}) for query_id in chosen},
    )


def make_t5(folder: Path, sizes: dict[str, int], texts: Sequence[Pair]) -> str:
    """A T5 of these sizes with random weights, and a tokenizer learnt from the texts."""
    tokenizer = Tokenizer(token_models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer, tokenizer.decoder = pre_tokenizers.Metaspace(), decoders.Metaspace()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY - 128, special_tokens=["<pad>", "</s>", "<unk>", TRUE, FALSE], show_progress=False
    )
    tokenizer.train_from_iterator([f"Query: {query} Document: {text} Relevant:" for query, text in texts], trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    names = {"eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, model_max_length=512, **names).save_pretrained(folder)
    torch.manual_seed(0)
    config = T5Config(vocab_size=VOCABULARY, decoder_start_token_id=0, **sizes)
    T5ForConditionalGeneration(config).save_pretrained(folder)
    return str(folder)


def make_cross_encoder(folder: Path) -> str:
    """MiniLM with a random head."""
    source = resolve_model("minilm")
    torch.manual_seed(0)
    AutoModelForSequenceClassification.from_pretrained(source, num_labels=1).save_pretrained(folder)
    AutoTokenizer.from_pretrained(source, model_max_length=512).save_pretrained(folder)
    return str(folder)


def answer_tokens(model: str) -> tuple[str, str]:
    """The tokens of true and false that the T5's config names, if it was trained by ours."""
    saved = getattr(AutoConfig.from_pretrained(model), "inpars", {})
    return saved.get("true_token", TRUE), saved.get("false_token", FALSE)


def toolkit(model: str, dtype: torch.dtype) -> Score:
    """The InPars toolkit's way."""
    tokenizer, device = AutoTokenizer.from_pretrained(model), pick_device()
    network = AutoModelForSeq2SeqLM.from_pretrained(model, dtype=dtype).to(device).eval()
    answers = tokenizer.convert_tokens_to_ids([*reversed(answer_tokens(model))])

    def score(pairs: Sequence[Pair]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(pairs), TOOLKIT_BATCH):
            texts = [f"Query: {q} Document: {d} Relevant:" for q, d in pairs[start : start + TOOLKIT_BATCH]]
            tokens = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt").to(device)
            with torch.inference_mode():
                output = network.generate(
                    **tokens, max_new_tokens=1, return_dict_in_generate=True, output_scores=True, do_sample=False
                )
            found += output.scores[0][:, answers].float().log_softmax(1)[:, 1].tolist()
        return found

    return score


def pygaggle(model: str) -> tuple[str, Score]:
    """What stands for MonoT5 of pygaggle, and its scoring: the package itself where it is installed."""
    network = AutoModelForSeq2SeqLM.from_pretrained(model, dtype=torch.float32).to(pick_device()).eval()
    try:
        ranker, query_of, text_of = monot5(network, AutoTokenizer.from_pretrained(model))
    except ImportError:
        return "STAND-IN for pygaggle's MonoT5 (its loop rewritten)", _pygaggle_loop(network, model)

    def score(pairs: Sequence[Pair]) -> list[float]:
        found: list[float] = []
        for query in dict.fromkeys(query for query, _ in pairs):
            texts = [text_of(document, {}, 0) for other, document in pairs if other == query]
            found += [float(text.score) for text in ranker.rerank(query_of(query), texts)]
        return found

    return "pygaggle's MonoT5, as it ships", score


def _pygaggle_loop(network: Any, model: str) -> Score:  # noqa: ANN401
    """Batches of 8 in the order of the run, float32: encoder, one decoder step, all logits, two compared."""
    tokenizer = AutoTokenizer.from_pretrained(model)
    answers = tokenizer.convert_tokens_to_ids([*reversed(answer_tokens(model))])

    def score(pairs: Sequence[Pair]) -> list[float]:
        found: list[float] = []
        for start in range(0, len(pairs), PYGAGGLE_BATCH):
            texts = [f"Query: {q} Document: {d} Relevant:" for q, d in pairs[start : start + PYGAGGLE_BATCH]]
            tokens = tokenizer(texts, padding=True, truncation=True, max_length=512, return_tensors="pt")
            tokens = tokens.to(network.device)
            with torch.no_grad():
                states = network.get_encoder()(**tokens)
                first = torch.full_like(tokens["input_ids"][:, :1], network.config.decoder_start_token_id)
                logits = network(
                    encoder_outputs=states, attention_mask=tokens["attention_mask"], decoder_input_ids=first
                ).logits[:, -1]
            found += logits[:, answers].log_softmax(1)[:, 1].tolist()
        return found

    return score


def ours(model: str, **settings: Any) -> Score:  # noqa: ANN401
    """As `inpars rerank` scores."""
    return load_scorer(model, **settings).score


def run_sides(sides: dict[str, Side], pairs: Sequence[Pair], repeats: int) -> None:
    """Measure the sides one after the other, the whole round `repeats` times, so that a slow spell hits all of them."""
    for side in sides.values():
        side.score(pairs[:4])
    for _ in range(repeats):
        for name, side in sides.items():
            as_shipped(ours=name.startswith("ours"))
            start, used = time.perf_counter(), time.process_time()
            side.scores = side.score(pairs[: side.pairs])
            seconds = time.perf_counter() - start
            side.rates.append(side.pairs / seconds)
            side.cores.append((time.process_time() - used) / seconds)


def report(sides: dict[str, Side], pairs: Pairs) -> None:
    """A table of medians; effectiveness where all pairs were scored."""
    for name, side in sides.items():
        quality = f"{METRIC} {pairs.measure(side.scores):.4f}" if side.pairs == len(pairs.ids) else ""
        print(
            f"{name:56} {side.rate:8.2f} pairs/s  {side.pairs:5} pairs  "
            f"{statistics.median(side.cores):4.2f} cores  {quality}"
        )
    cores = [statistics.median(side.cores) for side in sides.values()]
    if max(cores) > UNEVEN * min(cores):
        print("NOT COMPARABLE: the sides got unequal shares of the processor; run this on an idle machine")


def same_order(pairs: Pairs, first: Side, second: Side) -> str:
    """How many queries two sides order alike, over the pairs that both have scored, and how near what they swap is."""
    count = min(first.pairs, second.pairs)
    part = Pairs(pairs.ids[:count], pairs.texts[:count], pairs.qrels)
    runs = [part.as_run(side.scores[:count]) for side in (first, second)]
    swapped = [_widest_swap(one, other) for one, other in zip(*(run.values() for run in runs), strict=True)]
    gaps = [gap for gap in swapped if gap is not None]
    apart = (
        f"; swapped documents are {max(gaps):.1e} apart at most, of scores up to {_largest(runs[0]):.1f}"
        if gaps
        else ""
    )
    return f"{len(swapped) - len(gaps)} of {len(swapped)} queries, {count} pairs{apart}"


def _widest_swap(one: Mapping[str, float], other: Mapping[str, float]) -> float | None:
    """The largest difference of `one` between documents that `other` has the other way round; None where none is."""
    first, second = ([doc_id for doc_id, _ in rank(scores)] for scores in (one, other))
    place = {doc_id: number for number, doc_id in enumerate(second)}
    gaps = [one[a] - one[b] for a, b in itertools.combinations(first, 2) if place[a] > place[b]]
    return max(gaps) if gaps else None


def _largest(run: Run) -> float:
    return max(abs(score) for scores in run.values() for score in scores.values())


def main() -> None:
    """Measure all sides and print rates and ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, metavar="FOLDER", help="the collection and its BM25 run")
    parser.add_argument("--queries", type=int, default=5, help="queries of the slice (default: %(default)s)")
    parser.add_argument("--depth", type=int, default=100, help="documents per query (default: %(default)s)")
    parser.add_argument("--slow-pairs", type=int, default=96, help="pairs the float32 T5s score (default: %(default)s)")
    parser.add_argument("--repeats", type=int, default=3, help="rounds, of which medians count (default: %(default)s)")
    parser.add_argument("--only", choices=("t5", "minilm"), help="this network alone (default: both)")
    parser.add_argument("--quick", action="store_true", help="a small T5, whose ratios say little, and 64 pairs")
    flags = parser.parse_args()
    print_tier()
    if flags.quick:
        flags.queries, flags.depth, flags.slow_pairs, flags.repeats = 2, 32, 64, 3
    pairs = read_pairs(flags.data, flags.queries, flags.depth)
    fast = pick_dtype("auto", pick_device())
    name = str(fast).removeprefix("torch.")
    print(f"{len(pairs.ids)} pairs of {flags.queries} queries, {describe(pick_device(), fast)}")
    with tempfile.TemporaryDirectory() as folder:
        if flags.only != "minilm":
            sizes = T5_QUICK if flags.quick else T5_BASE
            measure_t5(make_t5(Path(folder) / "t5", sizes, pairs.texts), pairs, flags, name)
        if flags.only != "t5":
            measure_minilm(make_cross_encoder(Path(folder) / "minilm"), pairs, flags, name)


def measure_t5(model: str, pairs: Pairs, flags: argparse.Namespace, fast: str) -> None:
    """monoT5's sides."""
    answers = {"kind": "monot5", "true_token": TRUE, "false_token": FALSE}
    slow, every = min(flags.slow_pairs, len(pairs.ids)), len(pairs.ids)
    sides = {
        "toolkit's way, float32, batch 16": Side(toolkit(model, torch.float32), slow),
        f"toolkit's way, {fast}, batch 16": Side(toolkit(model, getattr(torch, fast)), every),
        "ours, float32": Side(ours(model, dtype="float32", **answers), every),
        f"ours as shipped, {fast}": Side(ours(model, **answers), every),
    }
    name, theirs = pygaggle(model)
    sides[name] = Side(theirs, slow)
    run_sides(sides, pairs.texts, flags.repeats)
    report(sides, pairs)
    exact, best, plain, shipped, other = sides.values()
    print(f"same order as the toolkit's way in float32: {same_order(pairs, exact, plain)}")
    print(f"ratio rerank-t5-over-inpars {shipped.rate / exact.rate:.2f}")
    print(f"ratio rerank-t5-over-inpars-best {shipped.rate / best.rate:.2f}")
    print(
        f"ratio rerank-t5-over-{'pygaggle' if 'STAND-IN' not in name else 'pygaggle-stand-in'} "
        f"{shipped.rate / other.rate:.2f}"
    )


def measure_minilm(model: str, pairs: Pairs, flags: argparse.Namespace, fast: str) -> None:
    """The cross-encoder's sides."""
    predictor, every = CrossEncoder(model, device=str(pick_device())), len(pairs.ids)

    def predict(texts: Sequence[Pair]) -> list[float]:
        return [float(value) for value in predictor.predict(list(texts), show_progress_bar=False)]

    sides = {
        "CrossEncoder.predict, MiniLM, as it ships": Side(predict, every),
        "ours, float32": Side(ours(model, dtype="float32"), every),
        f"ours as shipped, {fast}": Side(ours(model), every),
    }
    run_sides(sides, pairs.texts, flags.repeats)
    report(sides, pairs)
    theirs, plain, shipped = sides.values()
    print(f"same order as CrossEncoder.predict in float32: {same_order(pairs, theirs, plain)}")
    print(f"ratio rerank-minilm-over-sbert {shipped.rate / theirs.rate:.2f}")


if __name__ == "__main__":
    main()
