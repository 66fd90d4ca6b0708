"""Divides a stage's work into shards, and merges their output.

The last digits of a model's output depend on what else is in the batch, so all shards must use the same chunks. Items
(documents, queries) are split into blocks in input order; each block is planned into chunks of similar length, and the
chunks of all blocks in turn are the *planned order*. A shard is a slice of that order, determined by the numbers of
items and shards. A chunk across a border is computed by both neighbours, each of which keeps its own items, so any
number of shards gives the same bytes. Borders of large shards fall between chunks, and a shard plans only its blocks.

Each shard records its `places`: its items' positions in the input and their numbers of lines. Merging needs only these.
"""

from __future__ import annotations

import glob
import heapq
import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeAlias

from inpars.errors import ConfigError
from inpars.io.storage import open_lines

BLOCK_ITEMS = 4096  # planned together; a multiple of the chunk size of every model
ALIGNMENT = 2048  # borders of large shards are multiples of this, so that no chunk is computed twice
ALIGNED_FROM = 16  # alignments in a large shard, which thus exceeds its share by at most a sixteenth
NAME = re.compile(r".*\.shard-(\d+)-of-(\d+)(\.\w+)?(\.gz)?")
PLACES = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?(?:\*(\d{1,18}))?")
SHARD_RESULT = "shard"  # the result in a manifest with a shard's items

Plan: TypeAlias = Callable[[range], Sequence[Sequence[int]]]
"""Splits a block of items into chunks, as positions relative to the block's first item."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard, numbered from 1; shards are about equal, or have `size` items each."""

    number: int
    count: int
    size: int | None = None

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Parse `3/64`. Raises ConfigError."""
        match = re.fullmatch(r"\s*(\d{1,18})\s*/\s*(\d{1,18})\s*", text)
        if match is None:
            raise ConfigError(f"--shard is {text!r}; give number and count, 3/64 for the third of 64")
        number, count = int(match[1]), int(match[2])
        if not 1 <= number <= count:
            raise ConfigError(
                f"--shard is {text!r}; shards are numbered from 1 to their count (SLURM: --array=1-{max(count, 1)})"
            )
        return cls(number, count)

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"

    def of(self, total: int) -> range:
        """This shard's slice of the planned order (of the input, for stages without a plan)."""
        return range(self._border(self.number - 1, total), self._border(self.number, total))

    def _border(self, after: int, total: int) -> int:
        if self.size is not None:
            return min(self.size * after, total)
        exact = total * after // self.count
        large = total >= ALIGNED_FROM * ALIGNMENT * self.count
        return exact // ALIGNMENT * ALIGNMENT if large and after < self.count else exact


@dataclass(frozen=True, slots=True)
class Chunk:
    """Positions of items computed together; those from `first` to `stop` belong to the shard."""

    positions: tuple[int, ...]
    first: int
    stop: int

    @property
    def shard_positions(self) -> tuple[int, ...]:
        return self.positions[self.first : self.stop]


def blocks(total: int, size: int = BLOCK_ITEMS) -> Iterator[range]:
    """The ranges of items that are planned together."""
    return (range(start, min(start + size, total)) for start in range(0, total, size))


def chunks_of(
    total: int, plan: Plan, shard: Shard | None = None, *, ends: Collection[int] = (0,), block: int = BLOCK_ITEMS
) -> tuple[int, Iterator[Chunk]]:
    """The number of finished items of the shard (of all if None), and the remaining chunks in order.

    `ends` are the numbers of items after which an interrupted run had saved a whole chunk; only those count at which
    a chunk still ends. Blocks are planned lazily.
    """
    items = own_items(total, shard)
    reached = items.start + max(ends, default=0)
    if reached >= items.stop:
        return len(items), iter(())
    here = next(part for part in blocks(total, block) if reached in part)
    planned = list(_planned(here, plan, items))
    sums = [max(here.start, items.start)]
    for chunk in planned:
        sums.append(sums[-1] + len(chunk.shard_positions))
    done = max((index for index, end in enumerate(sums) if end <= reached and end - items.start in ends), default=0)
    later = (part for part in blocks(total, block) if here.stop <= part.start < items.stop)

    def remaining() -> Iterator[Chunk]:
        yield from planned[done:]
        for part in later:
            yield from _planned(part, plan, items)

    return sums[done] - items.start, remaining()


def _planned(block: range, plan: Plan, items: range) -> Iterator[Chunk]:
    """The chunks of one block that contain items of the shard."""
    start = block.start
    for positions in plan(block):
        stop = start + len(positions)
        first, last = max(items.start - start, 0), min(items.stop, stop) - start
        if first < last:
            yield Chunk(tuple(block.start + position for position in positions), first, last)
        start = stop


def positions_of(total: int, plan: Plan, shard: Shard | None = None, *, block: int = BLOCK_ITEMS) -> Iterator[int]:
    """Ascending positions of the items that `chunks_of` gives this shard; plans only blocks shared with others."""
    items = own_items(total, shard)
    for part in blocks(total, block):
        if items.start <= part.start and part.stop <= items.stop:
            yield from part
        elif part.start < items.stop and items.start < part.stop:
            yield from sorted(position for chunk in _planned(part, plan, items) for position in chunk.shard_positions)


