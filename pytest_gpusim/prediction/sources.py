"""What is not known of a profile, and profiles that are as likely as the one at hand.

Scatter is by operator: how well its points predict each other, and how well they repeat. A bias
moves all step times alike (`pytest_gpusim.bundle_checks.biases`). What the profile lacks is drawn
from where it may lie, so the prediction moves to one side. What a calibration found is drawn as it
was found: an engine time that is longer goes with kernels that are shorter.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from operator import mul
from typing import TYPE_CHECKING, Any

from pytest_gpusim.bundle import Bundle
from pytest_gpusim.bundle.schema import (
    ATTENTION_OPERATORS,
    FRONTEND,
    LAYER_OPERATORS,
    OPTIONAL_LAYER_OPERATORS,
    SMALL_TABLES,
    STEP_OPERATORS,
    constant_engine_time,
    time_column,
)
from pytest_gpusim.bundle_checks.biases import (
    PROFILE_ERROR,
    biases_of,
    not_told,
    step_time_bias,
    variation,
)
from pytest_gpusim.serving.steptime_accuracy import leave_out_error

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.deployment import EngineSettings
    from pytest_gpusim.runs import Clock

# A point that is left out is predicted over twice the distance that lies between points, and the
# error of a line grows with the square of it.
_LEFT_OUT = 4.0
# Engine time that no profile holds, ns: the order of magnitude of vLLM's (see the calibration).
_ENGINE_TIME_SYNC_NS, _ENGINE_TIME_ASYNC_NS = 3e6, 0.3e6
# HTTP, tokenizing and hand-over of a request, ns.
_FRONT_END_NS = 10e6
_Z = 1.645
_OPERATORS = (
    *LAYER_OPERATORS,
    *OPTIONAL_LAYER_OPERATORS,
    *STEP_OPERATORS,
    *ATTENTION_OPERATORS,
)


@dataclass(frozen=True)
class Source:
    """A source of error, of one standard deviation.

    Attributes:
        name: In ``sources`` of ``prediction.json``.
        share: Of the times that it moves; None where it is a time.
        time_ns: The time itself; it is not less than none.
        reason: In words.
        mean_ns: Where the time lies, if that is known.
        mean_share: The share by which the times are off as far as that is known.
        loadings: What it has of draws that it shares with others, squares adding up to 1; empty:
            its own draw.
    """

    name: str
    reason: str
    share: float | None = None
    time_ns: float | None = None
    mean_ns: float = 0.0
    mean_share: float = 0.0
    loadings: tuple[float, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Its entry under ``sources``."""
        size = {"share": self.share, "time_ns": None if self.time_ns is None else self.time_ns}
        return {"name": self.name, **size, "reason": self.reason}


def sources_of(bundle: Bundle, engine: EngineSettings, clock: Clock) -> list[Source]:
    """All sources of a prediction from a bundle."""
    found = [Source(b.name, b.reason, share=b.share) for b in biases_of(bundle, engine)]
    calibration = bundle.meta.get("calibration") or {}
    fitted = _fitted(calibration)
    if any(source.name == PROFILE_ERROR for source in fitted):
        untold = not_told(float(calibration["profile_bias"]), step_time_bias(bundle, engine))
        reason = "what a calibration tells of a profile's error is half of it at another load"
        found = [Source("load", reason, share=untold)]
    repeats = variation(bundle)
    for name, error in leave_out_error(bundle, engine.tensor_parallel_size).items():
        if name != "overhead":
            repeat = repeats.get(name, repeats.get("attention", 0.0) if "attn_" in name else 0.0)
            share = ((error.mean / _LEFT_OUT) ** 2 + repeat**2) ** 0.5
            reason = "its points predict each other and repeat no better than that"
            found.append(Source(name, reason, share=share))
    found += fitted
    if bundle.overhead is None:
        hidden = bool(engine.async_scheduling)
        time = _ENGINE_TIME_ASYNC_NS if hidden else _ENGINE_TIME_SYNC_NS
        reason = "the profile has no engine time per iteration"
        found.append(Source("engine_time", reason, time_ns=time))
    if clock == "client" and bundle.frontend is None:
        reason = "the profile has no front end, and the clock is a client's"
        found.append(Source("front_end", reason, time_ns=_FRONT_END_NS))
    return found


