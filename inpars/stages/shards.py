"""Which part of a stage's work is whose, and how the parts become one file again.

What a model answers depends in the last digits on what is read together with it, so everybody must cut the work into
the same chunks. Items (documents, queries) are taken in blocks of the input's order; each block is planned by itself
into chunks of similar length, and the blocks' chunks one after the other are the *planned order*. A shard is a slice of
that order, which depends on nothing but the number of items and of shards. A chunk that lies across a border is
computed by both neighbours, each of which keeps its own items; so any number of shards gives the same bytes. Borders of
large shards fall between chunks, and a shard plans no more than its own blocks.

Each shard says where its lines belong: `places`, which items of the input it has and how many lines each. Merging goes
by the places alone, line by line, whatever the lines are. Knows nothing of models, stages and manifests.
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
from inpars.storage import open_lines

BLOCK_ITEMS = 4096  # planned together; a multiple of every model's chunk
ALIGNMENT = 2048  # borders of large shards are multiples of this, so that no chunk is computed twice
ALIGNED_FROM = 16  # times the alignment is a large shard: it gets at most a sixteenth more than its share
NAME = re.compile(r".*\.shard-(\d+)-of-(\d+)(\.\w+)?(\.gz)?")
PLACES = re.compile(r"(\d{1,18})(?:-(\d{1,18}))?(?:\*(\d{1,18}))?")
SHARD_RESULT = "shard"  # where a shard's manifest says which items of how many it has

Plan: TypeAlias = Callable[[range], Sequence[Sequence[int]]]
"""Chunks of a block of items, as positions from the block's first; together they are the block."""


@dataclass(frozen=True, slots=True)
class Shard:
    """One of several parts, numbered from 1: of about equal size, or of `size` items each."""

    number: int
    count: int
    size: int | None = None

    @classmethod
    def parse(cls, text: str) -> Shard:
        """`3/64`. Raises ConfigError."""
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
        """The slice of the planned order (of an order that is not planned: of the input) that is this shard's."""
        return range(self._border(self.number - 1, total), self._border(self.number, total))

    def _border(self, after: int, total: int) -> int:
        if self.size is not None:
            return min(self.size * after, total)
        exact = total * after // self.count
        large = total >= ALIGNED_FROM * ALIGNMENT * self.count
        return exact // ALIGNMENT * ALIGNMENT if large and after < self.count else exact


@dataclass(frozen=True, slots=True)
class Chunk:
    """Items computed together, by their places in the input, and how many of them from which on are kept."""

    places: tuple[int, ...]
    first: int
    stop: int

    @property
    def own(self) -> tuple[int, ...]:
        """The places of the items that are kept."""
        return self.places[self.first : self.stop]


def blocks(total: int, size: int = BLOCK_ITEMS) -> Iterator[range]:
    """The items of the input in parts that are planned together."""
    return (range(start, min(start + size, total)) for start in range(0, total, size))


def chunks_of(
    total: int, plan: Plan, shard: Shard | None = None, *, ends: Collection[int] = (0,), block: int = BLOCK_ITEMS
) -> tuple[int, Iterator[Chunk]]:
    """How many items of the shard (None: of all) are done, and the chunks of the others, in order.

    `ends` are the counts of items after which an earlier run had stored a whole chunk; what it stored last is done
    where chunks still end there. Blocks are planned as they are reached.
    """
    own = own_items(total, shard)
    reached = own.start + max(ends, default=0)
    if reached >= own.stop:
        return len(own), iter(())
    here = next(part for part in blocks(total, block) if reached in part)
    planned = list(_planned(here, plan, own))
    sums = [max(here.start, own.start)]
    for chunk in planned:
        sums.append(sums[-1] + len(chunk.own))
    done = max((place for place, end in enumerate(sums) if end <= reached and end - own.start in ends), default=0)
    later = (part for part in blocks(total, block) if here.stop <= part.start < own.stop)

    def left() -> Iterator[Chunk]:
        yield from planned[done:]
        for part in later:
            yield from _planned(part, plan, own)

    return sums[done] - own.start, left()


def _planned(block: range, plan: Plan, own: range) -> Iterator[Chunk]:
    """The chunks of one block that hold something of the shard's own."""
    start = block.start
    for positions in plan(block):
        stop = start + len(positions)
        first, last = max(own.start - start, 0), min(own.stop, stop) - start
        if first < last:
            yield Chunk(tuple(block.start + position for position in positions), first, last)
        start = stop


def places_of(total: int, plan: Plan, shard: Shard | None = None, *, block: int = BLOCK_ITEMS) -> Iterator[int]:
    """Ascending places of the items that `chunks_of` gives this shard; only blocks that it shares are planned."""
    own = own_items(total, shard)
    for part in blocks(total, block):
        if own.start <= part.start and part.stop <= own.stop:
            yield from part
        elif part.start < own.stop and own.start < part.stop:
            yield from sorted(place for chunk in _planned(part, plan, own) for place in chunk.own)


