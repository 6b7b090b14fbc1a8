"""LLMServingSim's ``skew_fit.csv`` in numeric bounds, in any of the forms that it has had.

Its rows name buckets by labels (``n<=128``, ``kvB<=4k``, ``kp=0``, ``sr>70%``) whose edges are in
``meta.yaml`` under ``skew_fit`` or in the labels themselves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle.skew import COLUMNS, bound_columns
from pytest_gpusim.errors import InputError

if TYPE_CHECKING:
    import pandas as pd

# Column of LLMServingSim's table -> the feature of ours that it buckets.
_LABELS = {
    "n_label": "num_decodes",
    "skew_rate_label": "evenness",
    "kv_big_label": "kv_max",
    "kp_label": "kv_prefill",
    "pc_label": "prefill_tokens",
    "lev_label": "gap",
}
# Values that stand for themselves; a batch between two of them takes the nearer, as a ratio.
_POINTS = {"pc": "prefill_tokens", "n_anchor": "num_decodes"}
_FIXED_BOUNDS = {
    "pc0": (-math.inf, 0.0),
    "pcS": (0.0, 256.0),
    "pcM": (256.0, 1024.0),
    "pcL": (1024.0, math.inf),
    "lev0": (-math.inf, 0.25),
    "lev1": (0.25, 0.75),
    "lev2": (0.75, 1.5),
    "lev3": (1.5, 3.0),
    "lev4": (3.0, math.inf),
}
_UNITS = {"": 1.0, "k": 1024.0, "m": 1024.0**2, "%": 0.01}
_LABEL = re.compile(r"^[A-Za-z_]*(<=|>|=)(\d+(?:\.\d+)?)([km%]?)$", re.IGNORECASE)

Bounds = tuple[float, float]


def skew_table(raw: pd.DataFrame, fit: Mapping[str, Any], path: Path) -> pd.DataFrame:
    """Rows of the bundle's ``skew_fit.csv``.

    Args:
        raw: The table as read.
        fit: ``skew_fit`` of ``meta.yaml``.
        path: The table's file, for messages.
    """
    import pandas as pd

    if "alpha" not in raw.columns:
        raise InputError(path, "column alpha", "is missing")
    if "layer" in raw.columns:
        raw = raw[raw["layer"].astype(str) == "attention"]
    if "decode_q_len" in raw.columns:
        raw = raw[raw["decode_q_len"].astype(float) == 1]
    stated = dict(_stated_bounds(fit))
    columns: dict[str, Any] = {}
    for column, feature in _LABELS.items():
        if column in raw.columns:
            bounds = _label_bounds(raw[column].dropna().astype(str).unique(), stated, path, column)
            _put(columns, feature, [bounds[str(label)] for label in raw[column]])
    if "pc" in raw.columns:
        points = raw["pc"].astype(float)
        bounds_of = _point_bounds(points.unique())
        _put(columns, _POINTS["pc"], [bounds_of[point] for point in points])
    if "n_anchor" in raw.columns:
        partitions = [c for c in ("pc_label", "lev_label") if c in raw.columns]
        anchors = raw["n_anchor"].astype(float)
        found: dict[Any, Bounds] = {}
        groups = raw.groupby(partitions).groups if partitions else {(): raw.index}
        for index in groups.values():
            bounds_of = _point_bounds(anchors.loc[index].unique())
            found.update({row: bounds_of[anchors.loc[row]] for row in index})
        _put(columns, _POINTS["n_anchor"], [found[row] for row in raw.index])
    table = pd.DataFrame(columns, index=raw.index).reindex(columns=list(COLUMNS[:-1]))
    table["alpha"] = raw["alpha"].astype(float)
    return table.replace([math.inf, -math.inf], math.nan).reset_index(drop=True)


def default_alpha(fit: Mapping[str, Any], tensor_parallel: int) -> float:
    """``alpha_default``: the alpha of batches that no bucket holds; 0 where none is stated."""
    per_tp = fit.get("per_tp") or {}
    own = per_tp.get(tensor_parallel) or per_tp.get(str(tensor_parallel)) or {}
    for source in (own, fit):
        by_kernel = source.get("alpha_default_by_kernel") or {}
        for value in (by_kernel.get("attention|q=1"), source.get("alpha_default")):
            if isinstance(value, int | float):
                return float(value)
    return 0.0


def _put(columns: dict[str, Any], feature: str, bounds: list[Bounds]) -> None:
    above, upto = bound_columns(feature)
    columns[above] = [low for low, _ in bounds]
    columns[upto] = [high for _, high in bounds]


def _label_bounds(
    labels: Iterable[str], stated: Mapping[str, Bounds], path: Path, column: str
) -> dict[str, Bounds]:
    found: dict[str, Bounds] = {}
    limits: dict[str, float] = {}
    points: dict[str, float] = {}
    for label in labels:
        match = _LABEL.match(label)
        if label in stated:
            found[label] = stated[label]
        elif label in _FIXED_BOUNDS:
            found[label] = _FIXED_BOUNDS[label]
        elif match is None:
            raise InputError(path, f"column {column}", f"cannot read the bucket {label!r}")
        else:
            value = float(match[2]) * _UNITS[match[3].lower()]
            if match[1] == "<=":
                limits[label] = value
            elif match[1] == ">":
                found[label] = (value, math.inf)
            else:
                points[label] = value
    if points and not limits:
        bounds_of = _point_bounds(points.values())
        found.update({label: bounds_of[value] for label, value in points.items()})
        highest = max(points, key=lambda label: points[label])
        over = [low for low, high in found.values() if high == math.inf and low > 0]
        if over and found[highest][1] == math.inf:
            found[highest] = (found[highest][0], max(over))
        return found
    # "=" beside "<=" is the lowest bucket, such as kp=0; a bucket begins where the next lower ends.
    for label, value in points.items():
        found[label] = (-math.inf, value)
    below = -math.inf if not points else max(points.values())
    for label in sorted(limits, key=lambda name: limits[name]):
        found[label] = (below, limits[label])
        below = limits[label]
    return found


def _point_bounds(points: Iterable[float]) -> dict[float, Bounds]:
    ordered = sorted(set(points))
    edges = [0.0 if low <= 0 else math.sqrt(low * high) for low, high in pairwise(ordered)]
    lows, highs = [-math.inf, *edges], [*edges, math.inf]
    return {p: (low, high) for p, low, high in zip(ordered, lows, highs, strict=True)}


def _stated_bounds(node: Any) -> Iterable[tuple[str, Bounds]]:
    """Every label with its edges, wherever ``labels`` and ``bins`` stand side by side."""
    if not isinstance(node, Mapping):
        return
    for key, labels in node.items():
        if isinstance(labels, list) and str(key).endswith("labels"):
            stem = str(key)[: -len("labels")]
            edges = next(
                (node[stem + word] for word in ("bins", "edges") if stem + word in node), None
            )
            if isinstance(edges, list) and len(edges) == len(labels) + 1:
                limits = [float(edge) for edge in edges]
                limits[0] = -math.inf
                limits[-1] = math.inf
                for place, label in enumerate(labels):
                    yield str(label), (limits[place], limits[place + 1])
        else:
            yield from _stated_bounds(labels)
