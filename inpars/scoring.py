"""`load_scorer` of `inpars.rerankers`, under the path shown in model cards."""

from inpars.rerankers import load_scorer

__all__ = ["load_scorer"]
