"""Models to export in float32 on the CPU, and how they score pairs, themselves and by another engine.

Graphs map the tokenizer's tensors to `sentence_embedding` for a bi-encoder and to `logits` for a cross-encoder; a
monoT5 is exported as its encoder with one decoder step, from ids and mask to `margin`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor, nn

from inpars.batches import slices
from inpars.io.storage import write_json
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.folders import ExportKind, find_export_kind
from inpars.models.networks import check_length, pad_id
from inpars.models.retrievers import MULTI_VECTOR, SETTINGS_FILE, retriever_kind
from inpars.rerankers.cross_encoder import CrossEncoder, segments
from inpars.rerankers.load import load_pair_model
from inpars.rerankers.monot5 import MonoT5
from inpars.rerankers.pair_model import Batch, EncodedPair, Pair, collate, keep_settings

Run: TypeAlias = Callable[[Batch], Tensor]
Score: TypeAlias = Callable[[Sequence[Pair]], list[float]]
BATCH = 32
EXAMPLE: list[Pair] = [("what is a lake", "a lake is a body of water"), ("what is fog", "a cloud near the ground")]


@dataclass(frozen=True, slots=True)
class Form:
    """A form of the model that was written: its name in the table, its files, and how it scores pairs."""

    name: str
    files: Sequence[Path]
    score: Score
    rounded: bool = False  # to 8 bits, which changes scores


class Embedding(nn.Module):
    """A sentence-transformers model from token ids to `sentence_embedding`."""

    output = "sentence_embedding"

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.model = model

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Embeddings, (texts, width)."""
        embeddings: Tensor = self.model(_named_inputs(input_ids, attention_mask, token_type_ids))[self.output]
        return embeddings[:, : self.model.truncate_dim]


class Classifier(nn.Module):
    """A sequence classifier from token ids to `logits`."""

    output = "logits"

    def __init__(self, network: Any) -> None:  # noqa: ANN401
        super().__init__()
        self.network = network

    def forward(self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None) -> Tensor:
        """Logits, (pairs, labels)."""
        logits: Tensor = self.network(**_named_inputs(input_ids, attention_mask, token_type_ids)).logits
        return logits


class EncoderAndStep(nn.Module):
    """A monoT5 from token ids to `margin`: its encoder and one decoder step."""

    output = "margin"

    def __init__(self, model: MonoT5) -> None:
        super().__init__()
        self.network, self._model = model.network, model

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
        """Margins, (pairs,)."""
        return self._model.margins(_named_inputs(input_ids, attention_mask, None))


def _named_inputs(input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None) -> Batch:
    common = {"input_ids": input_ids, "attention_mask": attention_mask}
    return common if token_type_ids is None else common | {"token_type_ids": token_type_ids}


class Reranker:
    """A cross-encoder or a monoT5; `graph` is the module to export, in float32 on the CPU."""

    notes: Sequence[str] = ()

    def __init__(self, model: CrossEncoder | MonoT5) -> None:
        self._model = model
        self.kind: ExportKind = "monot5" if isinstance(model, MonoT5) else "cross-encoder"
        self.graph = EncoderAndStep(model) if isinstance(model, MonoT5) else Classifier(model.network)
        self.graph.eval()  # new modules start in training mode

    def example(self) -> Batch:
        """The graph's input for two example pairs."""
        return self._batch(self._model.encode(EXAMPLE))

    def scores(self, pairs: Sequence[Pair], run: Run | None = None) -> list[float]:
        """Score the pairs with the network, or by `run`, a graph of it."""
        run = run or _network(self.graph)
        encoded, scores = self._model.encode(pairs), [0.0] * len(pairs)
        for rows in slices(_longest_first([len(pair) for pair in encoded]), BATCH):
            output = run(self._batch([encoded[row] for row in rows])).float()
            if output.ndim == 2:
                output = output[:, -1] - output[:, 0] if output.shape[1] == 2 else output[:, 0]
            for row, score in zip(rows, output.tolist(), strict=True):
                scores[row] = score
        return scores

    def _batch(self, encoded: Sequence[EncodedPair]) -> Batch:
        batch = collate(encoded, pad_id(self._model.tokenizer))
        if isinstance(self._model, CrossEncoder) and self._model.has_segments:
            batch["token_type_ids"] = segments(batch)
        del batch["second_tokens"]
        return batch

    def save_beside(self, folder: Path) -> None:
        keep_settings(self._model)
        self._model.network.config.save_pretrained(folder)
        self._model.tokenizer.save_pretrained(folder)


