"""Steps of silicon tables are held against the device's rates; needs the extra silicon."""

from __future__ import annotations

from importlib.util import find_spec
from types import SimpleNamespace
from typing import Any, cast

import pytest

from benchmarks.silicon.sanity import Findings, Limits, findings, hold
from pytest_gpusim.deployment.models import QWEN3_0_6B
from pytest_gpusim.profiling.silicon_tables import open_tables
from pytest_gpusim.serving.steptime import StepFeatures

pytestmark = pytest.mark.skipif(
    any(find_spec(name) is None for name in ("aiconfigurator_core", "pyarrow")),
    reason="the extra 'silicon' is not installed",
)


def test_a_small_model_is_judged_and_what_is_not_measured_is_refused() -> None:
    plain, int8 = findings(("a100_sxm",), [QWEN3_0_6B], ("bfloat16", "int8"), (1,))
    assert not plain.refused
    assert not plain.wrong
    assert min(plain.over_least[0]) > 1
    assert int8.refused is not None
    assert "int8" in int8.refused
    assert "\n" not in int8.refused


@pytest.mark.parametrize(
    ("times", "words"),
    [
        ([3.0, 2.9], ""),
        ([0.5, 3.0], "the device takes 0.6"),
        ([3.0, 100.0], "reading and multiplying take"),
        ([5.0, 2.9], "and 0 take 5.00"),
    ],
)
def test_impossible_times_are_told(times: list[float], words: str) -> None:
    found = Findings("a100_sxm", "m", "bfloat16", 1, False)
    limits = Limits(open_tables("a100_sxm", "vllm", None), QWEN3_0_6B, 1)
    steps = [(str(index), StepFeatures([], 1, 1024, 1)) for index in range(len(times))]
    told = iter(times)
    model = SimpleNamespace(time=lambda _: SimpleNamespace(time_ns=next(told) * 1e6))
    hold(found, 0, cast(Any, model), limits, steps)
    assert (words in found.wrong[0]) if words else not found.wrong
