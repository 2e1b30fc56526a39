import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from undistill.base.threads import Room, Spare, spread


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


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def threads_of_new() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


@pytest.mark.usefixtures("two_threads")
@pytest.mark.parametrize("first", [0, 1])
def test_two_may_be_open_and_end_in_any_order(first: int) -> None:
    def look(_: int) -> int:
        return torch.get_num_threads()

    both = [spread(look, range(100)) for _ in range(2)]
    seen = [next(some) for some in both]
    early, late = both[first], both[1 - first]
    early.close()
    seen += [next(late) for _ in range(50)]
    late.close()
    assert set(seen) == {1}
    assert torch.get_num_threads() == threads_of_new() == 2


@pytest.mark.usefixtures("two_threads")
def test_several_threads_may_spread() -> None:
    def slow(x: int) -> int:
        time.sleep(0.001)
        return x

    def all_of_it(count: int) -> int:
        torch.set_num_threads(2)
        assert list(spread(slow, range(count))) == list(range(count))
        return torch.get_num_threads()

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(all_of_it, (5, 40, 10, 20))) == {2}
    assert torch.get_num_threads() == threads_of_new() == 2


def test_one_thread_at_a_time_and_no_more_made_than_needed() -> None:
    made: list[list[int]] = []

    def make() -> list[int]:
        made.append([])
        return made[-1]

    spare = Spare(make)
    for _ in range(3):
        with spare() as first, spare() as second:
            assert first is not second
    with pytest.raises(ValueError, match="oops"), spare():
        raise ValueError("oops")
    with spare(), spare():
        assert len(made) == 2


@pytest.mark.parametrize(("size", "most"), [(10, 10), (0, 5)])
def test_a_room_holds_what_it_can_and_what_is_larger_alone(size: int, most: int) -> None:
    inside: list[int] = []
    seen: list[tuple[int, int]] = []
    room = Room(size)

    def carry(load: int) -> None:
        with room(load):
            inside.append(load)
            seen.append((sum(inside), len(inside)))
            time.sleep(0.005)
            inside.remove(load)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(carry, (4, 4, 4, 99, 1, 1, 1, 1, 5, 5), timeout=20))
    assert len(seen) == 10
    assert (99, 1) in seen
    assert max(load for load, _ in seen if load != 99) <= most
    assert (max(count for _, count in seen) > 1) == (size > 0)