def _fitted(calibration: Mapping[str, Any]) -> list[Source]:
    """What a calibration fitted, with its correlations where it states them."""
    parameters = {p["name"]: p for p in calibration.get("parameters", [])}
    joint = calibration.get("joint") or {"names": [], "covariance": []}
    names, loadings = joint["names"], _loadings(joint["covariance"])
    reason = "calibrated, with that interval"
    found = []
    for name in ("engine_time", "front_end"):
        if name in parameters:
            value = float(parameters[name]["time_ns"])
            ends = (float(parameters[name][f"{side}_ns"]) for side in ("low", "high"))
            width = max(abs(end - value) for end in ends)
            if name in names:
                width = _Z * float(joint["covariance"][names.index(name)][names.index(name)]) ** 0.5
            shared = loadings[names.index(name)] if name in names else ()
            found.append(
                Source(name, reason, time_ns=round(width / _Z), mean_ns=value, loadings=shared)
            )
    if PROFILE_ERROR in names:
        place = names.index(PROFILE_ERROR)
        found.append(
            Source(
                PROFILE_ERROR,
                "an error of all step times, as far as the calibrated runs tell it",
                share=float(joint["covariance"][place][place]) ** 0.5,
                mean_share=float(joint["mean"][place]),
                loadings=loadings[place],
            )
        )
    return found


def _loadings(covariance: Sequence[Sequence[float]]) -> list[tuple[float, ...]]:
    """Rows of a matrix that makes independent draws correlate so."""
    import numpy as np

    if not len(covariance):
        return []
    matrix = np.array(covariance, dtype="float64")
    widths = np.sqrt(np.diag(matrix))
    values, vectors = np.linalg.eigh(matrix / np.outer(widths, widths))
    return [tuple(map(float, row)) for row in vectors * np.sqrt(np.maximum(values, 0.0))]


def drawn_bundle(bundle: Bundle, sources: Sequence[Source], rng: random.Random) -> Bundle:
    """A profile that is as likely as the one at hand."""
    factors: dict[str, float] = {}
    everything = 1.0
    times: dict[str, int] = {}
    shared = [rng.gauss(0.0, 1.0) for _ in max((s.loadings for s in sources), key=len, default=())]
    for source in sources:
        draw = sum(map(mul, source.loadings, shared)) if source.loadings else rng.gauss(0.0, 1.0)
        if source.time_ns is not None:
            time = source.mean_ns + source.time_ns * draw
            times[source.name] = round(abs(time) if source.mean_ns == 0 else max(0.0, time))
        elif _is_operator(source.name):
            factors[source.name] = 1 + (source.share or 0.0) * draw
        else:
            everything *= 1 + source.mean_share + (source.share or 0.0) * draw
    return _scaled(bundle, factors, max(everything, 0.1), times)


def _is_operator(name: str) -> bool:
    return name in (*_OPERATORS, "lm_head", "sampler", "attn_mixed", "all_reduce", "moe")


def _scaled(
    bundle: Bundle, factors: Mapping[str, float], everything: float, times: Mapping[str, int]
) -> Bundle:
    def factor(name: str) -> float:
        return max(factors.get(name, 1.0), 0.1) * everything

    def columns(frame: pd.DataFrame) -> pd.DataFrame:
        known = [name for name in _OPERATORS if time_column(name) in frame]
        return frame.assign(**{time_column(n): frame[time_column(n)] * factor(n) for n in known})

    def times_by(frame: pd.DataFrame | None, name: str) -> pd.DataFrame | None:
        return None if frame is None else frame.assign(time_ns=frame["time_ns"] * factor(name))

    sequences = bundle.per_sequence
    if sequences is not None:
        each = sequences["operator"].map(lambda name: factor(str(name)))
        sequences = sequences.assign(time_ns=sequences["time_ns"] * each)
    overhead, frontend = bundle.overhead, bundle.frontend
    if "engine_time" in times:
        overhead = constant_engine_time(times["engine_time"])
    if "front_end" in times:
        frontend = _front_end(frontend, times["front_end"])
    return replace(
        bundle,
        mlp=columns(bundle.mlp),
        attention=columns(bundle.attention),
        per_sequence=sequences,
        mixed_attention=times_by(bundle.mixed_attention, "attn_mixed"),
        all_reduce=times_by(bundle.all_reduce, "all_reduce"),
        moe=times_by(bundle.moe, "moe"),
        overhead=overhead,
        frontend=frontend,
    )


def _front_end(known: pd.DataFrame | None, time_ns: int) -> pd.DataFrame:
    """A front end of so much; one known by prompt length is moved so that this is its median."""
    import pandas as pd

    if known is None or known.empty:
        return pd.DataFrame([("ingress", 0, time_ns)], columns=list(SMALL_TABLES[FRONTEND]))
    moved = known["time_ns"] + time_ns - round(float(known["time_ns"].median()))
    return known.assign(time_ns=moved.clip(lower=0))
