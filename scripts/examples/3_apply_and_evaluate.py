# %% [markdown]
"""# 3. Applications and evaluation: what the model finds, and what that is worth.

Semantic search with the bi-encoder before and after, answers with their sources, and what the training was worth.
"""

# %%
import os
import shlex
from pathlib import Path

from inpars.apps.qa.build_engine import AnswerOptions, EngineOptions, open_engine
from inpars.apps.qa.formatting import answer_lines, hit_lines
from inpars.cli.main import main
from inpars.io.corpus import Corpus

RUN = Path(os.environ.get("RUN", "runs/example"))  # the folder of the first two parts
RETRIEVER = os.environ.get("RETRIEVER", "minilm")  # the bi-encoder that was started from
QUERY = os.environ.get("QUERY", "what is duck typing")
READER = os.environ.get("READER") or None  # a model that marks answers, of `inpars train reader` for instance
WRITER = os.environ.get("WRITER") or None  # a language model that writes answers, smollm2-135m for instance
DEVICE = os.environ.get("DEVICE", "auto")


def inpars(command: str) -> None:
    """Run a command as it is typed after `inpars`."""
    print(f"$ inpars {command}", flush=True)
    if main(shlex.split(command)):
        raise SystemExit(f"inpars {command.split(maxsplit=1)[0]} failed; what it said stands above")


# %% [markdown]
# ## Semantic search
#
# An engine has several systems: `hybrid` is BM25 and the tuned bi-encoder together, `dense` and `base` are the
# bi-encoders after and before. Models are loaded once; `inpars serve` has the same behind HTTP, with a page.

# %%
engine = open_engine(
    EngineOptions(retriever=str(RUN / "models/retriever"), base_retriever=RETRIEVER, device=DEVICE),
    corpus=Corpus(RUN / "corpus.jsonl"),
    answers=AnswerOptions(reader=READER, model=WRITER),
)
for note in engine.notes:
    print(f"note: {note}")
for name, system in engine.systems.items():
    print(f"\n{name}: {system.description}")
    for number, hit in enumerate(engine.search([QUERY], 3, system=name)[0], start=1):
        print("\n".join(hit_lines(number, hit)))

# %% [markdown]
# ## Answers
#
# Extractive: words of a document with their score, or none below the threshold. Without a model that marks answers it
# is the sentence that is nearest to the question, whose score is nearness and nothing more: `inpars train reader` makes
# such a model. Generated, where a language model is named: a text that cites retrieved passages by number.

# %%
print("\n".join(answer_lines(engine.ask(QUERY))))

# %%
if WRITER is not None:
    print("\n".join(answer_lines(engine.ask(QUERY, kind="generated"))))
engine.close()

# %% [markdown]
# ## Evaluation
#
# By people's questions where the documents came with some, as SQuAD's do, and never read before this cell. Otherwise by
# the synthetic queries that the first part set aside: these say whether the bi-encoder learnt to find what the language
# model asks for, not whether it finds what people ask for.

# %%
human = (RUN / "queries.jsonl").exists()
made = f"--corpus {RUN}/corpus.jsonl --queries {RUN}/dev.queries.jsonl --qrels {RUN}/dev.qrels.tsv"
judged = f"--dataset {RUN}" if human else made
for name, retriever in (("base", RETRIEVER), ("tuned", f"{RUN}/models/retriever"), ("bm25", "bm25")):
    inpars(
        f"search {judged} --retriever {shlex.quote(retriever)} --device {DEVICE} --k 100 --output {RUN}/run.{name}.trec"
    )

# %%
print("questions of people" if human else "synthetic queries that were set aside")
inpars(
    f"evaluate {judged} --run {RUN}/run.base.trec --run {RUN}/run.tuned.trec --run {RUN}/run.bm25.trec "
    f'--metrics "RR@10 nDCG@10 R@100" --output {RUN}/metrics.json --report {RUN}/evaluation.html'
)
