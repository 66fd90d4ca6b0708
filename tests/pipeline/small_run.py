"""A whole run in seconds: tiny models with random weights, 24 documents, and flags that keep every stage small."""

import json
import random
import string

from tiny_models import sentence

SMALL = [
    *("--max-documents", "8", "--max-doc-tokens", "48", "--max-new-tokens", "40", "--positive-within", "0"),
    *("--rerank-depth", "3", "--k", "10", "--reranker-steps", "1", "--top-k", "6", "--per-query", "2"),
    *("--window-tokens", "24", "--reranker-max-length", "96", "--seed", "3", "--threads", "1"),
]
PROMPT = """
form: |
  Document: {document}
  Relevant Query: {query}
stop: [a, e, i, o, t, "\\n"]
examples:
  - document: amber falls in autumn
    query: when does amber fall
  - document: a falcon is a bird
    query: what is a falcon
"""


def models(tiny, folder):
    """A language model that is the reranker too, a bi-encoder, and a prompt that leaves room in their 512 tokens."""
    prompt, model = folder / "two examples.yaml", tiny("llama")
    prompt.write_text(PROMPT)
    return [
        *("--model", model, "--reranker", model, "--retriever", tiny("sentence_transformer")),
        *("--prompt", str(prompt)),
    ]


def text(seed):
    """Words of the tiny models' vocabulary, and letters and digits alone, which random weights write now and then."""
    chance = random.Random(seed)
    return f"{sentence(seed, 14)} {' '.join(chance.sample(string.ascii_lowercase + string.digits, 24))}"


def dataset(folder):
    """A BEIR folder, six of whose documents are judged relevant to a query of their own first words."""
    (folder / "qrels").mkdir(parents=True)
    documents = [{"_id": f"d{n}", "title": "", "text": text(n)} for n in range(24)]
    queries = [{"_id": f"q{n}", "text": " ".join(documents[n]["text"].split()[:3])} for n in range(6)]
    for name, rows in (("corpus", documents), ("queries", queries)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    lines = ["query-id\tcorpus-id\tscore", *(f"q{n}\td{n}\t1" for n in range(6))]
    (folder / "qrels" / "test.tsv").write_text("\n".join(lines) + "\n")
    return folder
