"""Latency against load: which comparisons belong together, and where the knee is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim.compare.document import ComparisonDocument, _arrivals
from pytest_gpusim.report.load import knee, load_charts


def document(rate, ttft_ms, sim_ms, *, device="GPU", clients=None, **load):
    figure = {"real_ns": ttft_ms * 10**6, "sim_ns": sim_ms * 10**6}
    table = dict.fromkeys(("p50", "p90"), figure)
    load |= {"requests_per_second": None if clients else rate, "max_concurrency": clients}
    meta = {"model": "m", "device_name": device, "simulator": "s", "load": load}
    metrics = {"ttft": table, "tpot": table, "e2e": None}
    return ComparisonDocument({"metrics": metrics, "sim_run": "x"}, meta)


def test_the_knee_of_a_hockey_stick():
    assert knee([1, 2, 3, 4, 5], [100, 100, 100, 100, 900]) == 4
    assert knee([1, 2, 3, 4, 5], [100, 110, 130, 500, 900]) == 3


@pytest.mark.parametrize(
    ("loads", "latencies"),
    [([1, 2, 3], [1, 1, 9]), ([1, 2, 3, 4], [5, 5, 5, 5]), ([1, 2, 3, 4], [1, 2, 3, 4])],
)
def test_no_knee_where_there_is_none(loads, latencies):
    assert knee(loads, latencies) is None


def test_several_loads_of_one_deployment_are_one_picture():
    rates = [(1, 100), (2, 101), (4, 104), (8, 900)]
    documents = [document(rate, ms, ms + 5) for rate, ms in rates]
    (found,) = load_charts([*documents, document(3, 50, 50, device="other GPU")])
    assert found["title"] == "m on GPU, simulated by s"
    assert [chart["title"] for chart in found["charts"]] == ["TTFT p50", "TTFT p90", "TPOT p50"]
    svg = found["charts"][0]["svg"]
    assert "at 8 requests a second real 900.0 ms, simulated 905.0 ms" in svg
    assert "knee: real 4, simulated 4" in svg
    assert "#334155" not in svg  # the page's colours, dark or light


def test_clients_at_once_are_a_load_too():
    (found,) = load_charts([document(0, 10 * n, 10 * n, clients=n) for n in (1, 2)])
    assert "at 2 clients at once" in found["charts"][0]["svg"]


def test_loads_of_another_kind_are_no_point_of_the_curve():
    random = [document(n, n, n, arrivals="random") for n in (1, 2)]
    bursts = [document(n, 9 * n, 9 * n, arrivals="in bursts") for n in (1, 2)]
    turns = document(2, 7, 7, arrivals="random", conversations=True)
    first, second = load_charts([*random, turns, *bursts])
    assert first["title"].endswith("simulated by s, arrivals random")
    assert second["title"].endswith("arrivals in bursts")
    assert "at 2 requests a second real 2.000 ms" in first["charts"][0]["svg"]


def test_loads_that_are_nearly_the_same_are_one():
    pairs = [(1, 100), (4, 300), (4.1, 200)]
    (found,) = load_charts([document(rate, ms, ms) for rate, ms in pairs])
    assert "at 4.05 requests a second real 250.0 ms" in found["charts"][0]["svg"]
    assert "knee" not in found["caption"]


@pytest.mark.parametrize(
    ("gaps", "how"), [([5, 5, 6], "even"), ([1, 2, 9], "random"), ([0] * 5 + [90], "in bursts")]
)
def test_how_requests_arrive_is_told_by_their_gaps(gaps, how):
    assert _arrivals(pd.Series(gaps)) == how


def test_matplotlib_is_loaded_without_a_word(tmp_path: Path) -> None:
    """On a full disk, or in a home that is not ours, it logs what it cannot write."""
    load = "from pytest_gpusim.report.charts import canvas; canvas.figure_class()"
    (tmp_path / "file").touch()
    done = subprocess.run(
        [sys.executable, "-c", load],
        env={**os.environ, "MPLCONFIGDIR": str(tmp_path / "file" / "matplotlib")},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    assert done.stderr == ""
