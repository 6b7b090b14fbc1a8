"""Did the real run find in its prefix cache only what the workload's prompts share?"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_gpusim.compare.checks.declaration import Accept, Finding, Protects, check, worst
from pytest_gpusim.compare.sides import Sides, engine
from pytest_gpusim.errors import GpusimError

if TYPE_CHECKING:
    import pandas as pd

    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload

UNEXPLAINED_SHARE = 0.01
# Any bound above all token ids will do: only their equality counts here.
_VOCAB = 2**31


@check(
    Protects.MEASUREMENT,
    rank=50,
    needed=True,
    accept=Accept.FAILURE,
    cause="the prefix cache was warm",
    states=("prefix_cache_reset",),
)
def prefix_cache_cold(sides: Sides) -> Finding:
    """No request found cached tokens that the workload does not explain.

    What it explains is the longest prefix that a prompt shares with an earlier one, where the
    caller has the workload, and otherwise what the simulation, which re-enacts the prefix cache,
    found. Since the moment decides what is still in the cache, up to 1% of the prompt tokens may
    differ from a simulation that found hits itself. A preempted request may resume with hits.
    """
    return worst([_cold_cache(sides, run) for run in sides.real])


def _cold_cache(sides: Sides, run: Run) -> Finding:
    rows = run.finished.set_index("request_id")
    if rows["num_cached_tokens"].isna().all():
        if engine(run).get("enable_prefix_caching") is False:
            return "pass", f"{run.run_id}: prefix caching was off"
        if run.meta.get("prefix_cache_reset") is True:
            return "pass", f"{run.run_id}: the prefix cache was reset before the run"
        return "unknown", f"{run.run_id} does not record cached tokens"
    silent = int(rows["num_cached_tokens"].isna().sum())
    if silent > UNEXPLAINED_SHARE * len(rows):
        return "unknown", f"{run.run_id} does not record the cached tokens of {silent} requests"
    hits = rows["num_cached_tokens"].fillna(0).astype("int64")
    total = int(hits.sum())
    if total == 0:
        return "pass", f"{run.run_id}: no prompt token came from the cache"
    expected = _expected(sides, run)
    if expected is None:
        return "unknown", (
            f"{run.run_id}: {total} prompt tokens came from the cache; neither the workload nor a "
            "simulation with the same KV blocks says how many there should be"
        )
    expected = expected.reindex(hits.index).fillna(0).astype("int64")
    excess = (hits - expected).clip(lower=0)
    unexplained = int(excess.sum())
    preemptions = max(_preemptions(run), _preemptions(sides.sim))
    allowed = UNEXPLAINED_SHARE * float(rows["num_prefill_tokens"].sum()) if expected.any() else 0
    if unexplained > allowed and int((excess > 0).sum()) > preemptions:
        request = excess.idxmax()
        return "fail", (
            f"{run.run_id}: {unexplained} cached prompt tokens that the workload does not explain "
            f"(request {request}: {hits[request]} of {rows['num_prefill_tokens'][request]}, "
            f"expected {expected[request]}): reset the prefix cache before each pass, and warm up "
            "with other token ids"
        )
    note = f", {preemptions} preemptions" if preemptions else ""
    return "pass", f"{run.run_id}: {total} cached prompt tokens, as the prompts share{note}"


def _expected(sides: Sides, run: Run) -> pd.Series | None:
    """Cached tokens that each request may have at most; None where nobody can tell."""
    if sides.workload is not None:
        shared = shared_tokens(sides.workload, engine(run).get("block_size") or 1)
        if shared is not None:
            return shared
    simulated = sides.sim.requests.set_index("request_id")["num_cached_tokens"]
    same_blocks = engine(run).get("num_gpu_blocks") == engine(sides.sim).get("num_gpu_blocks")
    return simulated if same_blocks and not simulated.isna().all() else None


def shared_tokens(workload: Workload, block_size: int) -> pd.Series | None:
    """Per request, the tokens in leading whole blocks that an earlier prompt began with, too.

    A turn of a conversation may begin with the answer before it, too. The last token of a prompt is
    never a hit: its logits are needed. None where the prompts cannot
    be expanded (text without its tokenizer).
    """
    import pandas as pd

    from pytest_gpusim.workload.token_ids import sharing_sequences

    try:
        prompts = sharing_sequences(workload, _VOCAB)
    except GpusimError:
        return None
    blocks = {
        request.request_id: _block_hashes(prompts.get(request.prompt_id, []), block_size)
        for request in workload.requests
    }
    # Who comes first under a limit, or as a later turn, is for each side to find.
    uses = Counter(block for found in blocks.values() for block in found)
    in_order = workload.is_open_loop
    seen = set() if in_order else {block for block, count in uses.items() if count > 1}
    found: dict[int, int] = {}
    for request in workload.requests:
        hits = 0
        for number, block in enumerate(blocks[request.request_id], start=1):
            if block not in seen or number * block_size >= request.num_prefill_tokens:
                break
            hits = number * block_size
        found[request.request_id] = hits
        if in_order:
            seen.update(blocks[request.request_id])
    return pd.Series(found, dtype="int64")


def _block_hashes(ids: Sequence[int], block_size: int) -> list[int]:
    """Of each whole block, together with all that is before it."""
    chain, found = 0, []
    for start in range(0, len(ids) - block_size + 1, block_size):
        chain = hash((chain, *ids[start : start + block_size]))
        found.append(chain)
    return found


def _preemptions(run: Run) -> int:
    return 0 if run.steps is None else int(run.steps["preempted"].fillna(0).sum())
