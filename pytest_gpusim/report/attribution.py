"""Where the error comes from, as tables of text; the same in terminal and Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from pytest_gpusim.compare.format import LABELS, milliseconds, percent, signed_percent
from pytest_gpusim.compare.metrics import HEADLINES

_SHARE_SHOWN = 0.01


class TextTable(NamedTuple):
    """A titled table; the first column is text, the others are figures."""

    title: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


def attribution_tables(found: Mapping[str, Any]) -> list[TextTable]:
    """The tables of ``attribution`` in a comparison's ``run_meta.json``, empty ones left out."""
    return [table for table in _tables(found) if table.rows]


def _tables(found: Mapping[str, Any]) -> Iterator[TextTable]:
    yield TextTable(
        "Mean time per request",
        ("phase", "real", "simulated", "of mean E2E"),
        [
            (
                name,
                milliseconds(phase["real_ns"]),
                milliseconds(phase["sim_ns"]),
                signed_percent(phase["contribution"]),
            )
            for name, phase in (found["phases"] or {}).items()
        ]
        + [
            (f"front end, {words} (held by the above)", "not known", milliseconds(delay), "")
            for words, key in (("to the engine", "ingress_ns"), ("back", "egress_ns"))
            if (delay := (found.get("frontend") or {}).get(key))
        ],
    )
    steps = found["steps"] or {}
    yield TextTable("Steps: schedule and step time", ("what", ""), list(_steps(steps)))
    yield TextTable(
        "Decode steps by batch size (median)",
        ("sequences", "real", "simulated", "error"),
        [
            (
                _span(row["from"], row["to"]),
                milliseconds(row["real_ns"]),
                milliseconds(row["sim_ns"]),
                signed_percent(row["error"]),
            )
            for row in steps.get("by_batch_size") or ()
        ],
    )
    yield _parts("Over the course of the run (means)", "arrival", found["by_position"], _seconds)
    yield _parts("By prompt length (means)", "prompt tokens", found["by_prompt_length"], _span)
    yield from _state(found.get("state") or {})
    predicted = found.get("prediction") or {"level": 0.0, "figures": ()}
    yield TextTable(
        f"Predicted with an interval of {predicted['level']:.0%}",
        ("figure", "predicted", "from", "to", "real", ""),
        [
            (
                f"{LABELS[row['metric']]} {row['statistic']}",
                *(milliseconds(row[key]) for key in ("ns", "low_ns", "high_ns", "real_ns")),
                "" if row["inside"] else "outside",
            )
            for row in predicted["figures"]
        ],
    )
    yield TextTable(
        "Each request between real runs",
        ("metric", "varies by", "raises real p90 by", "error against p90 of medians"),
        [
            (
                LABELS[metric],
                percent(row["per_request"]),
                signed_percent(row["lift"]),
                signed_percent(row["error"]),
            )
            for metric, row in (found.get("spread") or {}).items()
        ],
    )
    shares = [
        (name, percent(share))
        for name, share in (found["operators"] or {}).items()
        if abs(share) >= _SHARE_SHOWN
    ]
    if found["extrapolated_share"] is not None:
        shares.append(("outside the profiled ranges", percent(found["extrapolated_share"])))
    yield TextTable("Simulated time by operator", ("operator", "share"), shares)


def _state(state: Mapping[str, Any]) -> Iterator[TextTable]:
    """Real over modelled time of the real run's own batches."""
    yield TextTable(
        "Real steps against the profile, by time",
        ("time", "decoding sequences", "real / modelled time"),
        [
            (_seconds(row["from"], row["to"]), f"{row['batch']:.1f}", _over(row["ratio"]))
            for row in state.get("by_period") or ()
        ],
    )
    yield TextTable(
        "Real steps against the profile, by batch size",
        ("sequences", "at the start", "later"),
        [
            (_span(row["from"], row["to"]), _over(row["early"]), _over(row["late"]))
            for row in state.get("by_batch") or ()
        ],
    )
    first = state.get("first_request") or {}
    rows = [
        (words, signed_percent(state[key]))
        for words, key in (("profile", "profile"), ("first uses", "first_use"))
        if key in state
    ]
    if first:
        rows.append(("first request's TTFT over the simulated", milliseconds(first["excess_ns"])))
        rows.append(("… the others', at the median", milliseconds(first["others_ns"])))
    yield TextTable("What that adds to the mean E2E", ("what", ""), rows)


def _over(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.3f}"


def _steps(steps: Mapping[str, Any]) -> Iterator[Sequence[str]]:
    schedule, model = steps.get("schedule"), steps.get("model")
    if schedule:
        yield "steps, real and simulated", f"{schedule['real_steps']}, {schedule['sim_steps']}"
        yield "same batch on both sides", percent(schedule["same_share"])
        if schedule["first_difference"]:
            yield "first difference", f"step {schedule['first_difference']['step']}"
    if model:
        for key, words in (
            ("error", "time of the steps that agree"),
            ("with_prefill", "… with prefill"),
            ("decode_only", "… decode only"),
        ):
            yield words, signed_percent(model[key])


def _parts(title: str, what: str, rows: Sequence[Mapping[str, Any]], place: Any) -> TextTable:
    return TextTable(
        title,
        (what, "requests", *(LABELS[metric] for metric in HEADLINES)),
        [
            (
                place(row["from"], row["to"]),
                str(row["requests"]),
                *(signed_percent(row[f"{metric}_error"]) for metric in HEADLINES),
            )
            for row in rows
        ],
    )


def _span(low: int, high: int) -> str:
    return str(low) if low == high else f"{low}–{high}"


def _seconds(low: int, high: int) -> str:
    return f"{low / 1e9:.1f}–{high / 1e9:.1f} s"
