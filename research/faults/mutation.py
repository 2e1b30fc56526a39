"""Break a file in the ways in which files break: bytes cut, flipped, doubled, lost, mixed up with another's."""

from collections.abc import Callable, Sequence

import numpy as np
from numpy.random import Generator

EARLY = 2048  # headers and metadata lie here, and more can go wrong with them than with pixels
_NUMBERS = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\x80\0\0\0", b"\0\0\0\1", b"\xff\xff\xff\x7f")
_WORDS = (
    b"-1", b"0", b"1e308", b"NaN", b"null", b"[]", b"{}", b'""', b"99999999999999999999", b"../../x", b"\xef\xbb\xbf",
    b"\0", b"\xff\xfe", b"'", b'"', b"\n", b": ", b"true", b"\xf0\x9f\x98\x80", b"1" * 400,
)  # fmt: skip


def mutated(data: bytes, other: bytes, random: Generator) -> bytes:
    """The file with one to three faults.

    Args:
        other: another file of its kind, of which a piece may get in.
    """
    for _ in range(int(random.integers(1, 4))):
        change = _CHANGES[int(random.integers(len(_CHANGES)))]
        data = change(bytearray(data), other, random)
    return data


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
