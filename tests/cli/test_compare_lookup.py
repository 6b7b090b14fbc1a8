"""``gpusim compare`` looks for the workload beside a run, and for what was asked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pytest_gpusim.cli import main
from pytest_gpusim.cli.compare import _workload
from tests.compare.runs import MS, real_run, sim_run, steady
from tests.factories import make_workload


@pytest.mark.parametrize(
    ("where", "found"),
    [
        ("beside", True),  # a folder of the run itself
        ("named", True),
        ("moved", False),
        ("changed", False),  # it lies there, and is another one by now
        ("two", False),  # repeats of two workloads have no common one
    ],
)
def test_the_workload_of_a_run_is_found_where_it_lies(
    tmp_path: Path, where: str, found: bool
) -> None:
    place = tmp_path / "run" / "workload" if where == "beside" else tmp_path / "w"
    workload = make_workload(place, [(10, 6, i * 1000 * MS) for i in range(12)])
    meta = {
        "workload_dir": {"beside": "workload", "moved": "gone"}.get(where, str(place)),
        "workload_digest": "x" * 64 if where == "changed" else workload.digest,
    }
    place.rename(tmp_path / "aside")
    run = real_run(tmp_path / "run", steady(12), meta=meta)
    (tmp_path / "aside").rename(place)
    runs = [run]
    if where == "two":
        runs.append(real_run(tmp_path / "b", steady(12), meta={"workload_digest": "y" * 64}))
    there = _workload(runs)
    assert (there is not None and there.digest == workload.digest) is found


def test_what_the_workload_says_is_compared(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that both sides lack, and that only the workload tells of."""
    workload = make_workload(tmp_path / "w", [(10, 6, i * 1000 * MS) for i in range(24)])
    meta = {"workload_dir": str(workload.path), "workload_digest": workload.digest}
    real = [real_run(tmp_path / str(k), steady(12), meta=meta) for k in range(3)]
    sim = sim_run(tmp_path / "sim", steady(12), meta={**meta, "extrapolated_share": 0.0})
    runs = [str(run.path) for run in (*real, sim)]
    out = str(tmp_path / "out")
    assert main(["compare", *runs, "--check", "defaults", "--json", "--out", out]) == 1
    document = json.loads(capsys.readouterr().out)
    check = next(one for one in document["checks"] if one["name"] == "enough_samples")
    assert (document["verdict"], check["status"]) == ("inconclusive", "fail")
    assert "requests 12, 13, 14 have no row" in check["detail"]
    # A tolerance that came out empty, as of an unset variable, was asked for.
    assert main(["compare", *runs, "--check", ""]) == 2
    assert "expected <name>=<tolerance>" in capsys.readouterr().err
