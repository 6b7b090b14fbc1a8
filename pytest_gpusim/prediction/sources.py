"""What is not known of a profile, and profiles that are as likely as the one at hand.

Scatter is by operator: how well its points predict each other, and how well they repeat. A bias
moves all step times alike (`pytest_gpusim.bundle_checks.biases`). What the profile lacks is drawn
from where it may lie, so the prediction moves to one side.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
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
from pytest_gpusim.bundle_checks.biases import biases_of
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
    """

    name: str
    reason: str
    share: float | None = None
    time_ns: float | None = None
    mean_ns: float = 0.0

    def to_json(self) -> dict[str, Any]:
        """Its entry under ``sources``."""
        size = {"share": self.share, "time_ns": None if self.time_ns is None else self.time_ns}
        return {"name": self.name, **size, "reason": self.reason}


def sources_of(bundle: Bundle, engine: EngineSettings, clock: Clock) -> list[Source]:
    """All sources of a prediction from a bundle."""
    found = [Source(b.name, b.reason, share=b.share) for b in biases_of(bundle, engine)]
    repeats = _repeatability(bundle)
    for name, error in leave_out_error(bundle, engine.tensor_parallel_size).items():
        if name != "overhead":
            share = ((error.mean / _LEFT_OUT) ** 2 + repeats.get(name, 0.0) ** 2) ** 0.5
            reason = "its points predict each other and repeat no better than that"
            found.append(Source(name, reason, share=share))
    fitted = {p["name"]: p for p in (bundle.meta.get("calibration") or {}).get("parameters", [])}
    for name in ("engine_time", "front_end"):
        if name in fitted:
            found.append(_fitted(name, fitted[name]))
    if bundle.overhead is None:
        hidden = bool(engine.async_scheduling)
        time = _ENGINE_TIME_ASYNC_NS if hidden else _ENGINE_TIME_SYNC_NS
        reason = "the profile has no engine time per iteration"
        found.append(Source("engine_time", reason, time_ns=time))
    if clock == "client" and bundle.frontend is None:
        reason = "the profile has no front end, and the clock is a client's"
        found.append(Source("front_end", reason, time_ns=_FRONT_END_NS))
    return found


def _fitted(name: str, parameter: Mapping[str, Any]) -> Source:
    value = float(parameter["time_ns"])
    width = max(float(parameter["high_ns"]) - value, value - float(parameter["low_ns"]))
    reason = "calibrated, with that interval"
    return Source(name, reason, time_ns=round(width / _Z), mean_ns=value)


def _repeatability(bundle: Bundle) -> dict[str, float]:
    stated = bundle.meta.get("repeatability")
    known = stated.get("coefficient_of_variation") if isinstance(stated, Mapping) else None
    return {
        str(name): float(value)
        for name, value in (known if isinstance(known, Mapping) else {}).items()
        if isinstance(value, int | float)
    }


def drawn_bundle(bundle: Bundle, sources: Sequence[Source], rng: random.Random) -> Bundle:
    """A profile that is as likely as the one at hand."""
    factors: dict[str, float] = {}
    everything = 1.0
    times: dict[str, int] = {}
    for source in sources:
        draw = rng.gauss(0.0, 1.0)
        if source.time_ns is not None:
            time = source.mean_ns + source.time_ns * draw
            times[source.name] = round(abs(time) if source.mean_ns == 0 else max(0.0, time))
        elif _is_operator(source.name):
            factors[source.name] = 1 + (source.share or 0.0) * draw
        else:
            everything *= 1 + (source.share or 0.0) * draw
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
        frontend = _front_end(times["front_end"])
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


def _front_end(time_ns: int) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame([("ingress", 0, time_ns)], columns=list(SMALL_TABLES[FRONTEND]))
