"""What a user states, where it is used, of runs that do not say it themselves.

A recording, or another tool's result, hardly ever says all that a verdict needs. A statement fills
what a run is silent about; one that contradicts the run is refused.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.compare.sides import assumed
from pytest_gpusim.errors import InputError, UsageError, meant, shortly
from pytest_gpusim.runs.meta import check_meta
from pytest_gpusim.runs.run import stated_clock

if TYPE_CHECKING:
    from pytest_gpusim.runs import Run

OF_SIMULATIONS = ("profile", "calibrated_on", "counts_engine_time", "extrapolated_share")
OF_MEASUREMENTS = ("warmup", "lateness", "prefix_cache_reset", "clock")
OF_BOTH = ("model", "hardware", "device_name", "engine", "run_type", "workload_digest")


def state(
    real: Sequence[Run], sims: Sequence[Run], statements: Mapping[str, Any]
) -> tuple[list[Run], list[Run]]:
    """The runs, each saying what it is silent about.

    Args:
        real: The real runs.
        sims: The simulated ones.
        statements: Keys of ``run_meta.json``, dots for what lies inside, such as
            ``{"warmup": {"requests": 8}, "engine.max_num_seqs": 256, "calibrated_on": []}``. What
            is known of both sides is stated of both; ``real.`` or ``sim.`` before it says of which.

    Raises:
        UsageError: An unknown key, or a statement that contradicts a run.
    """
    ours, theirs = list(real), list(sims)
    require_statable(statements)
    for key, value in statements.items():
        side, path = _addressed(key)
        if side != "sim":
            ours = [_stated(run, path, value, key) for run in ours]
        if side != "real":
            theirs = [_stated(run, path, value, key) for run in theirs]
    return ours, theirs


def require_statable(statements: Mapping[str, Any]) -> None:
    """Raise `UsageError` on a key that nothing can be stated by, or a value that no file can hold,
    before anything runs.
    """
    for key, value in statements.items():
        _addressed(key)
        try:
            json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
        except (TypeError, ValueError, RecursionError):
            raise UsageError(f"{key}={shortly(value)}: expected a value of JSON") from None


def parse_statements(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``KEY=VALUE`` of a command line; a value is JSON, or a text as it stands.

    Raises:
        UsageError: Not of that form.
    """
    found: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--state {text!r}: expected KEY=VALUE, such as clock=client")
        if key.strip() in found:
            raise UsageError(f"--state {key.strip()}: is given twice")
        try:
            found[key.strip()] = json.loads(value)
        except (ValueError, RecursionError):
            found[key.strip()] = value.strip()
    return found


def _addressed(key: str) -> tuple[str | None, list[str]]:
    side, _, rest = key.partition(".")
    path = (rest if side in ("real", "sim") else key).split(".")
    known = (*OF_BOTH, *OF_MEASUREMENTS, *OF_SIMULATIONS)
    if path[0] not in known:
        hint = meant(path[0], known)
        raise UsageError(f"cannot state {key!r}{hint}: known are {', '.join(known)}")
    if side in ("real", "sim"):
        return side, path
    if path[0] in OF_SIMULATIONS:
        return "sim", path
    return ("real" if path[0] in OF_MEASUREMENTS else None), path


def _stated(run: Run, path: Sequence[str], value: Any, key: str) -> Run:
    found: Any = run.meta
    for part in path:
        found = found.get(part) if isinstance(found, Mapping) else None
    if path == ["clock"]:
        found = stated_clock(run.meta)
    taken = assumed(run)
    if path[0] == "engine" and path[-1] in taken:  # nobody stated it yet
        rest = {key: words for key, words in taken.items() if key != path[-1]}
        run, found = replace(run, meta={**run.meta, "assumed": rest}), None
    if found is not None:
        if found != value:
            raise UsageError(
                f"{key}={value!r} is stated, and {run.run_id} says {found!r}: leave it out, or "
                "correct it"
            )
        return run
    meta = _with(run.meta, path, value)
    try:
        check_meta(Path("--state"), meta)
    except InputError as error:
        raise UsageError(f"{key}={shortly(value)} cannot be stated: {error}") from None
    stated = {**(meta.get("stated") or {}), ".".join(path): value}
    return replace(run, meta={**meta, "stated": stated})


def _with(meta: Mapping[str, Any], path: Sequence[str], value: Any) -> dict[str, Any]:
    first, *rest = path
    inner = meta.get(first)
    return {
        **meta,
        first: _with(inner if isinstance(inner, Mapping) else {}, rest, value) if rest else value,
    }
