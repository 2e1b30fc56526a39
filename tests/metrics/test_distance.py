import tracemalloc
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.random import Generator
from torchmetrics.image.kid import poly_mmd

from undistill.metrics.distance import Gap, Points, Projection, cubic, frechet, gaussian
from undistill.metrics.features import Features
from undistill.metrics.jackknife import Value, groups_of, interval

D = 4
SHIFT = 0.8


def draw(random: Generator, n: int, shift: float = 0.0, crops: int = 3, name: str = "") -> Points:
    """Images whose crops share half of their variance; marginally N(shift in the first direction, 1)."""
    x = np.sqrt(0.5) * (random.normal(size=(n, 1, D)) + random.normal(size=(n, crops, D)))
    x[..., 0] += shift
    return Points([f"{name}{i}" for i in range(n)], x.astype(np.float32))


def vector(*values: float) -> Features:
    return np.array(values, np.float32)


def measure(student: Points, teacher: Points) -> Gap:
    return Gap(student, teacher, groups_of([*student.ids, *teacher.ids]))


def expected_kid(shift: float) -> float:
    """Squared MMD of N(0, 1) and N(shift, 1) under exp(-|z|^2 / 4D), by integration."""
    scale = 2 * D
    within = (scale / (scale + 2)) ** (D / 2)
    return float(2 * within * (1 - np.exp(-(shift**2) / (2 * (scale + 2)))))


def holds(value: Value, truth: float) -> bool:
    return value.low is not None and value.high is not None and value.low <= truth <= value.high


def test_fd_of_known_gaussians() -> None:
    mean = np.array([1.0, -2.0])
    covariance = np.array([[2.0, 0.6], [0.6, 1.0]])
    assert frechet(mean, covariance, mean, covariance) == pytest.approx(0, abs=1e-9)
    assert frechet(mean, covariance, mean + np.array([3.0, 4.0]), covariance) == pytest.approx(25)
    # For diagonal covariances: the sum of (s - t)^2.
    assert frechet(mean, np.diag([4.0, 9.0]), mean, np.diag([1.0, 1.0])) == pytest.approx(1 + 4)


def test_fd_is_that_of_the_sample_moments() -> None:
    random = np.random.default_rng(0)
    a, b = draw(random, 50, name="a"), draw(random, 60, SHIFT, name="b")
    moments = [(p.x.reshape(-1, D).mean(0), np.cov(p.x.reshape(-1, D).T)) for p in (a, b)]
    assert measure(a, b).fd(a, "teacher")[0] == pytest.approx(frechet(*moments[0], *moments[1]), rel=1e-4)


def test_left_out_is_what_it_says() -> None:
    random = np.random.default_rng(1)
    a, b = draw(random, 9, name="a"), draw(random, 8, SHIFT, name="b")
    groups = groups_of([*a.ids, *b.ids])
    for distance in (Gap.kid, Gap.fd):
        vector = distance(Gap(a, b, groups), a, "teacher")
        without = a.only(lambda id: id != "a3")
        alone = distance(Gap(without, b, groups), without, "teacher")[0]
        assert vector[1 + groups["a3"]] == pytest.approx(alone, rel=1e-4)


def test_kid_is_torchmetrics_kid() -> None:
    random = np.random.default_rng(2)
    a, b = draw(random, 30, crops=1, name="a"), draw(random, 30, 2 * SHIFT, crops=1, name="b")
    gap = Gap(a, b, groups_of([*a.ids, *b.ids]), kernel=cubic)
    theirs = poly_mmd(torch.from_numpy(a.x[:, 0]), torch.from_numpy(b.x[:, 0]))
    assert gap.kid(a, "teacher")[0] == pytest.approx(float(theirs), abs=1e-5)


def test_kid_is_unbiased() -> None:
    random = np.random.default_rng(3)
    for shift in (0.0, SHIFT):
        sides = [(draw(random, 10, name="a"), draw(random, 7, shift, name="b")) for _ in range(600)]
        found = [measure(a, b).kid(a, "teacher")[0] for a, b in sides]
        assert np.mean(found) == pytest.approx(expected_kid(shift), abs=3 * np.std(found) / np.sqrt(600))


def test_images_of_one_prompt_are_not_compared() -> None:
    """Student and teacher of a pair are alike; that must not make the sets nearer."""
    random = np.random.default_rng(4)
    found = []
    for _ in range(300):
        student = draw(random, 8)
        teacher = Points(student.ids, student.x + vector(SHIFT, 0, 0, 0))
        found.append(measure(student, teacher).kid(student, "teacher")[0])
    assert np.mean(found) == pytest.approx(expected_kid(SHIFT), abs=3 * np.std(found) / np.sqrt(300))


