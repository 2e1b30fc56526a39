import pytest
from hypothesis import given
from hypothesis import strategies as st

from undistill.dataset import SPLITS, SplitError, fold_of, fold_split, parse_split, position, within


def test_position_is_the_hash_of_the_id() -> None:
    # printf 0000161 | sha256sum
    assert position("0000161") == pytest.approx(int("d6a5a06df76a64a7", 16) / 2**64, abs=1e-12)


@given(st.text())
def test_every_id_is_in_one_of_train_val_test(id: str) -> None:
    assert sum(within(id, SPLITS[name]) for name in ("train", "val", "test")) == 1
    assert within(id, SPLITS["all"])


def test_a_fraction_lies_inside_a_larger_one() -> None:
    ids = [str(number) for number in range(20_000)]
    small = {id for id in ids if within(id, (0.0, 0.8), 0.01)}
    large = {id for id in ids if within(id, (0.0, 0.8), 0.2)}
    assert small < large < set(ids)
    assert len(small) / 20_000 == pytest.approx(0.008, abs=0.002)


def test_parse() -> None:
    assert parse_split("val") == (0.8, 0.9)
    assert parse_split("0:0.4") == (0.0, 0.4)
    assert parse_split("0.6:0.4") == (0.6, 0.4)


@given(st.text(), st.integers(2, 9))
def test_every_id_is_in_one_fold_or_in_the_range_around_it(id: str, folds: int) -> None:
    inside = [within(id, fold_split(fold, folds)) for fold in range(folds)]
    assert sum(inside) == 1
    assert inside[fold_of(id, folds)]
    for fold, here in enumerate(inside):
        low, high = fold_split(fold, folds)
        assert within(id, (high % 1, low or 1.0)) is not here


@pytest.mark.parametrize("text", ["", "0.4", "1:0.4", "0.4:0", "0.4:0.4", "-1:1", "0:2", "a:b", "0:1:2"])
def test_refuses(text: str) -> None:
    with pytest.raises(SplitError, match="LO:HI"):
        parse_split(text)
