"""``gpusim sweep`` from the shell."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from pytest_gpusim.cli import main
from tests.factories import TINY
from tests.planning.grids import write_grid


@pytest.fixture
def grid(tmp_path: Path) -> Path:
    """A grid whose model is a file beside it."""
    path = write_grid(tmp_path, rates="[2.0]", seqs="[1, 16]").path
    config = {**TINY.to_hf_config(), "_name_or_path": TINY.name}
    (tmp_path / "config.json").write_text(json.dumps(config))
    path.write_text(path.read_text().replace('"tiny/model"', '"config.json"'))
    return path


def test_a_sweep_prints_its_table_and_its_place(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["sweep", str(grid), "--workers", "1", "--out", str(out)]) == 0
    said = capsys.readouterr()
    *table, place = said.out.splitlines()
    assert place == str(out)
    rows = list(csv.DictReader(table))
    assert [row["engine.max_num_seqs"] for row in rows] == ["1", "16"]
    assert "2 of 2 done" in said.err


def test_a_sweep_has_a_page_of_latency_against_load(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = grid.read_text().replace("rate = [2.0]", "rate = [2.0, 9000.0]")
    text = text.replace("seed = 3", "seed = [3, 4]").replace("num_gpu_blocks = 512", "")
    grid.write_text(text.replace("[engine]", "[engine]\nnum_gpu_blocks = [2, 512]"))
    assert main(["sweep", str(grid), "--workers", "1", "--out", str(tmp_path / "out")]) == 1
    page = (tmp_path / "out" / "sweep.html").read_text()
    assert "Sweep: 8 of 16 points simulated" in page
    assert page.count('role="img" aria-label=') == 4
    assert '<th scope="col">max_<wbr>num_<wbr>seqs</th>' in page
    rows = [row for row in csv.DictReader((tmp_path / "out" / "sweep.csv").open())
            if row["status"] == "done" and row["engine.max_num_seqs"] == "16"]  # fmt: skip
    high = [int(row["ttft_p90_ns"]) / 1e6 for row in rows if row["load.rate"] == "9000.0"]
    assert len(high) == 2
    said = f"num_gpu_blocks=512, max_num_seqs=16 at load 9000: {sum(high) / 2:.4g}"
    assert said in page
    assert page.count('<span class="pill fail">failed</span>') == 8
    assert "https://" not in page.replace("http://www.w3.org", "")


def test_a_failed_point_is_said_and_is_exit_code_1(
    grid: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid.write_text(
        grid.read_text().replace("tensor_parallel_size = 1", "tensor_parallel_size = 4")
    )
    options = ["--workers", "1", "--out", str(tmp_path / "out"), "--json"]
    assert main(["sweep", str(grid), *options]) == 1
    said = capsys.readouterr()
    assert [p["status"] for p in json.loads(said.out)["points"]] == ["failed", "failed"]
    assert "engine.max_num_seqs=1 and 1 other points: " in said.err


def test_workers_must_be_some(grid: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", str(grid), "--workers", "0"]) == 2
    assert "--workers 0" in capsys.readouterr().err
