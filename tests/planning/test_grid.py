"""Grid files: what varies, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from pytest_gpusim.errors import InputError
from pytest_gpusim.planning.grid import read_grid
from tests.planning.grids import write_grid


def test_every_list_is_an_axis(tmp_path: Path) -> None:
    grid = write_grid(tmp_path, rates="[1, 2]", seqs="[4, 8, 16]")
    places = [point.place for point in grid.points()]
    assert grid.varying == ("load.rate", "engine.max_num_seqs")
    assert len(places) == 6
    assert places[0] == {"load.rate": 1, "engine.max_num_seqs": 4}
    assert places[1] == {"load.rate": 1, "engine.max_num_seqs": 8}
    point = next(grid.points())
    assert grid.load(point).rate == 1
    assert (grid.load(point).prefill.low, grid.load(point).prefill.high) == (16, 64)
    assert point.table("engine")["block_size"] == 16


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("model =", "not TOML"),
        ('nodel = "m"', "nodel: is unknown"),
        ('model = "m"\nhardware = "cpu"', "profile: is missing"),
        ('model = "m"\nhardware = "cpu"\nprofile = "p"', "give either workload or a table"),
        ('model = []\nhardware = "cpu"\nprofile = "p"\nworkload = "w"', "model: has no value"),
        ('model = "m"\nhardware = "cpu"\nprofile = "p"\nworkload = [["w"]]', "expected a text"),
        ('model = 5\nhardware = "cpu"\nprofile = "p"\nworkload = "w"', "model: expected a text"),
        (
            'model = "m"\nhardware = "cpu"\nprofile = "p"\nworkload = "w"\n[params]\nx = -inf',
            "params.x: expected a finite number, found -inf",
        ),
        (
            'model = "m"\nhardware = "cpu"\nprofile = "p"\nworkload = "w"\n[params]\n'
            + "".join(f"{name} = {list(range(100))}\n" for name in "abcdefghi"),
            "1,000,000,000,000,000,000 points of one grid are too many; the limit is 100,000",
        ),
    ],
)
def test_a_grid_that_makes_no_sense_is_refused(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "grid.toml"
    path.write_text(text)
    with pytest.raises(InputError, match=says):
        read_grid(path)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("rat = 2", "load.rat: is unknown"),
        ("burst_size = 0", "--burst-size 0"),
        ("burstiness = true", "--burstiness True: expected a number"),
        ('lengths_from = "a\\u0000b"', "is no name that a file can have"),
        ("burstiness = 1" + "0" * 400, "--burstiness 10.*: expected a number above 0"),
        ('decode = "many"', "expected N or MIN:MAX"),
    ],
)
def test_a_load_that_makes_no_sense_is_refused(tmp_path: Path, line: str, says: str) -> None:
    path = write_grid(tmp_path).path
    text = path.read_text().replace("decode = 4\n", "" if "decode" in line else "decode = 4\n")
    path.write_text(text.replace("[engine]", f"{line}\n[engine]"))
    grid = read_grid(path)
    with pytest.raises(Exception, match=says):
        grid.load(next(grid.points()))
