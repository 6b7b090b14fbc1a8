"""The one hook by which others add to the registry."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pluggy

if TYPE_CHECKING:
    from pytest_gpusim.registry import Registry

hookspec = pluggy.HookspecMarker("pytest")


@hookspec(historic=True)
def pytest_gpusim_register(registry: Registry) -> None:
    """Add simulators, backends, hardware, models, profile sources and importers.

    Implement it in a ``conftest.py`` or a pytest plugin; the command line finds it in modules of
    the entry-point group ``pytest_gpusim`` and in those given by ``gpusim -p MODULE``::

        def pytest_gpusim_register(registry):
            registry.add_simulator("mine", "my_package.simulator:simulate")
            registry.add_backend(
                "mine",
                "my_package.engine:measure",
                parameters=[Parameter("url", "text", "where it is")],
                remote=True,
            )
            registry.add_importer("my-tool", "my_package.results:import_run")
            registry.add_hardware(Hardware("mi300x", "cuda", r"MI300X", 192, 1307))

    A simulator is called with `pytest_gpusim.SimulationInputs` and writes a run directory
    at ``inputs.out_dir``, for instance with `pytest_gpusim.runs.write_run`. What it takes beside
    (``--param``) it declares with `pytest_gpusim.parameters.Parameter`: help, refusals and kinds of
    values follow. A backend that is ``remote`` needs no device of this machine.
    """
