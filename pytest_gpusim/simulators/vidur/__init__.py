"""Vidur, driven from outside: the only package that imports vidur, and not before it is needed."""

from pytest_gpusim.simulators.vidur.api import (
    ProfilingRootLayout,
    Qwen3ModelRef,
    VidurSimInputs,
    register_qwen3_0_6b,
    run_vidur_main,
    run_vidur_sim,
    validate_profiling_root,
)

__all__ = [
    "ProfilingRootLayout",
    "Qwen3ModelRef",
    "VidurSimInputs",
    "register_qwen3_0_6b",
    "run_vidur_main",
    "run_vidur_sim",
    "validate_profiling_root",
]
