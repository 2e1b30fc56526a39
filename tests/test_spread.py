import time

import pytest
import torch

from undistill.spread import spread


def test_results_come_in_order_and_torch_gets_its_threads_back() -> None:
    before = torch.get_num_threads()

    def square(x: int) -> int:
        time.sleep(0.002 * (x % 3))
        assert torch.get_num_threads() == 1
        return x * x

    assert list(spread(square, range(50))) == [x * x for x in range(50)]
    assert torch.get_num_threads() == before


def test_works_a_few_ahead_and_not_on_everything() -> None:
    begun: list[int] = []
    for _ in spread(begun.append, range(10_000)):
        break
    assert len(begun) <= 4 * torch.get_num_threads() + 2


def test_an_error_ends_what_was_ahead() -> None:
    def slow(x: int) -> None:
        done.append(x)
        time.sleep(0.05)
        raise ValueError

    done: list[int] = []
    with pytest.raises(ValueError):  # noqa: PT011
        list(spread(slow, range(1000)))
    assert len(done) <= 3 * torch.get_num_threads()


def test_an_error_comes_through() -> None:
    before = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError):
        list(spread(lambda x: 1 // (x - 5), range(20)))
    assert torch.get_num_threads() == before
