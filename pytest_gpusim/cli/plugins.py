"""The registry of a command: what ships, the entry-point group, and ``-p MODULE``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import cast

import pluggy

from pytest_gpusim import hookspec
from pytest_gpusim.errors import PluginError, UsageError
from pytest_gpusim.faults import PluginTimeout, described, plugin_call, time_limit
from pytest_gpusim.registry import Registry, builtin_registry

ENTRY_POINTS = "pytest_gpusim"


class _PluginManager(pluggy.PluginManager):
    """Takes the hook by its name alone, as pytest does: one plugin serves both."""

    def parse_hookimpl_opts(self, plugin: object, name: str) -> pluggy.HookimplOpts | None:
        options = super().parse_hookimpl_opts(plugin, name)
        if options is None and name == "pytest_gpusim_register":
            return cast("pluggy.HookimplOpts", {})
        return options


def load_registry(modules: Sequence[str]) -> Registry:
    """A registry filled by every implementation of the hook that is installed or named."""
    manager = _PluginManager("pytest")
    manager.add_hookspecs(hookspec)
    try:
        with time_limit("the import of an installed plugin"):
            manager.load_setuptools_entrypoints(ENTRY_POINTS)
    except PluginTimeout:
        raise
    except (Exception, SystemExit) as error:
        reason = described(error) if isinstance(error, Exception) else "it ended the process"
        raise PluginError(f"an installed plugin of gpusim cannot be loaded: {reason}") from error
    for name in modules:
        if str(Path.cwd()) not in sys.path:
            sys.path.insert(0, str(Path.cwd()))
        try:
            with time_limit(f"the import of -p {name}"):
                module = import_module(name)
        except PluginTimeout:
            raise
        except (Exception, SystemExit) as error:
            reason = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if name.endswith(".py"):
                reason += f"; name the module, with its folder on PYTHONPATH: -p {Path(name).stem}"
            raise UsageError(f"-p {name}: cannot be imported: {reason}") from None
        if not manager.is_registered(module):
            manager.register(module)
    registry = builtin_registry()
    with plugin_call("a plugin's pytest_gpusim_register", pluggy.HookCaller.call_historic):
        manager.hook.pytest_gpusim_register.call_historic(kwargs={"registry": registry})
    return registry
