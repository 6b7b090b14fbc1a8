"""What the backend ``vllm`` takes beside engine settings."""

from __future__ import annotations

from pytest_gpusim.parameters import Parameter

PARAMETERS = (
    Parameter("weights", "text", "directory of a checkpoint; without it weights are made up"),
    Parameter("threads", "integer", "OpenMP threads on a CPU; without it all cores but one"),
    Parameter(
        "hang_timeout", "number", "seconds without a word after which the engine counts as hung"
    ),
    Parameter("warmup", "yes or no", "whether the workload runs once before it is measured", True),
)
