"""Distances of sets: torch-fidelity's numbers, identities, and how sure they are."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy
import pytest
import torch
from conftest import GOLDEN
from torch import Tensor

from ilvrctl.errors import InputError
from ilvrctl.metrics.distances import Moments, frechet, inside, kid, kid_with_error, moments
from ilvrctl.metrics.intervals import Estimate, bootstrap_means
from ilvrctl.metrics.statistics import SetStatistics, read_statistics, write_statistics

FIDELITY = json.loads((GOLDEN / "fidelity.json").read_text(encoding="utf-8"))
A, B = (torch.tensor(FIDELITY[name], dtype=torch.float64) for name in "ab")


def normal(n: int, d: int = 6, seed: int = 0, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) + shift


def distance(a: Tensor, b: Tensor) -> float:
    first, second = moments(a), moments(b)
    return frechet(first.mean, first.covariance, second.mean, second.covariance)


def test_the_arithmetic_is_that_of_torch_fidelity() -> None:
    assert distance(A, B) == pytest.approx(FIDELITY["fid"], rel=1e-6)
    assert kid(A, B).value == pytest.approx(FIDELITY["kid"], rel=1e-6)
    assert kid(A, B, range(len(A))).value == pytest.approx(FIDELITY["kid_pairs_left_out"], rel=1e-6)
    assert float(inside(A, B).double().mean()) == pytest.approx(FIDELITY["precision"])
    assert float(inside(B, A).double().mean()) == pytest.approx(FIDELITY["recall"])


def test_a_set_has_no_distance_to_itself() -> None:
    assert distance(A, A) == pytest.approx(0, abs=1e-9)
    value, error = kid_with_error(A, A, range(len(A)))
    assert value == pytest.approx(0, abs=1e-12)
    assert error == pytest.approx(0, abs=1e-12)
    assert inside(A, A).all()


def test_distances_are_symmetric_and_do_not_know_the_order() -> None:
    mixed = A[torch.randperm(len(A), generator=torch.Generator().manual_seed(1))]
    assert distance(A, B) == pytest.approx(distance(B, A), rel=1e-9)
    assert kid(A, B).value == pytest.approx(kid(B, A).value, rel=1e-9)
    assert kid(mixed, B).value == pytest.approx(kid(A, B).value, rel=1e-9)
    assert kid_with_error(mixed, B)[1] == pytest.approx(kid_with_error(A, B)[1], rel=1e-9)
    assert distance(mixed, B) == pytest.approx(distance(A, B), rel=1e-9)


def test_moments_grow_batch_by_batch() -> None:
    far = A + 1e4  # where a sum of squares would lose half of its digits
    found = Moments.empty(far.shape[1])
    for batch in far.split(5):
        found = found.add(batch)
    torch.testing.assert_close(found.mean, far.mean(0), rtol=1e-12, atol=0)
    torch.testing.assert_close(found.covariance, torch.cov(far.T), rtol=1e-7, atol=1e-9)
    with pytest.raises(ValueError, match="two"):
        _ = Moments.empty(3).add(torch.ones(1, 3)).covariance


def test_kid_is_unbiased_on_two_halves_of_one_set() -> None:
    values = torch.tensor([kid(normal(40, seed=2 * i), normal(40, seed=2 * i + 1)).value for i in range(200)])
    assert abs(float(values.mean())) < 3 * float(values.std()) / math.sqrt(len(values))
    assert float((values < 0).double().mean()) > 0.3, "unbiased around 0 means below 0 about as often"


@pytest.mark.parametrize("shift", [0.0, 0.5])
def test_kids_standard_error_is_the_spread_of_many_sets(shift: float) -> None:
    found = [
        kid_with_error(normal(60, seed=2 * i), normal(40, seed=2 * i + 1, shift=shift)) for i in range(150)
    ]
    values, errors = torch.tensor(found, dtype=torch.float64).T
    assert 0.8 < float(errors.square().mean().sqrt() / values.std()) < 1.8, (
        "never small, and not far too large"
    )


def test_leaving_one_out_is_what_the_standard_error_does() -> None:
    n = len(A)
    left = [kid(torch.cat([A[:i], A[i + 1 :]]), B).value for i in range(n)]
    right = [kid(A, torch.cat([B[:i], B[i + 1 :]])).value for i in range(n)]
    total = sum((n - 1) / n * float((x - x.mean()).square().sum()) for x in map(torch.tensor, (left, right)))
    assert kid_with_error(A, B)[1] == pytest.approx(math.sqrt(total), rel=1e-4)
    both = [
        kid(torch.cat([A[:i], A[i + 1 :]]), torch.cat([B[:i], B[i + 1 :]]), range(n - 1)).value
        for i in range(n)
    ]
    pairs = torch.tensor(both, dtype=torch.float64)
    expected = math.sqrt((n - 1) / n * float((pairs - pairs.mean()).square().sum()))
    assert kid_with_error(A, B, range(n))[1] == pytest.approx(expected, rel=1e-6)


def test_too_few_vectors() -> None:
    with pytest.raises(ValueError, match="at least two"):
        kid(A[:1], B)
    assert kid(A[:2], B).low is None
    with pytest.raises(ValueError, match="more than 3"):
        inside(A, B[:3])


def test_intervals_are_deterministic_and_cover() -> None:
    hits = 0
    for i in range(100):
        rows = normal(50, 1, seed=i)
        names = [str(n) for n in range(50)]
        (found,) = bootstrap_means(rows, names, resamples=400, seed=3)
        assert bootstrap_means(rows, names, resamples=400, seed=3) == [found]
        hits += found.low is not None and found.high is not None and found.low <= 0 <= found.high
    assert 86 <= hits <= 100


def test_samples_of_one_input_are_not_taken_for_independent() -> None:
    rows = normal(30, 1)
    names = [str(n) for n in range(30)]
    (once,) = bootstrap_means(rows, names)
    (twice,) = bootstrap_means(torch.cat([rows, rows]), names + names)
    assert (once.value, once.low, once.high) == pytest.approx((twice.value, twice.low, twice.high))
    assert bootstrap_means(rows[:2], ["a", "a"])[0].low is None


def test_apart_means_that_intervals_do_not_meet() -> None:
    a, b, c = Estimate(1, 0, 2, 9), Estimate(3, 2.5, 4, 9), Estimate(2, 1.5, 2.6, 9)
    assert a.apart(b)
    assert b.apart(a)
    assert not a.apart(c)
    assert not a.apart(Estimate(9, None, None, 9))


def test_statistics_are_read_and_written(tmp_path: Path) -> None:
    found = moments(A)
    path = tmp_path / "new" / "a.npz"
    write_statistics(path, SetStatistics(found.mean, found.covariance, found.n, "inception"))
    again = read_statistics(path)
    assert (again.count, again.extractor) == (len(A), "inception")
    assert torch.equal(again.covariance, found.covariance)
    numpy.savez(tmp_path / "theirs.npz", mu=found.mean.numpy(), sigma=found.covariance.numpy())
    assert read_statistics(tmp_path / "theirs.npz").extractor == ""


def test_statistics_that_are_none(tmp_path: Path) -> None:
    (tmp_path / "text.npz").write_text("mu")
    numpy.savez(tmp_path / "other.npz", arr_0=numpy.zeros(3))
    numpy.savez(tmp_path / "nan.npz", mu=numpy.full(3, numpy.nan), sigma=numpy.eye(3))
    numpy.savez(tmp_path / "shape.npz", mu=numpy.zeros(3), sigma=numpy.eye(4))
    numpy.savez(tmp_path / "objects.npz", mu=numpy.array([{}], dtype=object), sigma=numpy.eye(1))
    for name, what in {
        "text": "no archive",
        "other": "no mu and no sigma",
        "nan": "NaN",
        "shape": r"\(3,\) and \(4, 4\)",
        "objects": "no archive",
        "missing": "does not exist",
    }.items():
        with pytest.raises(InputError, match=what):
            read_statistics(tmp_path / f"{name}.npz")
