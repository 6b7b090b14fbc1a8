"""``gpusim``'s argument parser: one line for a mistake, a default and a line of help for all."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from pytest_gpusim.artifacts import tool_version
from pytest_gpusim.errors import UsageError, meant

EXIT_USAGE = 2
_NOTHING: tuple[Any, ...] = (None, False, argparse.SUPPRESS, [], ())


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Names the default of each option that has one, unless its help does."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        text = action.help
        if text and action.option_strings and action.default not in _NOTHING:
            return text if "default" in text else f"{text} (default: %(default)s)"
        return text


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line; sub-commands get parsers of the same kind.

    ``closing`` makes the end of the help, where that is only then looked up.
    """

    closing: Callable[[], str] | None = None
    _given: Sequence[str] = ()

    def __init__(self, *arguments: Any, **options: Any) -> None:
        options.setdefault("formatter_class", _Formatter)
        super().__init__(*arguments, **options)

    def format_help(self) -> str:
        if self.closing is not None:
            self.epilog = self.closing()
        return super().format_help()

    def parse_known_args(  # type: ignore[override]
        self, args: Any = None, namespace: Any = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """A command refuses what it does not know itself, and so under its own name."""
        self._given = list(sys.argv[1:] if args is None else args)
        found, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}{self._meant(unknown[0])}")
        return found, unknown

    def _meant(self, word: str) -> str:
        options = [each for action in self._actions for each in action.option_strings]
        name = word.partition("=")[0]
        return "" if any(each.startswith(name) for each in options) else meant(name, options)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        """A name that is none is met with the nearest one."""
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            said = f"unknown {value!r}{meant(str(value), known)}; known are {', '.join(known)}"
            raise argparse.ArgumentError(action, said)

    def error(self, message: str) -> NoReturn:
        """Say it in a line; what is required may be there, and but misspelt."""
        if "are required" in message:
            words = (word for word in self._given if word.startswith("--"))
            hints = ((word, self._meant(word)) for word in words)
            message += next((f"; unrecognized is {word}{hint}" for word, hint in hints if hint), "")
        said = UsageError(f"{self.prog}: {message}; see '{self.prog} --help'")
        print(said, file=sys.stderr)
        raise SystemExit(EXIT_USAGE)


class _Completion(argparse.Action):
    """Print a shell's completion script of the whole parser, and stop."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: Any,
        option_string: str | None = None,
    ) -> NoReturn:
        import shtab

        _complete_paths(parser)
        print(shtab.complete(parser, shell=values))
        raise SystemExit(0)


_ALSO_PATHS = ("engine", "model", "runs")
"""Arguments that may be paths, and are texts because they may be something else."""


def _complete_paths(parser: argparse.ArgumentParser) -> None:
    """Let a shell complete arguments that are paths: shtab asks each action for ``complete``."""
    import shtab

    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                _complete_paths(command)
        elif action.type is Path or action.dest in _ALSO_PATHS:
            kind = shtab.DIRECTORY if action.metavar == "DIR" else shtab.FILE
            action.complete = kind  # type: ignore[attr-defined]


def main_parser() -> tuple[Parser, Any]:
    """The parser of ``gpusim`` and where its commands are added."""
    parser = Parser(
        prog="gpusim",
        description="Can I trust my LLM-inference simulator? Evidence from real engines.",
        epilog="'gpusim COMMAND --help' says what a command takes.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version", action="version", version=f"gpusim {tool_version()}", help="print the version"
    )
    parser.add_argument(
        "--print-completion",
        action=_Completion,
        choices=("bash", "zsh", "tcsh"),
        metavar="SHELL",
        help="print a completion script for bash, zsh or tcsh",
    )
    add_plugin_option(parser)
    return parser, add_commands_of(parser, "command", "COMMAND")


def add_plugin_option(parser: argparse.ArgumentParser) -> None:
    """``-p MODULE``."""
    parser.add_argument(
        "-p",
        dest="plugins",
        metavar="MODULE",
        action="append",
        default=[],
        help="load a module that implements pytest_gpusim_register",
    )


def add_commands_of(parser: argparse.ArgumentParser, dest: str, metavar: str) -> Any:
    """Where the sub-commands of ``parser`` are added; without one of them its help is shown."""

    def show(options: argparse.Namespace, registry: object) -> int:
        parser.print_help()
        return 0

    parser.set_defaults(run=show)
    return parser.add_subparsers(dest=dest, metavar=metavar)
