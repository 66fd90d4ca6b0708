"""GenQ's shards."""

from inpars.contrib.interchange.genq_pairs import write_pairs
from inpars.records import SyntheticQuery


def query(number, text="a query"):
    return SyntheticQuery(f"d{number}-q0", f"d{number}", text, (-1.0,), None, "stop", "raw", "p", "m")


def test_shards_hold_1024_pairs_and_old_ones_go(tmp_path):
    (tmp_path / "pairs_00007.tsv").write_text("of an earlier writing\n")
    (tmp_path / "notes.tsv").write_text("mine\n")
    queries = [query(number) for number in range(1025)] + [query(2000, "  ")]
    assert write_pairs(tmp_path, queries, lambda doc_id: f"text of\n{doc_id}") == 1025
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.tsv", "pairs_00000.tsv", "pairs_00001.tsv"]
    assert (tmp_path / "pairs_00000.tsv").read_text().count("\n") == 1024
    assert (tmp_path / "pairs_00001.tsv").read_text() == "a query\ttext of d1024\n"
