"""The path that model cards show for `load_scorer`, which is in `inpars.rerankers`."""

from inpars.rerankers import load_scorer

__all__ = ["load_scorer"]
