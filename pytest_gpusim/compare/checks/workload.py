"""Did both sides serve the same requests, and are there enough of them?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.checks.declaration import Accept, Finding, Protects, check, listed, ms
from pytest_gpusim.compare.judging.tolerances import FEW_RUNS, STRICT, STRICT_RUNS
from pytest_gpusim.compare.metrics import STATISTICS
from pytest_gpusim.compare.sides import Sides
from pytest_gpusim.runs.writer import OWN_WORKLOAD
from pytest_gpusim.workload.load import turns_followed

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.runs import Run

MIN_REQUESTS = 20
SLOWEST_SHARE, SLOWER_THAN_USUAL = 0.10, 1.2
MAX_ERROR_SHARE = 0.05
# Between passes of a client that stamps what it really sent: its own jitter, no other load.
JITTER_NS, JITTER_SHARE = 5e6, 0.02
# What seconds as floats of another tool's file can be off by.
CLOCK_GRAIN_NS = 1e3


@check(
    Protects.CASE,
    rank=10,
    needed=True,
    each_seed=True,
    accept=Accept.NEVER,
    cause="the two sides served different requests",
)
def same_workload(sides: Sides) -> Finding:
    """All runs have the same ids, arrivals (up to a constant shift) and prompt lengths.

    Under a limit, and in conversations, arrivals belong to each side: there it is the load and the
    turns that must be the same, and when requests were due, where both sides tell.
    Output lengths may be those asked for or those that the real run produced, and the prompt of a
    failed request need not be known. Where digests differ although lengths agree, prompts may
    share other prefixes: it fails. The jitter of a client's clock between repeated runs, up to 5 ms
    or 2% of the median gap, is a warning.
    """
    expected = _arrivals(sides.real[0])
    jitter = 0.0
    for run in (*sides.real[1:], sides.sim):
        found = _arrivals(run)
        if run is sides.sim or run.clock != "client":
            found, _ = _without_jitter(expected, found, CLOCK_GRAIN_NS)
        else:
            found, shift = _without_jitter(expected, found)
            jitter = max(jitter, shift)
        trouble = _other_load(sides.real[0], run) or _difference(expected, found)
        if trouble:
            return "fail", f"{run.run_id} and {sides.real[0].run_id} differ: {trouble}"
    foreign = _of_another_workload(sides)
    if foreign:
        return "fail", foreign
    blank = _prompts_unknown(expected)
    if blank:
        return "unknown", f"the prompt lengths of {blank} requests are not known"
    digests = [_digest(run, sides.real[0]) for run in (*sides.real, sides.sim)]
    rows = f"{len(expected)} requests, same arrivals and prompt lengths"
    if not sides.real[0].is_open_loop:
        rows = f"{len(expected)} requests, same load ({_load(sides.real[0])}) and prompt lengths"
    unknown = digests.count(None)
    if len({digest for digest in digests if digest}) > 1 and not _derived(sides):
        return "fail", f"{rows}, but the workload digests differ: prompts may share other prefixes"
    if jitter:
        return "warn", (
            f"{len(expected)} requests, same prompt lengths; arrivals of repeated runs, by the "
            f"client's clock, differ by up to {ms(jitter)}"
        )
    if unknown:
        return "pass", f"{rows}; the workload's digest is not recorded on {unknown} of the sides"
    return "pass", rows


@check(Protects.CASE, rank=100, each_seed=True, cause="the simulated outputs are of other lengths")
def lengths_as_produced(sides: Sides) -> Finding:
    """The simulation ran with the output lengths that the real run produced."""
    first = _produced(sides.real[0], sides.left_out)
    others = [
        run.run_id for run in sides.real[1:] if not _produced(run, sides.left_out).equals(first)
    ]
    sim = _produced(sides.sim, sides.left_out).reindex(first.index)
    short = first.index[(sim < first).fillna(False)]
    if len(short):
        return "fail", (
            f"{len(short)} simulated requests have fewer tokens than the real ones (request "
            f"{short[0]}: {sim[short[0]]} of {first[short[0]]}): simulate with "
            f"'gpusim workload import run {sides.real[0].path}'"
        )
    if sides.sim_metrics.cut:
        return "warn", (
            f"{sides.sim_metrics.cut} simulated requests were cut to the tokens that the real "
            "run produced; the simulated batches held the longer ones"
        )
    if others:
        return "warn", f"{listed(others)} produced other lengths than {sides.real[0].run_id}"
    return "pass", f"{len(first)} requests, same number of output tokens on both sides"


@check(Protects.MEASUREMENT, rank=130, of_limits=True)
def enough_samples(sides: Sides) -> Finding:
    """There are enough requests and real runs, few errors, and no rows missing (slow ones, say).

    Also says which metrics are not available, and why. Fails where rows are missing, and where what
    failed on one side is what takes longest on the other: then the tail is cut off.
    """
    counts = [len(metrics.requests) for metrics in (*sides.real_metrics, sides.sim_metrics)]
    smallest, runs = min(counts), len(sides.real)
    reasons = [f"{name}: {why}" for name, why in sides.figures.unavailable.items()]
    missing = listed(reasons, len(reasons))
    notes = [f"not available: {missing}"] if missing else []
    if not smallest:
        return "fail", "; ".join(["no request finished in every run", *notes])
    total = len(sides.real[0].requests)
    failed = len(sides.left_out)
    weak = [each.name for each in STATISTICS if each.values_beyond(smallest) < 1]
    if weak:
        notes.insert(0, f"{', '.join(weak)} of {smallest} requests are close to the largest value")
    said = f"{smallest} requests in {runs} real run{'s' if runs > 1 else ''}"
    if failed:
        said += f", {failed} of {total} left out because they failed"
    if failed > MAX_ERROR_SHARE * total:
        return "fail", "; ".join([f"{said}: more than {MAX_ERROR_SHARE:.0%}", *notes])
    absent = _rows_absent(sides) or _tail_cut_off(sides)
    if absent:
        return "fail", "; ".join([f"{said}: {absent}", *notes])
    trouble = []
    asked = STRICT_RUNS if any(limit.relative <= STRICT for limit in sides.limits) else FEW_RUNS
    if runs == 1:
        trouble.append("one real run: its noise is not known; measure with --repeat")
    elif runs < asked:
        trouble.append(f"fewer than {asked} real runs")
    if smallest < MIN_REQUESTS:
        trouble.append(f"fewer than {MIN_REQUESTS} requests")
    if trouble or failed:
        return "warn", "; ".join([said, *trouble, *notes])
    return "pass", "; ".join([said, *notes])


def _rows_absent(sides: Sides) -> str | None:
    """Rows that the contract asks for, failed requests included, and that nobody has."""
    ids = sides.real[0].requests["request_id"]
    if sides.workload is not None:
        known = {request.request_id for request in sides.workload.requests}
    else:
        start = min(int(ids.min()), 1)  # some count from 1
        known = set(range(start, int(ids.max()) + 1))
    gone = sorted(known - {int(i) for i in ids})
    return f"requests {', '.join(map(str, gone[:3]))} have no row" if gone else None


def _tail_cut_off(sides: Sides) -> str | None:
    """Failed requests most of which are, where they did not fail, the slowest of all."""
    if not sides.left_out:
        return None
    for run in (*sides.sims, *sides.real):
        done = run.finished.set_index("request_id")
        for end in ("first_token_time_ns", "completion_time_ns"):
            lasted = (done[end] - done["arrival_time_ns"]).astype("float64")
            gone = lasted.reindex(sorted(sides.left_out)).dropna()
            ranks = lasted.rank(pct=True).reindex(gone.index)
            # Where all take about as long there is no tail to cut off.
            slow = (gone > SLOWER_THAN_USUAL * float(lasted.median())) & (
                ranks >= 1 - SLOWEST_SHARE
            )
            if len(gone) and float(slow.mean()) > 0.5:
                which = "they" if slow.all() else f"{int(slow.sum())} of them"
                return f"{which} are among the slowest {SLOWEST_SHARE:.0%} of {run.run_id}"
    return None


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
    if not run.is_open_loop:
        asked = run.requests.set_index("request_id")
        known = "due_time_ns" in asked.columns
        table["arrival_time_ns"] = asked["due_time_ns"] if known else None
        table = table.astype({"arrival_time_ns": "Int64"})
    table["arrival_time_ns"] -= table["arrival_time_ns"].min()
    return table


def _prompts_unknown(requests: pd.DataFrame) -> int:
    """How many answered requests have a prompt of nothing: no tool counted it."""
    answered = requests["status"] != "error"
    return int((answered & (requests["num_prefill_tokens"] < 1)).sum())


def _other_load(left: Run, right: Run) -> str | None:
    if left.load != right.load:
        return f"one has {_load(left)}, the other {_load(right)}"
    if turns_followed(left.sessions) != turns_followed(right.sessions):
        return "other requests follow one another in conversations"
    return None


def _load(run: Run) -> str:
    limit = run.load.max_concurrency
    held = "no limit of requests at once" if limit is None else f"at most {limit} requests at once"
    return held + (", turns that follow their answers" if turns_followed(run.sessions) else "")


def _difference(left: pd.DataFrame, right: pd.DataFrame) -> str | None:
    if not left.index.equals(right.index):
        alone = left.index.symmetric_difference(right.index)
        return f"{len(left)} and {len(right)} requests, request {alone[0]} is in one of them only"
    answered = (left["status"] != "error") & (right["status"] != "error")
    for column, known in (("arrival_time_ns", None), ("num_prefill_tokens", answered)):
        unequal = left[column] != right[column]
        if known is not None:
            unequal &= known
        unequal = unequal.fillna(False)  # under a limit a side may not tell when it was due
        if unequal.any():
            i = left.index[unequal][0]
            return f"{column} of request {i} is {left[column][i]} and {right[column][i]}"
    produced = left["num_decode_tokens_actual"].fillna(left["num_decode_tokens"])
    unequal = (left["num_decode_tokens"] != right["num_decode_tokens"]) & (
        produced != right["num_decode_tokens"]
    )
    unequal &= answered
    if unequal.any():
        i = left.index[unequal][0]
        return (
            f"num_decode_tokens of request {i} is {left['num_decode_tokens'][i]} and "
            f"{right['num_decode_tokens'][i]}"
        )
    return None


def _digest(run: Run, first: Run) -> Any:
    """The digest of its workload; a repeat's own, of its own jittered arrivals, says nothing."""
    own = run is not first and run.meta.get("workload_dir") == OWN_WORKLOAD
    return None if own else run.meta.get("workload_digest")


