"""Small grids over a bundle whose step times are known."""

from __future__ import annotations

from pathlib import Path

from pytest_gpusim.planning.grid import Grid, read_grid
from pytest_gpusim.registry import Registry, builtin_registry
from tests.factories import ENGINE, TINY, make_bundle

LOAD = """
[load]
arrivals = "poisson"
requests = 12
rate = {rates}
seed = 3
prefill = "16:64"
decode = 4
"""


def registry() -> Registry:
    """What ships, and the tiny model; other processes make it by its name."""
    made = builtin_registry()
    made.add_model(TINY)
    return made


def write_grid(
    folder: Path, *, rates: str = "[2.0, 9000.0]", seqs: str = "[2, 16]", more: str = ""
) -> Grid:
    """A grid file beside its bundle, read."""
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "bundle").exists():
        make_bundle(folder / "bundle")
    settings = {**ENGINE.to_json(), "max_num_seqs": None}
    lines = [f"{key} = {_toml(value)}" for key, value in settings.items() if value is not None]
    path = folder / "grid.toml"
    path.write_text(
        'model = "tiny/model"\nhardware = "cpu"\nsimulator = "reference"\nprofile = "bundle"\n'
        + LOAD.format(rates=rates)
        + "\n".join(["[engine]", *lines, f"max_num_seqs = {seqs}"])
        + "\n"
    )
    return read_grid(path)


def csv_bytes(sweep_dir: Path) -> dict[str, bytes]:
    """Every CSV of a sweep by its place in it."""
    found = {p.relative_to(sweep_dir).as_posix(): p.read_bytes() for p in sweep_dir.rglob("*.csv")}
    assert any(name.startswith("points/") for name in found)
    return found


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f'"{value}"' if isinstance(value, str) else str(value)
