"""Was the simulator configured as the engine that was measured?"""

from __future__ import annotations

from typing import Any

from pytest_gpusim.compare.checks.declaration import Finding, Protects, check, listed
from pytest_gpusim.compare.sides import Sides, assumed, engine
from pytest_gpusim.deployment.dtypes import plain_dtype
from pytest_gpusim.deployment.settings import brief, modelled, unmodelled

_BLOCKS = ("block_size", "num_gpu_blocks")
_OTHERS = tuple(s.name for s in modelled() if s.mirrored and s.name not in _BLOCKS)
FEW_BLOCKS = 0.01
_ESSENTIAL = frozenset(s.name for s in modelled() if s.essential)


@check(
    Protects.CASE,
    rank=20,
    needed=True,
    each_seed=True,
    cause="the simulated engine was set up otherwise",
    states=("engine.NAME",),
)
def settings_mirrored(sides: Sides) -> Finding:
    """Every engine setting that must match, except KV blocks, is stated on both sides and equal.

    What neither side states is unknown only where nothing can be judged without it.
    """
    return _mirrored(sides, _OTHERS)


@check(
    Protects.CASE,
    rank=30,
    needed=True,
    each_seed=True,
    cause="the simulated engine had another KV cache",
    states=("engine.num_gpu_blocks",),
)
def kv_blocks_mirrored(sides: Sides) -> Finding:
    """Both sides have the same number of KV blocks of the same size.

    vLLM measures at each start how much memory is left for them (``v1/worker/gpu_worker.py``:
    ``determine_available_memory``), so that starts may differ by a few: up to 1% is a warning.
    """
    status, detail = _mirrored(sides, _BLOCKS)
    if status == "pass":
        settings = engine(sides.real[0])
        blocks, size = settings["num_gpu_blocks"], settings["block_size"]
        detail = f"{blocks} blocks of {size} tokens on both sides"
        ours = engine(sides.sim)["num_gpu_blocks"]
        others = {engine(run)["num_gpu_blocks"] for run in sides.real} - {ours}
        if others:
            return "warn", f"{sorted(others)[0]} blocks were there, simulated are {ours}"
    return status, detail


def _mirrored(sides: Sides, keys: tuple[str, ...]) -> Finding:
    simulated = engine(sides.sim)
    if not simulated:
        return "unknown", f"{sides.sim.run_id} records no engine settings"
    silent = [run.run_id for run in sides.real if not engine(run)]
    if silent:
        return "unknown", f"{listed(silent)}: no engine settings are recorded"
    different: dict[tuple[str, str], str] = {}
    unstated: set[str] = set()
    compared: set[str] = set()
    for run in sides.real:
        # What was assumed of the real engine is not known of it.
        stated = {key: value for key, value in engine(run).items() if key not in assumed(run)}
        for key in keys:
            ours, theirs = _value(stated, key), _value(simulated, key)
            if ours is None or theirs is None:
                if ours is not theirs:
                    unstated.add(key)
            elif ours != theirs and not (key == "num_gpu_blocks" and nearly(ours, theirs)):
                text = f"{key} is {ours!r} in {run.run_id}, {theirs!r} in the simulation"
                different.setdefault((key, repr(ours)), text)
            else:
                compared.add(key)
        if keys is _OTHERS:
            for key, value, words in unmodelled(stated):
                text = f"{key}={brief(value)} in {run.run_id}: {words} not modelled"
                different.setdefault((key, brief(value)), text)
            for key, value, _ in unmodelled(simulated):
                if key not in stated:
                    unstated.add(key)
                elif stated[key] != value:
                    text = (
                        f"{key} is {brief(stated[key])} in {run.run_id}, {brief(value)} simulated"
                    )
                    different.setdefault((key, brief(stated[key])), text)
    if different:
        fix = f"simulate with --engine {sides.real[0].path}"
        return "fail", f"{listed(list(different.values()))}; {fix}"
    missing = {key for key in keys if key in _ESSENTIAL and key not in compared} | unstated
    if missing:
        sources = assumed(sides.sim)
        taken = [f"{k}={simulated[k]!r} ({sources[k]})" for k in sorted(missing) if k in sources]
        return "unknown", (
            f"{', '.join(sorted(missing))}: not stated on both sides, so not known to agree"
            + (f"; simulated with {listed(taken)}" if taken else "")
            + "; the log of vLLM's start has them (engine= of sim_vs_real, import-run --engine)"
        )
    return "pass", f"{len(compared)} settings agree"


def nearly(one: Any, other: Any) -> bool:
    """Whether two numbers of KV blocks are those of two starts of one engine."""
    numbers = isinstance(one, int) and isinstance(other, int)
    return numbers and abs(one - other) <= FEW_BLOCKS * max(one, other)


def _value(settings: dict[str, Any], key: str) -> Any:
    value = settings.get(key)
    return plain_dtype(value) if key == "dtype" and isinstance(value, str) else value
