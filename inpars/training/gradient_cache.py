"""Losses over several mini-batches. Knows no loss.

`cached_loss` is for more texts than fit into memory at once (GradCache, Gao et al., arXiv 2101.06983): embed mini-batch
by mini-batch without a graph, take the loss's gradient with respect to the embeddings, then embed each mini-batch again
with a graph and send its share of that gradient back. Memory is that of one mini-batch.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from inpars.engines.batch_parallel import map_batches

Features: TypeAlias = Mapping[str, Any]
Embed: TypeAlias = Callable[[Features], Tensor]  # a mini-batch's embeddings, (texts, width)
Part = TypeVar("Part")


def plain_loss(compute: Callable[[Part], Tensor], parts: Sequence[Part], loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The loss of what is computed of all parts, mini-batches' embeddings for instance, by one graph over all."""
    return loss(torch.cat([compute(part) for part in parts]))


def cached_loss(embed: Embed, batches: Sequence[Features], loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The same value and the same gradients in the memory of one mini-batch; `backward` embeds a second time."""
    parts, states = [], []
    for batch in batches:
        states.append(_RandomState())
        with torch.no_grad():
            parts.append(embed(batch))
    if not torch.is_grad_enabled():
        return loss(torch.cat(parts))
    embeddings = torch.cat(parts).requires_grad_()  # (texts, width)
    value = loss(embeddings)
    (gradient,) = torch.autograd.grad(value, embeddings)
    shares = torch.split(gradient, [len(part) for part in parts])

    def second_pass(factor: Tensor) -> None:
        with torch.enable_grad():
            for batch, state, share in zip(batches, states, shares, strict=True):
                with state.restored():
                    again = embed(batch)
                torch.autograd.backward(again, share * factor)

    value = value.detach().requires_grad_()
    value.register_hook(second_pass)  # type: ignore[no-untyped-call]
    return value


def parallel_loss(
    compute: Callable[[Part], Tensor], parts: Sequence[Part], loss: Callable[[Tensor], Tensor], network: nn.Module
) -> Tensor:
    """The loss of what is computed of all parts; a thread each computes them and, in `backward`, their gradients.

    Gradients are added in the order of the parts, so that the sum does not depend on which thread is the quicker one.
    `compute` must draw no random numbers, and set torch's modes itself.
    """
    computed = list(map_batches(compute, parts))
    joined = torch.cat([part.detach() for part in computed]).requires_grad_()
    value = loss(joined)
    (gradient,) = torch.autograd.grad(value, joined)
    shares = torch.split(gradient, [len(part) for part in computed])
    weights = [weight for weight in network.parameters() if weight.requires_grad]

    def backward(factor: Tensor) -> None:
        def followed(number: int) -> Sequence[Tensor | None]:
            return torch.autograd.grad(computed[number], weights, shares[number] * factor, allow_unused=True)

        for gradients in map_batches(followed, range(len(computed))):
            for weight, part_gradient in zip(weights, gradients, strict=True):
                if part_gradient is not None:
                    weight.grad = part_gradient.clone() if weight.grad is None else weight.grad.add_(part_gradient)

    value = value.detach().requires_grad_()
    value.register_hook(backward)  # type: ignore[no-untyped-call]
    return value


class _RandomState:
    """The state of torch's generators, so that the second pass drops out what the first one did."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._gpu = torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    @contextmanager
    def restored(self) -> Iterator[None]:
        """That state while the context lasts, the present one afterwards."""
        with torch.random.fork_rng(enabled=True):
            torch.set_rng_state(self._cpu)
            if self._gpu is not None:
                torch.cuda.set_rng_state(self._gpu)
            yield