def planned_items(items: range, total: int) -> range:
    """The items of all blocks that overlap a slice of the planned order."""
    start, stop = items.start // BLOCK_ITEMS * BLOCK_ITEMS, -(-items.stop // BLOCK_ITEMS) * BLOCK_ITEMS
    return range(start, min(stop, total)) if items else items


def own_items(total: int, part: Shard | None) -> range:
    """The shard's slice of the items; all of them without a shard."""
    return range(total) if part is None else part.of(total)


def shard_path(output: Path, shard: Shard) -> Path:
    """The path of a shard: `queries.shard-03-of-64.jsonl` for `queries.jsonl`."""
    stem, ending = _split_name(output.name)
    digits = max(2, len(str(shard.count)))
    return output.with_name(f"{stem}.shard-{shard.number:0{digits}}-of-{shard.count:0{digits}}{ending}")


def shard_of_path(path: Path) -> Shard | None:
    """The shard in a file's name; None if there is none."""
    match = NAME.fullmatch(path.name)
    return None if match is None else Shard(int(match[1]), int(match[2]))


def shards_of(output: Path) -> list[Path]:
    """The shard files next to an output, in order. Raises ConfigError if their counts differ."""
    stem, ending = _split_name(output.name)
    pattern = f"{glob.escape(stem)}.shard-*-of-*{glob.escape(ending)}"
    named = {path: shard_of_path(path) for path in output.parent.glob(pattern)}
    shards = {path: shard for path, shard in named.items() if shard and shard_path(output, shard) == path}
    counts = sorted({shard.count for shard in shards.values()})
    if len(counts) > 1:
        several = " and of ".join(map(str, counts))
        raise ConfigError(f"{output} has shards of {several}; name those to merge, or remove the others")
    return sorted(shards, key=lambda path: shards[path].number)


def _split_name(name: str) -> tuple[str, str]:
    """A file name split before its extension, which includes `.gz`."""
    packed = ".gz" if name.endswith(".gz") else ""
    plain = Path(name.removesuffix(packed))
    return plain.stem, plain.suffix + packed


def pack_positions(lines_at: Iterable[tuple[int, int]]) -> str:
    """Ascending (position, lines) as text: `0-4095 4097*0 5000-5002*3`; one line per item unless given."""
    runs = (
        (list(group), lines)
        for (_, lines), group in groupby(
            ((position, lines, position - number) for number, (position, lines) in enumerate(lines_at)),
            key=lambda item: (item[2], item[1]),
        )
    )
    return " ".join(
        (f"{group[0][0]}-{group[-1][0]}" if len(group) > 1 else f"{group[0][0]}") + ("" if lines == 1 else f"*{lines}")
        for group, lines in runs
    )


def shard_results(part: Shard | None, total: int, lines_at: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """The manifest entry of a shard: the total number of items, and (position, lines) of its own."""
    return {} if part is None else {SHARD_RESULT: {"items": total, "places": pack_positions(lines_at)}}


def unpack_positions(text: str) -> Iterator[tuple[int, int]]:
    """The inverse of `pack_positions`."""
    for part in text.split():
        ends, _, lines = part.partition("*")
        first, _, last = ends.partition("-")
        yield from ((position, int(lines or 1)) for position in range(int(first), int(last or first) + 1))


def count_lines(text: str, items: int) -> int:
    """The number of lines at the positions, which are below `items`. Raises ValueError for malformed text."""
    total = expected = 0
    for part in text.split():
        if (match := PLACES.fullmatch(part)) is None:
            raise ValueError(f"{part[:20]!r} names no items")
        first, last = int(match[1]), int(match[2] or match[1])
        if not expected <= first <= last < items:
            raise ValueError(f"{part[:20]!r} is out of order, or beyond {items} items")
        total, expected = total + (last - first + 1) * int(match[3] or 1), last + 1
    return total


def merged_lines(parts: Sequence[tuple[Path, str]]) -> Iterator[str]:
    """The lines of all parts in input order; each file is open only from its first line to its last.

    A part is a file and its packed positions. Raises ConfigError for positions that are missing or in two parts.
    """
    streams = [_lines(path) for path, _ in parts]
    remaining = [sum(lines for _, lines in unpack_positions(positions)) for _, positions in parts]
    expected, before = 0, 0
    for position, number, lines in heapq.merge(*(_numbered(number, part[1]) for number, part in enumerate(parts))):
        if position != expected:
            raise _misplaced(parts[number][0], parts[before][0], position, expected)
        chunk = list(islice(streams[number], lines))
        if len(chunk) < lines:
            raise ConfigError(f"{parts[number][0]} has fewer lines than it should; run its shard again")
        yield from chunk
        remaining[number] -= lines
        if not remaining[number]:
            streams[number].close()
        expected, before = position + 1, number


def _numbered(number: int, positions: str) -> Iterator[tuple[int, int, int]]:
    return ((position, number, lines) for position, lines in unpack_positions(positions))


def _misplaced(path: Path, before: Path, position: int, expected: int) -> ConfigError:
    if position < expected:
        return ConfigError(f"{path} and {before} both have item {position} of the input; run one of them again")
    return ConfigError(
        f"no shard has items {expected} to {position - 1} of the input; run the shard before {path} again"
    )


def _lines(path: Path) -> Generator[str, None, None]:
    with open_lines(path) as stream:
        for raw in stream:
            yield raw.decode().removesuffix("\n")
