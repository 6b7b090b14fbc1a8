"""A real run's own state, from its request times alone, priced by the simulation's step times.

Who was being served when, and with how much context, follows from arrival, first token and
completion: between the latter two a request decodes evenly. What the model says that state takes is
held against the time that passed, whatever the simulated schedule did. Time above it at the start
only is a first use; above it at the same batch sizes later on, it is the profile.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.errors import GpusimError

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pytest_gpusim.compare.sides import Sides
    from pytest_gpusim.serving.steptime import StepTimeModel

_SLICES = 100
_EARLY = 0.2  # of the run
_PERIODS = 5
_FEWEST = 3  # slices of a batch size, before it is said what they take


@dataclass(frozen=True)
class _Slices:
    """By slice of the run, in ns: what passed and what the model says; mean requests decoding."""

    edges: np.ndarray
    real: np.ndarray
    model: np.ndarray
    batch: np.ndarray
    present: np.ndarray

    @property
    def early(self) -> np.ndarray:
        """Whether a slice is one of the first."""
        import numpy as np

        found: np.ndarray = np.arange(len(self.real)) < _EARLY * len(self.real)
        return found


def real_state(sides: Sides, requests: pd.DataFrame) -> dict[str, Any] | None:
    """Real over modelled time by period and by batch size; None where the profile is not at hand.

    Args:
        sides: The two sides; the first real run is looked at.
        requests: Both sides' times by request.

    Returns:
        ``by_period`` (``from``, ``to`` in ns from the start, ``batch``, ``ratio``), ``by_batch``
        (``from``, ``to`` in sequences, ``early`` and ``late`` ratio, None where there is too
        little), ``first_request`` (``excess_ns`` of its TTFT over the simulated one and
        ``others_ns``, the median of the others'), and ``profile`` and ``first_use``: what each adds
        to the mean E2E, as a share of it.
    """
    try:
        model, most = _model_of(sides)
    except GpusimError:
        return None
    if model is None or len(sides.real[0].finished) < 2 * _FEWEST:
        return None
    slices = _slices(sides, model, most)
    bins = _bins(slices)
    by_batch, late = _by_batch(slices, bins)
    profile, first_use = _contributions(slices, bins, late, sides)
    return {
        "by_period": _by_period(slices),
        "by_batch": by_batch,
        "first_request": _first_request(requests),
        "profile": profile,
        "first_use": first_use,
    }


def _model_of(sides: Sides) -> tuple[StepTimeModel | None, int]:
    """The step times of the simulation, and the most tokens of its steps."""
    from pytest_gpusim.bundle import read_bundle
    from pytest_gpusim.deployment import EngineSettings, ModelShape
    from pytest_gpusim.serving.steptime import StepTimeModel

    meta = sides.sim.meta
    place, shape = meta.get("profiling_root"), meta.get("model_shape")
    if not isinstance(place, str) or not Path(place).is_dir() or not isinstance(shape, dict):
        return None, 0
    bundle = read_bundle(place)
    if bundle.digest != meta.get("profiling_digest"):
        return None, 0
    stated = (meta.get("profile") or {}).get("engine_time")
    if isinstance(stated, dict):
        bundle = bundle.with_engine_time(int(stated["time_ns"]))
    where = sides.sim.path / "run_meta.json"
    settings = EngineSettings.from_mapping(meta.get("engine") or {}, where, strict=False)
    model = StepTimeModel(bundle, ModelShape.from_json(shape, where), settings)
    return model, settings.max_num_batched_tokens or 1 << 20


def _slices(sides: Sides, model: StepTimeModel, most_tokens: int) -> _Slices:
    import numpy as np

    rows = sides.real[0].finished
    arrival, first, last, prompt, tokens = (
        rows[name].to_numpy(dtype="float64")
        for name in (
            "arrival_time_ns",
            "first_token_time_ns",
            "completion_time_ns",
            "num_prefill_tokens",
            "num_decode_tokens_actual",
        )
    )
    delays = sides.sim.meta.get("frontend") or {}
    arrival = np.minimum(arrival + float(delays.get("ingress_ns") or 0), first)
    cached = rows["num_cached_tokens"].to_numpy(dtype="float64", na_value=0.0)
    edges = np.linspace(arrival.min(), last.max(), _SLICES + 1)
    decoding = _overlaps(first, last, edges)
    present = _overlaps(arrival, last, edges)
    busy, decode_busy = (_union(start, last, edges) for start in (arrival, first))
    pace = np.where(last > first, (tokens - 1) / np.maximum(last - first, 1), 0.0)
    produced = (decoding * pace[:, None]).sum(axis=0)
    batch = decoding.sum(axis=0) / np.maximum(decode_busy, 1)
    middle = (edges[:-1] + edges[1:]) / 2
    progress = np.clip((middle[None, :] - first[:, None]) * pace[:, None], 0, tokens[:, None])
    context = (decoding * (prompt[:, None] + progress)).sum(axis=0)
    context /= np.maximum(decoding.sum(axis=0), 1)
    modelled = np.zeros(_SLICES)
    for place in np.flatnonzero(batch > 0):
        step = _decodes(model, batch[place], context[place])
        modelled[place] = produced[place] / batch[place] * step
    home = np.clip(np.searchsorted(edges, first, side="right") - 1, 0, _SLICES - 1)
    fresh = np.maximum(prompt - cached, 1).astype(int)
    prices: dict[tuple[int, int], float] = {}
    for size in zip(fresh.tolist(), home.tolist(), strict=True):
        tokens_of, place = size
        if size not in prices:
            prices[size] = _prefill(model, tokens_of, batch[place], context[place], most_tokens)
        modelled[place] += prices[size]
    return _Slices(edges - edges[0], busy, modelled, batch, present.sum(axis=0) / np.diff(edges))


def _decodes(model: StepTimeModel, batch: float, context: float) -> float:
    """A step of decodes alone; a batch between two whole ones is between their times."""
    return sum(share * _step(model, number, context) for number, share in _whole(max(batch, 1.0)))


def _prefill(
    model: StepTimeModel, tokens: int, batch: float, context: float, most_tokens: int
) -> float:
    """What a prompt adds to the steps of the decodes beside it."""
    decodes, time, done = round(batch), 0.0, 0
    most = max(1, most_tokens - decodes)
    while done < tokens:
        chunk = min(most, tokens - done)
        time += _step(model, decodes, context, [(chunk, done)])
        time -= _step(model, decodes, context) if decodes else 0.0
        done += chunk
    return time


def _step(
    model: StepTimeModel, decodes: int, context: float, chunks: list[tuple[int, int]] | None = None
) -> float:
    from pytest_gpusim.serving.steptime import StepFeatures

    held = round(context)
    chunks = chunks or []
    spread = (held, held) if decodes else (0, 0)
    features = StepFeatures(chunks, decodes, decodes * held, decodes + len(chunks), *spread)
    return model.time(features).time_ns


def _whole(batch: float) -> list[tuple[int, float]]:
    low = int(batch)
    share = batch - low
    return [(low, 1 - share), (low + 1, share)] if share else [(low, 1.0)]


def _overlaps(start: np.ndarray, end: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Of each interval (rows) in each slice (columns)."""
    import numpy as np

    low = np.maximum(start[:, None], edges[None, :-1])
    high = np.minimum(end[:, None], edges[None, 1:])
    found: np.ndarray = np.clip(high - low, 0, None)
    return found


def _union(start: np.ndarray, end: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Time in each slice that lies in any interval."""
    import numpy as np

    order = np.argsort(start, kind="stable")
    begin, reach = start[order], np.maximum.accumulate(end[order])
    new = np.concatenate([[True], begin[1:] > reach[:-1]])
    stops = reach[np.concatenate([np.flatnonzero(new)[1:] - 1, [len(begin) - 1]])]
    found: np.ndarray = _overlaps(begin[new], stops, edges).sum(axis=0)
    return found


def _bins(slices: _Slices) -> np.ndarray:
    """By slice, the power of two that its batch does not exceed, as an exponent; -1: none."""
    import numpy as np

    batch = slices.batch
    found: np.ndarray = np.where(
        (batch > 0) & (slices.model > 0), np.ceil(np.log2(np.maximum(batch, 1))), -1
    ).astype(int)
    return found


def _by_batch(slices: _Slices, bins: np.ndarray) -> tuple[list[dict[str, Any]], dict[int, float]]:
    rows, late = [], {}
    for power in sorted(set(bins.tolist()) - {-1}):
        inside = bins == power
        ratios = [_ratio(slices, inside & part) for part in (slices.early, ~slices.early)]
        if ratios[1] is not None:
            late[power] = ratios[1]
        if any(ratio is not None for ratio in ratios):
            low = 2 ** (power - 1) + 1 if power else 1
            rows.append({"from": low, "to": 2**power, "early": ratios[0], "late": ratios[1]})
    return rows, late


def _by_period(slices: _Slices) -> list[dict[str, Any]]:
    import numpy as np

    rows = []
    for places in np.array_split(np.arange(len(slices.real)), _PERIODS):
        inside = np.isin(np.arange(len(slices.real)), places)
        rows.append(
            {
                "from": round(float(slices.edges[places[0]])),
                "to": round(float(slices.edges[places[-1] + 1])),
                "batch": round(float(slices.batch[places].mean()), 2),
                "ratio": _ratio(slices, inside),
            }
        )
    return rows


def _ratio(slices: _Slices, inside: np.ndarray) -> float | None:
    modelled = float(slices.model[inside].sum())
    if int(inside.sum()) < _FEWEST or modelled <= 0:
        return None
    return round(float(slices.real[inside].sum()) / modelled, 4)


def _contributions(
    slices: _Slices, bins: np.ndarray, late: dict[int, float], sides: Sides
) -> tuple[float, float]:
    """What the profile's error and first uses add to the mean E2E; every present request waits."""
    import numpy as np

    rows = sides.real[0].finished
    whole = float((rows["completion_time_ns"] - rows["arrival_time_ns"]).sum())
    ratio = np.array([late.get(power, 1.0) for power in bins.tolist()])
    profile = float(((ratio - 1) * slices.model * slices.present).sum())
    known = slices.early & np.isin(bins, list(late))
    excess = (slices.real - ratio * slices.model) * slices.present
    return round(profile / whole, 5), round(float(excess[known].sum()) / whole, 5)


def _first_request(requests: pd.DataFrame) -> dict[str, float] | None:
    known = requests.dropna(subset=["real_ttft", "sim_ttft"]).sort_values("arrival_time_ns")
    if len(known) < 2:
        return None
    excess = known["real_ttft"] - known["sim_ttft"]
    return {
        "excess_ns": round(float(excess.iloc[0])),
        "others_ns": round(float(excess.iloc[1:].median())),
    }


def state_findings(state: dict[str, Any] | None) -> list[tuple[str, float | None]]:
    """What stands out, in words, and its share of the mean E2E."""
    if state is None:
        return []
    from pytest_gpusim.compare.format import milliseconds

    said: list[tuple[str, float | None]] = []
    late = [row for row in state["by_batch"] if row["late"] is not None]
    if late and abs(state["profile"]) > 0.01:
        worst = max(late, key=lambda row: abs(row["late"] - 1))
        said.append(
            (
                f"the real run's own batches take {worst['late'] - 1:+.1%} against the profile at "
                f"{worst['from']} to {worst['to']} sequences, long after the start: the profile, "
                f"which by that adds {state['profile']:+.1%} to the mean E2E",
                state["profile"],
            )
        )
    if abs(state["first_use"]) > 0.01:
        said.append(
            (
                "at the same batch sizes the start of the real run is off more than the rest, by "
                f"{state['first_use']:+.1%} of the mean E2E: first uses, which no profile holds",
                state["first_use"],
            )
        )
    first = state["first_request"]
    if first is not None and first["excess_ns"] > max(20e6, 5 * abs(first["others_ns"])):
        said.append(
            (
                f"the first request waits {milliseconds(first['excess_ns'])} longer for its first "
                f"token than simulated, the others {milliseconds(first['others_ns'])}: a first use",
                None,
            )
        )
    return said
