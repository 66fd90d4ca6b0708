"""Our sides of `engines.py`, as the `inpars` command computes: through the classes that its stages use."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from allocator import as_shipped
from engine_worker import Made, Run, Work

import inpars
from inpars.generation.settings import DecodingSettings, LocalModel
from inpars.generation.teacher_forcing import KnownQuery, TeacherForcing
from inpars.models.compute_options import ComputingOptions, use_threads
from inpars.prompts.load import load_prompt
from inpars.records import Document
from inpars.rerankers import load_scorer
from inpars.retrieval.dense import Encoder
from inpars.stages.generate_locally import load_local_generator


def generation(work: Work) -> Made:
    """`inpars generate`."""
    _begin(work)
    documents = _documents(work)
    settings = DecodingSettings(work["max_doc_tokens"], work["max_new_tokens"])
    computing = ComputingOptions(threads=work["threads"])
    generator: Any = load_local_generator(
        "causal", LocalModel(work["decoder"], load_prompt(work["prompt"]), settings, computing)
    )
    each = getattr(generator, "generate_each", None) or (lambda chunks: map(generator.generate, chunks))

    def run(positions: Sequence[int]) -> list[Any]:
        chosen = [documents[position] for position in positions]
        found: list[Any] = [None] * len(chosen)
        plan = generator.plan(chosen)
        chunks = ([chosen[index] for index in chunk] for chunk in plan)
        for chunk, written in zip(plan, each(chunks), strict=True):
            for index, (query,) in zip(chunk, written, strict=True):
                found[index] = [query.text, len(query.token_ids)]
        return found

    return _made(generator.device, run)


def scoring(work: Work) -> Made:
    """What queries cost a causal model, as `inpars filter` asks."""
    _begin(work)
    queries = [KnownQuery(document, text) for document, text in zip(_documents(work), work["queries"], strict=True)]
    model = TeacherForcing(work["decoder"], load_prompt(work["prompt"]), max_doc_tokens=work["max_doc_tokens"])

    def run(positions: Sequence[int]) -> list[Any]:
        chosen = [queries[position] for position in positions]
        found: list[Any] = [None] * len(chosen)
        for chunk in model.plan(chosen):
            for index, score in zip(chunk, model.score([chosen[index] for index in chunk]), strict=True):
                found[index] = score.token_log_probs
        return found

    return _made(model.device, run)


def encoding(work: Work) -> Made:
    """`inpars index` with a bi-encoder."""
    _begin(work)
    encoder, texts = Encoder(work["encoder"]), work["texts"]
    return _made("", lambda positions: encoder.encode_documents([texts[position] for position in positions]).tolist())


def cross_encoder(work: Work) -> Made:
    """`inpars rerank` with a cross-encoder."""
    _begin(work)
    return _made("", _scores(load_scorer(work["cross_encoder"]), work))


def t5(work: Work) -> Made:
    """`inpars rerank` with a monoT5."""
    _begin(work)
    answers = {"true_token": work["true_token"], "false_token": work["false_token"]}
    return _made("", _scores(load_scorer(work["t5"], kind="monot5", **answers), work))


def _scores(scorer: Any, work: Work) -> Run:  # noqa: ANN401
    pairs = [tuple(pair) for pair in work["pairs"]]
    return lambda positions: list(scorer.score([pairs[position] for position in positions]))


def _begin(work: Work) -> None:
    as_shipped(ours=True)
    use_threads(work["threads"])


def _documents(work: Work) -> list[Document]:
    return [Document(f"{number}", text) for number, text in enumerate(work["texts"])]


def _made(device: str, run: Run) -> Made:
    engine = os.environ.get("INPARS_ENGINE_BACKEND", "")
    parts = [part for part in (f"engine {engine}" if engine else "", device) if part]
    return Made(", ".join([f"ours as shipped, inpars {inpars.__version__}", *parts]), {"as shipped": run})
