"""``gpusim workload generate | import | export``."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pytest_gpusim.artifacts import DEFAULT_ROOT, require_vacant
from pytest_gpusim.cli.common import Subparsers, add_out
from pytest_gpusim.cli.parser import add_commands_of
from pytest_gpusim.errors import printable
from pytest_gpusim.faults import plugin_call, plugin_result
from pytest_gpusim.json_documents import read_json
from pytest_gpusim.printing import print_lines
from pytest_gpusim.registry import Registry
from pytest_gpusim.workload import read_workload
from pytest_gpusim.workload.generate import (
    ARRIVALS,
    RAMP_UPS,
    Lengths,
    Seconds,
    WorkloadSpec,
    generate_workload,
)

_ROOT = DEFAULT_ROOT / "workloads"
# Options that read another tool's result; the others choose among its requests afterwards.
_OF_RESULTS = ("only_model", "skip_bad", "columns", "tokenizer")


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    from pytest_gpusim.workload.exporters import EXPORT_KINDS
    from pytest_gpusim.workload.importers.options import add_import_arguments

    workload = commands.add_parser("workload", help="make, import and export workloads")
    verbs = add_commands_of(workload, "verb", "VERB")

    generate = verbs.add_parser("generate", help="generate from a seed, byte-identical everywhere")
    generate.add_argument("--arrivals", required=True, choices=ARRIVALS, help="how requests arrive")
    generate.add_argument(
        "--requests", type=int, required=True, metavar="N", help="number of requests"
    )
    generate.add_argument(
        "--rate",
        type=float,
        metavar="R",
        help="requests per second; required unless arrivals are closed",
    )
    generate.add_argument(
        "--concurrency",
        type=int,
        metavar="N",
        help="at most N requests in flight, first come, first served",
    )
    generate.add_argument(
        "--seed",
        type=int,
        required=True,
        metavar="S",
        help="seed; the same seed gives the same bytes",
    )
    generate.add_argument("--prefill", metavar="N|MIN:MAX", help="prompt tokens")
    generate.add_argument("--decode", metavar="N|MIN:MAX", help="output tokens, the first included")
    generate.add_argument(
        "--lengths-from", type=Path, metavar="CSV", help="take the lengths from a trace"
    )
    generate.add_argument("--turns", metavar="N|MIN:MAX", help="turns of each conversation")
    generate.add_argument(
        "--think-time", metavar="S|MIN:MAX", help="seconds from an answer to the next turn"
    )
    generate.add_argument(
        "--burst-size", type=int, default=8, metavar="N", help="requests per burst"
    )
    generate.add_argument(
        "--burstiness",
        type=float,
        metavar="B",
        help="as in vllm bench serve, of poisson arrivals: 1 is Poisson, less is burstier",
    )
    generate.add_argument(
        "--ramp-up", choices=RAMP_UPS, help="how the rate of poisson arrivals changes"
    )
    generate.add_argument(
        "--ramp-up-to", type=float, metavar="R", help="requests per second at the end of the ramp"
    )
    generate.add_argument("--model", help="model name for the metadata")
    generate.add_argument(
        "--tokenizer", metavar="DIR", help="make text prompts with this tokenizer"
    )
    add_out(generate, str(_ROOT))
    generate.set_defaults(run=_generate)

    imported = verbs.add_parser("import", help="import another tool's trace, or a run")
    imported.add_argument(
        "kind", metavar="KIND", help=", ".join(registry.workload_importers.names())
    )
    imported.add_argument("file", type=Path, metavar="FILE", help="the trace, or the run")
    add_import_arguments(imported)
    add_out(imported, str(_ROOT))
    imported.set_defaults(run=_import)

    export = verbs.add_parser("export", help="export for another tool")
    export.add_argument("kind", choices=sorted(EXPORT_KINDS), help="the tool to export for")
    export.add_argument("workload", type=Path, metavar="DIR", help="the workload's directory")
    export.add_argument("--out", type=Path, required=True, metavar="FILE", help="a new file")
    export.set_defaults(run=_export)


def _generate(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.errors import UsageError

    if options.lengths_from is None and not (options.prefill and options.decode):
        raise UsageError("workload generate: give --prefill and --decode, or --lengths-from")
    spec = WorkloadSpec(
        arrivals=options.arrivals,
        requests=options.requests,
        rate=options.rate,
        seed=options.seed,
        prefill=Lengths.parse(options.prefill or "1", "--prefill"),
        decode=Lengths.parse(options.decode or "1", "--decode"),
        burst_size=options.burst_size,
        lengths_from=options.lengths_from,
        tokenizer=options.tokenizer,
        model=options.model,
        concurrency=options.concurrency,
        turns=Lengths.parse(options.turns or "1", "--turns"),
        think_time=Seconds.parse(options.think_time or "0", "--think-time"),
        burstiness=options.burstiness,
        ramp_up=options.ramp_up,
        ramp_up_to=options.ramp_up_to,
    )
    spec.check()
    print(_store(options, lambda out: generate_workload(spec, out)))
    return 0


def _import(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.workload.importers.options import options_from, require_used
    from pytest_gpusim.workload.importers.own_tables import import_table

    importer = registry.workload_importers.get(options.kind)
    chosen, file = options_from(options), options.file
    require_used("csv" if options.columns and options.kind != "run" else options.kind, chosen)
    if options.kind == "run":
        run_options = {name: chosen.pop(name, None) for name in _OF_RESULTS}
        file = _run_directory(options.file, registry, run_options)
    elif options.columns:
        importer = import_table

    def make(out: Path) -> None:
        what = f"the importer {options.kind!r}"
        with plugin_call(what, importer, [out]) as vacant:
            importer(file, out, chosen)
        with plugin_result(what, importer, vacant):
            read_workload(out)

    place = _store(options, make)
    generator = read_json(place / "workload_meta.json").get("generator") or {}
    print_lines(printable(str(note)) for note in generator.get("notes") or [])
    for what, number in (generator.get("counts") or {}).items():
        print(f"{what.replace('_', ' ')}: {number}")
    print(place)
    return 0


def _run_directory(path: Path, registry: Registry, options: Mapping[str, Any]) -> Path:
    """A run directory as it is; another tool's file as the run directory that it becomes."""
    from pytest_gpusim.runs.importers import load_real_run

    found = load_real_run(path, registry, options=options).path
    if found != path:
        print(f"run: {found}")
    return found


def _export(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.workload import read_workload
    from pytest_gpusim.workload.exporters import export_workload

    export_workload(options.kind, read_workload(options.workload), options.out)
    print(options.out)
    return 0


def _store(options: argparse.Namespace, make: Callable[[Path], None]) -> Path:
    from pytest_gpusim.workload.store import store_workload

    if options.out is None:
        return store_workload(_ROOT, make)
    require_vacant(options.out)
    make(options.out)
    return Path(options.out)
