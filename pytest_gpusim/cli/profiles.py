"""``gpusim profile`` and ``gpusim check``: make bundles, and judge them."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_gpusim.artifacts import DEFAULT_ROOT, new_id, require_vacant
from pytest_gpusim.cli.common import (
    Subparsers,
    add_engine,
    add_json,
    add_out,
    engine_of,
    print_json,
)
from pytest_gpusim.registry import Registry


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    profile = commands.add_parser("profile", help="make a bundle of operator times")
    sources = profile.add_subparsers(dest="source", metavar="SOURCE", required=True)
    for name in registry.profile_sources.names():
        source = registry.profile_sources.get(name)
        one = sources.add_parser(name, help=source.help)
        source.add_arguments(one)
        add_out(one, str(DEFAULT_ROOT / "vidur_profiling"))
        one.set_defaults(run=_profile)

    check = commands.add_parser("check", help="judge a profiling root or a bundle")
    check.add_argument("root", type=Path, metavar="ROOT")
    check.add_argument("--model", help="the bundle must be of this model")
    check.add_argument("--hardware", help="the bundle must be of this hardware")
    check.add_argument("--workload", type=Path, metavar="DIR", help="the bundle must cover it")
    add_engine(check)
    add_json(check)
    check.set_defaults(run=_check)


def _profile(options: argparse.Namespace, registry: Registry) -> int:
    source = registry.profile_sources.get(options.source)
    root = DEFAULT_ROOT / "vidur_profiling"
    if options.out is not None:
        require_vacant(options.out)
        source.produce(options, registry, options.out)
        print(options.out)
        return 0
    from pytest_gpusim.bundle.layout import place_bundle

    # Only the bundle itself knows its model and hardware: it is made aside, then put in its place.
    made = root / f".{new_id(options.source)}"
    root.mkdir(parents=True, exist_ok=True)
    source.produce(options, registry, made)
    print(place_bundle(made, root))
    return 0


def _check(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.bundle.checks import check_bundle
    from pytest_gpusim.workload import read_workload

    checks = check_bundle(
        options.root,
        registry=registry,
        model=registry.model(options.model) if options.model else None,
        hardware=registry.hardware.get(options.hardware) if options.hardware else None,
        workload=read_workload(options.workload) if options.workload else None,
        engine=engine_of(options) if options.engine else None,
    )
    ok = not any(check.status == "fail" for check in checks)
    if options.json:
        rows = [{"name": c.name, "status": c.status, "detail": c.detail} for c in checks]
        print_json({"ok": ok, "checks": rows})
    else:
        width = max(len(check.name) for check in checks)
        for check in checks:
            print(f"{check.status:5} {check.name:{width}} {check.detail}")
    return 0 if ok else 1
