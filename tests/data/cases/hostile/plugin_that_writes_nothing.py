"""Simulators and importers that misbehave, each under a name of its own."""

import sys


def raises(inputs):
    raise ValueError("boom\nsecond line \x1b[2J")


def nothing(inputs):
    return None


def half(inputs):
    inputs.out_dir.mkdir(parents=True)
    (inputs.out_dir / "request_metrics.csv").write_text("request_id\n0\n")


def a_file(inputs):
    inputs.out_dir.parent.mkdir(parents=True, exist_ok=True)
    inputs.out_dir.write_text("x")


def exits(inputs):
    sys.exit(0)


def pytest_gpusim_register(registry):
    for simulator in (raises, nothing, half, a_file, exits):
        registry.add_simulator("bad_" + simulator.__name__, simulator)
    registry.add_importer("bad_importer", lambda files, out: None)
