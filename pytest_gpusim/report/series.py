"""What figures are drawn from: the values behind a comparison's figures."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass
class StepSeries:
    """Steps of one run: when they began and how long they took (ns), how many sequences."""

    start_ns: np.ndarray
    duration_ns: np.ndarray
    num_sequences: np.ndarray


@dataclass
class ComparisonSeries:
    """The values behind a comparison.

    Attributes:
        real: Per real run, metric -> defined values per request, ns.
        sim: The same of the simulated run.
        requests: One row per request in order of arrival: ``arrival_time_ns``, ``real_<metric>``
            (median over the runs) and ``sim_<metric>``, ns; NaN where not available.
        real_steps: Steps of the first real run that recorded them.
        sim_steps: Steps of the simulated run.
    """

    real: Sequence[dict[str, np.ndarray]]
    sim: dict[str, np.ndarray]
    requests: pd.DataFrame
    real_steps: StepSeries | None = field(default=None)
    sim_steps: StepSeries | None = field(default=None)
