"""LLMServingSim's ``skew_fit.csv`` in numeric bounds, in any of the forms that it has had.

Its rows name buckets by labels (``n<=128``, ``kvB<=4k``, ``kp=0``, ``sr>70%``) whose edges are in
``meta.yaml`` under ``skew_fit`` or in the labels themselves.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle.skew import COLUMNS, bound_columns
from pytest_gpusim.errors import InputError
from pytest_gpusim.llmservingsim.cluster import as_number

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
# Prefill tokens in the step at which the bucket was measured. Its makers look the very number up
# and take the default alpha at any other (LLMServingSim's simulator; ``bucket_axes`` of meta.yaml:
# "raw pc value").
_EXACT = "pc"
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
_LONGEST_LABEL = 64
_NUMBER = r"(\d+(?:\.\d+)?)\s*([km%]?)"
_LABEL = re.compile(rf"^[A-Za-z_ ]*(<=|>=|<|>|==?)\s*{_NUMBER}$", re.IGNORECASE)
_RANGE = re.compile(
    rf"^[A-Za-z_ ]*=?\s*([(\[])?\s*{_NUMBER}\s*(?:-|,|\.\.|:)\s*(?:{_NUMBER}|inf)\s*([)\]])?$",
    re.IGNORECASE,
)
# The edges between buckets that LLMServingSim's tables have, by the feature; a bucket that has no
# rows leaves a gap, which only they show.
_EDGES: dict[str, list[float]] = {
    "num_decodes": [float(2**power) for power in range(1, 13)],
    "evenness": [0.05, 0.15, 0.4, 0.7],
    "kv_max": [1024.0 * 4**power for power in range(6)],
    "kv_prefill": [0.0, *(512.0 * 2**power for power in range(10))],
}

Bounds = tuple[float, float]
_OPEN = (-math.inf, math.inf)


def skew_table(
    raw: pd.DataFrame, fit: Mapping[str, Any], path: Path
) -> tuple[pd.DataFrame, list[str]]:
    """Rows of the bundle's ``skew_fit.csv``, and notes on rows that are left to the default.

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
        raw = raw[pd.to_numeric(raw["decode_q_len"], errors="coerce").fillna(1) == 1]
    raw = raw.assign(alpha=pd.to_numeric(raw["alpha"], errors="coerce"))
    raw, notes = _readable(raw[raw["alpha"].abs() < math.inf], path)
    stated = dict(_stated_bounds(fit))
    columns: dict[str, Any] = {}
    for column, feature in _LABELS.items():
        if column in raw.columns:
            labels = [None if _blank(cell) else str(cell).strip() for cell in raw[column]]
            bounds = _label_bounds({each for each in labels if each}, stated, feature)
            _put(columns, feature, [bounds[label] if label else _OPEN for label in labels])
    if _EXACT in raw.columns:
        chunks = pd.to_numeric(raw[_EXACT], errors="coerce")
        _put(columns, "prefill_tokens", [_exactly(chunk) for chunk in chunks])
    if "n_anchor" in raw.columns:
        # A batch between two anchors takes the nearer, as a ratio.
        partitions = [c for c in ("pc_label", "lev_label") if c in raw.columns]
        anchors = pd.to_numeric(raw["n_anchor"], errors="coerce")
        found: dict[Any, Bounds] = {}
        groups = raw.groupby(partitions, dropna=False).groups if partitions else {(): raw.index}
        for index in groups.values():
            bounds_of = _point_bounds(anchors.loc[index].dropna().unique())
            found.update({row: bounds_of.get(anchors.loc[row], _OPEN) for row in index})
        _put(columns, "num_decodes", [found[row] for row in raw.index])
    table = pd.DataFrame(columns, index=raw.index).reindex(columns=list(COLUMNS[:-1]))
    table["alpha"] = raw["alpha"].astype(float)
    return table.replace([math.inf, -math.inf], math.nan).reset_index(drop=True), notes


def _readable(raw: pd.DataFrame, path: Path) -> tuple[pd.DataFrame, list[str]]:
    """The rows whose labels can all be read, under an index of their own; notes on the others."""
    notes = []
    bad = raw["alpha"].isna()
    unread: dict[str, None] = {}
    for column in _LABELS:
        if column in raw.columns:
            wrong = ~raw[column].map(lambda cell: _blank(cell) or _is_label(str(cell))).astype(bool)
            unread.update(dict.fromkeys(str(cell) for cell in raw.loc[wrong, column].unique()))
            bad |= wrong
    if unread:
        names = ", ".join(repr(label) for label in unread)
        notes.append(
            f"{path.name}: buckets {names} cannot be read; {bad.sum()} of {len(raw)} rows are left "
            "to the default alpha"
        )
    return raw[~bad].reset_index(drop=True), notes


def _is_label(text: str) -> bool:
    label = text.strip()
    if len(label) > _LONGEST_LABEL:
        return False
    return bool(label in _FIXED_BOUNDS or _LABEL.match(label) or _RANGE.match(label))


def _blank(cell: Any) -> bool:
    return cell is None or cell != cell or str(cell).strip().lower() in ("", "nan", "none", "*")