def planned_items(own: range, total: int, block: int = BLOCK_ITEMS) -> range:
    """The items of all blocks that a slice of the planned order lies in."""
    return range(own.start // block * block, min(-(-own.stop // block) * block, total)) if own else own


def own_items(total: int, part: Shard | None) -> range:
    """Which of the items are this shard's where they are not planned: all without a shard."""
    return range(total) if part is None else part.of(total)


def shard_path(output: Path, shard: Shard) -> Path:
    """Where a shard of an output lies: `queries.jsonl` has `queries.shard-03-of-64.jsonl`."""
    stem, ending = _split_name(output.name)
    digits = max(2, len(str(shard.count)))
    return output.with_name(f"{stem}.shard-{shard.number:0{digits}}-of-{shard.count:0{digits}}{ending}")


def shard_of_path(path: Path) -> Shard | None:
    """The shard that a file's name says."""
    match = NAME.fullmatch(path.name)
    return None if match is None else Shard(int(match[1]), int(match[2]))


def shards_beside(output: Path) -> list[Path]:
    """The shards next to an output, in order. Raises ConfigError where they are of several cuts."""
    stem, ending = _split_name(output.name)
    pattern = f"{glob.escape(stem)}.shard-*-of-*{glob.escape(ending)}"
    named = {path: shard_of_path(path) for path in output.parent.glob(pattern)}
    found = {path: shard for path, shard in named.items() if shard and shard_path(output, shard) == path}
    counts = sorted({shard.count for shard in found.values()})
    if len(counts) > 1:
        cuts = " and of ".join(map(str, counts))
        raise ConfigError(f"beside {output} lie shards of {cuts}; name those to merge, or remove the others")
    return sorted(found, key=lambda path: found[path].number)


def _split_name(name: str) -> tuple[str, str]:
    """A file's name and its ending, `.gz` and what is before it together."""
    packed = ".gz" if name.endswith(".gz") else ""
    plain = Path(name.removesuffix(packed))
    return plain.stem, plain.suffix + packed


def pack_places(lines_at: Iterable[tuple[int, int]]) -> str:
    """(place, lines there) in ascending places, as text: `0-4095 4097*0 5000-5002*3`, one line each unless said."""
    runs = (
        (list(group), lines)
        for (_, lines), group in groupby(
            ((place, lines, place - number) for number, (place, lines) in enumerate(lines_at)),
            key=lambda item: (item[2], item[1]),
        )
    )
    return " ".join(
        (f"{group[0][0]}-{group[-1][0]}" if len(group) > 1 else f"{group[0][0]}") + ("" if lines == 1 else f"*{lines}")
        for group, lines in runs
    )


def shard_results(part: Shard | None, total: int, lines_at: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """What the manifest of a shard says of it: (place, lines there) of its items, of so many in all."""
    return {} if part is None else {SHARD_RESULT: {"items": total, "places": pack_places(lines_at)}}


def unpack_places(text: str) -> Iterator[tuple[int, int]]:
    """What `pack_places` was given."""
    for part in text.split():
        ends, _, lines = part.partition("*")
        first, _, last = ends.partition("-")
        yield from ((place, int(lines or 1)) for place in range(int(first), int(last or first) + 1))


def lines_of_places(text: str, items: int) -> int:
    """How many lines places have, of `items` in all. Raises ValueError for what `pack_places` does not write."""
    total = expected = 0
    for part in text.split():
        if (match := PLACES.fullmatch(part)) is None:
            raise ValueError(f"{part[:20]!r} names no items")
        first, last = int(match[1]), int(match[2] or match[1])
        if not expected <= first <= last < items:
            raise ValueError(f"{part[:20]!r} is out of order, or beyond {items} items")
        total, expected = total + (last - first + 1) * int(match[3] or 1), last + 1
    return total


@dataclass(frozen=True, slots=True)
class Part:
    """A file of lines and where they belong."""

    path: Path
    places: str


def merged_lines(parts: Sequence[Part]) -> Iterator[str]:
    """The lines of all parts in the order of the input; a part is open from its first line to its last.

    Raises ConfigError for places that two parts have, or none.
    """
    streams = [_lines(part.path) for part in parts]
    left = [sum(lines for _, lines in unpack_places(part.places)) for part in parts]
    expected, before = 0, 0
    for place, number, lines in heapq.merge(*(_numbered(number, part) for number, part in enumerate(parts))):
        if place != expected:
            raise _misplaced(parts[number].path, parts[before].path, place, expected)
        found = list(islice(streams[number], lines))
        if len(found) < lines:
            raise ConfigError(f"{parts[number].path} has fewer lines than it should; run its shard again")
        yield from found
        left[number] -= lines
        if not left[number]:
            streams[number].close()
        expected, before = place + 1, number


def _numbered(number: int, part: Part) -> Iterator[tuple[int, int, int]]:
    return ((place, number, lines) for place, lines in unpack_places(part.places))


def _misplaced(path: Path, before: Path, place: int, expected: int) -> ConfigError:
    if place < expected:
        return ConfigError(f"{path} and {before} both have item {place} of the input; run one of them again")
    return ConfigError(f"no shard has items {expected} to {place - 1} of the input; run the shard before {path} again")


def _lines(path: Path) -> Generator[str, None, None]:
    with open_lines(path) as stream:
        for raw in stream:
            yield raw.decode().removesuffix("\n")
