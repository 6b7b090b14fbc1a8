"""Where the error of a simulation comes from."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pytest_gpusim.compare.checks.profile import extrapolated_share, operator_shares
from pytest_gpusim.compare.format import milliseconds
from pytest_gpusim.compare.metrics import HEADLINES, METRICS
from pytest_gpusim.compare.sensitivity import sensitivity
from pytest_gpusim.compare.series import middle_run_with_steps, paired_requests
from pytest_gpusim.compare.sides import Sides
from pytest_gpusim.compare.state import real_state, state_findings
from pytest_gpusim.compare.steps import compare_steps

if TYPE_CHECKING:
    import pandas as pd

NOTABLE = 0.03
# An arrival close to a step's end is served by another step for the smallest error in time, and
# the next few steps follow: a tenth of the steps may differ under the right schedule.
_OTHER_BATCHES = 0.10
_PARTS = 5
_FEWEST_RUNS = 3  # the median of two is a mean: it keeps the slow moments of both


def attribute(sides: Sides) -> dict[str, Any]:
    """Split the error by phase, by operator, by kind of request, and by step.

    Returns:
        JSON values: ``phases`` (mean time per request in queue, prefill, decode, and what each
        contributes to the error of the mean E2E), ``frontend`` (mean simulated delays between
        client and engine, which those of a client's clock hold), ``by_position`` and
        ``by_prompt_length`` (mean errors in parts of the run), ``operators`` (share of the
        simulated time), ``extrapolated_share``, ``steps`` (see `steps.compare_steps`), ``state``
        (the real run's own state, priced by the model; see `state.real_state`), ``spread``
        (see `spread_of_requests`), ``prediction`` (figures that were predicted with an interval,
        and whether the real one lies in it), ``sensitivity`` (of each figure to a step time, see
        `sensitivity.sensitivity`), ``findings``: what stands out, in words, what explains most of
        the error first, and ``explained``: how much of the error of the mean E2E each of these
        explains, None where that has no number. What the runs do not tell is None.
    """
    requests = paired_requests(sides)
    shares = operator_shares(sides.sim.meta)
    with_steps = middle_run_with_steps(sides)
    found: dict[str, Any] = {
        "phases": _phases(requests),
        "frontend": sides.sim.meta.get("frontend"),
        "by_position": _by(requests, "arrival_time_ns"),
        "by_prompt_length": _by(requests, "num_prefill_tokens"),
        "operators": dict(sorted(shares.items(), key=lambda item: -item[1])) if shares else None,
        "extrapolated_share": extrapolated_share(sides),
        "steps": compare_steps(with_steps, sides.sim) if with_steps is not None else None,
        "state": real_state(sides, requests),
        "spread": spread_of_requests(sides),
        "prediction": _predicted(sides),
        "sensitivity": sensitivity(sides.real_metrics[0]) or None,
    }
    said = sorted(_findings(found), key=lambda item: -(item.explains or 0.0))
    return {
        **found,
        "findings": [item.text for item in said],
        "explained": [item.explains for item in said],
    }


def _predicted(sides: Sides) -> dict[str, Any] | None:
    """The figures of the simulation's ``prediction.json`` beside the real ones, if they are any."""
    document = sides.sim.prediction()
    if document is None:
        return None
    rows = []
    for metric, figures in document["metrics"].items():
        statistics = {each.name for each in METRICS[metric].statistics} if metric in METRICS else ()
        for name, figure in figures.items():
            known = sides.figures.get(metric, name) if name in statistics else None
            if known is not None:
                inside = figure["low_ns"] <= known.real_value <= figure["high_ns"]
                row = {"metric": metric, "statistic": name, **figure}
                rows.append({**row, "real_ns": round(known.real_value), "inside": inside})
    return {"level": document["level"], "figures": rows}


class _Finding(NamedTuple):
    """Something that stands out, and its share of the error of the mean E2E."""

    text: str
    explains: float | None


def _phases(requests: pd.DataFrame) -> dict[str, Any] | None:
    known = requests.dropna(subset=["real_e2e", "sim_e2e", "real_ttft", "sim_ttft"])
    if known.empty or known["real_e2e"].mean() <= 0:
        return None
    whole = float(known["real_e2e"].mean())
    queued = bool(known[["real_queue_delay", "sim_queue_delay"]].notna().all(axis=None))
    means: dict[str, list[float]] = {}
    for column, side in enumerate(("real", "sim")):
        ttft, e2e = known[f"{side}_ttft"].mean(), known[f"{side}_e2e"].mean()
        queue = known[f"{side}_queue_delay"].mean() if queued else 0.0
        parts = {"queue": queue} if queued else {}
        parts |= {"prefill" if queued else "queue and prefill": ttft - queue, "decode": e2e - ttft}
        for name, value in parts.items():
            means.setdefault(name, [0.0, 0.0])[column] = float(value)
    return {
        name: {
            "real_ns": round(real),
            "sim_ns": round(sim),
            "contribution": (sim - real) / whole,
        }
        for name, (real, sim) in means.items()
    }


def _by(requests: pd.DataFrame, column: str) -> list[dict[str, Any]]:
    """Errors of the means in up to five parts of equal size, in order of ``column``."""
    import numpy as np

    ordered = requests.sort_values(column, kind="stable")
    parts = min(_PARTS, len(ordered) // 4)
    if parts < 2 or (column == "num_prefill_tokens" and ordered[column].nunique() < parts):
        return []
    rows = []
    for places in np.array_split(np.arange(len(ordered)), parts):
        part = ordered.iloc[places]
        row: dict[str, Any] = {
            "from": round(float(part[column].iloc[0])),
            "to": round(float(part[column].iloc[-1])),
            "requests": len(part),
        }
        for metric in HEADLINES:
            both = part[[f"real_{metric}", f"sim_{metric}"]].dropna()
            real = float(both[f"real_{metric}"].mean()) if len(both) else 0.0
            sim = float(both[f"sim_{metric}"].mean()) if len(both) else 0.0
            row[f"{metric}_error"] = (sim - real) / real if real > 0 else None
        rows.append(row)
    return rows


def spread_of_requests(sides: Sides) -> dict[str, Any] | None:
    """By metric, from the requests that every real run finished; None for fewer than three runs.

    The tail of a noisy machine is not only its slow requests but also its slow moments. A simulator
    has none, so a share of its error at p90 is no fault of its model, and no repetition makes it
    smaller.

    Returns:
        ``per_request``: the standard deviation of one request between runs, relative to its mean
        (root mean square over requests); ``lift``: how far the p90 of a run (median over runs) lies
        above the p90 of the requests' medians, relative to the latter; ``error``: that of the
        simulated p90 against the p90 of the medians. A metric that cannot be had is left out.
    """
    import pandas as pd

    if len(sides.real) < _FEWEST_RUNS:
        return None
    found = {}
    for metric in HEADLINES:
        if not sides.has(metric):
            continue
        runs = [run.requests[metric] for run in sides.real_metrics]
        table = pd.concat(runs, axis=1, keys=range(len(runs))).dropna()
        sim = sides.sim_metrics.requests[metric].reindex(table.index).dropna()
        if table.empty or len(sim) < len(table) or not (table > 0).all(axis=None):
            continue
        found[metric] = _spread(table, sim)
    return found or None


def _spread(table: pd.DataFrame, sim: pd.Series) -> dict[str, float]:
    import numpy as np

    relative = table.std(axis=1, ddof=1) / table.mean(axis=1)
    typical = float(np.quantile(np.median(table.to_numpy(), axis=1), 0.9))
    return {
        "per_request": float((relative**2).mean() ** 0.5),
        "lift": float(table.quantile(0.9).median()) / typical - 1,
        "error": float(sim.quantile(0.9)) / typical - 1,
    }


def _findings(found: dict[str, Any]) -> list[_Finding]:
    phases = found["phases"] or {}
    whole = sum(phase["contribution"] for phase in phases.values())

    def share(of_e2e: float) -> float | None:
        return min(1.0, abs(of_e2e / whole)) if whole else None

    said = [_Finding(text, share(part)) for text, part in _phase_findings(phases)]
    said += [_Finding(text, share(part)) for text, part in _step_findings(found["steps"], whole)]
    for text, part in state_findings(found["state"]):
        said.append(_Finding(text, None if part is None else share(part)))
    outside = found["extrapolated_share"]
    if outside is not None and outside > NOTABLE:
        text = f"{outside:.0%} of the simulated time is extrapolated beyond the profile"
        said.append(_Finding(text, None))
    rest = _trend_findings(found["by_position"], "over the course of the run")
    rest += _trend_findings(found["by_prompt_length"], "from the shortest to the longest prompts")
    rest += _spread_findings(found["spread"])
    return [*said, *(_Finding(text, None) for text in rest)]


def _phase_findings(phases: dict[str, Any]) -> list[tuple[str, float]]:
    ranked = sorted(phases.items(), key=lambda item: -abs(item[1]["contribution"]))
    if not ranked or abs(ranked[0][1]["contribution"]) < NOTABLE / 3:
        return []
    name, phase = ranked[0]
    rest = ", ".join(f"{other} {part['contribution']:+.1%}" for other, part in ranked[1:])
    text = (
        f"most of the error lies in {name}: {milliseconds(phase['real_ns'])} real, "
        f"{milliseconds(phase['sim_ns'])} simulated per request, {phase['contribution']:+.1%} of "
        f"the mean E2E ({rest})"
    )
    return [(text, phase["contribution"])]


def _step_findings(steps: dict[str, Any] | None, whole: float) -> list[tuple[str, float]]:
    """What the steps tell, each with what it would do to the mean E2E, whose error is ``whole``."""
    if steps is None:
        return []
    schedule, model = steps["schedule"], steps["model"]
    if schedule is None or model is None or model["error"] is None:
        return []
    agree = f"{schedule['same_share']:.0%} of the steps hold the same batches on both sides"
    if abs(model["error"]) > NOTABLE:
        kinds = [
            f"{model[key]:+.1%} {words}"
            for key, words in (("with_prefill", "with prefill"), ("decode_only", "decode only"))
            if model[key] is not None
        ]
        text = (
            f"step times are off: {agree}, and in those the simulated time is off by "
            f"{model['error']:+.1%} "
            f"({', '.join(kinds)}): look at the profile, not at the schedule"
        )
        said = [(text, model["error"])]
        constant = _constant_offset(model["decode_by_batch_size"])
        if constant is not None:
            text = (
                f"decode steps are off by about {constant / 1e6:+.3g} ms whatever the batch size: "
                "engine time per iteration, rather than operators"
            )
            said.append((text, (model["decode_only"] or 0.0) / 2))
        return said
    if schedule["same_share"] < 1 - _OTHER_BATCHES:
        first = schedule["first_difference"]
        place = f" (first in step {first['step']})" if first else ""
        text = (
            f"the schedule differs: only {agree}{place}, while those take the right time "
            f"({model['error']:+.1%}): look at engine settings, KV blocks and shared prefixes"
        )
        return [(text, whole - model["error"])]
    return []


def _spread_findings(spread: dict[str, Any] | None) -> list[str]:
    return [
        f"the same request's {metric.upper()} varies by {row['per_request']:.1%} from one real run "
        f"to the next, which lifts the real p90 by {row['lift']:.1%}: no simulator has that noise; "
        f"against the p90 of the requests' medians over the runs the error is {row['error']:+.1%}"
        for metric, row in (spread or {}).items()
        if row["lift"] > NOTABLE
    ]


def _constant_offset(rows: list[dict[str, Any]]) -> float | None:
    """The difference of step times, ns, where it is the same for small and large batches."""
    offsets: list[int] = [row["sim_ns"] - row["real_ns"] for row in rows if row["real_steps"] >= 3]
    if len(offsets) < 2 or rows[-1]["real_ns"] <= 0:
        return None
    middle = sum(offsets) / len(offsets)
    if middle == 0 or max(abs(value - middle) for value in offsets) > 0.3 * abs(middle):
        return None
    return middle


def _trend_findings(rows: list[dict[str, Any]], where: str) -> list[str]:
    said = []
    for metric in HEADLINES:
        errors = [row[f"{metric}_error"] for row in rows if row[f"{metric}_error"] is not None]
        if len(errors) >= 2 and abs(errors[-1] - errors[0]) > 3 * NOTABLE:
            said.append(
                f"the error of {metric.upper()} goes from {errors[0]:+.1%} to {errors[-1]:+.1%} "
                f"{where}"
            )
    return said[:1]
