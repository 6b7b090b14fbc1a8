"""``gpusim compare`` and ``gpusim published``: judge a simulation against real runs."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from pytest_gpusim.artifacts import DEFAULT_ROOT
from pytest_gpusim.cli.common import Subparsers, add_json, add_out, out_of, print_json
from pytest_gpusim.errors import CheckFailed, GpusimError, UsageError
from pytest_gpusim.registry import Registry


def add_commands(commands: Subparsers, registry: Registry) -> None:
    """Declare the commands of this module."""
    compare = commands.add_parser("compare", help="real runs against a simulated one")
    compare.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="real runs, then the simulation"
    )
    compare.add_argument(
        "--check", metavar="NAME=TOLERANCE,…", help="such as ttft_p50=0.10,tpot_p50=0.05"
    )
    compare.add_argument(
        "--override", action="append", default=[], metavar="CHECK", help="judge although it fails"
    )
    add_json(compare)
    add_out(compare, str(DEFAULT_ROOT / "comparisons"))
    compare.set_defaults(run=_compare)

    timeline = commands.add_parser(
        "timeline", help="runs on one time axis, for Perfetto (ui.perfetto.dev)"
    )
    timeline.add_argument(
        "runs", type=Path, nargs="+", metavar="RUN", help="real and simulated runs, in any order"
    )
    timeline.add_argument(
        "--out", type=Path, required=True, metavar="FILE", help="a new .json or .json.gz file"
    )
    timeline.set_defaults(run=_timeline)

    published = commands.add_parser("published", help="published runs, beside published errors")
    published.add_argument(
        "directories", type=Path, nargs="+", metavar="DIR", help="a published run, or many below"
    )
    published.add_argument(
        "--simulator", default="vidur", metavar="NAME", help=", ".join(registry.simulators.names())
    )
    add_json(published)
    published.set_defaults(run=_published)


def _compare(options: argparse.Namespace, registry: Registry) -> int:
    from pytest_gpusim.compare import compare_runs, document_of, parse_tolerances
    from pytest_gpusim.report.directory import write_comparison
    from pytest_gpusim.report.terminal import comparison_lines, failure_lines
    from pytest_gpusim.runs.importers import load_real_runs, load_simulated_run

    if len(options.runs) < 2:
        raise UsageError("compare: give at least one real run and, last, the simulated one")
    tolerances = parse_tolerances(options.check) if options.check else {}
    out = out_of(options, "comparisons", "comparison")
    real = [run for path in options.runs[:-1] for run in load_real_runs(path, registry)]
    simulated = load_simulated_run(options.runs[-1], registry)
    comparison = compare_runs(real, simulated, overrides=options.override)
    comparison = comparison.judged(tolerances)
    write_comparison(comparison, out)
    if options.json:
        print_json(comparison.to_json())
    else:
        document = document_of(comparison, out)
        for line in (*comparison_lines(document), *failure_lines(document)):
            print(line)
        print(out)
    return 0 if comparison.verdict == "pass" else CheckFailed.exit_code


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
    if options.json:
        print_json(document)
    else:
        for line in published_lines(document):
            print(line)
    return failures[0].exit_code if failures else 0
