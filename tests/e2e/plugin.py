"""Registers the tiny model for the command line."""

from tests.vllm_runtime.tiny import QWEN3


def pytest_gpusim_register(registry):
    registry.add_model(QWEN3)
