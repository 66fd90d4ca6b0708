"""The code in a model card that loads the model with this package or with other libraries.

A decoder's snippet reimplements `inpars.rerankers` in plain transformers; a test compares their scores.
"""

from __future__ import annotations

from inpars.models.retrievers import MULTI_VECTOR, RETRIEVERS, SPARSE

BI_ENCODER = "bi-encoder"

_BI_ENCODER = """\
from sentence_transformers import SentenceTransformer

vectors = SentenceTransformer("{name}").encode(["a query or a passage"])"""

_OF_RETRIEVERS = """\
from sentence_transformers import {library}

model = {library}("{name}")
queries, documents = model.encode_query(["a query"]), model.encode_document(["a passage"])
scores = model.similarity(queries, documents)"""

_CROSS_ENCODER = """\
from sentence_transformers import CrossEncoder

scores = CrossEncoder("{name}").predict([("a query", "a passage")])"""

_SCORER = """\
from inpars.scoring import load_scorer

scores = load_scorer("{name}").score([("a query", "a passage")])"""

_DECODER = """\
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("{name}")
model = AutoModelForCausalLM.from_pretrained("{name}", dtype=torch.float32).eval()
settings = model.config.inpars


def ids(text, **kwargs):
    return tokenizer(text, **kwargs)["input_ids"]

"""

_YES_OR_NO = (
    _DECODER
    + """
def score(query, document):
    head, tail = settings["prompt"].split("{{document}}")
    before = ids(head.rstrip())  # with the tokens that the tokenizer puts first
    after = ids(tail.replace("{{query}}", query), add_special_tokens=False)
    shown = ids(head[len(head.rstrip()) :] + document.strip(), add_special_tokens=False)
    tokens = before + shown[: max(0, settings["max_length"] - len(before) - len(after))] + after
    with torch.inference_mode():
        logits = model(torch.tensor([tokens])).logits[0, -1]
    return float(logits[settings["true_token_id"]] - logits[settings["false_token_id"]])


print(score("a query", "a passage"))"""
)

_QUERY_LIKELIHOOD = (
    _DECODER
    + """
def score(query, document):
    prefix = settings["prefix"]
    before = ids(prefix.rstrip())  # with the tokens that the tokenizer puts first
    suffix = ids(settings["suffix"], add_special_tokens=False)
    asked = ids(" " + query.strip(), add_special_tokens=False)[:{max_query_tokens}]
    shown = ids(prefix[len(prefix.rstrip()) :] + document.strip(), add_special_tokens=False)
    shown = shown[: max(0, settings["max_length"] - len(suffix) - len(asked))]
    with torch.inference_mode():
        logits = model(torch.tensor([before + shown + suffix + asked])).logits[0, -len(asked) - 1 : -1]
    found = logits.log_softmax(-1)[range(len(asked)), asked]
    return float(found.sum() if settings["reduction"] == "sum" else found.mean())


print(score("a query", "a passage"))"""
)

MAX_QUERY_TOKENS = 64  # as in `inpars.rerankers.query_likelihood`
_OF_LIBRARIES = {
    BI_ENCODER: _BI_ENCODER,
    MULTI_VECTOR: _OF_RETRIEVERS,
    SPARSE: _OF_RETRIEVERS,
    "cross-encoder": _CROSS_ENCODER,
    "causal": _YES_OR_NO,
    "query-likelihood": _QUERY_LIKELIHOOD,
}


def snippets(kind: str, name: str) -> str:
    """Code that loads a model, as Markdown; for decoders also the longer code without this package."""
    name = name.replace("\\", "\\\\").replace('"', '\\"')
    library = RETRIEVERS[kind].loads if kind in RETRIEVERS else ""
    code = _OF_LIBRARIES.get(kind, _SCORER).format(name=name, max_query_tokens=MAX_QUERY_TOKENS, library=library)
    if kind not in ("causal", "query-likelihood"):
        return _block(code)
    short = _block(_SCORER.format(name=name))
    return f"{short}\n\nThe same scores with transformers alone:\n\n{_block(code)}"


def _block(code: str) -> str:
    return f"```python\n{code}\n```"
