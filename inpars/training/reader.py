"""Fine-tunes an extractive reader, which marks the answer to a question in a text or rejects the text.

Each token has a start and an end logit; unanswerable questions have their target at the first special token (Devlin et
al., arXiv 1810.04805, section 4.3). Long texts are read in overlapping windows, as at inference. The margin threshold
for answering is calibrated on held-out questions and saved in the model's config (Rajpurkar, Jia and Liang, "Know What
You Don't Know", 2018).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from transformers import TrainingArguments

from inpars.engines.training_attention import train_with_fast_attention
from inpars.evaluation.squad_metrics import best_threshold, exact_match, f1
from inpars.models import loading as models
from inpars.models.hardware import describe, pick_device, pick_dtype
from inpars.models.networks import check_length, pad_id
from inpars.progress import SILENT, Progress
from inpars.rerankers.answerability import MAX_LENGTH, MIN_WINDOW, AnswerabilityScorer, split_into_windows
from inpars.training.examples import batches_of
from inpars.training.loop import (
    Curve,
    LossTrainer,
    checkpoint_folder,
    run_trainer,
    set_dropout,
    training_arguments,
    with_less_memory,
)
from inpars.training.options import ReaderOptions, steps_of

Window = dict[str, Any]
"""A tokenized window, with `start` and `end`: the positions of the answer's first and last token."""


@dataclass(frozen=True, slots=True)
class Example:
    """A question about a text, and its right answers with their character offsets; empty if unanswerable."""

    question: str
    text: str
    answers: tuple[tuple[str, int], ...] = ()

    @property
    def right(self) -> list[str]:
        return [text for text, _ in self.answers]


def train_reader(
    examples: Sequence[Example],
    held_out: Sequence[Example],
    options: ReaderOptions,
    *,
    output: Path,
    fingerprint: Mapping[str, Any],
    progress: Progress = SILENT,
) -> tuple[Curve, dict[str, float], str]:
    """Train and save a Hugging Face folder; returns the loss curve, measures on `held_out` and the device."""
    device = pick_device(options.device)
    torch.manual_seed(options.seed)  # for the new head
    network, tokenizer = models.load_extractive_reader(
        options.model, new_head=True, device=str(device), dtype="float32", trust_remote_code=options.trust_remote_code
    )
    check_length(network, options.model, options.max_length, MIN_WINDOW)
    set_dropout(network, options.dropout)
    if options.gradient_checkpointing:
        with_less_memory(network)
    train_with_fast_attention(network, pick_dtype(options.dtype, device))
    network.train()
    length = options.max_length or min(MAX_LENGTH, int(network.config.max_position_embeddings))
    windows = [window for example in examples for window in answer_windows(example, tokenizer, length)]
    steps = steps_of(batches_of(len(windows), options.batch_size), options)
    reader_arguments = {"remove_unused_columns": False, "train_sampling_strategy": "group_by_length"}
    trainer = LossTrainer(
        model=network,
        args=TrainingArguments(
            **training_arguments(options, device, checkpoint_folder(output), steps) | reader_arguments
        ),
        train_dataset=windows,
        data_collator=lambda rows: collate_windows(rows, pad_id(tokenizer)),
    )
    trainer.batch_loss, trainer.model_accepts_loss_kwargs = _batch_loss, False  # losses are means
    measures: dict[str, float] = {}

    def save(folder: Path) -> None:
        tokenizer.model_max_length = length
        network.eval().save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        measures.update(measure(folder, held_out, options))
        network.config.inpars = {"kind": "reader", "threshold": measures.get("threshold", 0.0)}
        network.config.save_pretrained(folder)

    curve = run_trainer(
        trainer, settings=fingerprint, output=output, save=save, progress=progress, description="train reader"
    )
    return curve, measures, describe(device, pick_dtype(options.dtype, device))


def measure(model: Path, examples: Sequence[Example], options: ReaderOptions) -> dict[str, float]:
    """Exact match, F1 and the best answer threshold.

    `answerable_*` cover only questions with an answer, without the threshold. Empty without examples.
    """
    if not examples:
        return {}
    scorer = AnswerabilityScorer(str(model), **options.placement)
    spans = scorer.spans([(example.question, example.text) for example in examples])
    answers = [example.text[span.start : span.end] for span, example in zip(spans, examples, strict=True)]
    margins = [span.margin for span in spans]
    limit = best_threshold(list(zip(margins, answers, (example.right for example in examples), strict=True)))
    thresholded = [text if margin >= limit else "" for text, margin in zip(answers, margins, strict=True)]
    answerable = [(text, example.right) for text, example in zip(answers, examples, strict=True) if example.answers]
    rows = [(text, example.right) for text, example in zip(thresholded, examples, strict=True)]
    return {
        "questions": len(rows),
        "threshold": round(limit, 4),
        "exact_match": _mean([exact_match(*row) for row in rows]),
        "f1": _mean([f1(*row) for row in rows]),
        "answerable_exact_match": _mean([exact_match(*row) for row in answerable]),
        "answerable_f1": _mean([f1(*row) for row in answerable]),
    }


def answer_windows(example: Example, tokenizer: Any, max_length: int) -> list[Window]:
    """The windows of a question and its text, labelled with the token positions of the first right answer.

    Both are the special token's position if the window does not contain the whole answer.
    """
    windows = []
    for window in split_into_windows(tokenizer, [example.question], [example.text], max_length):
        in_text = [position for position, is_inside in enumerate(window.in_document) if is_inside]
        no_answer = (window.no_answer, window.no_answer)
        start, end = _answer_span(example.answers, window.offsets, in_text) or no_answer
        windows.append({**window.inputs, "start": start, "end": end})
    return windows


def _answer_span(
    answers: Sequence[tuple[str, int]], offsets: Sequence[tuple[int, int]], in_text: Sequence[int]
) -> tuple[int, int] | None:
    """First and last token position of the first answer; None if the window does not contain all of it."""
    if not answers or not in_text:
        return None
    text, start = answers[0]
    end = start + len(text)
    if start < offsets[in_text[0]][0] or end > offsets[in_text[-1]][1]:
        return None
    tokens = [position for position in in_text if offsets[position][0] < end and offsets[position][1] > start]
    return (tokens[0], tokens[-1]) if tokens else None


def collate_windows(rows: Sequence[Window], pad: int) -> dict[str, Tensor]:
    """Padded inputs, (rows, tokens), and the answer positions, (rows,)."""
    width = max(len(row["input_ids"]) for row in rows)
    batch = {}
    for name, value in rows[0].items():
        padding = pad if name == "input_ids" else 0
        listed = isinstance(value, list)
        batch[name] = torch.tensor(
            [row[name] + [padding] * (width - len(row[name])) if listed else row[name] for row in rows]
        )
    return batch


def span_loss(start: Tensor, end: Tensor, inputs: Mapping[str, Tensor]) -> Tensor:
    """Mean cross-entropy of the start and the end position, ignoring padding."""
    padding = inputs["attention_mask"] == 0  # (rows, tokens)
    losses = [
        nn.functional.cross_entropy(logits.float().masked_fill(padding, -torch.inf), inputs[name])
        for name, logits in (("start", start), ("end", end))
    ]
    return torch.stack(losses).mean()


def _batch_loss(inputs: dict[str, Any], network: nn.Module) -> Tensor:
    outputs: Any = network(**{name: tensor for name, tensor in inputs.items() if name not in ("start", "end")})
    return span_loss(outputs.start_logits, outputs.end_logits, inputs)


def _mean(values: Sequence[float]) -> float:
    return round(sum(values) / len(values), 4) if values else 0.0
