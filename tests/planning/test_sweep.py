"""Sweeps: one table, nothing done twice, failures as rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from pytest_gpusim.errors import UsageError
from pytest_gpusim.planning.figures import FIGURES
from pytest_gpusim.planning.grid import read_grid
from pytest_gpusim.planning.point import Point, run_point
from pytest_gpusim.planning.sweep import Row, Sweep, run_sweep
from pytest_gpusim.planning.sweep_page import write_sweep_page
from pytest_gpusim.planning.workers import Outcome, run_here, run_in_processes
from tests.planning.grids import csv_bytes, registry, write_grid


def run(grid_folder: Path, out: Path, **changes: str) -> Sweep:
    known = registry()
    grid = write_grid(grid_folder, **changes)
    return run_sweep(grid, known, out, lambda points, place: run_here(points, known, place))


def never(points: Sequence[Point], out: Path) -> Iterator[Outcome]:
    assert not points, "these points are done"
    yield from ()


def rows_of(out: Path) -> list[dict[str, str]]:
    with (out / "sweep.csv").open() as stream:
        return list(csv.DictReader(stream))


def test_a_row_per_point_with_its_figures(tmp_path: Path) -> None:
    sweep = run(tmp_path, tmp_path / "out")
    rows = rows_of(tmp_path / "out")
    assert [(r["load.rate"], r["engine.max_num_seqs"]) for r in rows] == [
        ("2.0", "2"), ("2.0", "16"), ("9000.0", "2"), ("9000.0", "16"),
    ]  # fmt: skip
    assert {row["status"] for row in rows} == {"done"}
    assert int(rows[2]["ttft_p90_ns"]) > int(rows[3]["ttft_p90_ns"]) > 0
    assert int(rows[2]["peak_running"]) == 2
    assert all(
        (tmp_path / "out" / "points" / row["key"] / "run_meta.json").is_file() for row in rows
    )
    document = json.loads((tmp_path / "out" / "sweep.json").read_text())
    assert document == sweep.to_json()
    assert document["axes"] == ["load.rate", "engine.max_num_seqs"]


def test_what_is_done_is_not_done_again_and_a_grid_can_grow(tmp_path: Path) -> None:
    out = tmp_path / "out"
    before = csv_bytes(run(tmp_path, out).path)
    again = run_sweep(read_grid(tmp_path / "grid.toml"), registry(), out, never)
    assert again.reused == 4
    assert csv_bytes(out) == before
    grown = run(tmp_path, out, rates="[2.0, 9000.0, 20000.0]")
    assert grown.reused == 4
    assert len(grown.rows) == 6


def test_a_run_at_the_place_of_another_is_not_taken_for_it(tmp_path: Path) -> None:
    """Swapped folders: the key is a name alone, and the run says what it is of."""
    out = tmp_path / "out"
    run(tmp_path, out)
    first, second, third, fourth = (out / "points" / row["key"] for row in rows_of(out))
    for one, other in ((first, second), (third, first)):  # in a circle
        one.rename(tmp_path / "kept")
        other.rename(one)
        (tmp_path / "kept").rename(other)
    again = run_sweep(read_grid(tmp_path / "grid.toml"), registry(), out, never)
    assert [row.status for row in again.rows] == ["failed", "failed", "failed", "done"]
    reasons = " ".join(row.reason for row in again.failed)
    assert "engine.max_num_seqs: is " in reasons
    assert "workload_digest: is " in reasons
    assert f"remove {first}, and the point is simulated again" in reasons
    assert fourth.is_dir()


def test_a_point_that_cannot_run_does_not_stop_the_others(tmp_path: Path) -> None:
    write_grid(tmp_path)
    path = tmp_path / "grid.toml"
    text = path.read_text()
    path.write_text(
        text.replace("num_gpu_blocks = 512", "num_gpu_blocks = [2, 512]").replace(
            "tensor_parallel_size = 1", "tensor_parallel_size = [1, 4]"
        )
    )
    known = registry()
    out = tmp_path / "out"
    sweep = run_sweep(
        read_grid(path), known, out, lambda points, place: run_here(points, known, place)
    )
    assert len(sweep.rows) == 16
    reasons = {row.reason for row in sweep.failed}
    assert any("tensor_parallel_sizes" in reason for reason in reasons)
    assert any("num_gpu_blocks" in reason or "blocks" in reason for reason in reasons)
    done = [row for row in sweep.rows if row.status == "done"]
    assert {row.place["engine.tensor_parallel_size"] for row in done} == {1}
    assert {row.place["engine.num_gpu_blocks"] for row in done} == {512}
    assert not [row for row in rows_of(out) if row["status"] == "failed" and not row["reason"]]


def test_a_stopped_sweep_goes_on_where_it_was(tmp_path: Path) -> None:
    known, out = registry(), tmp_path / "out"
    grid = write_grid(tmp_path)

    def stopped(points: Sequence[Point], place: Path) -> Iterator[Outcome]:
        yield from run_here(points[:1], known, place)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_sweep(grid, known, out, stopped)
    assert [row["status"] for row in rows_of(out)] == ["done", *["not run"] * 3]
    said: list[str] = []
    sweep = run_sweep(
        grid, known, out, lambda points, place: run_here(points, known, place), say=said.append
    )
    assert sweep.reused == 1
    assert {row.status for row in sweep.rows} == {"done"}
    assert said[0] == "4 points: 1 done before, 3 to run"
    assert said[-1] == "3 of 3 done"


def test_what_another_sweep_has_made_meanwhile_is_done(tmp_path: Path) -> None:
    out, known = tmp_path / "out", registry()
    before = csv_bytes(run(tmp_path, tmp_path / "other").path)

    def beaten(points: Sequence[Point], place: Path) -> Iterator[Outcome]:
        for point in points:
            (tmp_path / "other" / "points" / point.key).rename(place / point.key)
            assert run_point(point, known, place / point.key) == ""
            yield Outcome(point.key, "--out: was filled by another process meanwhile")

    assert not run_sweep(read_grid(tmp_path / "grid.toml"), known, out, beaten).failed
    assert csv_bytes(out) == before


def test_processes_write_the_same_bytes_as_this_one(tmp_path: Path) -> None:
    grid = write_grid(tmp_path)
    run(tmp_path, tmp_path / "here")
    run_sweep(
        grid,
        registry(),
        tmp_path / "processes",
        lambda points, place: run_in_processes(points, registry, place, 2),
    )
    assert csv_bytes(tmp_path / "processes") == csv_bytes(tmp_path / "here")
    assert not list(run_in_processes([], registry, tmp_path / "nothing", 2))


def test_another_directory_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("")
    with pytest.raises(UsageError, match="is no sweep"):
        run(tmp_path, tmp_path / "mine")


def test_the_fixture_runs_a_grid(tmp_path: Path, pytester: pytest.Pytester) -> None:
    write_grid(tmp_path)
    pytester.makeconftest(
        """
        from tests.factories import TINY

        def pytest_gpusim_register(registry):
            registry.add_model(TINY)
        """
    )
    pytester.makepyfile(
        f"""
        def test_grid(gpusim_sweep):
            sweep = gpusim_sweep({str(tmp_path / "grid.toml")!r})
            assert not sweep.failed
            assert len(sweep.rows) == 4
            assert gpusim_sweep({str(tmp_path / "grid.toml")!r}).reused == 4
        """
    )
    pytester.runpytest_inprocess("-p", "no:cacheprovider").assert_outcomes(passed=1)


def test_the_page_shows_seconds_and_the_knee(tmp_path: Path) -> None:
    figures = dict.fromkeys(FIGURES, 1)
    # Flat up to 3 requests/s, then 10 s more for each.
    rows = tuple(
        Row(
            {"load.rate": rate},
            f"k{rate}",
            "done",
            figures={**figures, "ttft_p90_ns": 10**9 * (1 + 10 * max(0, rate - 3))},
        )
        for rate in range(1, 7)
    )
    write_sweep_page(Sweep(tmp_path, ("load.rate",), rows), tmp_path / "sweep.html")
    page = (tmp_path / "sweep.html").read_text()
    assert "TTFT p90, s against load" in page
    assert "all points at load 6: 31" in page
    assert page.count("the knee of all points is at 3") == 1
    assert "Dotted: the knee" in page
