"""A client's run by both clocks: what the client saw, and what the server told of its engine.

vLLM stamps a request as queued when its core takes it in, which it does between steps
(``v1/engine/core.py``: ``run_busy_loop``). So a client sees more by the front end and, of a request
that came while a step ran, by the wait for the step's end: only those that met an idle engine tell
the front end by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pytest_gpusim.runs.schema import ENGINE_COLUMNS

if TYPE_CHECKING:
    import numpy as np

    from pytest_gpusim.runs.run import Run

METRICS = ("ttft", "tpot", "e2e")
_MS = 1e6


@dataclass(frozen=True)
class BothClocks:
    """The requests of a run of which the server told its engine's times.

    Attributes:
        client: Metric to ns by request, from sending on; NaN where a request has no such metric.
        engine: Likewise, from the engine's queue on.
        num_prompt_tokens: By request.
        alone: By request, whether no other was under way from its sending to its first token.
    """

    client: dict[str, np.ndarray]
    engine: dict[str, np.ndarray]
    num_prompt_tokens: np.ndarray
    alone: np.ndarray

    def differences(self, metric: str, *, alone: bool = False) -> np.ndarray:
        """Client minus engine, ns, of the requests that have both."""
        import numpy as np

        found: np.ndarray = self.client[metric] - self.engine[metric]
        chosen: np.ndarray = ~np.isnan(found) & (self.alone if alone else True)
        return np.extract(chosen, found)

    def lines(self) -> Iterator[str]:
        """The differences in words, a line for all requests and one for those alone."""
        import numpy as np

        for words, alone in (("all", False), ("alone at the engine", True)):
            count = len(self.differences("ttft", alone=alone))
            if count:
                each = [
                    f"{metric.upper()} {p50 / _MS:+.2f}, {p90 / _MS:+.2f} ms"
                    for metric in METRICS
                    if len(values := self.differences(metric, alone=alone))
                    for p50, p90 in [np.percentile(values, [50, 90])]
                ]
                yield f"client - engine at p50, p90, {count} requests, {words}: {'; '.join(each)}"


def both_clocks(run: Run) -> BothClocks | None:
    """The run by both clocks; None where its server did not tell its engine's times."""
    import numpy as np

    rows = run.finished
    if ENGINE_COLUMNS[0] not in rows.columns:
        return None
    rows = rows[rows["sent_time_ns"].notna()].sort_values("sent_time_ns", kind="stable")
    sent, first, last, tokens, queue, prefill, decode = (
        rows[column].to_numpy(dtype="float64", na_value=np.nan)
        for column in (
            "sent_time_ns",
            "first_token_time_ns",
            "completion_time_ns",
            "num_decode_tokens_actual",
            *ENGINE_COLUMNS,
        )
    )
    told = ~np.isnan(queue)
    if not told.any():
        return None
    before = np.concatenate([[-np.inf], np.maximum.accumulate(last)[:-1]])
    after = np.concatenate([sent[1:], [np.inf]])
    gaps = np.where(tokens > 1, tokens - 1, np.nan)
    client = {"ttft": first - sent, "tpot": (last - first) / gaps, "e2e": last - sent}
    engine = {"ttft": queue + prefill, "tpot": decode / gaps, "e2e": queue + prefill + decode}
    return BothClocks(
        {metric: times[told] for metric, times in client.items()},
        {metric: times[told] for metric, times in engine.items()},
        rows["num_prefill_tokens"].to_numpy(dtype="float64")[told],
        ((before <= sent) & (after >= first))[told],
    )
