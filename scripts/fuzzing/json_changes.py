"""Changes to JSON that keep it JSON, or nearly: values of other types, keys twice or gone, numbers nobody can hold."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from fuzzing import odd


class Raw(str):
    """A piece of JSON text that stands for a value."""


class Members(list[tuple[str, Any]]):
    """An object, whose keys may be there twice."""


MAX_CHARACTERS = 1 << 20  # of one text; a file is cut there too
Place: TypeAlias = tuple[list[Any], int]
Change: TypeAlias = Callable[[list[Any], int, random.Random], None]


def change_json(content: bytes, rng: random.Random) -> bytes:
    """One or a few changes somewhere in a JSON text; what is none comes back as it is."""
    try:
        root = [json.loads(content.decode("utf-8-sig", "surrogateescape"), object_pairs_hook=Members)]
    except (ValueError, RecursionError):
        return content
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        _change(root, rng)
    indent = b"\n" if content.endswith(b"\n") else b""
    return dumps(root[0]).encode("utf-8", "surrogateescape") + indent


def change_json_lines(content: bytes, rng: random.Random) -> bytes:
    """The same on some lines of a file of JSON lines."""
    lines = content.split(b"\n")
    whole = [place for place, line in enumerate(lines) if line.strip()]
    for place in rng.sample(whole, min(len(whole), rng.choice((1, 1, 2, len(whole) or 1)))):
        lines[place] = change_json(lines[place], rng)
    return b"\n".join(lines)


def dumps(value: Any) -> str:  # noqa: ANN401 - a JSON value
    """JSON text of parsed values with `Raw` ones among them, cut at `MAX_CHARACTERS`.

    A value that was multiplied inside one that was multiplied is shared: few bytes, but without end as text.
    """
    pieces, length = [], 0
    for piece in _pieces(value):
        pieces.append(piece)
        length += len(piece)
        if length > MAX_CHARACTERS:
            break
    return "".join(pieces)


def _pieces(value: Any) -> Iterator[str]:  # noqa: ANN401
    if isinstance(value, Raw):
        yield str(value)
    elif isinstance(value, list):
        opening, closing = "{}" if isinstance(value, Members) else "[]"
        yield opening
        for place, item in enumerate(value):
            yield ", " if place else ""
            if isinstance(value, Members):
                yield f"{json.dumps(item[0])}: "
            yield from _pieces(item[1] if isinstance(value, Members) else item)
        yield closing
    else:
        yield json.dumps(value)


def _change(root: list[Any], rng: random.Random) -> None:
    holder, index = _place(root, rng)
    rng.choice(CHANGES)(holder, index, rng)
    if not root:
        root.append(Raw(odd.json_text(rng)))


def _place(root: list[Any], rng: random.Random) -> Place:
    """Somewhere: down from the root until chance or a leaf ends it."""
    holder, index = root, 0
    while rng.random() < 0.8:
        value = _get(holder, index)
        if not isinstance(value, list) or not value:
            break
        holder, index = value, rng.randrange(len(value))
    return holder, index


def _get(holder: list[Any], index: int) -> Any:  # noqa: ANN401
    return holder[index][1] if isinstance(holder, Members) else holder[index]


def _put(holder: list[Any], index: int, value: Any) -> None:  # noqa: ANN401
    holder[index] = (holder[index][0], value) if isinstance(holder, Members) else value


def _odd(holder: list[Any], index: int, rng: random.Random) -> None:
    _put(holder, index, Raw(odd.json_text(rng)))


def _odd_text(holder: list[Any], index: int, rng: random.Random) -> None:
    """Odd characters within a text, or instead of it."""
    value = _get(holder, index)
    extra = odd.text(rng)
    if isinstance(value, str) and not isinstance(value, Raw) and rng.random() < 0.7:
        place = rng.randint(0, len(value))
        extra = value[:place] + extra + value[place:]
    _put(holder, index, extra)


def _drop(holder: list[Any], index: int, rng: random.Random) -> None:
    del holder[index]


def _repeat(holder: list[Any], index: int, rng: random.Random) -> None:
    holder.insert(rng.randint(0, len(holder)), holder[index])
    if rng.random() < 0.5:
        _odd(holder, index, rng)


def _rename(holder: list[Any], index: int, rng: random.Random) -> None:
    if isinstance(holder, Members):
        holder[index] = (rng.choice(odd.KEYS) if rng.random() < 0.6 else odd.text(rng), holder[index][1])


def _retype(holder: list[Any], index: int, rng: random.Random) -> None:
    value = _get(holder, index)
    ways: tuple[Callable[[], Any], ...] = (
        lambda: [value],
        lambda: Members([("text", value)]),
        list,
        Members,
        lambda: dumps(value),
        lambda: [value] * 3,
        lambda: Raw(json.dumps(value).strip('"')) if isinstance(value, str) and value.isdigit() else str(value)[:50],
    )
    _put(holder, index, rng.choice(ways)())


def _swap(holder: list[Any], index: int, rng: random.Random) -> None:
    other = rng.randrange(len(holder))
    one, two = _get(holder, index), _get(holder, other)
    _put(holder, index, two)
    _put(holder, other, one)


def _add(holder: list[Any], index: int, rng: random.Random) -> None:
    value = Raw(odd.json_text(rng))
    if isinstance(holder, Members):
        holder.insert(index, (rng.choice(odd.KEYS) if rng.random() < 0.8 else odd.text(rng), value))
    else:
        holder.insert(index, value)


def _many(holder: list[Any], index: int, rng: random.Random) -> None:
    holder[index:index] = [holder[index]] * rng.choice((2, 20, 500))


CHANGES: tuple[Change, ...] = (
    *(
        _odd,
        _odd,
        _odd,
        _odd,
        _odd_text,
        _odd_text,
        _drop,
        _drop,
        _repeat,
        _rename,
        _retype,
        _retype,
        _swap,
        _add,
        _many,
    ),
)
