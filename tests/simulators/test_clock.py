"""The client's clock in simulated time: what lies between it and the engine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest

from pytest_gpusim.bundle import Bundle, read_bundle
from pytest_gpusim.cli import main
from pytest_gpusim.cli.simulations import nanoseconds
from pytest_gpusim.errors import InputError, UsageError
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import builtin_registry
from pytest_gpusim.runs import Clock, Run, read_run
from pytest_gpusim.serving.frontend import Frontend
from pytest_gpusim.workload import Load, Workload
from tests.factories import CPU, ENGINE, TINY, make_bundle, make_workload

MS = 1_000_000
REGISTRY = builtin_registry()
FRONTEND = pd.DataFrame(
    [("ingress", 10, 5 * MS), ("ingress", 110, 15 * MS), ("egress", 0, 2 * MS)],
    columns=["boundary", "num_prompt_tokens", "time_ns"],
)
TIMES = ["first_token_time_ns", "completion_time_ns"]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("bundle") / "b"
    return make_bundle(path, tables={"frontend.csv": FRONTEND})


def simulate(
    bundle: Bundle, workload: Workload, out: Path, clock: Clock, simulator: str = "reference"
) -> Run:
    inputs = SimulationInputs(TINY, CPU, workload, bundle, ENGINE, out, {}, clock)
    REGISTRY.simulators.get(simulator)(inputs)
    return read_run(out)


@pytest.mark.parametrize("simulator", ["reference", "vidur"])
def test_a_lone_request_takes_the_way_there_and_back_longer(
    tmp_path: Path, bundle: Bundle, simulator: str
) -> None:
    pytest.importorskip("vidur")
    workload = make_workload(tmp_path / "w", [(60, 4, 0), (10, 3, 60_000 * MS)])
    engine = simulate(bundle, workload, tmp_path / "e", "engine")
    client = simulate(bundle, workload, tmp_path / "c", "client", simulator)
    longer = client.requests[TIMES] - engine.requests[TIMES]
    # Ingress between its points is linear: 5 ms + (60 - 10) x 0.1 ms; egress is 2 ms throughout.
    assert longer["first_token_time_ns"].tolist() == [12 * MS, 7 * MS]
    assert longer["completion_time_ns"].tolist() == [12 * MS, 7 * MS]
    assert client.clock == "client"
    assert client.meta["frontend"] == {"ingress_ns": 7_500_000, "egress_ns": 2 * MS}
    assert engine.clock == "engine"


@pytest.mark.parametrize("simulator", ["reference", "vidur"])
def test_one_client_waits_for_the_whole_way(tmp_path: Path, bundle: Bundle, simulator: str) -> None:
    pytest.importorskip("vidur")
    rows = [(10, 3, 0)] * 4
    workload = make_workload(tmp_path / "w", rows, load=Load(1))
    engine = simulate(bundle, workload, tmp_path / "e", "engine").requests
    client = simulate(bundle, workload, tmp_path / "c", "client", simulator).requests
    took = engine["completion_time_ns"] - engine["arrival_time_ns"] + 7 * MS
    expected = [0, *took.cumsum().tolist()]
    assert client["arrival_time_ns"].tolist() == expected[:-1]
    assert client["completion_time_ns"].tolist() == expected[1:]


def test_a_profile_without_a_front_end_says_so(tmp_path: Path) -> None:
    workload = make_workload(tmp_path / "w", [(10, 3, 0)])
    run = simulate(make_bundle(tmp_path / "b"), workload, tmp_path / "c", "client")
    assert run.meta["frontend"] is None


def test_an_unknown_boundary_is_named(tmp_path: Path) -> None:
    table = FRONTEND.assign(boundary="inside")
    bundle = make_bundle(tmp_path / "b", tables={"frontend.csv": table})
    with pytest.raises(InputError, match=r"frontend\.csv: boundary 'inside'"):
        Frontend.of_bundle(bundle)


def test_a_table_that_is_not_there_does_not_change_the_digest(tmp_path: Path) -> None:
    plain = make_bundle(tmp_path / "plain")
    with_it = make_bundle(tmp_path / "with", tables={"frontend.csv": FRONTEND})
    assert with_it.digest != plain.digest
    (with_it.path / "frontend.csv").unlink()
    with pytest.raises(InputError, match="digest"):
        read_bundle(with_it.path)


@pytest.fixture
def shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Run]:
    """Runs ``gpusim simulate`` on a bundle with a front end; returns the run."""
    make_bundle(tmp_path / "b", tables={"frontend.csv": FRONTEND})
    make_workload(tmp_path / "w", [(10, 3, 0)])
    monkeypatch.chdir(tmp_path)

    def run(*options: str) -> Run:
        out = f"out{len(list(tmp_path.glob('out*')))}"
        words = ["simulate", "--model", TINY.name, "--hardware", "cpu", "--workload", "w"]
        words += ["--simulator", "reference", "--profile", "b", *options, "--out", out]
        assert main(["-p", "tests.toyplugin", *words]) == 0
        return read_run(tmp_path / out)

    return run


def test_the_clock_is_the_named_runs(shell: Callable[..., Run]) -> None:
    assert shell().clock == "engine"
    client = shell("--clock", "client")
    assert shell("--engine", str(client.path)).clock == "client"
    assert shell("--engine", str(client.path), "--clock", "engine").clock == "engine"


def test_engine_time_is_stated_instead_of_measured(shell: Callable[..., Run]) -> None:
    zero, some = shell("--engine-time", "0ms"), shell("--engine-time", "3ms")
    longer = some.requests["completion_time_ns"] - zero.requests["completion_time_ns"]
    assert longer.tolist() == [3 * 3 * MS]
    assert some.meta["profile"]["engine_time"] == {"time_ns": 3 * MS, "source": "stated"}
    assert some.meta["extrapolated_steps"] == zero.meta["extrapolated_steps"]


@pytest.mark.parametrize(
    ("text", "expected"), [("200us", 200_000), ("1.5ms", 1_500_000), ("0s", 0), ("7ns", 7)]
)
def test_times_are_read_with_their_unit(text: str, expected: int) -> None:
    assert nanoseconds(text, "--engine-time") == expected


@pytest.mark.parametrize("text", ["2", "ms", "-1ms", "nanms", "1 hour"])
def test_no_time_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 200us"):
        nanoseconds(text, "--engine-time")
