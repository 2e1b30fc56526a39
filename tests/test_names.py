import gzip
import os
import threading
from pathlib import Path
from unicodedata import is_normalized, normalize

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from undistill import names
from undistill.base.errors import UsageError
from undistill.names import ANYWHERE, draw_names, full_name, normalised, read_names, sample_names

HEADER = "nconst\tprimaryName\tbirthYear\tdeathYear\tprimaryProfession\tknownForTitles"


def imdb(*people: tuple[str, str]) -> str:
    rows = [f"nm{k:07d}\t{name}\t1970\t\\N\t{work}\ttt0000001" for k, (name, work) in enumerate(people)]
    return "\n".join([HEADER, *rows]) + "\n"


PEOPLE = imdb(
    ("Ada Okafor", "actress,producer"),
    ('Ben "Slim" Ito', "producer,actor"),
    ("Cleo Writer", "writer"),
    ("\\N", "actor"),
    ("Dan Unknown", "\\N"),
    ("Eve Extra", "actress_double"),
    ("미나 김", "actress"),
)
ACTORS = ["Ada Okafor", 'Ben "Slim" Ito', "미나 김"]


def test_every_locale_has_names_for_both() -> None:
    for locale in ANYWHERE:
        for gender in ("male", "female"):
            assert len(full_name(gender, locale, np.random.default_rng(1))) >= 2


def test_names_fit_gender_and_locale() -> None:
    men, women = (
        {full_name(gender, "de_DE", np.random.default_rng(k)).split()[0] for k in range(200)}
        for gender in ("male", "female")
    )
    assert not men & women
    assert full_name("male", "ko_KR", np.random.default_rng(0)).isalpha()  # family name first, without a space


def test_normalises_but_keeps_every_script() -> None:
    assert normalised(" Ame\u0301lie\u00a0\t de\x00 Wit\r") == "Am\u00e9lie de Wit"
    # The last one, Persian, has a joiner that is no space.
    for name in ("Ольга Ким", "山田 花子", "김민수", "रवि शर्मा", "\u0646\u06cc\u06a9\u200c\u0646\u0627\u0645"):
        assert normalised(name.replace(" ", "\n")) == normalize("NFC", name)


@given(st.text())
def test_normalising_twice_changes_nothing(text: str) -> None:
    once = normalised(text)
    assert normalised(once) == once
    assert is_normalized("NFC", once)
    assert once == " ".join(once.split())


def test_draws_different_names_from_anywhere() -> None:
    drawn = draw_names(300, 7)
    assert len(set(drawn)) == 300
    assert drawn == [normalised(name) for name in drawn]
    assert drawn[:100] == draw_names(100, 7)
    assert len(set(drawn) & set(draw_names(300, 8))) < 20
    assert sum(name.isascii() for name in drawn) < 250


def test_drawing_ends_where_faker_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "full_name", lambda gender, locale, random: f"A {random.integers(5)}")
    assert sorted(draw_names(5, 0)) == [f"A {k}" for k in range(5)]
    with pytest.raises(UsageError, match="Faker has 5 different names, 6 are wanted"):
        draw_names(6, 0)


def test_reads_actors_and_actresses_of_imdb(tmp_path: Path) -> None:
    (tmp_path / "name.basics.tsv").write_text(PEOPLE, encoding="utf-8")
    (tmp_path / "name.basics.tsv.gz").write_bytes(gzip.compress(PEOPLE.encode()))
    (tmp_path / "windows.TSV").write_bytes(b"\xef\xbb\xbf" + PEOPLE.replace("\n", "\r\n").encode())
    for file in tmp_path.iterdir():
        assert list(read_names(file)) == ACTORS


