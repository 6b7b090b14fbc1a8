"""Bundles measured on a live vLLM engine, in real steps of a full-depth model."""

from pytest_gpusim.profiling.vllm.source import SOURCE

__all__ = ["SOURCE"]
