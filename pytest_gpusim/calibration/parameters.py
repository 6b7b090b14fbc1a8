"""What can be fitted: few parameters, within physical bounds, and what is thought of them before.

A prior keeps a parameter from explaining what an error of the profile explains as well. Its width
is the order of magnitude that vLLM's engine core has; a run that tells more moves it away.
"""

from __future__ import annotations

from dataclasses import dataclass

from pytest_gpusim.deployment import EngineSettings

MS = 1e6


@dataclass(frozen=True)
class Parameter:
    """A parameter of the calibration; all in ns.

    Attributes:
        name: In ``calibration`` of ``profile_meta.json``.
        words: What it is, for people.
        low_ns: It is not less.
        high_ns: It is not more.
        prior_ns: Standard deviation, from 0, of what is thought of it before; None: nothing is.
        told_by: The load that tells it.
    """

    name: str
    words: str
    low_ns: float
    high_ns: float
    prior_ns: float | None
    told_by: str


def engine_time(settings: EngineSettings) -> Parameter:
    """The engine's time per iteration that the device does not hide.

    Planned synchronously, scheduling, input preparation and output handling follow each other and
    the device waits: 1 to 5 ms. Asynchronously (vLLM's ``AsyncScheduler``) they run beside the step
    before, and what is left is handing it over.
    """
    return Parameter(
        "engine_time",
        "engine time per iteration",
        0.0,
        50 * MS,
        0.3 * MS if settings.async_scheduling else 3 * MS,
        "answers of 16 tokens and more, at a rate well below what the engine can serve",
    )


FRONT_END = Parameter(
    "front_end",
    "front end, from sending to the engine's queue and back",
    0.0,
    1000 * MS,
    None,
    "times taken by a client, at a rate well below what the engine can serve",
)
"""From request times alone only the sum of both ways is known, and counted as ingress. What it
grows by with the prompt is not told from an error of the profile's prefill, and not fitted."""
