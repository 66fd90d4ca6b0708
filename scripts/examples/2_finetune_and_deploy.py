# %% [markdown]
"""# 2. Fine-tuning and deployment: pairs become a model that serves.

The pairs of the first part train a bi-encoder: every other passage of a batch is a negative (multiple negatives
ranking loss). Then it becomes a folder for other servers, and an archive for SageMaker whose handler is run here.
"""

# %%
import importlib.util
import os
import shlex
import sys
import tarfile
from pathlib import Path

from sentence_transformers import SentenceTransformer

from inpars.cli.main import main
from inpars.io.manifest import read_manifest
from inpars.training.examples import read_triple_texts

RUN = Path(os.environ.get("RUN", "runs/example"))  # the folder of the first part
RETRIEVER = os.environ.get("RETRIEVER", "minilm")  # the bi-encoder to start from
EPOCHS = os.environ.get("EPOCHS", "1")
DEVICE = os.environ.get("DEVICE", "auto")


def inpars(command: str) -> None:
    """Run a command as it is typed after `inpars`."""
    print(f"$ inpars {command}", flush=True)
    if main(shlex.split(command)):
        raise SystemExit(f"inpars {command.split(maxsplit=1)[0]} failed; what it said stands above")


# %% [markdown]
# ## Fine-tune

# %%
inpars(
    f"train retriever --triples {RUN}/triples.tsv --model {shlex.quote(RETRIEVER)} --no-negatives --epochs {EPOCHS} "
    f"--device {DEVICE} --output {RUN}/models/retriever"
)

# %%
manifest = read_manifest(RUN / "models/retriever")
curve = manifest.results["curve"]
print(f"{manifest.results['examples']} pairs, {manifest.seconds:.0f} seconds on {manifest.device}")
for step, loss in list(zip(curve["steps"], curve["losses"], strict=True))[:: max(1, len(curve["steps"]) // 10)]:
    print(f"step {step:5} loss {loss:7.4f} {'#' * round(20 * loss)}")

# %% [markdown]
# ## A folder that other servers load
#
# Text Embeddings Inference (`text-embeddings-router --model-id FOLDER`) and sentence-transformers take it as it is.

# %%
inpars(f"deploy folder --model {RUN}/models/retriever --output {RUN}/deploy/retriever")

# %%
model = SentenceTransformer(str(RUN / "deploy/retriever"), device="cpu")
row = next(iter(read_triple_texts(RUN / "triples.tsv")))
vectors = model.encode([row.query, row.positive, row.negative])
print(f"query      {row.query}")
print(f"{model.similarity(vectors[:1], vectors[1:2]).item():10.3f} {row.positive[:90]!r}")
print(f"{model.similarity(vectors[:1], vectors[2:3]).item():10.3f} {row.negative[:90]!r}")

# %% [markdown]
# ## An archive for SageMaker
#
# It holds the model, this package and a handler. The container calls four functions of the handler; here the archive
# is unpacked and they are called as the container would.

# %%
inpars(f"deploy archive --model {RUN}/models/retriever --output {RUN}/deploy/model.tar.gz")

# %%
with tarfile.open(RUN / "deploy/model.tar.gz") as archive:
    archive.extractall(RUN / "deploy/unpacked", filter="data")
where = importlib.util.spec_from_file_location("inference", RUN / "deploy/unpacked/code/inference.py")
handler = sys.modules["inference"] = importlib.util.module_from_spec(where)
where.loader.exec_module(handler)
loaded = handler.model_fn(str(RUN / "deploy/unpacked"))
asked = handler.input_fn('{"input": ["what is duck typing"], "input_type": "query"}', "application/json")
body, kind = handler.output_fn(handler.predict_fn(asked, loaded), "application/json")
print(kind, body[:120], "...")

# %% [markdown]
# ## An endpoint
#
# Said first: what is made, what it costs, how it goes away again. Without `--yes` nothing is made. The values below are
# placeholders; `status`, `invoke` and `delete` are the other actions.

# %%
inpars(
    f"deploy sagemaker create --name example-search --archive {RUN}/deploy/model.tar.gz "
    "--role arn:aws:iam::000000000000:role/example --bucket example-bucket "
    "--image 000000000000.dkr.ecr.eu-west-1.amazonaws.com/huggingface-pytorch-inference:cpu"
)
