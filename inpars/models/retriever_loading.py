"""From a model's name to a late-interaction or a sparse retriever of sentence-transformers, in evaluation mode."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Unpack

from inpars.errors import ConfigError, UntrainedModelError
from inpars.models import loading as models
from inpars.models.compute_options import Placement
from inpars.models.retrievers import MULTI_VECTOR, SPARSE, is_masked_lm, retriever_kind

if TYPE_CHECKING:
    from sentence_transformers import MultiVectorEncoder, SparseEncoder


def load_multi_vector(name: str, *, for_training: bool = False, **where: Unpack[Placement]) -> MultiVectorEncoder:
    """A ColBERT of sentence-transformers, PyLate or Stanford; `for_training` makes one of an encoder's token states.

    Raises ConfigError for a sparse retriever, UntrainedModelError for an encoder that is not to be trained.
    """
    from sentence_transformers import MultiVectorEncoder

    if retriever_kind(name) == MULTI_VECTOR:
        return models.load_with_sentence_transformers(name, MultiVectorEncoder, where)
    _check(name, SPARSE)
    if not for_training:
        raise _untrained(name, MULTI_VECTOR)
    from sentence_transformers.base.modules import Normalize
    from sentence_transformers.multi_vector_encoder.modules import MultiVectorMask

    encoder = models.load_sentence_transformer(name, **where)
    modules: list[Any] = [encoder[0], MultiVectorMask(), Normalize(module_input_name="token_embeddings")]
    prompts = {name: text for name, text in encoder.prompts.items() if text}
    return MultiVectorEncoder(modules=modules, prompts=prompts, device=str(encoder.device)).eval()


def load_sparse(name: str, *, for_training: bool = False, **where: Unpack[Placement]) -> SparseEncoder:
    """A sparse encoder; `for_training` makes one of a masked language model.

    Raises ConfigError for a model of another kind, UntrainedModelError for one that is not to be trained.
    """
    from sentence_transformers import SparseEncoder

    if retriever_kind(name) != SPARSE:
        _check(name, MULTI_VECTOR)
        if not for_training:
            raise _untrained(name, SPARSE)
        if not is_masked_lm(name):
            raise ConfigError(
                f"{name} has no head that predicts masked words, which a sparse retriever weighs words with; give "
                "--model a masked language model or a SPLADE"
            )
    return models.load_with_sentence_transformers(name, SparseEncoder, where)


def _check(name: str, other: str) -> None:
    if retriever_kind(name) == other:
        raise ConfigError(f"{name} is a {other} retriever, and another kind is needed here")


def _untrained(name: str, kind: str) -> UntrainedModelError:
    return UntrainedModelError(
        f"{name} is no {kind} retriever; `inpars train retriever --kind {kind} --model {name}` trains one"
    )