@pytest.mark.parametrize("kind", ["kid", "fd", "gap"])
def test_intervals_cover(kind: str) -> None:
    """At least 90% of 200 intervals at nominal 95% hold the known value."""
    random = np.random.default_rng(5)
    hits = 0
    for _ in range(200):
        student, teacher = draw(random, 50, 2 * SHIFT, name="s"), draw(random, 40, name="t")
        gap = measure(student, teacher)
        if kind == "gap":
            enhanced = Points(student.ids, student.x - vector(SHIFT, 0, 0, 0))
            hits += holds(gap.closed(enhanced), 1 - expected_kid(SHIFT) / expected_kid(2 * SHIFT))
        elif kind == "kid":
            hits += holds(interval(gap.kid(student, "teacher"), 50), expected_kid(2 * SHIFT))
        else:
            hits += holds(interval(gap.fd(student, "teacher"), 50, corrected=True), (2 * SHIFT) ** 2)
    assert hits >= 180


def test_gap_closed_of_fresh_samples() -> None:
    """A teacher's fresh sample closes the gap, a student's none of it, noise opens it."""
    random = np.random.default_rng(6)
    student, teacher = draw(random, 150, SHIFT, name="s"), draw(random, 150, name="t")
    gap = measure(student, teacher)
    fresh = {"teacher": draw(random, 150, name="s"), "student": draw(random, 150, SHIFT, name="s")}
    assert holds(gap.closed(fresh["teacher"]), 1)
    assert holds(gap.closed(fresh["student"]), 0)
    noisy = Points(student.ids, student.x + random.normal(0, 2, student.x.shape).astype(np.float32))
    closed = gap.closed(noisy)
    assert closed.high is not None
    assert closed.high < 0


def test_moving_away_from_the_student_is_not_progress() -> None:
    """FID_diff can be bought with distance from the student; gap closed can't."""
    random = np.random.default_rng(7)
    student, teacher = draw(random, 150, SHIFT, name="s"), draw(random, 150, name="t")
    gap = measure(student, teacher)
    away = Points(student.ids, student.x + vector(0, 3, 0, 0))
    assert gap.fd(away, "student")[0] - gap.fd(away, "teacher")[0] > -(SHIFT**2)
    beyond = Points(student.ids, student.x + vector(-SHIFT, 3, 0, 0))
    diff = interval(gap.fd(beyond, "student") - gap.fd(beyond, "teacher"), 150)
    assert diff.low is not None
    assert diff.low > 0
    for moved in (away, beyond):
        closed = gap.closed(moved)
        assert closed.high is not None
        assert closed.high <= 0


def test_no_gap_no_share_of_it() -> None:
    random = np.random.default_rng(8)
    student, teacher = draw(random, 20, name="s"), draw(random, 20, name="t")
    closed = measure(student, teacher).closed(student)
    assert closed.value is None
    assert closed.why is not None
    assert "told apart" in closed.why


def test_from_a_thousand_a_side_on_the_gap_is_measured_by_fd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("undistill.metrics.distance.ENOUGH_FOR_FD", 60)
    random = np.random.default_rng(9)
    student, teacher = draw(random, 200, SHIFT, name="s"), draw(random, 200, name="t")
    gap = measure(student, teacher)
    monkeypatch.setattr(Gap, "kid", None)
    assert holds(gap.closed(draw(random, 200, name="s")), 1)
    assert holds(gap.closed(draw(random, 200, SHIFT, name="s")), 0)


def test_a_projection_whitens_and_sees_what_lies_outside() -> None:
    random = np.random.default_rng(10)
    x = (random.normal(size=(400, 2, 6)) @ np.diag([9.0, 5, 3, 2, 0, 0]) + 5).astype(np.float32)
    ids = [str(i) for i in range(400)]
    project = Projection(x)
    flat = project(ids, x).x.reshape(-1, 5)
    assert np.cov(flat.T) == pytest.approx(np.diag([1.0, 1, 1, 1, 0]), abs=0.03)
    assert project.spread[:4] == pytest.approx([9, 5, 3, 2], rel=0.1)
    strange = project(ids, x + vector(0, 0, 0, 0, 0, 4)).x.reshape(-1, 5)
    assert np.abs(strange[:, :4] - flat[:, :4]).max() < 0.01
    assert strange[:, 4].min() > 5


def test_few_images_give_few_directions() -> None:
    x = np.random.default_rng(11).normal(size=(10, 5, 100)).astype(np.float32)
    assert Projection(x)([str(i) for i in range(10)], x).x.shape == (10, 5, 6)


def test_ten_thousand_images_in_bounded_memory() -> None:
    def features() -> Iterator[Features]:
        for i in range(10_000):
            yield np.random.default_rng(i).random((1, 512), np.float32)

    tracemalloc.start()
    project = Projection(features())
    points = project([str(i) for i in range(10_000)], features())
    gap = measure(points.only(lambda id: int(id) < 5000), points.only(lambda id: int(id) >= 5000))
    gap.kid(gap.student, "teacher")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert points.x.shape == (10_000, 1, 65)
    assert peak < 100e6  # all kernels at once would take 800 MB


def test_kernels_of_equal_crops() -> None:
    x = np.ones((1, 8), np.float32)
    assert gaussian(x, x)[0, 0] == pytest.approx(1)
    assert cubic(x, x)[0, 0] == pytest.approx(8)
