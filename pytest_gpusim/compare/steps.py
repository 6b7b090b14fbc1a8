"""Real and simulated steps side by side: did they hold the same batches, and take as long?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pytest_gpusim.runs import Run

Batch = dict[int, int]


def compare_steps(real: Run, sim: Run) -> dict[str, Any] | None:
    """What the step tables of two runs tell; None where either has none.

    Returns:
        ``by_batch_size``: time of decode-only steps by number of sequences, whether or not the
        batches agree. Where both sides recorded their batches, also ``schedule``: how many steps
        held the same requests with the same tokens, and the first that did not; and ``model``: the
        error of the time of those that did, which the schedule has no part in.
    """
    if real.steps is None or sim.steps is None or real.steps.empty or sim.steps.empty:
        return None
    result: dict[str, Any] = {
        "real_run": real.run_id,
        "by_batch_size": _by_batch_size(real.steps, sim.steps),
        "schedule": None,
        "model": None,
    }
    known: dict[str, Batch] = {}
    ours, theirs = real.batches(known), sim.batches(known)
    if not ours or not theirs:
        return result
    if len(ours) != len(real.steps) or len(theirs) != len(sim.steps):
        return result
    pairs = same_batches(ours, theirs)
    result["schedule"] = {
        "real_steps": len(ours),
        "sim_steps": len(theirs),
        "same": len(pairs),
        "same_share": 2 * len(pairs) / (len(ours) + len(theirs)),
        "first_difference": _first_difference(real, ours, theirs),
    }
    if pairs:
        result["model"] = _model_error(real.steps, sim.steps, pairs)
    return result


def same_batches(real: Sequence[Batch], sim: Sequence[Batch]) -> list[tuple[int, int]]:
    """Pairs of steps that hold the same requests with the same tokens, in order of occurrence."""
    import numpy as np

    # Steps mostly share their mappings, so what one holds is looked at once.
    kinds: dict[tuple[int, ...], int] = {}
    kind_of: dict[int, int] = {}
    columns = []
    for batches in (real, sim):
        ids = list(map(id, batches))
        for number, batch in dict(zip(ids, batches, strict=True)).items():
            if number not in kind_of:
                requests = sorted(batch)
                held = (*requests, *map(batch.__getitem__, requests))
                kind_of[number] = kinds.setdefault(held, len(kinds))
        columns.append(np.fromiter(map(kind_of.__getitem__, ids), np.int64, len(ids)))
    # The first of a kind on one side goes with its first on the other, the second with the second.
    left, right = (kind * (len(real) + len(sim)) + _occurrences(kind) for kind in columns)
    _, ours, theirs = np.intersect1d(left, right, assume_unique=True, return_indices=True)
    order = np.argsort(ours)
    return list(zip(ours[order].tolist(), theirs[order].tolist(), strict=True))


def _occurrences(kinds: np.ndarray) -> np.ndarray:
    """By step, how many before it are of its kind."""
    import numpy as np

    order = np.argsort(kinds, kind="stable")
    ordered = kinds[order]
    new = np.append(True, ordered[1:] != ordered[:-1])[: len(kinds)]
    starts = np.flatnonzero(new)
    found = np.empty_like(order)
    found[order] = np.arange(len(kinds)) - starts[np.cumsum(new) - 1]
    return found


def _first_difference(
    run: Run, real: Sequence[Batch], sim: Sequence[Batch]
) -> dict[str, Any] | None:
    assert run.steps is not None
    for index, (ours, theirs) in enumerate(zip(real, sim, strict=False)):
        if ours is not theirs and ours != theirs:
            return {
                "step": index,
                "real_start_ns": int(run.steps["start_ns"].iloc[index]),
                "only_real": sorted(set(ours) - set(theirs)),
                "only_sim": sorted(set(theirs) - set(ours)),
                "other_tokens": sorted(i for i in ours if theirs.get(i, ours[i]) != ours[i]),
            }
    return None


def _model_error(
    real: pd.DataFrame, sim: pd.DataFrame, pairs: Sequence[tuple[int, int]]
) -> dict[str, Any]:
    """Time of paired steps: as a whole, those with prefill, and decodes by batch size."""
    ours, theirs = zip(*pairs, strict=True)
    left, right = real.iloc[list(ours)], sim.iloc[list(theirs)]
    spent, simulated = _durations(left), _durations(right)
    prefill = left["num_prefill_tokens"].fillna(0).to_numpy(dtype="float64") > 0
    sizes = left["num_sequences"].to_numpy(dtype="float64", na_value=0.0)
    return {
        "steps": len(pairs),
        "real_share": float(spent.sum() / max(_durations(real).sum(), 1.0)),
        "error": _ratio(spent, simulated),
        "with_prefill": _ratio(spent[prefill], simulated[prefill]),
        "decode_only": _ratio(spent[~prefill], simulated[~prefill]),
        "decode_by_batch_size": _in_bins(
            (sizes[~prefill], spent[~prefill]), (sizes[~prefill], simulated[~prefill])
        ),
    }


def _by_batch_size(real: pd.DataFrame, sim: pd.DataFrame) -> list[dict[str, Any]]:
    sides = []
    for steps in (real, sim):
        steps = steps[steps["num_sequences"].notna()]
        decode = steps[steps["num_prefill_tokens"].fillna(0) == 0]
        sizes = decode["num_sequences"].to_numpy(dtype="float64")
        sides.append((sizes, _durations(decode)))
    return _in_bins(sides[0], sides[1])


def _in_bins(
    real: tuple[np.ndarray, np.ndarray], sim: tuple[np.ndarray, np.ndarray]
) -> list[dict[str, Any]]:
    """Median step time by batch size, in bins that double: 1, 2, 3–4, 5–8, …"""
    import numpy as np

    rows = []
    low, high = 1, 1
    while len(real[0]) and low <= real[0].max():
        values = [times[(sizes >= low) & (sizes <= high)] for sizes, times in (real, sim)]
        if all(len(column) for column in values):
            ours, theirs = (float(np.median(column)) for column in values)
            rows.append(
                {
                    "from": low,
                    "to": high,
                    "real_steps": len(values[0]),
                    "sim_steps": len(values[1]),
                    "real_ns": round(ours),
                    "sim_ns": round(theirs),
                    "error": (theirs - ours) / ours if ours > 0 else None,
                }
            )
        low, high = high + 1, high * 2
    return rows


def _durations(steps: pd.DataFrame) -> np.ndarray:
    values: np.ndarray = steps["duration_ns"].to_numpy(dtype="float64", na_value=0.0)
    return values


def _ratio(real: np.ndarray, sim: np.ndarray) -> float | None:
    total = float(real.sum())
    return (float(sim.sum()) - total) / total if total > 0 else None
