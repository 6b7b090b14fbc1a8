"""Did both sides serve the same requests, and are there enough of them?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gpusim.compare.checks.context import CheckContext, Finding, listed
from pytest_gpusim.compare.statistics import PERCENTILES

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.runs import Run

MIN_REQUESTS = 20
MAX_ERROR_SHARE = 0.05


def same_workload(context: CheckContext) -> Finding:
    """Same ids, arrivals (but for one shift of the clock) and prompt lengths in every run.

    Output lengths may be those asked for or those that the real run produced. Where digests differ
    although lengths agree, prompts may share other prefixes: a warning.
    """
    expected = _arrivals(context.real[0])
    for run in (*context.real[1:], context.sim):
        found = _arrivals(run)
        trouble = _difference(expected, found)
        if trouble:
            return "fail", f"{run.run_id} and {context.real[0].run_id} differ: {trouble}"
    foreign = _of_another_workload(context)
    if foreign:
        return "fail", foreign
    digests = {
        run.run_id: run.meta.get("workload_digest")
        for run in (*context.real, context.sim)
        if run.meta.get("workload_digest")
    }
    rows = f"{len(expected)} requests, same arrivals and prompt lengths"
    unknown = len(context.real) + 1 - len(digests)
    if len(set(digests.values())) > 1 and not _derived(context):
        return "warn", f"{rows}, but the workload digests differ: prompts may share other prefixes"
    if unknown:
        return "pass", f"{rows}; the workload's digest is not recorded on {unknown} of the sides"
    return "pass", rows


def lengths_as_produced(context: CheckContext) -> Finding:
    """The simulation ran with the output lengths that the real run produced."""
    first = _produced(context.real[0], context.left_out)
    others = [
        run.run_id for run in context.real[1:] if not _produced(run, context.left_out).equals(first)
    ]
    sim = _produced(context.sim, context.left_out).reindex(first.index)
    short = first.index[(sim < first).fillna(False)]
    if len(short):
        return "fail", (
            f"{len(short)} simulated requests have fewer tokens than the real ones (request "
            f"{short[0]}: {sim[short[0]]} of {first[short[0]]}): simulate with "
            f"'gpusim workload import run {context.real[0].path}'"
        )
    if context.sim_metrics.cut:
        return "warn", (
            f"{context.sim_metrics.cut} simulated requests were cut to the tokens that the real "
            "run produced; the simulated batches held the longer ones"
        )
    if others:
        return "warn", f"{listed(others)} produced other lengths than {context.real[0].run_id}"
    return "pass", f"{len(first)} requests, same number of output tokens on both sides"


def enough_samples(context: CheckContext) -> Finding:
    """Enough requests, few errors, and more than one real run.

    Also says which metrics are not available, and why.
    """
    counts = [len(metrics.requests) for metrics in (*context.real_metrics, context.sim_metrics)]
    smallest, runs = min(counts), len(context.real)
    missing = listed([f"{name}: {why}" for name, why in context.reasons.items()])
    notes = [f"not available: {missing}"] if missing else []
    if not smallest:
        return "fail", "; ".join(["no request finished in every run", *notes])
    total = len(context.real[0].requests)
    failed = len(context.left_out)
    weak = [name for name, p in PERCENTILES.items() if smallest * (100 - p) / 100 < 1]
    if weak:
        notes.insert(0, f"{', '.join(weak)} of {smallest} requests are close to the largest value")
    said = f"{smallest} requests in {runs} real run{'s' if runs > 1 else ''}"
    if failed:
        said += f", {failed} of {total} left out because they failed"
    if failed > MAX_ERROR_SHARE * total:
        return "fail", "; ".join([f"{said}: more than {MAX_ERROR_SHARE:.0%}", *notes])
    trouble = []
    if runs == 1:
        trouble.append("one real run: its noise is not known; measure with --repeat")
    if smallest < MIN_REQUESTS:
        trouble.append(f"fewer than {MIN_REQUESTS} requests")
    if trouble or failed:
        return "warn", "; ".join([said, *trouble, *notes])
    return "pass", "; ".join([said, *notes])


def _arrivals(run: Run) -> pd.DataFrame:
    """Arrivals from the first one on, prompt lengths and asked-for and produced tokens, by id."""
    table = run.requests.set_index("request_id")
    table = table[
        [
            "arrival_time_ns",
            "num_prefill_tokens",
            "num_decode_tokens",
            "num_decode_tokens_actual",
            "status",
        ]
    ].copy()
    table["arrival_time_ns"] -= table["arrival_time_ns"].min()
    return table


def _difference(left: pd.DataFrame, right: pd.DataFrame) -> str | None:
    if not left.index.equals(right.index):
        alone = left.index.symmetric_difference(right.index)
        return f"{len(left)} and {len(right)} requests, request {alone[0]} is in one of them only"
    for column in ("arrival_time_ns", "num_prefill_tokens"):
        unequal = left[column] != right[column]
        if unequal.any():
            i = left.index[unequal][0]
            return f"{column} of request {i} is {left[column][i]} and {right[column][i]}"
    produced = left["num_decode_tokens_actual"].fillna(left["num_decode_tokens"])
    unequal = (left["num_decode_tokens"] != right["num_decode_tokens"]) & (
        produced != right["num_decode_tokens"]
    )
    unequal &= (left["status"] != "error") & (right["status"] != "error")
    if unequal.any():
        i = left.index[unequal][0]
        return (
            f"num_decode_tokens of request {i} is {left['num_decode_tokens'][i]} and "
            f"{right['num_decode_tokens'][i]}"
        )
    return None


def _of_another_workload(context: CheckContext) -> str | None:
    """The first real run that was not made from the workload that the caller has."""
    if context.workload is not None:
        for run in context.real:
            digest = run.meta.get("workload_digest")
            if digest and digest != context.workload.digest:
                return (
                    f"{run.run_id} was made from the workload {str(digest)[:12]}, compared is "
                    f"{context.workload.path} ({context.workload.digest[:12]})"
                )
    return None


def _derived(context: CheckContext) -> bool:
    """Whether the simulated workload is the real one with the lengths that it produced."""
    real = _arrivals(context.real[0])
    sim = _arrivals(context.sim)
    done = real["status"] != "error"
    asked, produced = real["num_decode_tokens"], real["num_decode_tokens_actual"]
    changed = bool((asked != produced)[done].any()) or bool((~done).any())
    return changed and bool((sim["num_decode_tokens"] == produced)[done].all())


def _produced(run: Run, left_out: frozenset[int]) -> pd.Series:
    done = run.finished
    done = done[~done["request_id"].isin(list(left_out))]
    return done.set_index("request_id")["num_decode_tokens_actual"]
