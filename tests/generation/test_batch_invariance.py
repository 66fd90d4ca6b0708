"""In float32 and float64 the file of queries has the same bytes whatever the batch size."""

import pytest
import torch
from tiny_models import sentence

from inpars.cli.main import main
from inpars.generation.decoding import BatchInvariantRows
from inpars.io.formats import write_documents
from inpars.records import Document

DOCUMENTS = [Document(f"d{number}", sentence(number, 2 + number % 6 * 4)) for number in range(37)]


def generate(tiny, folder, dtype, batch_size, *more):
    corpus, output = folder / "corpus.jsonl", folder / f"{dtype}-{batch_size}.jsonl"
    write_documents(corpus, DOCUMENTS)
    prompt = folder / "prompt.txt"
    prompt.write_text("A lake is a body of water: what is a lake?\n\n{document}\nRelevant Query:")
    flags = ["--dtype", dtype, "--batch-size", str(batch_size), "--max-new-tokens", "10", "--max-doc-tokens", "24"]
    named = ["--corpus", str(corpus), "--model", str(tiny("llama")), "--output", str(output), "--prompt", str(prompt)]
    assert main(["generate", *named, *flags, *more, "--quiet"]) == 0
    return output


SAMPLED = ("--num-queries", "3", "--temperature", "1.2", "--top-p", "0.9")


@pytest.mark.parametrize("more", [(), SAMPLED])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_any_batch_size_gives_the_same_bytes(tiny, tmp_path, dtype, more):
    expected = generate(tiny, tmp_path, dtype, 32, *more).read_bytes()
    for batch_size in (1, 3, 8):
        assert generate(tiny, tmp_path, dtype, batch_size, *more).read_bytes() == expected


def test_any_batch_size_gives_the_same_scores(tiny, tmp_path):
    queries = generate(tiny, tmp_path, "float32", 32)
    found = set()
    for batch_size in ("1", "3", "32"):
        output = tmp_path / f"scored-{batch_size}.jsonl"
        flags = ["--corpus", str(tmp_path / "corpus.jsonl"), "--prompt", str(tmp_path / "prompt.txt")]
        model = ["--model", str(tiny("llama")), "--dtype", "float32", "--batch-size", batch_size]
        assert main(["score", "--input", str(queries), *flags, *model, "--output", str(output), "--quiet"]) == 0
        found.add(output.read_bytes())
    assert len(found) == 1


class NotedRows:
    """A `Rows` whose logits are the first tokens of its prompts."""

    def start(self, prompts, _room):
        self.prompts, self.rows = prompts, torch.tensor([prompt[0] for prompt in prompts])
        return self.rows[:, None]

    def keep(self, rows):
        self.rows = self.rows[rows]


@pytest.mark.parametrize(("dtype", "read"), [(torch.bfloat16, 3), (torch.float32, 4)])
def test_a_document_is_read_once_for_all_its_queries(monkeypatch, dtype, read):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 1)
    prompts = [[7, 1], [7, 1], [5, 2], [5, 2], [9, 3], [9, 3]]
    rows = NotedRows()
    logits = BatchInvariantRows(rows, torch.nn.Linear(1, 1, dtype=dtype)).start(prompts, 1)
    assert len(rows.prompts) == read
    assert logits[:, 0].tolist() == [7, 7, 5, 5, 9, 9] == rows.rows[:6].tolist()
