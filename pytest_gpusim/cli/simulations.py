"""``gpusim simulate | calibrate``: a workload on a simulator, and what simulations lack."""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.artifacts import DEFAULT_ROOT, require_vacant
from pytest_gpusim.cli.assumed import say_assumed
from pytest_gpusim.cli.common import (
    WORKLOAD_HELP,
    Subparsers,
    add_engine,
    add_fleet,
    add_model_and_hardware,
    add_out,
    add_params,
    add_profiling_root,
    engine_of,
    engine_run_of,
    model_of,
    out_of,
    params_of,
)
from pytest_gpusim.errors import UsageError
from pytest_gpusim.places import find_profiling_root
from pytest_gpusim.printing import print_lines
from pytest_gpusim.providers import SimulationInputs
from pytest_gpusim.registry import Registry

if TYPE_CHECKING:
    from pytest_gpusim.bundle import Bundle
    from pytest_gpusim.runs import Clock

_UNITS_NS = {"ns": 1.0, "us": 1e3, "ms": 1e6, "s": 1e9}


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    simulate = commands.add_parser("simulate", help="simulate a workload")
    add_model_and_hardware(simulate)
    simulate.add_argument("--workload", type=Path, required=True, metavar="DIR", help=WORKLOAD_HELP)
    add_profiling_root(simulate)
    simulate.add_argument(
        "--profile", type=Path, metavar="BUNDLE", help="one bundle, instead of a profiling root"
    )
    add_engine(simulate)
    simulate.add_argument(
        "--clock",
        choices=("engine", "client"),
        help="whether times are the engine's or a client's, with the front end in between; "
        "default: that of the run which --engine names, else the engine's",
    )
    simulate.add_argument(
        "--engine-time",
        metavar="TIME",
        help="the engine's time per iteration, such as 200us, instead of what the profile says",
    )
    simulate.add_argument(
        "--simulator", default="vidur", help=", ".join(registry.simulators.names())
    )
    simulate.add_argument(
        "--samples",
        type=int,
        metavar="N",
        help="simulate N times from perturbed profiles, for an interval of each figure: "
        "prediction.json",
    )
    simulate.add_argument(
        "--compress",
        action="store_true",
        help="write the tables as .xz, less than a tenth as large; every command reads them",
    )
    add_fleet(simulate)
    add_params(simulate, registry.simulators)
    add_out(simulate, str(DEFAULT_ROOT / "<simulator>_runs"))
    simulate.set_defaults(run=_simulate)

    calibrate = commands.add_parser(
        "calibrate", help="fit engine time and front end of a bundle on real runs"
    )
    calibrate.add_argument(
        "runs",
        nargs="+",
        metavar="REAL_RUN",
        help="run directories, or results of other tools, of the deployment that is profiled; "
        "never judge the bundle on them",
    )
    calibrate.add_argument(
        "--profile", type=Path, required=True, metavar="BUNDLE", help="the bundle to start from"
    )
    calibrate.add_argument(
        "--workload",
        type=Path,
        metavar="DIR",
        help="what the runs served, with what its prompts share; default: the runs' requests",
    )
    calibrate.add_argument(
        "--out", type=Path, required=True, metavar="BUNDLE", help="the calibrated bundle"
    )
    calibrate.set_defaults(run=_calibrate)


def _simulate(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.case import run_simulator
    from pytest_gpusim.case.simulated import checked_inputs
    from pytest_gpusim.prediction import predict, prediction_lines
    from pytest_gpusim.prediction.interval import require_predictable
    from pytest_gpusim.workload import read_workload

    registry.simulators.get(options.simulator).read(params_of(options))
    inputs = SimulationInputs(
        model_of(options, registry),
        registry.hardware.get(options.hardware),
        read_workload(options.workload),
        _bundle(options, registry),
        engine_of(options),
        Path(),
        params_of(options),
        _clock(options),
        options.compress,
    )
    out = out_of(options, f"{options.simulator}_runs", inputs.workload.workload_id)
    if options.samples is not None:
        require_predictable(options.samples, inputs.params)
    run_simulator(options.simulator, registry, replace(inputs, out_dir=out))
    say_assumed(out)
    if options.samples is not None:
        prediction = predict(checked_inputs(inputs), options.samples)
        prediction.write(out)
        print_lines(prediction_lines(prediction.to_json()))
    print(out)
    return 0


def _calibrate(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.bundle import read_bundle
    from pytest_gpusim.calibration import calibrate
    from pytest_gpusim.case.given import find_real, read_given
    from pytest_gpusim.runs.importers.stated import Stated
    from pytest_gpusim.workload import read_workload

    require_vacant(options.out)
    bundle = read_bundle(options.profile)
    workload = read_workload(options.workload) if options.workload else None
    paths = find_real(options.runs, [Path()])
    given = read_given(paths, registry, DEFAULT_ROOT, Stated(workload=workload))
    found = calibrate(
        given.runs, bundle, registry, options.out, workload=workload, artifacts=DEFAULT_ROOT
    )
    print_lines(map(str, found.fitted))
    print(options.out)
    return 0


def _bundle(options: argparse.Namespace, registry: Registry) -> Bundle:
    from pytest_gpusim.bundle import read_bundle, resolve_root

    model, hardware = model_of(options, registry), registry.hardware.get(options.hardware)
    root = options.profile or find_profiling_root(options.profiling_root).path
    bundle = read_bundle(resolve_root(root, model.name, hardware.name, engine_of(options)))
    if options.engine_time is not None:
        bundle = bundle.with_engine_time(nanoseconds(options.engine_time, "--engine-time"))
    return bundle


def _clock(options: argparse.Namespace) -> Clock:
    """What ``--clock`` says, else the clock of the run that ``--engine`` names."""
    from pytest_gpusim.runs import clock_of
    from pytest_gpusim.runs.meta import read_meta

    if options.clock is not None:
        clock: Clock = options.clock
        return clock
    run = engine_run_of(options)
    return "engine" if run is None else clock_of(read_meta(run))


def nanoseconds(text: str, option: str) -> int:
    """A time such as ``200us`` or ``1.5ms``, in ns.

    Raises:
        UsageError: It is no time, or less than none.
    """
    for unit in sorted(_UNITS_NS, key=len, reverse=True):
        number = text.strip().removesuffix(unit)
        if number != text.strip():
            try:
                time = float(number) * _UNITS_NS[unit]
            except ValueError:
                break
            if 0 <= time < 1e15:
                return round(time)
            break
    raise UsageError(f"{option} {text}: expected a time such as 200us, 1.5ms or 0ms")