def _without_jitter(
    expected: pd.DataFrame, found: pd.DataFrame, allowed: float | None = None
) -> tuple[pd.DataFrame, float]:
    """``found`` with the expected arrivals where they differ by jitter alone, and its size, ns."""
    if not expected.index.equals(found.index):
        return found, 0.0
    shift = (found["arrival_time_ns"] - expected["arrival_time_ns"]).abs().max()
    if allowed is None:
        gaps = expected["arrival_time_ns"].sort_values().diff().dropna()
        allowed = max(JITTER_NS, JITTER_SHARE * float(gaps.median()) if len(gaps) else 0.0)
    if shift != shift or not 0 < shift <= allowed:
        return found, 0.0
    return found.assign(arrival_time_ns=expected["arrival_time_ns"]), float(shift)


def _of_another_workload(sides: Sides) -> str | None:
    """The first real run that was not made from the workload that the caller has."""
    if sides.workload is not None:
        for run in sides.real:
            digest = run.meta.get("workload_digest")
            if digest and digest != sides.workload.digest:
                return (
                    f"{run.run_id} was made from the workload {str(digest)[:12]}, compared is "
                    f"{sides.workload.path} ({sides.workload.digest[:12]})"
                )
    return None


def _derived(sides: Sides) -> bool:
    """Whether the simulated workload is the real one with the lengths that it produced."""
    real = _arrivals(sides.real[0])
    sim = _arrivals(sides.sim)
    done = real["status"] != "error"
    asked, produced = real["num_decode_tokens"], real["num_decode_tokens_actual"]
    changed = bool((asked != produced)[done].any()) or bool((~done).any())
    return changed and bool((sim["num_decode_tokens"] == produced)[done].all())


def _produced(run: Run, left_out: frozenset[int]) -> pd.Series:
    done = run.finished
    done = done[~done["request_id"].isin(list(left_out))]
    return done.set_index("request_id")["num_decode_tokens_actual"]