class Retriever:
    """A bi-encoder; a pair's score is the model's own similarity, dot product or cosine."""

    kind: ExportKind = "bi-encoder"

    def __init__(self, model: Any) -> None:  # noqa: ANN401
        self._model, self.graph = model, Embedding(model)
        self.graph.eval()
        self._dot = model.similarity_fn_name == "dot"

    @property
    def notes(self) -> Sequence[str]:
        """What users of the export have to know."""
        prompts = [f"{text!r} ({name})" for name, text in (self._model.prompts or {}).items() if text]
        read = "texts get the model's prompts before it reads them"
        return [f"{read}: {', '.join(prompts)}; {SETTINGS_FILE} has them"] if prompts else []

    def example(self) -> Batch:
        return self._batch([text for pair in EXAMPLE for text in pair])

    @property
    def max_length(self) -> int:
        """The maximum input length in tokens."""
        return int(self._model.max_seq_length or self._model.tokenizer.model_max_length)

    def scores(self, pairs: Sequence[Pair], run: Run | None = None) -> list[float]:
        run = run or _network(self.graph)
        return self.scores_by(pairs, lambda texts: run(self._batch(texts)))

    def scores_by(self, pairs: Sequence[Pair], embed: Callable[[Sequence[str]], Tensor]) -> list[float]:
        """Score the pairs by what embeds texts."""
        prompts = self._model.prompts or {}
        queries = self._embed((query for query, _ in pairs), prompts.get("query") or "", embed)
        documents = self._embed((document for _, document in pairs), prompts.get("document") or "", embed)
        return [float(queries[query] @ documents[document]) for query, document in pairs]

    def _embed(self, texts: Iterable[str], prompt: str, embed: Callable[[Sequence[str]], Tensor]) -> dict[str, Tensor]:
        distinct = list(dict.fromkeys(texts))
        embeddings: dict[str, Tensor] = {}
        for rows in slices(_longest_first([len(text) for text in distinct]), BATCH):
            vectors = embed([prompt + distinct[row] for row in rows]).float()
            vectors = vectors if self._dot else torch.nn.functional.normalize(vectors, dim=-1)
            embeddings |= {distinct[row]: vector for row, vector in zip(rows, vectors, strict=True)}
        return embeddings

    def cut(self, text: str) -> str:
        """The part of a text that the model reads; all of it where a tokenizer knows no offsets."""
        if not self._model.tokenizer.is_fast:
            return text
        encoded = self._model.tokenizer(text, truncation=True, max_length=self.max_length, return_offsets_mapping=True)
        return text[: max(end for _, end in encoded["offset_mapping"])]

    def save(self, folder: Path) -> None:
        """Save as a folder of sentence-transformers."""
        self._model.save_pretrained(str(folder), create_model_card=False)

    def _batch(self, texts: Sequence[str]) -> Batch:
        encoded = self._model.tokenizer(
            list(texts), padding=True, truncation=True, max_length=self._model.max_seq_length, return_tensors="pt"
        )
        return dict(encoded)

    def save_beside(self, folder: Path) -> None:
        self._model.tokenizer.model_max_length = self._model.max_seq_length or self._model.tokenizer.model_max_length
        self._model[0].auto_model.config.save_pretrained(folder)
        self._model.tokenizer.save_pretrained(folder)
        names = ("prompts", "default_prompt_name", "similarity_fn_name")
        write_json(folder / SETTINGS_FILE, {name: getattr(self._model, name) for name in names})


class LateInteraction:
    """A late-interaction retriever; a pair's score is MaxSim."""

    kind: ExportKind = "multi-vector"
    notes: Sequence[str] = ()

    def __init__(self, model: str, *, max_length: int | None = None, trust_remote_code: bool = False) -> None:
        where: Placement = {"device": "cpu", "dtype": "float32", "trust_remote_code": trust_remote_code}
        encoder: Any = models.load_multi_vector(model, **where)
        check_length(encoder, model, max_length)
        if max_length is not None:
            encoder.max_seq_length = max_length
            encoder[0].query_length = encoder[0].document_length = None
        self.graph = encoder

    def scores(self, pairs: Sequence[Pair]) -> list[float]:
        queries, documents = (list(texts) for texts in zip(*pairs, strict=True))
        sides = self.graph.encode_query(queries), self.graph.encode_document(documents)
        scores: list[float] = self.graph.similarity_pairwise(*sides).tolist()
        return scores


Exportable: TypeAlias = Reranker | Retriever | LateInteraction


def _network(graph: nn.Module) -> Run:
    def run(batch: Batch) -> Tensor:
        with torch.inference_mode():
            output: Tensor = graph(**batch)
        return output

    return run


def load_exportable(
    model: str,
    kind: ExportKind | Literal["auto"] = "auto",
    *,
    max_length: int | None = None,
    true_token: str | None = None,
    false_token: str | None = None,
    trust_remote_code: bool = False,
) -> Exportable:
    """Load a model in float32 on the CPU. Raises ConfigError for kinds that cannot be exported."""
    if kind == "multi-vector" or (kind == "auto" and retriever_kind(model) == MULTI_VECTOR):
        return LateInteraction(model, max_length=max_length, trust_remote_code=trust_remote_code)
    where: Placement = {"device": "cpu", "dtype": "float32", "trust_remote_code": trust_remote_code}
    if kind == "auto":
        kind = find_export_kind(model, models.load_config(model, trust_remote_code=trust_remote_code))
    if kind == "bi-encoder":
        encoder = models.load_sentence_transformer(model, **where)
        check_length(encoder, model, max_length)
        encoder.max_seq_length = max_length or encoder.max_seq_length
        return Retriever(encoder)
    pair_model = load_pair_model(
        model, kind=kind, max_length=max_length, true_token=true_token, false_token=false_token, **where
    )
    assert isinstance(pair_model, CrossEncoder | MonoT5)
    return Reranker(pair_model)


def _longest_first(lengths: Sequence[int]) -> list[int]:
    return sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
