"""Simulators: each writes a run directory from `pytest_gpusim.providers.SimulationInputs`."""
