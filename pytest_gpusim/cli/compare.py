"""``gpusim compare`` and ``gpusim published``: judge a simulation against real runs."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pytest_gpusim.artifacts import DEFAULT_ROOT
from pytest_gpusim.cli.common import (
    Subparsers,
    add_json,
    add_out,
    add_report,
    out_of,
    print_json,
)
from pytest_gpusim.errors import CheckFailed, GpusimError, InputError, UsageError
from pytest_gpusim.printing import print_lines, printed_width
from pytest_gpusim.registry import Registry

if TYPE_CHECKING:
    from pytest_gpusim.compare.tolerance import Given
    from pytest_gpusim.runs import Run
    from pytest_gpusim.workload import Workload


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    compare = commands.add_parser("compare", help="compare real runs with a simulated one")
    compare.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="real runs, then the simulation"
    )
    compare.add_argument(
        "--check",
        metavar="NAME=TOLERANCE,…",
        help="tolerances, such as ttft_p50=0.10,tpot_p50=5%%:0.1ms; 'defaults': TTFT, TPOT "
        "and E2E at p50 and p90 within 10%%",
    )
    compare.add_argument(
        "--tolerances", type=Path, metavar="FILE", help="a TOML file of tolerances"
    )
    compare.add_argument(
        "--slo", metavar="METRIC=TIME,…", help="limits for goodput, such as ttft=200ms,tpot=20ms"
    )
    compare.add_argument(
        "--accept",
        "--override",
        action="append",
        default=[],
        metavar="CHECK,…",
        help="judge although this check is unknown or fails; listed beside the verdict",
    )
    compare.add_argument(
        "--state",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="state what a run does not record, such as clock=client or calibrated_on=[]",
    )
    compare.add_argument(
        "--sim",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="simulated runs of several seeds; all other runs are real",
    )
    compare.add_argument(
        "--history",
        type=Path,
        metavar="DIR",
        help="use the spread of earlier runs, and append this one",
    )
    add_json(compare)
    add_out(compare, str(DEFAULT_ROOT / "comparisons"))
    compare.set_defaults(run=_compare)

    timeline = commands.add_parser(
        "timeline", help="write runs as one Chrome trace for Perfetto (ui.perfetto.dev)"
    )
    timeline.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="real and simulated runs, in any order"
    )
    timeline.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a new .json or .json.gz file"
    )
    timeline.set_defaults(run=_timeline)

    published = commands.add_parser(
        "published", help="simulate published runs, beside their published errors"
    )
    published.add_argument(
        "directories",
        type=Path,
        nargs="+",
        metavar="DIR",
        help="the folder of a published run, or of several",
    )
    published.add_argument(
        "--simulator", default="vidur", metavar="NAME", help=", ".join(registry.simulators.names())
    )
    add_report(published)
    add_json(published)
    published.set_defaults(run=_published)


def _compare(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.compare import compare_runs, document_of
    from pytest_gpusim.compare.stating import parse_statements
    from pytest_gpusim.history import History
    from pytest_gpusim.report.directory import write_comparison
    from pytest_gpusim.report.terminal import comparison_lines, failure_lines
    from pytest_gpusim.runs.importers import load_real_runs, load_simulated_run
    from pytest_gpusim.runs.importers.scheduled import like_first

    paths, simulated = options.runs, options.sim or []
    if not simulated:
        if len(paths) < 2:
            raise UsageError("compare: give at least one real run and, last, the simulated one")
        *paths, last = paths
        simulated = [last]
    tolerances = _tolerances(options)
    slo = None if options.slo is None else _pairs(options.slo, "--slo")
    accept = [name.strip() for names in options.accept for name in names.split(",")]
    out = out_of(options, "comparisons", "comparison")
    real = like_first([run for path in paths for run in load_real_runs(path, registry)])
    history = History.read(options.history) if options.history else None
    comparison = compare_runs(
        real,
        [
            load_simulated_run(path, registry, replayed=lambda file: _replayed(real[0], file))
            for path in simulated
        ],
        workload=_workload(real),
        accept=accept,
        stated=parse_statements(options.state),
        history=history.spreads(real) if history else None,
    )
    comparison = comparison.judged(tolerances, slo=slo)
    write_comparison(comparison, out)
    document = document_of(comparison, out)
    if history:
        history.append([document])
    if options.json:
        print_json(comparison.to_json())
    else:
        print_lines([*comparison_lines(document), *failure_lines(document)])
        print(out)
    return 0 if comparison.verdict in ("pass", "not_judged") else CheckFailed.exit_code


def _workload(real: Sequence[Run]) -> Workload | None:
    """What all real runs served, where it still lies where the first one says."""
    from pytest_gpusim.runs.as_workload import workload_of

    digests = {run.meta.get("workload_digest") for run in real}
    return workload_of(real[0]) if len(digests) == 1 and None not in digests else None


def _replayed(real: Run, file: Path) -> Path:
    """The requests of the real run, for a table of simulated ones without arrivals."""
    from pytest_gpusim.runs.as_workload import import_run
    from pytest_gpusim.workload.store import store_workload

    if not real.is_open_loop:
        problem = "has no column of arrivals, which in a closed loop are the simulation's own"
        raise InputError(file, "", problem, "add one, such as arrival_ms")
    return store_workload(DEFAULT_ROOT / "workloads", lambda out: import_run(real.path, out, {}))


def _tolerances(options: argparse.Namespace) -> Mapping[str, Given] | None:
    """What is to be judged; None for the defaults."""
    from pytest_gpusim.compare.judging.tolerances import parse_tolerances
    from pytest_gpusim.report.tolerance_file import read_tolerance_file

    if options.check is not None and options.tolerances:
        raise UsageError("--check and --tolerances: give one of them")
    if options.tolerances:
        return read_tolerance_file(options.tolerances)
    if options.check == "defaults":
        return None
    return {} if options.check is None else parse_tolerances(options.check)


def _pairs(text: str, option: str) -> dict[str, str]:
    found = {}
    for item in text.split(","):
        name, equals, value = item.partition("=")
        if not equals:
            raise UsageError(f"{option} {item!r}: expected NAME=VALUE")
        found[name.strip()] = value.strip()
    return found


def _timeline(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.report.timeline import write_timeline
    from pytest_gpusim.runs.importers import load_real_run

    write_timeline([load_real_run(path, registry) for path in options.runs], options.out)
    print(options.out)
    return 0


def _published(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.published import compare_published, published_lines

    failures: list[GpusimError] = []
    document = compare_published(
        options.directories, registry, simulator=options.simulator, failures=failures
    )
    for error in failures:
        print(f"gpusim: {error}", file=sys.stderr)
    if options.report:
        from pytest_gpusim.published.page import write_published_page

        write_published_page(document, options.report, failures)
    if options.json:
        print_json(document)
    else:
        print_lines(published_lines(document, printed_width()))
    return failures[0].exit_code if failures else 0
