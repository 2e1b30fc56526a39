"""Names of people: sampled from a list of any length, or drawn with Faker from many countries."""

import csv
import gzip
import re
import zlib
from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from heapq import heappush, heapreplace
from io import TextIOWrapper
from math import ceil
from os import fstat
from pathlib import Path
from textwrap import shorten
from typing import BinaryIO
from unicodedata import normalize

import numpy as np
from faker import Faker
from numpy.random import Generator

from undistill.base.errors import UsageError
from undistill.base.progress import progress

ANYWHERE = (
    *("cs_CZ", "da_DK", "de_DE", "el_GR", "en_GB", "en_IE", "en_IN", "en_KE", "en_US", "es_CO", "es_ES", "es_MX"),
    *("fa_IR", "fi_FI", "fr_FR", "hi_IN", "hu_HU", "id_ID", "it_IT", "ja_JP", "ko_KR", "nl_NL", "no_NO", "pl_PL"),
    *("pt_BR", "ro_RO", "ru_RU", "sv_SE", "th_TH", "tr_TR", "tw_GH", "yo_NG", "zh_CN", "zu_ZA"),
)
_FAMILY_FIRST = {"ja_JP": " ", "ko_KR": "", "zh_CN": ""}
# Draws in a row that may bring nothing new.
_FRUITLESS_DRAWS = 1000

_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_NULL = r"\N"  # IMDb's
_ACTING = {"actor", "actress"}
_MB = 1_000_000


@cache
def _faker(locale: str) -> Faker:
    return Faker(locale)


def full_name(gender: str, locale: str, random: Generator) -> str:
    """A full name by Faker, in the script and the order of the locale."""
    faker = _faker(locale)
    faker.seed_instance(int(random.integers(2**63)))
    if gender == "male":
        first, family = faker.first_name_male(), faker.last_name_male()
    else:
        first, family = faker.first_name_female(), faker.last_name_female()
    if locale in _FAMILY_FIRST:
        return f"{family}{_FAMILY_FIRST[locale]}{first}"
    return f"{first} {family}"


def normalised(name: str) -> str:
    """Unicode NFC, one space between words, no control characters. Script and case stay."""
    return normalize("NFC", " ".join(_CONTROL.sub(" ", name).split()))


def draw_names(count: int, seed: int) -> list[str]:
    """Different names by Faker, men's and women's alike, from anywhere; the first of more are the same.

    Faker's lists are part of the seed's meaning: another version of it may draw other names.

    Raises:
        UsageError: Faker has fewer names.
    """
    random = np.random.default_rng(seed)
    names: dict[str, None] = {}
    in_vain = 0
    with progress("drawing names", count) as bar:
        while len(names) < count and in_vain < _FRUITLESS_DRAWS:
            name = normalised(full_name(random.choice(["male", "female"]), str(random.choice(ANYWHERE)), random))
            in_vain += 1
            if name not in names:
                names[name] = None
                in_vain = 0
                bar.advance()
    return _enough(list(names), count, "Faker")


def sample_names(path: Path, count: int, seed: int) -> list[str]:
    """Different names from a file, without replacement; `read_names` says what files.

    Those are kept whose SHA-256 of seed and name is among the `count` smallest, in the order of these hashes. So memory
    holds `count` names, however long the file is; a name that occurs twice is no likelier; the order of the rows does
    not matter; and the first of more names are the same.

    Raises:
        UsageError: the file can't be read, is no list of names, or has fewer.
    """
    return _enough(_smallest(map(normalised, read_names(path)), count, seed), count, str(path))


def _smallest(names: Iterable[str], count: int, seed: int) -> list[str]:
    kept: dict[int, str] = {}
    largest_first: list[int] = []
    keyed = sha256(f"{seed}\n".encode())
    for name in names:
        hashed = keyed.copy()
        hashed.update(name.encode())
        place = int.from_bytes(hashed.digest())
        if not name or place in kept:
            continue
        if len(kept) < count:
            heappush(largest_first, -place)
        elif place < -largest_first[0]:
            del kept[-heapreplace(largest_first, -place)]
        else:
            continue
        kept[place] = name
    return [kept[place] for place in sorted(kept)]


def _enough(names: list[str], count: int, source: str) -> list[str]:
    if not names:
        raise UsageError(f"{source} has no name inside")
    if len(names) < count:
        raise UsageError(
            f"{source} has {len(names)} different names, {count} are wanted: ask for fewer, or give it more"
        )
    return names


def read_names(path: Path) -> Iterator[str]:
    """The names of a file as they stand there, one after another; `.gz` after its name: compressed.

    - `.tsv`: IMDb's name.basics.tsv. `primaryName` where `primaryProfession` holds actor or actress.
    - `.csv`: the column `name`.
    - any other: a name a line.

    Raises:
        UsageError: the file can't be read, or is no list of names.
    """
    plain = path.name.lower().removesuffix(".gz")
    compressed = plain != path.name.lower()
    reading = {".tsv": _imdb, ".csv": _column}.get(Path(plain).suffix)
    try:
        with path.open("rb") as file:
            raw = gzip.GzipFile(fileobj=file) if compressed else file
            lines = _with_progress(TextIOWrapper(raw, encoding="utf-8-sig", newline="\n"), file)
            yield from reading(lines, path) if reading else lines
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise UsageError(f"{path} is no whole gzip file ({error}): get it anew, or unpack it") from error
    except OSError as error:
        raise UsageError(f"{path} can't be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not in UTF-8 ({error.reason}): save it as UTF-8") from error
    except csv.Error as error:
        raise UsageError(f"{path} is no CSV: {error}") from error


def _with_progress(lines: Iterable[str], file: BinaryIO) -> Iterator[str]:
    """The lines, with a bar that counts the megabytes of `file` they come from; a pipe has no known length."""
    size = fstat(file.fileno()).st_size if file.seekable() else 0
    done = 0
    with progress("reading names, MB", ceil(size / _MB)) as bar:
        for number, line in enumerate(lines, start=1):
            yield line
            if size and number % 1000 == 0:
                while (done + 1) * _MB <= file.tell():
                    bar.advance()
                    done += 1
        for _ in range(done, ceil(size / _MB)):
            bar.advance()


def _imdb(lines: Iterator[str], path: Path) -> Iterator[str]:
    # No quotes in these files: a quote is part of a name.
    rows = (line.rstrip("\r\n").split("\t") for line in lines)
    header = next(rows, [])
    name, profession = (_find(column, header, path) for column in ("primaryName", "primaryProfession"))
    for number, row in enumerate(rows, start=2):
        if len(row) != len(header):
            raise UsageError(f"{path}, line {number}: {len(row)} columns, the header has {len(header)}; get it anew")
        if row[name] != _NULL and not _ACTING.isdisjoint(row[profession].split(",")):
            yield row[name]


def _column(lines: Iterator[str], path: Path) -> Iterator[str]:
    rows = csv.reader(lines, strict=True)
    header = next(rows, [])
    name = _find("name", header, path)
    for row in rows:
        if row and len(row) != len(header):
            raise UsageError(
                f"{path}, line {rows.line_num}: {len(row)} columns, the header has {len(header)}; "
                'a name with a comma stands in "quotes"'
            )
        yield row[name] if row else ""


def _find(column: str, header: list[str], path: Path) -> int:
    if column not in header:
        raise UsageError(f"{path}: no column {column} in its first line, which is {shorten(','.join(header), 60)!r}")
    return header.index(column)
