"""``gpusim profile`` and ``gpusim check``: make bundles, and judge them."""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from pytest_gpusim.artifacts import new_id, require_vacant
from pytest_gpusim.cli.common import (
    Subparsers,
    add_engine,
    add_json,
    add_out,
    engine_of,
    engine_run_of,
    model_of,
    print_json,
)
from pytest_gpusim.cli.parser import add_commands_of
from pytest_gpusim.errors import EngineError
from pytest_gpusim.places import DEFAULT_PROFILING_ROOT
from pytest_gpusim.printing import printed_width, wrapped
from pytest_gpusim.registry import Registry

if TYPE_CHECKING:
    from pytest_gpusim.checks import Check

_ROOT = DEFAULT_PROFILING_ROOT


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    profile = commands.add_parser("profile", help="make a bundle of operator times")
    sources = add_commands_of(profile, "source", "SOURCE")
    for name in registry.profile_sources.names():
        _add_source(sources, name, registry)

    check = commands.add_parser("check", help="check whether a profile can be trusted")
    check.add_argument("root", type=Path, metavar="ROOT", help="a profiling root, or a bundle")
    check.add_argument("--model", help="the bundle must be of this model")
    check.add_argument("--hardware", help="the bundle must be of this hardware")
    check.add_argument("--workload", type=Path, metavar="DIR", help="the bundle must cover it")
    add_engine(check)
    add_json(check)
    check.set_defaults(run=_check)


def _add_source(sources: Subparsers, name: str, registry: Registry) -> None:
    """Declare a source; one that cannot be loaded says so when it is asked for."""
    try:
        source = registry.profile_sources.get(name)
        help_text = source.help
        source.add_arguments(argparse.ArgumentParser())
    except Exception as error:  # whatever a third party's module raises
        # It takes any arguments, so that the reason is said and not a wrong usage.
        broken = sources.add_parser(
            name, help="cannot be loaded", add_help=False, prefix_chars="\0"
        )
        broken.add_argument("arguments", nargs=argparse.REMAINDER, help="none can be given")
        broken.set_defaults(run=partial(_refuse_source, name, str(error)))
        return
    one = sources.add_parser(name, help=help_text)
    source.add_arguments(one)
    add_out(one, str(_ROOT))
    one.set_defaults(run=_profile)


def _refuse_source(
    name: str, reason: str, options: argparse.Namespace, registry: Registry
) -> NoReturn:
    raise EngineError(f"gpusim profile {name}: the source cannot be used: {reason}")


def _profile(options: argparse.Namespace, registry: Registry) -> int:
    source = registry.profile_sources.get(options.source)
    if options.out is not None:
        require_vacant(options.out)
        source.produce(options, registry, options.out)
        _say_distrusted(options.out)
        print(options.out)
        return 0
    from pytest_gpusim.bundle.layout import place_bundle

    # Only the bundle itself knows its model and hardware: it is made aside, then put in its place.
    made = _ROOT / f".{new_id(options.source)}"
    absent = [path for path in (_ROOT, *_ROOT.parents) if not path.exists()]
    try:
        _ROOT.mkdir(parents=True, exist_ok=True)
        source.produce(options, registry, made)
        _say_distrusted(made)
        print(place_bundle(made, _ROOT))
    finally:
        shutil.rmtree(made, ignore_errors=True)
        # An aborted profile leaves no root that looks as if there were bundles.
        for path in absent:
            with suppress(OSError):
                path.rmdir()
    return 0


def _say_distrusted(bundle: Path) -> None:
    """Warn of tables of the source that contradict themselves."""
    from pytest_gpusim.bundle.layout import unchecked_meta

    for text in (unchecked_meta(bundle) or {}).get("distrusted") or []:
        print(f"warning: do not trust {text}", file=sys.stderr)


def _check(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.bundle.layout import find_bundles
    from pytest_gpusim.bundle_checks.checks import check_root
    from pytest_gpusim.workload import read_workload

    model = model_of(options, registry) if options.model else None
    hardware = registry.hardware.get(options.hardware) if options.hardware else None
    engine = engine_of(options) if options.engine else None
    device = _device_of(engine_run_of(options))
    checks = check_root(
        options.root,
        registry=registry,
        model=model,
        hardware=hardware,
        workload=read_workload(options.workload) if options.workload else None,
        engine=engine,
        device_name=device,
        engine_from=Path(options.engine) if options.engine else None,
    )
    ok = not any(check.status == "fail" for check in checks)
    if ok:
        names = (model.name if model else None, hardware.name if hardware else None)
        paths = find_bundles(options.root, *names, engine, device)
        checks += [_interpolation(path, options.root if len(paths) > 1 else None) for path in paths]
    if options.json:
        print_json({"ok": ok, "checks": [check.to_json() for check in checks]})
    else:
        for line in check_lines(checks, printed_width()):
            print(line)
    return 0 if ok else 1


def check_lines(checks: Sequence[Check], columns: int | None) -> list[str]:
    """A line for each check; within ``columns``, a long one goes on below its detail."""
    width = max(len(check.name) for check in checks)
    below = " " * min(len(f"{'':5} {'':{width}} "), (columns or 0) // 2)
    return [
        line
        for check in checks
        for line in wrapped(f"{check.status:5} {check.name:{width}} {check.detail}", columns, below)
    ]


def _interpolation(path: Path, root: Path | None) -> Check:
    """What interpolation costs: how well each operator's points predict those between them."""
    from pytest_gpusim.bundle import read_bundle
    from pytest_gpusim.checks import Check
    from pytest_gpusim.serving.steptime_accuracy import leave_out_rows

    name = f"{path.relative_to(root).as_posix()}: interpolation" if root else "interpolation"
    errors = "; ".join(
        f"{row['operator']} {row['mean']:.1%} (p90 {row['p90']:.1%}, {row['points']} points)"
        for row in leave_out_rows(read_bundle(path))
    )
    said = f"mean error of left-out points: {errors}" if errors else "no point has two neighbours"
    return Check(name, "pass", said)


def _device_of(run: Path | None) -> str | None:
    """The device that the run directory of ``--engine`` was measured on; a file names none."""
    if run is None:
        return None
    from pytest_gpusim.runs.meta import read_meta

    device: str | None = read_meta(run).get("device_name")
    return device
