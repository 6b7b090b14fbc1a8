"""Warm-ups and drifts that show in the data, and honest loads in which none does."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from benchmarks.verdicts.honest import PLANTS, Setting, compared
from benchmarks.verdicts.synthetic import serve
from tests.compare.planted import RIGHT, WORK, Planted, slowed, status


@pytest.mark.parametrize("plant", PLANTS)
def test_a_planted_defect_of_the_measurement_is_named(plant: str) -> None:
    comparison = compared(Setting("poisson", sigma=0.01), 1, PLANTS[plant])
    assert status(comparison, PLANTS[plant].check) == "fail", comparison.checks
    assert comparison.verdict in ("inconclusive", "fail")


@pytest.mark.parametrize(("kind", "seed"), [("bursty", 1), ("bursts", 2), ("at once", 3)])
def test_bursts_are_no_warm_up(kind: str, seed: int) -> None:
    comparison = compared(Setting(kind, sigma=0.02), seed)
    assert status(comparison, "steady") == "pass", comparison.checks


def test_a_profile_that_is_off_at_small_batches_is_no_warm_up() -> None:
    """After each pause the next requests find few others; so do the first ones."""
    pauses = np.arange(60) // 12 * 5.0
    planted = Planted(work=replace(WORK, arrival=WORK.arrival + pauses))
    pace = serve(planted.work).per_token
    for off, expected in (
        (pace < np.quantile(pace, 0.3), "pass"),
        (np.arange(60) < 5, "fail"),
    ):
        assert off[:3].all()
        slow = np.where(off, 1.4, 1.0)
        real = [replace(times, per_token=times.per_token * slow) for times in planted.real]
        comparison = replace(planted, real=real).comparison()
        assert status(comparison, "steady") == expected, comparison.checks


def test_a_slow_moment_is_a_warm_up_only_at_the_start() -> None:
    place = np.arange(len(RIGHT.first))
    for slow, expected in ((place < 8, "fail"), ((place < 8) | (abs(place - 40) < 6), "pass")):
        real = [slowed(Planted().real[0], np.where(slow, 1.5, 1.0)), *Planted().real[1:]]
        comparison = Planted(real=real, work=WORK).comparison()
        assert status(comparison, "steady") == expected, comparison.checks


def test_a_request_that_took_no_time_is_left_aside_without_a_warning() -> None:
    first, *others = Planted().real
    some = np.where(np.arange(len(RIGHT.first)) == 3, 0.0, 1.0)
    none = replace(first, scheduled=first.scheduled * some, first=first.first * some)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        comparison = Planted(real=[none, *others]).comparison()
    assert status(comparison, "steady") == "pass", comparison.checks
