"""Engines of these tests end with the tests, and leave their logs in a temporary directory."""

from tests.vllm_runtime.conftest import _stop_engines, _work_in_tmp

__all__ = ["_stop_engines", "_work_in_tmp"]
