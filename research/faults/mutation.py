"""Break a file in the ways in which files break: bytes cut, flipped, doubled, lost, mixed up with another's."""

import csv
import json
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from io import StringIO
from typing import Any

import numpy as np
import yaml
from numpy.random import Generator

EARLY = 2048  # headers and metadata lie here, and more can go wrong with them than with pixels
_NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\x7f")
_WORDS = (
    b"-1", b"0", b"1e308", b"NaN", b"null", b"[]", b"{}", b'""', b"99999999999999999999", b"../../x", b"\xef\xbb\xbf",
    b"\0", b"\xff\xfe", b"'", b'"', b"\n", b": ", b"true", b"\xf0\x9f\x98\x80", b"1" * 400,
)  # fmt: skip


_VALUES: tuple[Any, ...] = (
    -1, 0, 1, 0.5, 1e308, float("nan"), float("inf"), 10**12, 10**30, None, True, "", "x", "../../x", "a\0b", "1", [],
    {}, [[]], [1], {"x": 1}, "all", "0:1",
)  # fmt: skip


def mutated(data: bytes, other: bytes, random: Generator, ending: str = "") -> bytes:
    """The file with one to three faults.

    Args:
        other: another file of its kind, of which a piece may get in.
        ending: of its name: half of the files that hold values get wrong ones, and stay files of their kind.
    """
    if ending in _TREES and random.random() < 0.5:
        return _TREES[ending](data, random)
    for _ in range(int(random.integers(1, 4))):
        change = _CHANGES[int(random.integers(len(_CHANGES)))]
        data = change(bytearray(data), other, random)
    return data


def _revalued(tree: Any, random: Generator) -> Any:
    """The tree with one or two values replaced, keys lost or moved."""
    for _ in range(int(random.integers(1, 3))):
        places: list[tuple[Any, Any]] = []

        def walk(node: Any, places: list[tuple[Any, Any]] = places) -> None:
            for key in list(node) if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ():
                places.append((node, key))
                walk(node[key])

        walk(tree)
        if not places or random.random() < 0.02:
            return _VALUES[int(random.integers(len(_VALUES)))]
        node, key = places[int(random.integers(len(places)))]
        chance = random.random()
        if chance < 0.15:
            del node[key]
        elif chance < 0.25 and isinstance(node, dict):
            node[f"{key}x"] = node.pop(key)
        elif chance < 0.35:
            other, theirs = places[int(random.integers(len(places)))]
            node[key] = json.loads(json.dumps(other[theirs], default=str)) if theirs in other else None
        else:
            node[key] = _VALUES[int(random.integers(len(_VALUES)))]
    return tree


def _json(data: bytes, random: Generator) -> bytes:
    return json.dumps(_revalued(json.loads(data), random)).encode()


def _yaml(data: bytes, random: Generator) -> bytes:
    return yaml.safe_dump(_revalued(yaml.safe_load(data), random)).encode()


def _lines(data: bytes, random: Generator) -> bytes:
    tree = _revalued([json.loads(line) for line in data.splitlines()], random)
    return b"".join(json.dumps(line).encode() + b"\n" for line in (tree if isinstance(tree, list) else [tree]))


def _csv(data: bytes, random: Generator) -> bytes:
    written, tree = StringIO(), _revalued(list(csv.reader(StringIO(data.decode()))), random)
    csv.writer(written).writerows(
        row if isinstance(row, list) else [row] for row in (tree if isinstance(tree, list) else [tree])
    )
    return written.getvalue().encode()


def _safetensors(data: bytes, random: Generator) -> bytes:
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.dumps(_revalued(json.loads(data[8:end]), random)).encode()
    return len(header).to_bytes(8, "little") + header + data[end:]


def _database(data: bytes, random: Generator) -> bytes:
    """A row gone, or one of its values another."""

    def some(query: str) -> list[Any]:
        return [found for (found,) in base.execute(query)]

    def one(of: Sequence[Any]) -> Any:
        return of[int(random.integers(len(of)))]

    with closing(sqlite3.connect(":memory:")) as base:
        base.deserialize(data)
        tables = some("select name from sqlite_master where type = 'table'")
        table = one([table for table in tables if some(f"select 1 from {table} limit 1")])
        column, row = (
            one(some(f"select name from pragma_table_info('{table}')")),
            one(some(f"select rowid from {table}")),
        )
        value = one(_VALUES)
        with suppress(sqlite3.IntegrityError):  # what the table's rules forbid
            if random.random() < 0.2:
                base.execute(f"delete from {table} where rowid = ?", (row,))
            else:
                base.execute(f"update {table} set {column} = ? where rowid = ?", (json.dumps(value), row))
        base.commit()
        return bytes(base.serialize())


_TREES: dict[str, Callable[[bytes, Generator], bytes]] = {
    ".json": _json, ".yaml": _yaml, ".jsonl": _lines, ".csv": _csv, ".safetensors": _safetensors,
    ".db": _database,
}  # fmt: skip


def _place(data: Sequence[int], random: Generator) -> int:
    if not data:
        return 0
    early = min(len(data), EARLY) if random.random() < 0.6 else len(data)
    return int(random.integers(early))


def _span(data: Sequence[int], random: Generator) -> slice:
    start = _place(data, random)
    return slice(start, start + int(2 ** random.uniform(0, np.log2(max(2, len(data) / 4)))))


def _cut(data: bytearray, _: bytes, random: Generator) -> bytes:
    return bytes(data[: _place(data, random)])


def _flip(data: bytearray, _: bytes, random: Generator) -> bytes:
    for _time in range(int(random.integers(1, 9))):
        if data:
            data[_place(data, random)] ^= 1 << int(random.integers(8))
    return bytes(data)


def _number(data: bytearray, _: bytes, random: Generator) -> bytes:
    start = _place(data, random)
    data[start : start + 4] = _NUMBERS[int(random.integers(len(_NUMBERS)))]
    return bytes(data)


def _word(data: bytearray, _: bytes, random: Generator) -> bytes:
    start = _place(data, random)
    data[start : start + int(random.integers(0, 6))] = _WORDS[int(random.integers(len(_WORDS)))]
    return bytes(data)


def _lose(data: bytearray, _: bytes, random: Generator) -> bytes:
    del data[_span(data, random)]
    return bytes(data)


def _double(data: bytearray, _: bytes, random: Generator) -> bytes:
    span = _span(data, random)
    return bytes(data[: span.start] + data[span] * int(random.integers(2, 5)) + data[span.stop :])


def _blank(data: bytearray, _: bytes, random: Generator) -> bytes:
    span = _span(data, random)
    data[span] = bytes(len(data[span]))
    return bytes(data)


def _mix(data: bytearray, other: bytes, random: Generator) -> bytes:
    data[_span(data, random)] = other[_span(other, random)]
    return bytes(data)


_CHANGES: tuple[Callable[[bytearray, bytes, Generator], bytes], ...] = (
    _cut, _flip, _flip, _number, _number, _word, _word, _lose, _double, _blank, _mix,
)  # fmt: skip
