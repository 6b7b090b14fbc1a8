"""How far a decode batch of unequal contexts lies between its mean and its maximum.

``t = t_mean + alpha * (t_max - t_mean)``: both times are those of a batch of equal contexts, at
the mean and at the maximum of the batch (LLMServingSim's skew fit). ``skew_fit.csv`` says alpha
for boxes of the features below; where no box fits, the fit's default holds.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd

FEATURES = ("prefill_tokens", "kv_prefill", "num_decodes", "evenness", "kv_max", "gap")
"""What alpha depends on: the step's prefill tokens and their contexts, its decodes, how evenly
these are spread — (mean - min) / (max - min) of their contexts —, their longest context, and the
relative gap (t_max - t_mean) / t_mean."""


def bound_columns(feature: str) -> tuple[str, str]:
    """The columns that bound a box: above the first (exclusive), up to the second; empty: open."""
    return f"{feature}_above", f"{feature}_upto"


COLUMNS = (*(column for feature in FEATURES for column in bound_columns(feature)), "alpha")


class SkewFit:
    """Alpha by the batch's features; build it once per bundle with `from_table`.

    Args:
        boxes: Per box, (above, up to) of each of `FEATURES` in order, then alpha.
        default: Alpha where no box fits.
    """

    def __init__(self, boxes: Sequence[Sequence[float]], default: float) -> None:
        import numpy as np

        self.default = default
        self._boxes = np.asarray(boxes, dtype="float64").reshape(-1, len(COLUMNS))
        # Features that no box bounds do not matter; the edges of the others cut space into cells
        # of one answer each, which is looked for once.
        self._edges: list[tuple[int, list[float]]] = []
        for place in range(len(FEATURES)):
            bounds = np.unique(self._boxes[:, 2 * place : 2 * place + 2])
            edges = bounds[np.isfinite(bounds)].tolist()
            if edges:
                self._edges.append((place, edges))
        self._cells: dict[tuple[int, ...], float] = {}

    @classmethod
    def from_table(
        cls, table: pd.DataFrame | None, meta: Mapping[str, Any] | None
    ) -> SkewFit | None:
        """The fit of a bundle (its ``skew_fit`` table and metadata entry); None without one."""
        stated = meta or {}
        if table is None or not stated.get("enabled", True):
            return None
        import numpy as np

        frame = table.copy()
        for feature in FEATURES:
            above, upto = bound_columns(feature)
            frame[above] = frame[above].fillna(-np.inf) if above in frame else -np.inf
            frame[upto] = frame[upto].fillna(np.inf) if upto in frame else np.inf
        boxes = frame[list(COLUMNS)].to_numpy(dtype="float64")
        return cls(boxes.tolist(), float(stated.get("default") or 0.0))

    def alpha(
        self,
        *,
        prefill_tokens: float,
        kv_prefill: float,
        num_decodes: float,
        evenness: float,
        kv_max: float,
        gap: float = 0.0,
    ) -> float:
        """Alpha of a batch; see `FEATURES`. Zero where there is nothing to be unequal."""
        if num_decodes < 2:
            return 0.0
        values = (prefill_tokens, kv_prefill, num_decodes, evenness, kv_max, gap)
        cell = tuple(bisect_left(edges, values[place]) for place, edges in self._edges)
        found = self._cells.get(cell)
        if found is None:
            found = self._cells[cell] = self._search(values)
        return found

    def _search(self, values: tuple[float, ...]) -> float:
        import numpy as np

        boxes = self._boxes
        fits = (boxes[:, 0:-1:2] < values) & (np.asarray(values) <= boxes[:, 1:-1:2])
        places = np.flatnonzero(fits.all(axis=1))
        return float(boxes[places[0], -1]) if len(places) else self.default
