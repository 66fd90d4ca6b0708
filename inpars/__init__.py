"""Queries for documents that have none, and the rankers trained on them.

`import inpars` stays light: no torch, no transformers, no JVM. Take what is needed from the modules:
`inpars.generation`, `inpars.filtering`, `inpars.mining`, `inpars.training`, `inpars.reranking`, `inpars.evaluation`.
"""

__version__ = "0.1.0"
