"""``gpusim measure | import-run | record``: real runs, measured and from elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path

from pytest_gpusim.artifacts import DEFAULT_ROOT, new_id, require_vacant
from pytest_gpusim.cli.common import (
    WORKLOAD_HELP,
    Subparsers,
    add_engine,
    add_model_and_hardware,
    add_out,
    add_params,
    engine_of,
    model_of,
    out_of,
    params_of,
    selection_of,
)
from pytest_gpusim.errors import UsageError, printable
from pytest_gpusim.printing import print_lines
from pytest_gpusim.registry import Registry


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    from pytest_gpusim.workload.importers.options import add_selection_arguments

    measure = commands.add_parser("measure", help="run a workload on a real engine")
    measure.add_argument("--backend", default="vllm", help=", ".join(registry.backends.names()))
    add_model_and_hardware(measure, hardware=False)
    measure.add_argument(
        "--hardware",
        help="default: the GPU that is here, else cpu; needed with the --url of another machine",
    )
    measure.add_argument("--workload", type=Path, required=True, metavar="DIR", help=WORKLOAD_HELP)
    add_engine(measure)
    measure.add_argument("--url", metavar="U", help="the server; the same as --param url=U")
    measure.add_argument(
        "--repeat", type=int, default=1, metavar="N", help="number of measured runs, DIR/1…N"
    )
    add_params(measure, registry.backends)
    add_out(measure, str(DEFAULT_ROOT / "real_runs"))
    measure.set_defaults(run=_measure)

    imported = commands.add_parser("import-run", help="convert another tool's result into a run")
    imported.add_argument("kind", metavar="KIND", help=", ".join(registry.run_importers.names()))
    imported.add_argument(
        "files",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="the files that the tool wrote for one run",
    )
    known = imported.add_argument_group("what is known of the run and its file does not say")
    known.add_argument("--model", help="a known name, or the path of a config.json")
    known.add_argument("--hardware", help="a known name, such as cpu or a100")
    known.add_argument("--device-name", metavar="NAME", help="the name that the device reports")
    known.add_argument("--workload", type=Path, metavar="DIR", help="the workload it replayed")
    add_engine(imported)
    add_selection_arguments(imported)
    add_out(imported, str(DEFAULT_ROOT / "real_runs"))
    imported.set_defaults(run=_import)

    record = commands.add_parser(
        "record", help="pack workload, profile and runs to replay them elsewhere"
    )
    record.add_argument("--workload", type=Path, required=True, metavar="DIR", help=WORKLOAD_HELP)
    record.add_argument(
        "--profile",
        type=Path,
        required=True,
        metavar="BUNDLE",
        help="the bundle to simulate it with",
    )
    record.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="the measured runs")
    record.add_argument(
        "--out", type=Path, required=True, metavar="DIR", help="the recording, absent or empty"
    )
    record.set_defaults(run=_record)


def _measure(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.case import Case, measure
    from pytest_gpusim.workload import read_workload

    if options.repeat < 1:
        raise UsageError(f"--repeat {options.repeat}: expected at least 1")
    backend = registry.backends.get(options.backend)
    params: dict[str, object] = dict(params_of(options))
    if options.url:
        params["url"] = options.url
    backend.read(params)
    workload = read_workload(options.workload)
    if not options.hardware:
        backend.require(params, None)
    case = Case(
        model=model_of(options, registry),
        hardware=registry.hardware.get(options.hardware or _present_hardware(registry)),
        workload=options.workload,
        backend=options.backend,
        backend_params=params,
    )
    out: Path = options.out or DEFAULT_ROOT / "real_runs" / new_id(workload.workload_id)
    require_vacant(out)
    outs = [out]
    if options.repeat > 1:
        outs = [out / str(number) for number in range(1, options.repeat + 1)]
    measure(case, registry, workload, engine_of(options), outs)
    print(out)
    return 0


def _present_hardware(registry: Registry) -> str:
    for name in registry.hardware.names():
        hardware = registry.hardware.get(name)
        if hardware.kind == "cuda" and hardware.present_device():
            return name
    return "cpu"


def _import(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.runs.importers.load import each_run
    from pytest_gpusim.runs.importers.stated import Stated, import_stated
    from pytest_gpusim.workload import read_workload

    importer = registry.run_importers.get(options.kind)
    if options.columns and options.kind != "csv":
        raise UsageError(f"--columns: {options.kind} has its own; use the kind csv")
    stated = Stated(
        model=model_of(options, registry).name if options.model else None,
        hardware=registry.hardware.get(options.hardware) if options.hardware else None,
        device_name=options.device_name,
        engine=engine_of(options) if options.engine else None,
        workload=read_workload(options.workload) if options.workload else None,
    )
    out = out_of(options, "real_runs", options.kind)
    chosen = selection_of(options)
    files = options.files
    each = each_run(files[0], registry) if len(files) == 1 else [files[0]]
    for number, file in enumerate(each, start=1):
        place = out / str(number) if len(each) > 1 else out
        some = [file] if len(files) == 1 else files
        notes = import_stated(options.kind, importer, some, place, stated, chosen)
        print_lines(map(printable, notes))
    print(out)
    return 0


def _record(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.backends.archive import archive_of, pack_recording
    from pytest_gpusim.backends.recorded import write_recording

    require_vacant(options.out)
    if archive_of(options.out).exists():
        raise UsageError(f"{archive_of(options.out)}: exists; name another --out")
    write_recording(
        options.out,
        workload_dir=options.workload,
        bundle_dir=options.profile,
        run_dirs=options.runs,
    )
    print(f"packed as {pack_recording(options.out)}")
    print(options.out)
    return 0
