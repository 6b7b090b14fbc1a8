"""By how much each figure would move if every step took 1% longer.

Requests that come before an earlier one has its first token form a chain, back to one that found
nobody waiting. If steps took (1 + ε) times as long under the same schedule, whatever happens in a
chain would come (1 + ε) times as late after it began, and a chain that then reaches into the next
one moves that, too. Near saturation chains are long, and the wait grows by more than ε: for a queue
M/G/1 of utilisation ρ by 1/(1 - ρ) times (Pollaczek and Khinchine), so most just below ρ = 1.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pytest_gpusim.compare.measure import RunMetrics
from pytest_gpusim.compare.metrics import HEADLINES, METRICS, figure_name

if TYPE_CHECKING:
    import numpy as np

SLOWER = 0.01


def sensitivity(run: RunMetrics) -> dict[str, float]:
    """Relative change of each headline figure per relative change of step time.

    1 where nothing queues: then a step that takes 1% longer makes everything 1% longer. So it does
    where requests are sent when others are answered: they come later themselves.
    """
    if "e2e" in run.unavailable or run.requests.empty:
        return {}
    rows = run.requests.sort_values("arrival_time_ns", kind="stable")
    arrival = rows["arrival_time_ns"].to_numpy()
    first = arrival + rows["ttft"].to_numpy()
    later = _delays(arrival, first)
    moves_along = rows.index.isin(list(run.after_answers))
    later[moves_along] = SLOWER * (first - arrival)[moves_along]
    ttft = rows["ttft"].to_numpy() + later
    moved = {
        "ttft": ttft,
        "tpot": rows["tpot"].to_numpy() * (1 + SLOWER),
        "e2e": ttft + (rows["e2e"].to_numpy() - rows["ttft"].to_numpy()) * (1 + SLOWER),
    }
    found = {}
    for metric in HEADLINES:
        if metric in run.unavailable:
            continue
        before, after = rows[metric].to_numpy(), moved[metric]
        known = before == before
        for statistic in METRICS[metric].statistics:
            value = statistic.of(before[known])
            if value > 0:
                change = (statistic.of(after[known]) - value) / value / SLOWER
                found[figure_name(METRICS[metric], statistic)] = change
    return found


def _delays(arrival: np.ndarray, first: np.ndarray) -> np.ndarray:
    """How much later each first token comes, ns."""
    import numpy as np

    later = np.zeros(len(arrival))
    start, shift, end = arrival[0], 0.0, arrival[0]  # of the chain; its shift is what delays it
    for place, came in enumerate(arrival):
        if came >= end:  # nothing waits for a first token: a chain begins
            moved_end = end + shift + SLOWER * (end - start)
            start, shift = came, max(0.0, moved_end - came)
        end = max(end, first[place])
        later[place] = shift + SLOWER * (first[place] - start)
    return later
