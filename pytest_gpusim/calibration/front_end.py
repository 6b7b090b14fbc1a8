"""The front end of runs whose server told its engine's times, measured and not fitted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pytest_gpusim.calibration.parameters import FRONT_END
from pytest_gpusim.calibration.result import Fitted
from pytest_gpusim.errors import UsageError
from pytest_gpusim.runs.clocks import both_clocks
from pytest_gpusim.serving.interpolation import Curve

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pytest_gpusim.runs import Run

_FEWEST = 10
"""Requests of a row: fewer do not tell a median."""
_MOST_ROWS = 4
# Of the normal distribution, for an interval of 90%.
_Z = 1.645


@dataclass(frozen=True)
class MeasuredFrontEnd:
    """What a client sees more than the engine, of requests that met an idle engine.

    Attributes:
        num_prompt_tokens: By request, in order.
        time_ns: By request, both ways together.
    """

    num_prompt_tokens: np.ndarray
    time_ns: np.ndarray

    def table(self) -> pd.DataFrame:
        """``frontend.csv``: medians by prompt length, counted as ingress."""
        import numpy as np
        import pandas as pd

        rows = max(1, min(_MOST_ROWS, len(self.time_ns) // _FEWEST))
        parts = np.array_split(np.arange(len(self.time_ns)), rows)
        medians = [
            (round(float(np.median(self.num_prompt_tokens[part]))), np.median(self.time_ns[part]))
            for part in parts
        ]
        # Equal lengths may fall into several parts.
        by_length = {length: round(max(0.0, float(time))) for length, time in medians}
        return pd.DataFrame(
            {
                "boundary": "ingress",
                "num_prompt_tokens": list(by_length),
                "time_ns": list(by_length.values()),
            }
        )

    def delays_ns(self, num_prompt_tokens: Sequence[int]) -> np.ndarray:
        """By request, as the table has them."""
        import numpy as np

        table = self.table()
        curve = Curve(*(table[name].astype(float).tolist() for name in table.columns[1:]))
        return np.array([curve.at(tokens)[0] for tokens in num_prompt_tokens])

    def median(self) -> Fitted:
        """The median with its interval by order statistics, as the bundle tells of it."""
        import numpy as np

        ordered = np.sort(self.time_ns)
        half = _Z * len(ordered) ** 0.5 / 2
        low, high = (
            float(ordered[min(max(round(len(ordered) / 2 + x), 0), len(ordered) - 1)])
            for x in (-half, half)
        )
        words = "front end, by both clocks"
        return Fitted(replace(FRONT_END, words=words), float(np.median(ordered)), low, high)


def measured_front_end(runs: Sequence[Run]) -> MeasuredFrontEnd | None:
    """The front end of client's runs; None where a server did not tell its engine's times.

    Raises:
        UsageError: They do, and too few requests met an idle engine.
    """
    import numpy as np

    clocks = [both_clocks(run) for run in runs if run.clock == "client"]
    known = [each for each in clocks if each is not None]
    if not known or len(known) < len(runs):
        return None
    lengths = np.concatenate([each.num_prompt_tokens[each.alone] for each in known])
    times = np.concatenate([each.differences("ttft", alone=True) for each in known])
    if len(times) < _FEWEST:
        raise UsageError(
            f"{len(times)} requests of these runs met an idle engine, which alone tell the front "
            f"end; it takes {_FEWEST}: measure at a lower rate"
        )
    order = np.argsort(lengths, kind="stable")
    return MeasuredFrontEnd(lengths[order], times[order])