def default_alpha(fit: Mapping[str, Any], tensor_parallel: int) -> float:
    """``alpha_default``: the alpha of batches that no bucket holds; 0 where none is stated."""
    for source in (_own(fit.get("per_tp"), tensor_parallel), fit):
        by_kernel = source.get("alpha_default_by_kernel")
        kernel = by_kernel.get("attention|q=1") if isinstance(by_kernel, Mapping) else None
        for value in (kernel, source.get("alpha_default")):
            number = None if isinstance(value, str) else as_number(value)
            if number is not None:
                return number
    return 0.0


def _own(per_tp: Any, tensor_parallel: int) -> Mapping[str, Any]:
    """The entry of one degree: by key, or by its own field where they are listed."""
    if isinstance(per_tp, list):
        names = ("tp", "tp_degree", "degree", "tensor_parallel_size")
        listed = [entry for entry in per_tp if isinstance(entry, Mapping)]
        own = (e for e in listed if any(str(e.get(k)) == str(tensor_parallel) for k in names))
        return next(own, {})
    if not isinstance(per_tp, Mapping):
        return {}
    keys = (tensor_parallel, str(tensor_parallel), f"tp{tensor_parallel}")
    found = next((per_tp[key] for key in keys if key in per_tp), None)
    return found if isinstance(found, Mapping) else {}


def _exactly(count: float) -> Bounds:
    return _OPEN if math.isnan(count) else (_below(count, "prefill_tokens"), count)


def _put(columns: dict[str, Any], feature: str, bounds: list[Bounds]) -> None:
    above, upto = bound_columns(feature)
    columns[above] = [low for low, _ in bounds]
    columns[upto] = [high for _, high in bounds]


def _label_bounds(
    labels: Iterable[str], stated: Mapping[str, Bounds], feature: str
) -> dict[str, Bounds]:
    found: dict[str, Bounds] = {}
    limits: dict[str, float] = {}
    points: dict[str, float] = {}
    for label in labels:
        known = stated.get(label) or _FIXED_BOUNDS.get(label) or _range_bounds(label, feature)
        match = _LABEL.match(label)
        if known is not None:
            found[label] = known
        elif match is not None:
            value = _value(match[2], match[3])
            if match[1] in ("<=", "<"):
                limits[label] = _below(value, feature) if match[1] == "<" else value
            elif match[1] in (">=", ">"):
                found[label] = (_below(value, feature) if match[1] == ">=" else value, math.inf)
            else:
                points[label] = value
    over = [low for low, high in found.values() if high == math.inf]
    if points and not limits:
        bounds_of = _point_bounds(points.values())
        found.update({label: bounds_of[value] for label, value in points.items()})
        highest = max(points, key=lambda label: points[label])
        if any(low >= points[highest] for low in over):
            end = min(low for low in over if low >= points[highest])
            found[highest] = (found[highest][0], end)
        return found
    # "=" beside "<=" is the lowest bucket, such as kp=0; a bucket begins where the next lower ends.
    for label, value in points.items():
        found[label] = (-math.inf, value)
    found.update(_limit_bounds(limits, [*points.values()], over, feature))
    return found


def _limit_bounds(
    limits: Mapping[str, float], lowest: Sequence[float], over: Sequence[float], feature: str
) -> dict[str, Bounds]:
    """Buckets known by their upper ends: each begins at the next lower edge, used or not."""
    edges = {*limits.values(), *lowest}
    usual = _EDGES.get(feature, [])
    if all(any(math.isclose(edge, each) for each in usual) for edge in {*edges, *over}):
        edges.update(usual)
    ordered = sorted(edges)
    bounds = {}
    for label, limit in limits.items():
        below = [e for e in ordered if e < limit and not math.isclose(e, limit)]
        bounds[label] = (max(below, default=-math.inf), limit)
    return bounds


def _range_bounds(label: str, feature: str) -> Bounds | None:
    """``(16,64]``, ``16-64``: above the first, up to the second; ``[16,64)`` as it says."""
    match = _RANGE.match(label)
    if match is None:
        return None
    low = _value(match[2], match[3] or match[5] or "")
    high = _value(match[4], match[5]) if match[4] else math.inf
    return (
        _below(low, feature) if match[1] == "[" else low,
        _below(high, feature) if match[6] == ")" else high,
    )


def _value(digits: str, unit: str) -> float:
    return float(digits) * _UNITS[unit.lower()]


def _below(value: float, feature: str) -> float:
    """The edge of a bucket that ends before ``value``; counts are whole."""
    return value - 1 if feature not in ("evenness", "gap") else math.nextafter(value, -math.inf)


def _point_bounds(points: Iterable[float]) -> dict[float, Bounds]:
    ordered = sorted(set(points))
    if not ordered:
        return {}
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
                try:
                    limits = [float(edge) for edge in edges]
                except (TypeError, ValueError, OverflowError):
                    continue
                limits[0] = -math.inf
                limits[-1] = math.inf
                for place, label in enumerate(labels):
                    yield str(label), (limits[place], limits[place + 1])
        else:
            yield from _stated_bounds(labels)
