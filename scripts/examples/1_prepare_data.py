# %% [markdown]
"""# 1. Data preparation: documents become pairs to train on.

From a folder of documents that nobody labelled to pairs of query and passage. A language model writes three queries
for each of a sample of passages; those it finds unlikely itself are left out; some are set aside to measure by.

The method is GenQ's (Thakur et al., 2021, section "GenQ") with InPars' filter (Bonifacio et al., 2022). Each step is
a command that can as well be typed in a shell, and is skipped where its files are there already.
"""

# %%
import os
import shlex
from pathlib import Path

from inpars.cli.main import main
from inpars.io.corpus import Corpus
from inpars.io.formats import read_synthetic_queries
from inpars.io.manifest import read_manifest

DOCUMENTS = os.environ.get("DOCUMENTS", "documents")  # a folder, or a file: PDF, web pages, Word, SQuAD's json, ...
RUN = Path(os.environ.get("RUN", "runs/example"))  # where everything that is made lies
WRITER = os.environ.get("WRITER", "smollm2-135m")  # the language model: an embedded name, a folder or a hub id
PASSAGES = os.environ.get("PASSAGES", "300")  # so many get queries
DEV_SHARE = os.environ.get("DEV_SHARE", "0.1")  # of these, whose queries measure and do not train


def inpars(command: str) -> None:
    """Run a command as it is typed after `inpars`."""
    print(f"$ inpars {command}", flush=True)
    if main(shlex.split(command)):
        raise SystemExit(f"inpars {command.split(maxsplit=1)[0]} failed; what it said stands above")


# %% [markdown]
# ## Documents to passages
#
# Files are read, cut between sentences into passages of at most 200 tokens, and cleared of repeated headers and of
# passages that stand twice. Of each passage the file, the page or the headings, and its place are kept.

# %%
inpars(f"ingest --documents {shlex.quote(DOCUMENTS)} --output {RUN}/corpus.jsonl")

# %%
corpus = Corpus(RUN / "corpus.jsonl")
manifest = read_manifest(RUN / "corpus.jsonl")
print(f"{len(corpus)} passages; left out: {dict(manifest.dropped) or 'nothing'}")
for document in list(corpus)[:3]:
    print(f"\n{document.doc_id} | {document.title} | {dict(document.metadata)}\n{document.text[:200]}")

# %% [markdown]
# How long they are, in words:

# %%
lengths = sorted(len(document.text.split()) for document in corpus)
for share in (0.1, 0.5, 0.9):
    print(f"{share:4.0%} have at most {lengths[round(share * (len(lengths) - 1))]} words")

# %% [markdown]
# ## Passages to queries
#
# The model continues a prompt with worked examples (`prompts/inpars-gbq.yaml`); three different queries are drawn for a
# passage. `--backend seq2seq --model BeIR/query-gen-msmarco-t5-base-v1` takes GenQ's T5, where a hub is in reach.

# %%
inpars(
    f"generate --corpus {RUN}/corpus.jsonl --model {shlex.quote(WRITER)} --prompt inpars-gbq --num-queries 3 "
    f"--temperature 0.7 --max-new-tokens 32 --max-documents {PASSAGES} --output {RUN}/queries.synthetic.jsonl"
)

# %%
for query in list(read_synthetic_queries(RUN / "queries.synthetic.jsonl"))[:5]:
    print(f"{query.text}\n    for: {corpus[query.doc_id].text[:100]!r}")

# %% [markdown]
# ## Queries to pairs
#
# Queries with a low mean log-probability, copies of the passage and doubles go. Some passages, and what is nearly
# the same as those, keep their queries for measuring. Of the others, those stay that lead BM25 to their passage.

# %%
inpars(
    f"filter --input {RUN}/queries.synthetic.jsonl --corpus {RUN}/corpus.jsonl --top-k 1000 "
    f"--output {RUN}/queries.filtered.jsonl"
)
inpars(
    f"split --input {RUN}/queries.filtered.jsonl --corpus {RUN}/corpus.jsonl "
    f"--dev-share {DEV_SHARE} --output-train {RUN}/queries.train.jsonl --output-dev {RUN}/dev.jsonl"
)
inpars(
    f"triples --input {RUN}/queries.train.jsonl --corpus {RUN}/corpus.jsonl --positive-within 20 "
    f"--output {RUN}/triples.tsv"
)

# %%
kept, mined = (read_manifest(RUN / name) for name in ("queries.filtered.jsonl", "triples.tsv"))
print(f"kept {kept.output.records} of {kept.results['read']} queries; left out: {dict(kept.dropped)}")
print(f"{mined.output.records} triples; left out: {dict(mined.dropped) or 'nothing'}")
