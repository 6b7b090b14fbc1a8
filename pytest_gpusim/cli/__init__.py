"""``gpusim``: the operations of the fixtures from a shell."""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pytest_gpusim.errors import GpusimError, GpusimWarning, printable

if TYPE_CHECKING:
    from pytest_gpusim.registry import Registry

EXIT_FAILED, EXIT_USAGE, EXIT_ENGINE, EXIT_INTERRUPTED = 1, 2, 3, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; returns the exit code of the contract."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    from pytest_gpusim.cli.output import plain_output, tell

    try:
        with warnings.catch_warnings(), plain_output():
            warnings.showwarning = _say_warning
            warnings.simplefilter("always", GpusimWarning)
            return _run(arguments)
    except GpusimError as error:
        tell(f"gpusim: {error}")
        return error.exit_code
    except KeyboardInterrupt as error:
        tell("gpusim: interrupted")
        return int(getattr(error, "exit_code", EXIT_INTERRUPTED))
    except BrokenPipeError:
        return EXIT_FAILED
    except OSError as error:
        place = f"{error.filename}: " if error.filename else ""
        tell(f"gpusim: {GpusimError(f'{place}{error.strerror or error}')}")
        return EXIT_USAGE
    except MemoryError:
        tell("gpusim: it needs more memory than this process may have")
        return EXIT_ENGINE
    except Exception:
        tell(traceback.format_exc().rstrip())
        tell("gpusim: this is a defect of gpusim; please report it")
        return EXIT_ENGINE


def _say_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: object = None,
    line: str | None = None,
) -> None:
    """Ours on a line of its own; those of other packages are not the user's business."""
    if issubclass(category, GpusimWarning):
        print(f"gpusim: {printable(str(message))}", file=sys.stderr)


def _run(arguments: list[str]) -> int:
    from pytest_gpusim.cli.plugins import load_registry

    # The plugins come first: they decide which names the commands below know.
    registry = load_registry(_leading_plugins(arguments))
    options = command_parser(registry).parse_args(arguments)
    return int(options.run(options, registry))


def command_parser(registry: Registry) -> argparse.ArgumentParser:
    """The parser of all commands, with the names that ``registry`` knows."""
    from pytest_gpusim.cli import (
        compare,
        decisions,
        history,
        planning,
        points,
        profiles,
        runs,
        simulations,
        system,
        workloads,
    )
    from pytest_gpusim.cli.parser import main_parser

    parser, commands = main_parser()
    modules = (
        workloads,
        profiles,
        simulations,
        runs,
        compare,
        history,
        points,
        planning,
        decisions,
        system,
    )
    for module in modules:
        module.add_commands(commands, registry)
    return parser


def _leading_plugins(arguments: Sequence[str]) -> list[str]:
    """The modules of ``-p MODULE`` before the command; what comes after it may be Vidur's."""
    from pytest_gpusim.cli.parser import add_plugin_option

    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    add_plugin_option(parser)
    leading: list[str] = []
    for argument in arguments:
        if not argument.startswith("-") and leading[-1:] != ["-p"]:
            break
        leading.append(argument)
    try:
        return list(parser.parse_known_args(leading)[0].plugins)
    except argparse.ArgumentError:
        return []  # the main parser says what is wrong
