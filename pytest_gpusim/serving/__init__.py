"""What a serving engine does, in plain Python: vLLM v1's scheduling and KV-block rules."""

from pytest_gpusim.serving.blocks import BlockKeys, BlockPool
from pytest_gpusim.serving.request import Request, RequestState
from pytest_gpusim.serving.rules import (
    ReleaseRules,
    SchedulingRules,
    release_is_known,
    release_rules,
)
from pytest_gpusim.serving.scheduler import Scheduler
from pytest_gpusim.serving.step import Admission, Completion, PrefillChunk, Step

__all__ = [
    "Admission",
    "BlockKeys",
    "BlockPool",
    "Completion",
    "PrefillChunk",
    "ReleaseRules",
    "Request",
    "RequestState",
    "Scheduler",
    "SchedulingRules",
    "Step",
    "release_is_known",
    "release_rules",
]
