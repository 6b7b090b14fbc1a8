"""pytest's rootdir, where a value of one of our options was taken for a place of tests.

pytest finds its rootdir before it knows the options of plugins: in ``--profiling-root DIR`` it
takes DIR for an argument, and the rootdir for what is above DIR and the tests.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from itertools import pairwise
from pathlib import Path

import pytest

from pytest_gpusim.errors import UsageError


def keep_rootdir(config: pytest.Config, options: Collection[str]) -> None:
    """Set the rootdir that pytest finds without the values of ``options``.

    Raises:
        UsageError: The configuration file of another project was found by such a value.
    """
    arguments = [str(argument) for argument in config.invocation_params.args]
    values = {i + 1 for i, (option, _) in enumerate(pairwise(arguments)) if option in options}
    if not values or config.known_args_namespace.rootdir:
        return
    here = config.invocation_params.dir
    tests = _places(here, [a for i, a in enumerate(arguments) if i not in values])
    ancestor = _above(tests) if tests else here
    if config.inipath is not None:
        if config.rootpath not in (ancestor, *ancestor.parents, here, *here.parents):
            option = next(arguments[i - 1] for i in sorted(values))
            raise UsageError(
                f"{option} {arguments[min(values)]}: pytest took {config.inipath} for its "
                f"configuration; write {option}={arguments[min(values)]}, or give --rootdir"
            )
        return
    with_setup = [p for p in (ancestor, *ancestor.parents) if (p / "setup.py").is_file()]
    found = with_setup[0] if with_setup else _above([here, ancestor])
    if found == found.parent:
        found = ancestor
    if found != config.rootpath and hasattr(config, "_rootpath"):
        # There is no other way: pytest reads its rootdir before any plugin is asked.
        config._rootpath = found


def _places(here: Path, arguments: Sequence[str]) -> list[Path]:
    """The existing files and directories among arguments, node ids without what follows ``::``."""
    named = [a.partition("::")[0] for a in arguments if not a.startswith("-")]
    return [here / name for name in named if name and (here / name).exists()]


def _above(paths: Sequence[Path]) -> Path:
    folders = [path if path.is_dir() else path.parent for path in paths]
    return Path(os.path.commonpath([folder.resolve() for folder in folders]))
