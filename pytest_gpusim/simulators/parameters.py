"""What every simulator of fleets takes beside engine settings."""

from __future__ import annotations

from pytest_gpusim.parameters import Parameter

ROUTERS = ("round_robin", "random", "least_outstanding")
FLEET = (
    Parameter("replicas", "integer", "engines that share the load", 1),
    Parameter("router", "text", "which replica a request goes to", ROUTERS[0], ROUTERS),
)
