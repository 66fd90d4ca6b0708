"""In float64 the file of queries has the same bytes whatever the batch size; in float32 the same queries."""

import pytest
from tiny_models import sentence

from inpars.cli import main
from inpars.formats import read_synthetic_queries, write_documents
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


@pytest.mark.parametrize("more", [(), ("--num-queries", "3", "--temperature", "1.2", "--top-p", "0.9")])
def test_any_batch_size_gives_the_same_bytes_in_float64(tiny, tmp_path, more):
    expected = generate(tiny, tmp_path, "float64", 32, *more).read_bytes()
    for batch_size in (1, 3, 8):
        assert generate(tiny, tmp_path, "float64", batch_size, *more).read_bytes() == expected


def test_any_batch_size_gives_the_same_queries_in_float32(tiny, tmp_path):
    expected = list(read_synthetic_queries(generate(tiny, tmp_path, "float32", 32)))
    for batch_size in (1, 5):
        found = list(read_synthetic_queries(generate(tiny, tmp_path, "float32", batch_size)))
        assert [query.token_ids for query in found] == [query.token_ids for query in expected]
        for mine, theirs in zip(found, expected, strict=True):
            assert mine.token_log_probs == pytest.approx(theirs.token_log_probs, abs=2e-5)
