"""The metrics of one run, from its request and token rows."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from pytest_gpusim.compare.metrics import GOODPUT, METRICS

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from pytest_gpusim.runs import Run


@dataclass(frozen=True)
class RunMetrics:
    """The metrics of one run, error rows left out.

    Attributes:
        run_id: Whose.
        requests: One row per request, indexed by ``request_id``: `PER_REQUEST` in ns (NaN where
            undefined), ``arrival_time_ns``, ``num_prefill_tokens``, ``num_tokens`` (output).
        itl: Gaps between consecutive tokens of a request, ns, all requests pooled, in order of
            request and token; None where the run has no token times.
        unavailable: Metric -> why it cannot be had.
        cut: Requests whose token series was cut to a given length.
        after_answers: Requests that were sent when others were answered, not at a set time.
    """

    run_id: str
    requests: pd.DataFrame
    itl: np.ndarray | None
    unavailable: Mapping[str, str] = field(default_factory=dict)
    cut: int = 0
    after_answers: frozenset[int] = frozenset()

    @property
    def makespan(self) -> float:
        """From the first arrival to the last completion, ns."""
        import numpy as np

        arrivals = self.requests["arrival_time_ns"].to_numpy()
        if not len(arrivals):
            return float("nan")
        ends = arrivals + self.requests["e2e"].to_numpy()
        return float(np.fmax.reduce(ends) - np.fmin.reduce(arrivals))

    def values(self, metric: str) -> np.ndarray | None:
        """The defined values of a metric, ns, one alone where it is of the run; None where it
        cannot be had.
        """
        import numpy as np

        if metric in self.unavailable:
            return None
        if METRICS[metric].per == "run":
            return np.array([_OF_RUN[metric](self)])
        values = self.itl if metric == "itl" else self.requests[metric].to_numpy()
        assert values is not None
        defined: np.ndarray = values[~np.isnan(values)]
        return defined

    def instant(self, metric: str) -> float | None:
        """A metric's value if nothing took any time: none for latencies, what the arrivals alone
        make of the run for an open load; None where there is none.
        """
        if METRICS[metric].per != "run":
            return 0.0
        if metric == GOODPUT.name:
            return 1.0
        rows = self.requests.assign(e2e=0.0)
        found = replace(self, requests=rows)
        if self.after_answers or not found.makespan:
            return None
        return _OF_RUN[metric](found)

    def goodput(self, limits: Mapping[str, float]) -> np.ndarray | None:
        """The share of requests within every limit (metric -> ns), as one value; None where a
        metric cannot be had. A metric that a request does not have, such as the TPOT of a single
        token, is within.
        """
        import numpy as np

        if any(metric in self.unavailable for metric in limits):
            return None
        good = np.ones(len(self.requests), dtype=bool)
        for metric, limit in limits.items():
            good &= ~(self.requests[metric].to_numpy() > limit)
        return np.array([good.mean()])


_OF_RUN: dict[str, Callable[[RunMetrics], float]] = {
    "makespan": lambda run: run.makespan,
    "request_throughput": lambda run: len(run.requests) / max(run.makespan, 1.0) * 1e9,
    "output_throughput": lambda run: (
        float(run.requests["num_tokens"].sum()) / max(run.makespan, 1.0) * 1e9
    ),
}


def measure_run(
    run: Run, *, lengths: Mapping[int, int] | None = None, leave_out: Collection[int] = ()
) -> RunMetrics:
    """Compute the metrics of a run.

    Args:
        run: The run.
        lengths: Output tokens by request id: a longer series is cut to so many tokens.
        leave_out: Requests that do not count, besides the run's own error rows.
    """
    import numpy as np
    import pandas as pd

    table = _as_floats(run.requests, leave_out)
    tokens, unavailable = run.tokens, dict[str, str]()
    cut = 0
    if lengths is not None:
        asked = table.index.map(lambda i: lengths.get(i, np.inf)).to_numpy(dtype="float64")
        too_long = table["num_tokens"].to_numpy() > asked
        cut = int(too_long.sum())
        if cut and tokens is None:
            reason = (
                f"{run.run_id}: {cut} requests are longer than the real ones and have no token "
                "times to cut"
            )
            unavailable = {m.name: reason for m in METRICS.values() if m.needs_end}
        elif cut:
            table, tokens = _cut(table, run, table.index[too_long], lengths)

    column = {name: table[name].to_numpy() for name in table}
    arrival, tokens_out = column["arrival_time_ns"], column["num_tokens"]
    first, completion = column["first"], column["completion"]
    gaps, lasting = tokens_out - 1, completion - arrival
    with np.errstate(divide="ignore", invalid="ignore"):
        requests = pd.DataFrame(
            {
                "arrival_time_ns": arrival,
                "num_prefill_tokens": column["num_prefill_tokens"],
                "num_tokens": tokens_out,
                "ttft": first - arrival,
                "tpot": (completion - first) / np.where(gaps > 0, gaps, np.nan),
                "e2e": lasting,
                "normalized_e2e": lasting / tokens_out,
                "queue_delay": column["scheduled"] - arrival,
            },
            index=table.index,
        )

    itl = None
    if tokens is not None:
        itl = _gaps(tokens[tokens["request_id"].isin(requests.index)])
    reasons = {**_unavailable(requests, itl, run.run_id), **unavailable}
    return RunMetrics(run.run_id, requests, itl, reasons, cut, _after_answers(run))


def _after_answers(run: Run) -> frozenset[int]:
    if run.is_open_loop:
        return frozenset()
    rows = run.requests
    if "due_time_ns" in rows.columns:
        rows = rows[(rows["arrival_time_ns"] > rows["due_time_ns"]).fillna(True)]
    return frozenset(rows["request_id"].tolist())


def _as_floats(rows: pd.DataFrame, leave_out: Collection[int]) -> pd.DataFrame:
    """What a run says of its requests, by ``request_id``, without error rows."""
    import numpy as np
    import pandas as pd

    kept = (rows["status"] != "error").to_numpy(dtype=bool)
    ids = rows["request_id"].to_numpy(dtype="int64")
    if leave_out:
        kept = kept & ~np.isin(ids, list(leave_out))
    columns = {
        "arrival_time_ns": "arrival_time_ns",
        "num_prefill_tokens": "num_prefill_tokens",
        "num_tokens": "num_decode_tokens_actual",
        "scheduled": "scheduled_time_ns",
        "first": "first_token_time_ns",
        "completion": "completion_time_ns",
    }
    return pd.DataFrame(
        {
            name: rows[column].to_numpy(dtype="float64", na_value=np.nan)[kept]
            for name, column in columns.items()
        },
        index=pd.Index(ids[kept], name="request_id"),
    )


def _cut(
    table: pd.DataFrame, run: Run, ids: pd.Index, lengths: Mapping[int, int]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Requests and tokens with the series of ``ids`` cut to ``lengths``."""
    tokens = run.tokens
    assert tokens is not None
    limit = tokens["request_id"].map(lambda i: lengths.get(i, 2**62))
    kept = tokens[(tokens["token_index"] < limit) | ~tokens["request_id"].isin(ids)]
    last = kept.groupby("request_id")["token_time_ns"].max()
    table = table.copy()
    table.loc[ids, "completion"] = last.reindex(ids).to_numpy(dtype="float64")
    table.loc[ids, "num_tokens"] = [float(lengths[i]) for i in ids]
    return table, kept


def _gaps(tokens: pd.DataFrame) -> np.ndarray:
    """Differences of consecutive token times within each request."""
    import numpy as np

    owner = tokens["request_id"].to_numpy(dtype="int64")
    times = tokens["token_time_ns"].to_numpy(dtype="float64")
    gaps: np.ndarray = np.diff(times)[np.diff(owner) == 0]
    return gaps


def _unavailable(requests: pd.DataFrame, itl: np.ndarray | None, run_id: str) -> dict[str, str]:
    """What the run cannot tell, and why, by metric."""
    if requests.empty:
        return dict.fromkeys(METRICS, f"{run_id}: no request finished")
    reasons: dict[str, str] = {}
    if itl is None:
        reasons["itl"] = "the run has no token times"
    elif not len(itl):
        reasons["itl"] = "every request has a single token"
    if requests["tpot"].isna().all():
        reasons["tpot"] = "every request has a single token"
    unknown = int(requests["queue_delay"].isna().sum())
    if unknown:
        reasons["queue_delay"] = f"scheduled_time_ns is unknown for {unknown} requests"
    return {metric: f"{run_id}: {reason}" for metric, reason in reasons.items()}
