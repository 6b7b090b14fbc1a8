"""What is said of long work, and how often; the clock is the test's."""

from __future__ import annotations

import pytest

from pytest_gpusim.progress import PACE_S, Progress, duration, lines_to


def said_of(total, seconds_each):
    lines, now = [], [0.0]
    with (
        lines_to(lines.append),
        Progress("simulate", total, "requests", clock=lambda: now[0]) as bar,
    ):
        for _ in range(total):
            now[0] += seconds_each
            bar.advance()
    return lines


def test_short_work_says_nothing():
    assert said_of(100, 0.02) == []


def test_long_work_says_what_is_left_at_a_decent_pace():
    lines = said_of(1000, 0.1)
    assert lines[0].startswith("simulate: ")
    assert "of 1,000 requests, about " in lines[0]
    assert 2 <= len(lines) <= 1 + 100 / PACE_S


def test_what_remains_is_in_proportion():
    assert said_of(4, 10)[1] == "simulate: 4 of 4 requests"
    assert said_of(4, 10)[0] == "simulate: 1 of 4 requests, about 30 s left"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.2, "1 s"), (89, "89 s"), (600, "10 min"), (7200, "2.0 h")]
)
def test_durations(seconds, words):
    assert duration(seconds) == words
