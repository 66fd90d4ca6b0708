"""Computes any loss over several mini-batches.

`cached_loss` is for more texts than fit into memory at once (GradCache, Gao et al., arXiv 2101.06983): embed each
mini-batch without a graph, compute the loss's gradient with respect to the embeddings, then embed each mini-batch again
with a graph and backpropagate its part of that gradient. Memory is that of one mini-batch.
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
    """The loss over all parts, in one graph; `compute` gives a mini-batch's embeddings or scores."""
    return loss(torch.cat([compute(part) for part in parts]))


def cached_loss(embed: Embed, batches: Sequence[Features], loss: Callable[[Tensor], Tensor]) -> Tensor:
    """As `plain_loss` in the memory of one mini-batch; `backward` embeds a second time."""
    parts, states = [], []
    for batch in batches:
        states.append(_RandomState())
        with torch.no_grad():
            parts.append(embed(batch))
    if not torch.is_grad_enabled():
        return loss(torch.cat(parts))

    def second_pass(gradients: Sequence[Tensor]) -> None:
        with torch.enable_grad():
            for batch, state, gradient in zip(batches, states, gradients, strict=True):
                with state.restored():
                    again = embed(batch)
                torch.autograd.backward(again, gradient)

    return _loss_with_backward(parts, loss, second_pass)


def parallel_loss(
    compute: Callable[[Part], Tensor], parts: Sequence[Part], loss: Callable[[Tensor], Tensor], network: nn.Module
) -> Tensor:
    """As `plain_loss`, with one thread per part, also for the gradients in `backward`.

    Gradients are added in the order of the parts, so the sum does not depend on thread timing. `compute` must not use
    random numbers and must set torch's modes itself.
    """
    computed = list(map_batches(compute, parts))
    weights = [weight for weight in network.parameters() if weight.requires_grad]

    def backward(gradients: Sequence[Tensor]) -> None:
        def weight_gradients(number: int) -> Sequence[Tensor | None]:
            return torch.autograd.grad(computed[number], weights, gradients[number], allow_unused=True)

        for part_gradients in map_batches(weight_gradients, range(len(computed))):
            for weight, gradient in zip(weights, part_gradients, strict=True):
                if gradient is not None:
                    weight.grad = gradient.clone() if weight.grad is None else weight.grad.add_(gradient)

    return _loss_with_backward(computed, loss, backward)


def graph_bytes(compute: Callable[[Part], Tensor], part: Part, network: nn.Module) -> int:
    """Bytes that autograd keeps until the backward pass of one mini-batch, besides the network's weights."""
    sizes: dict[int, int] = {}

    def note(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    random_state = _RandomState()
    with (
        random_state.restored(),
        torch.enable_grad(),
        torch.autograd.graph.saved_tensors_hooks(note, lambda same: same),
    ):
        computed = compute(part)  # holds its graph, so that no address is used twice
    weights = {weight.untyped_storage().data_ptr() for weight in network.parameters()}
    del computed
    return sum(size for address, size in sizes.items() if address not in weights)


def _loss_with_backward(
    parts: Sequence[Tensor], loss: Callable[[Tensor], Tensor], backward: Callable[[Sequence[Tensor]], None]
) -> Tensor:
    """The loss over the parts; its backward pass calls `backward` with the gradients of the parts."""
    joined = torch.cat([part.detach() for part in parts]).requires_grad_()
    value = loss(joined)
    (gradient,) = torch.autograd.grad(value, joined)
    sizes = [len(part) for part in parts]
    value = value.detach().requires_grad_()
    value.register_hook(lambda factor: backward(torch.split(gradient * factor, sizes)))  # type: ignore[no-untyped-call]
    return value


class _RandomState:
    """The state of torch's random generators, so that both passes have the same dropout."""

    def __init__(self) -> None:
        self._cpu = torch.get_rng_state()
        self._gpu = torch.cuda.get_rng_state() if torch.cuda.is_available() else None

    @contextmanager
    def restored(self) -> Iterator[None]:
        """Use this state inside the block."""
        with torch.random.fork_rng(enabled=True):
            torch.set_rng_state(self._cpu)
            if self._gpu is not None:
                torch.cuda.set_rng_state(self._gpu)
            yield