def test_reads_csv_and_text(tmp_path: Path) -> None:
    table, text = tmp_path / "names.csv", tmp_path / "names.txt"
    table.write_text('id,name\n1,"Okafor, Ada"\n\n2,김민수\n', encoding="utf-8")
    text.write_bytes("\ufeffAda Okafor\r\n\r\n김민수".encode())
    assert sorted(sample_names(table, 2, 0)) == ["Okafor, Ada", "김민수"]
    assert sorted(sample_names(text, 2, 0)) == ["Ada Okafor", "김민수"]


def test_reads_a_pipe(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    writer = threading.Thread(target=pipe.write_text, args=["Ada Okafor\nBen Ito\n"])
    writer.start()
    assert sorted(sample_names(pipe, 2, 0)) == ["Ada Okafor", "Ben Ito"]
    writer.join()


def test_a_sample_is_the_files_names_whatever_their_order(tmp_path: Path) -> None:
    file = tmp_path / "names.txt"
    people = [f"Person {k}" for k in range(3000)]
    file.write_text("\n".join(people))
    sample = sample_names(file, 100, 7)
    assert len(set(sample)) == 100
    assert set(sample) <= set(people)
    assert sample[:30] == sample_names(file, 30, 7)
    assert len(set(sample) & set(sample_names(file, 100, 8))) < 20
    # Rows in another order, most of them twice, once with other spaces.
    file.write_text("\n".join([*reversed(people), *(name.replace(" ", "  ") for name in people[500:])]))
    assert sample_names(file, 100, 7) == sample
    assert sorted(sample_names(file, 3000, 7)) == sorted(people)


@given(st.lists(st.sampled_from("abcdefghij")), st.integers(1, 8))
def test_keeps_the_smallest_hashes(some: list[str], count: int) -> None:
    everyone = names._smallest(sorted(set(some)), 100, 3)
    assert sorted(everyone) == sorted(set(some))
    assert names._smallest(some, count, 3) == everyone[:count]


def test_every_name_is_as_likely() -> None:
    chosen = [name for seed in range(2000) for name in names._smallest("abcde" + "a" * 5, 2, seed)]
    assert all(abs(chosen.count(name) - 800) < 100 for name in "abcde")  # 4.6 standard deviations


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"", "has no name inside"),
        ("a.txt", b" \n\n", "has no name inside"),
        ("a.txt", b"Ada\nBen\nAda \n", "has 2 different names, 3 are wanted"),
        ("a.txt", b"Ad\xe9la\n", "is not in UTF-8"),
        ("a.tsv", gzip.compress(b"Ada\n", mtime=0), "is not in UTF-8"),
        ("a.tsv", b"", "no column primaryName in its first line, which is ''"),
        ("a.tsv", b"nconst\tprimaryName\n", "no column primaryProfession in its first line, which is 'nconst,primaryN"),
        ("a.tsv", f"{HEADER}\nnm1\tAda\n".encode(), "line 2: 2 columns, the header has 6"),
        ("a.tsv.gz", b"Ada\n", "is no whole gzip file"),
        ("a.tsv.gz", gzip.compress(PEOPLE.encode(), mtime=0)[:-12], "is no whole gzip file"),
        ("a.txt.gz", gzip.compress(b"", mtime=0)[:10] + b"\x07" * 20, "is no whole gzip file"),
        ("a.csv", b"Ada Okafor\n", "no column name in its first line, which is 'Ada Okafor'"),
        ("a.csv", b"id,name\n1,Okafor, Ada\n", "line 2: 3 columns, the header has 2"),
        ("a.csv", b'name\n"Ada\n', "is no CSV: unexpected end of data"),
    ],
)
def test_refuses_in_one_line(name: str, content: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError) as error:
        sample_names(tmp_path / name, 3, 0)
    assert str(error.value).startswith(str(tmp_path / name))
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_refuses_what_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone\.txt can't be read: No such file"):
        sample_names(tmp_path / "gone.txt", 3, 0)
    with pytest.raises(UsageError, match="can't be read: Is a directory"):
        sample_names(tmp_path, 3, 0)
