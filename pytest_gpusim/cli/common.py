"""Options and output that several commands share."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pytest_gpusim.artifacts import DEFAULT_ROOT, new_id, require_vacant, safe_name
from pytest_gpusim.errors import UsageError, printable
from pytest_gpusim.places import DEFAULT_PROFILING_ROOT, ENV_PROFILING_ROOT
from pytest_gpusim.printing import terminal_width, wrapped

if TYPE_CHECKING:
    from pytest_gpusim.deployment import EngineSettings, ModelShape
    from pytest_gpusim.registry import Names, Registry

WORKLOAD_HELP = "the workload's directory"
Subparsers = Any
"""What ``add_subparsers`` returns; argparse has no public name for it."""


def add_out(parser: argparse.ArgumentParser, default: str) -> None:
    """``--out``: the artifact itself."""
    parser.add_argument(
        "--out",
        type=Path,
        metavar="DIR",
        help=f"the output, absent or empty (default: a new one below {default})",
    )


def add_json(parser: argparse.ArgumentParser) -> None:
    """``--json``."""
    parser.add_argument("--json", action="store_true", help="print one JSON document only")


def add_report(parser: argparse.ArgumentParser) -> None:
    """``--report``."""
    parser.add_argument(
        "--report", type=Path, metavar="FILE", help="also write a self-contained HTML page"
    )


def add_model_and_hardware(parser: argparse.ArgumentParser, *, hardware: bool = True) -> None:
    """``--model`` and ``--hardware``."""
    parser.add_argument(
        "--model",
        help="a known name, or the path of a Hugging Face config.json; default: the model that "
        "--engine names",
    )
    if hardware:
        parser.add_argument("--hardware", required=True, help="a known name, such as cpu or a100")


def add_profiling_root(parser: argparse.ArgumentParser) -> None:
    """``--profiling-root``."""
    parser.add_argument(
        "--profiling-root",
        type=Path,
        metavar="DIR",
        help=f"where bundles are (default: ${ENV_PROFILING_ROOT}, else {DEFAULT_PROFILING_ROOT})",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """``--engine``."""
    parser.add_argument(
        "--engine",
        metavar="SETTINGS",
        help="engine settings: JSON or YAML under vLLM's names (as 'vllm serve --config' has), a "
        "run directory, a log of vLLM (*.log), or its command line in quotes ('vllm serve …')",
    )


def selection_of(options: argparse.Namespace) -> dict[str, Any]:
    """What was given of the options that choose requests, as importers take it."""
    from pytest_gpusim.workload.importers.options import SELECTION

    found = {name: getattr(options, name, None) for name in SELECTION}
    return {name: value for name, value in found.items() if value is not None}


def engine_of(options: argparse.Namespace) -> EngineSettings:
    """The settings of ``--engine``, read once; none stated where it was not given.

    What they leave out is told on standard error.
    """
    from pytest_gpusim.deployment import EngineSettings

    if not options.engine:
        return EngineSettings()
    known: EngineSettings | None = getattr(options, "engine_settings", None)
    if known is None:
        known = options.engine_settings = EngineSettings.load(options.engine)
        for note in known.notes:
            print(f"gpusim: {note}", file=sys.stderr)
    return known


def model_of(options: argparse.Namespace, registry: Registry) -> ModelShape:
    """The model of ``--model``, else the one that ``--engine`` names.

    Where both name one, and not the same, that is told on standard error.
    """
    engine = engine_of(options)
    if not options.model:
        if not engine.models:
            raise UsageError("give --model, a known name or the path of a config.json")
        found = (name for name in engine.models if registry.find_model(name) is not None)
        options.model = next(found, engine.models[0])
    model = registry.model(options.model)
    other = engine.other_model(options.model, model.name)
    if other is not None:
        note = f"--engine is of {other}, --model is {options.model}: the latter counts"
        print(f"gpusim: {printable(note)}", file=sys.stderr)
        options.engine_settings = replace(engine, models=())  # told once
    return model


def engine_run_of(options: argparse.Namespace) -> Path | None:
    """The run directory that ``--engine`` names; None where it is anything else."""
    from pytest_gpusim.deployment.settings.command_line import is_command

    if not options.engine or is_command(options.engine):
        return None
    place = Path(options.engine)
    return place if place.is_dir() else None


def add_params(parser: Any, providers: Names[Any]) -> None:
    """``--param``; the help ends with what every one of ``providers`` takes."""
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=f"an option of the {providers.what} itself, see below",
    )
    parser.closing = lambda: _params_help(providers)


def _params_help(providers: Names[Any]) -> str:
    """What every simulator, or backend, takes; loads the declarations, not the providers."""
    lines = ["--param NAME=VALUE:"]
    for name in providers.names():
        declared = providers.get(name).declared()
        lines += [f"  {name}" + ("" if declared else " takes none")]
        lines += [f"    {parameter}" for parameter in declared]
    # As wide as argparse makes the rest.
    return "\n".join(part for line in lines for part in wrapped(line, terminal_width(80) - 2))


def add_fleet(parser: argparse.ArgumentParser) -> None:
    """``--replicas`` and ``--router``: options of the simulators that simulate fleets."""
    from pytest_gpusim.simulators.parameters import FLEET, ROUTERS

    number, router = FLEET
    parser.add_argument("--replicas", type=int, metavar="N", help=f"{number.help} (default: 1)")
    parser.add_argument("--router", choices=ROUTERS, help=router.help)


def params_of(options: argparse.Namespace) -> dict[str, str]:
    """What ``--param`` says, and the options that stand for one."""
    fleet = ((name, getattr(options, name, None)) for name in ("replicas", "router"))
    params = {name: str(value) for name, value in fleet if value is not None}
    for text in options.param:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise UsageError(f"--param {text}: expected NAME=VALUE")
        params[name] = value
    return params


def out_of(options: argparse.Namespace, kind: str, prefix: str) -> Path:
    """Where the artifact goes: ``--out``, or a new directory below ``tmp/<kind>``."""
    out: Path = options.out or DEFAULT_ROOT / safe_name(kind) / new_id(prefix)
    require_vacant(out)
    return out


def print_json(document: Any) -> None:
    """The one document of ``--json``."""
    print(json.dumps(document, indent=2, allow_nan=False))
