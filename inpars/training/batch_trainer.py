"""transformers' trainer over batches that are planned as a whole, with losses over a retriever's embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn
from torch.utils.data import Dataset, SequentialSampler

from inpars.engines.batch_parallel import in_worker_thread, should_parallelize
from inpars.training.batch_plan import BatchPlan
from inpars.training.embedding_batches import Autocast, Collator, embed, reordered
from inpars.training.embedding_losses import Objective
from inpars.training.examples import TripleTexts
from inpars.training.gradient_cache import Features, cached_loss, parallel_loss, plain_loss
from inpars.training.loop import LossTrainer

Embed: TypeAlias = Callable[[Any, Features], Tensor]  # of a network, which may be wrapped, and a mini-batch


class Batches(Dataset[dict[str, Any]]):
    """Every batch of a training, in the order of its steps."""

    def __init__(
        self,
        rows: Sequence[TripleTexts],
        plan: BatchPlan,
        collator: Collator,
        margins: Mapping[TripleTexts, float] | None,
        count: int,
    ) -> None:
        self._rows, self._plan, self._collator, self._margins, self._count = rows, plan, collator, margins, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> dict[str, Any]:
        chosen = [self._rows[position] for position in self._plan.batch(number)]
        return self._collator(chosen, None if self._margins is None else [self._margins[row] for row in chosen])


class BatchTrainer(LossTrainer):
    """transformers' trainer over whole batches, in their order, with our losses."""

    objective: Objective
    autocast: Autocast
    cached: bool
    map_batches: bool  # whether mini-batches may have a thread each
    embedding: Embed | None = None  # of a kind whose embeddings are not a vector a text

    def _save(self, output_dir: str | None = None, state_dict: dict[str, Any] | None = None) -> None:
        """The weights of a checkpoint, tied ones once."""
        network: Any = self.model
        names = {name for name, _ in (*network.named_parameters(), *network.named_buffers())}
        super()._save(output_dir, {name: tensor for name, tensor in network.state_dict().items() if name in names})

    def _get_train_sampler(self, *_: Any) -> SequentialSampler:  # noqa: ANN401
        return SequentialSampler(self.train_dataset)  # type: ignore[arg-type]

    def batch_loss(self, inputs: dict[str, Any], model: nn.Module) -> Tensor:
        def embed_one(features: Features) -> Tensor:
            with self.autocast(cache_enabled=not in_worker_thread()):  # one for all threads
                return (self.embedding or embed)(model, features)

        def loss_of(embeddings: Tensor) -> Tensor:
            embedded = reordered(embeddings, inputs["places"], inputs["queries"])
            with torch.autocast(embeddings.device.type, enabled=False):
                return self.objective(embedded, inputs["margins"])

        batches = inputs["batches"]
        if self.map_batches and not self.cached and torch.is_grad_enabled() and should_parallelize(len(batches)):
            return parallel_loss(embed_one, batches, loss_of, model)
        with self.autocast():  # weights are turned into bfloat16 once for all mini-batches
            return (cached_loss if self.cached else plain_loss)(embed_one, batches, loss_of)
