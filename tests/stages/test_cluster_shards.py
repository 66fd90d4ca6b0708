"""Shards: which items each one gets, and that their output merges into the whole."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from inpars.errors import ConfigError
from inpars.stages import shards
from inpars.stages.shards import (
    Shard,
    chunks_of,
    count_lines,
    merged_lines,
    pack_positions,
    shard_of_path,
    shard_path,
    shards_of,
    unpack_positions,
)


def shuffled_plan(seed: int, size: int) -> shards.Plan:
    """Chunks of `size` items in another order, as if sorted by length."""

    def plan(block: range) -> list[list[int]]:
        order = list(range(len(block)))
        random.Random(seed + block.start).shuffle(order)
        return [order[start : start + size] for start in range(0, len(order), size)]

    return plan


@pytest.mark.parametrize("text", ["", "3", "3/", "a/4", "0/4", "5/4", "-1/4", "1/0", "0/0", "1/4/2"])
def test_a_wrong_shard_is_told_in_one_line(text: str) -> None:
    with pytest.raises(ConfigError, match="--shard") as raised:
        Shard.parse(text)
    assert "\n" not in str(raised.value)


def test_shards_are_numbered_from_one() -> None:
    assert Shard.parse(" 3/64 ") == Shard(3, 64)
    # 10 items in 3: borders at 10*1//3 = 3 and 10*2//3 = 6
    assert [Shard(number, 3).of(10) for number in (1, 2, 3)] == [range(3), range(3, 6), range(6, 10)]
    assert [len(Shard(number, 4).of(2)) for number in (1, 2, 3, 4)] == [0, 1, 0, 1]


def test_borders_of_large_shards_fall_between_chunks() -> None:
    # 8,841,823 / 64 = 138,153.5 items, 67.46 times the alignment: 67 or 68 times it, but for the last
    sizes = [len(Shard(number, 64).of(8_841_823)) for number in range(1, 65)]
    assert sum(sizes) == 8_841_823
    assert all(size % 2048 == 0 for size in sizes[:-1])
    assert max(sizes) - min(sizes) <= 2 * 2048


@given(
    total=st.integers(0, 300),
    count=st.integers(1, 9),
    size=st.integers(1, 40),
    block=st.integers(1, 100),
    seed=st.integers(0, 3),
)
def test_shards_have_every_item_once_in_chunks_of_the_whole(
    total: int, count: int, size: int, block: int, seed: int
) -> None:
    plan = shuffled_plan(seed, size)
    _, all_chunks = chunks_of(total, plan, block=block)
    whole = list(all_chunks)
    assert sorted(place for chunk in whole for place in chunk.shard_positions) == list(range(total))
    parts = [list(chunks_of(total, plan, Shard(number, count), block=block)[1]) for number in range(1, count + 1)]
    assert [place for part in parts for chunk in part for place in chunk.shard_positions] == [
        place for chunk in whole for place in chunk.shard_positions
    ]
    for number, part in enumerate(parts, start=1):
        own = sorted(place for chunk in part for place in chunk.shard_positions)
        assert list(shards.positions_of(total, plan, Shard(number, count), block=block)) == own
    together = {chunk.positions for chunk in whole}
    assert all(chunk.positions in together for part in parts for chunk in part)


@given(total=st.integers(1, 200), count=st.integers(1, 5), data=st.data())
def test_whose_item_is_whose_does_not_depend_on_the_size_of_chunks(total: int, count: int, data: st.DataObject) -> None:
    """A CPU and a GPU have different chunk sizes and may share the shards."""
    number = data.draw(st.integers(1, count))
    kept = [
        [
            p
            for c in chunks_of(total, shuffled_plan(0, size), Shard(number, count), block=64)[1]
            for p in c.shard_positions
        ]
        for size in (1, 8, 32)
    ]
    assert kept[0] == kept[1] == kept[2]


@given(
    total=st.integers(1, 200),
    stopped=st.integers(0, 20),
    count=st.integers(1, 3),
    sizes=st.tuples(*[st.integers(1, 30)] * 2),
)
def test_an_interrupted_shard_goes_on(total: int, stopped: int, count: int, sizes: tuple[int, int]) -> None:
    shard, block = Shard(1, count), 60
    order = shuffled_plan(0, sizes[0])
    chunks = list(chunks_of(total, order, shard, block=block)[1])[:stopped]
    ends = {0}
    for chunk in chunks:
        ends.add(max(ends) + len(chunk.shard_positions))
    kept = [place for chunk in chunks for place in chunk.shard_positions]
    done, left = chunks_of(total, shuffled_plan(0, sizes[1]), shard, ends=ends, block=block)
    assert done in ends
    if sizes[0] == sizes[1]:
        assert done == max(ends)
    after = [place for chunk in left for place in chunk.shard_positions]
    assert kept[:done] + after == [
        p for c in chunks_of(total, shuffled_plan(0, sizes[1]), shard, block=block)[1] for p in c.shard_positions
    ]


def test_a_shard_plans_its_own_blocks_only() -> None:
    planned = []

    def plan(block: range) -> list[list[int]]:
        planned.append(block)
        return [list(range(len(block)))]

    list(chunks_of(1000, plan, Shard(2, 4), block=100)[1])
    assert planned == [range(200, 300), range(300, 400), range(400, 500)]


def test_batches_that_are_not_planned_lie_as_in_the_whole() -> None:
    """14 items by fives; the second half of two, 7 to 13, reads the whole of 5 to 9 and keeps the last three."""
    _, chunks = chunks_of(14, lambda block: [range(len(block))], Shard(2, 2), block=5)
    assert [(chunk.positions, chunk.shard_positions) for chunk in chunks] == [
        ((5, 6, 7, 8, 9), (7, 8, 9)),
        ((10, 11, 12, 13), (10, 11, 12, 13)),
    ]


@given(st.dictionaries(st.integers(0, 60), st.integers(0, 3)))
def test_places_round_trip(lines_at: dict[int, int]) -> None:
    ordered = sorted(lines_at.items())
    assert list(unpack_positions(pack_positions(ordered))) == ordered


def test_places_are_short() -> None:
    assert pack_positions([(0, 1), (1, 1), (2, 1), (4, 0), (7, 3), (8, 3)]) == "0-2 4*0 7-8*3"
    assert pack_positions([]) == ""


@given(owners=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=40))
def test_merging_restores_the_order(tmp_path_factory: pytest.TempPathFactory, owners: list[tuple[int, int]]) -> None:
    folder = tmp_path_factory.mktemp("merge")
    parts = []
    for number in range(4):
        mine = [(place, lines) for place, (owner, lines) in enumerate(owners) if owner == number]
        path = folder / f"{number}.jsonl"
        path.write_text("".join(f"{place}.{line}é\n" for place, lines in mine for line in range(lines)))
        parts.append((path, pack_positions(mine)))
    expected = [f"{place}.{line}é" for place, (_, lines) in enumerate(owners) for line in range(lines)]
    assert list(merged_lines(parts)) == expected


def test_overlapping_and_missing_places_are_refused(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.write_text("a\nb\n")
    two.write_text("b\nc\n")
    with pytest.raises(ConfigError, match=r"(one|two) .*have item 1"):
        list(merged_lines([(one, "0-1"), (two, "1-2")]))
    with pytest.raises(ConfigError, match="no shard has items 2 to 3"):
        list(merged_lines([(one, "0-1"), (two, "4-5")]))


def test_lines_of_places_are_counted() -> None:
    assert count_lines("0-2 4*0 7-8*3", items=9) == 3 + 0 + 2 * 3
    assert count_lines("", items=0) == 0


@pytest.mark.parametrize("places", ["0-9", "3-2", "2 1", "1 1", "a", "1-", "-1", "0*", "0*-1", "1e3", "9" * 5000])
def test_places_that_nobody_writes_are_refused(places: str) -> None:
    with pytest.raises(ValueError, match=re.escape(places.rsplit(maxsplit=1)[-1][:20])):
        count_lines(places, items=9)


def test_a_shard_with_fewer_lines_than_its_places_is_refused(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("a\nb\n")
    with pytest.raises(ConfigError, match="one has fewer lines"):
        list(merged_lines([(tmp_path / "one", "0-1 2*2")]))


def test_names_of_shards(tmp_path: Path) -> None:
    output = tmp_path / "queries[1].synthetic.jsonl.gz"
    names = [shard_path(output, Shard(number, 3)) for number in (3, 1, 2)]
    assert names[0].name == "queries[1].synthetic.shard-03-of-03.jsonl.gz"
    assert shard_of_path(names[0]) == Shard(3, 3)
    assert shard_of_path(output) is None
    for path in names:
        path.touch()
    (tmp_path / "queries[1].synthetic.shard-01-of-03.jsonl.gz.manifest.json").touch()
    assert shards_of(output) == [names[1], names[2], names[0]]
    shard_path(output, Shard(1, 2)).touch()
    with pytest.raises(ConfigError, match="shards of 2 and of 3"):
        shards_of(output)
