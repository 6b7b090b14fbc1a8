"""Run directories of this project's own contract, whoever wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pytest_gpusim.errors import InputError
from pytest_gpusim.runs.importers.files import only_file, recognised_by
from pytest_gpusim.runs.reader import read_run
from pytest_gpusim.runs.schema import META, REQUESTS
from pytest_gpusim.runs.writer import rewrite_run
from pytest_gpusim.tables import find_table
from pytest_gpusim.texts import open_text

KIND = "gpusim"


def recognises(path: Path) -> bool:
    """Whether this is a run directory."""
    if not path.is_dir():
        return False
    table = find_table(path, REQUESTS)
    if table is None or (path / META).exists():
        return table is not None
    # Vidur's own results lie in a file of the same name.
    try:
        with open_text(table) as stream:
            return "request_id" in stream.readline(10_000)
    except InputError:
        return False


@recognised_by(recognises)
def import_run(files: Sequence[Path], out: Path) -> None:
    """Check a run directory and write it in this project's own form.

    Columns that the contract does not know are left behind; metadata is kept, unknown keys too.

    Raises:
        InputError: The directory breaks the contract.
    """
    run = read_run(only_file(files, KIND))
    meta = {"run_id": run.run_id, "run_type": "real", **_without_null(run.meta)}
    meta.setdefault("params", {})
    if isinstance(meta["params"], dict):
        meta["params"] = {**meta["params"], "import": _import_of(run.meta, run.path)}
    rewrite_run(run, out, meta)


def _import_of(meta: dict[str, Any], path: Path) -> dict[str, Any]:
    """What is said of the times: an earlier import's word stands, else nothing is known."""
    params = meta.get("params")
    params = params if isinstance(params, dict) else {}
    earlier = params.get("import")
    if isinstance(earlier, dict):
        return earlier
    clock = meta.get("clock") or params.get("clock")
    return {
        "kind": KIND,
        "file": path.name,
        "clock": clock,
        "token_times": bool(meta.get("token_times", True)),
        "not_recovered": [],
        "notes": [] if clock else ["the run does not say on whose clock its times are"],
    }


def _without_null(meta: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in meta.items() if value is not None}
